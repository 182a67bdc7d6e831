package prober

import (
	"os"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

func TestMain(m *testing.M) { os.Exit(porttest.RunWaiting(m)) }

// sentence says what a result means, where nothing but the result is known.
func sentence(address string, r *probe.Result) string {
	return verdict.Judge(&verdict.Facts{Target: &probe.Target{Address: address}, Result: r}).Sentence
}
