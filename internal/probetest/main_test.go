package probetest_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestMain lets tests run port_exporter as a program.
func TestMain(m *testing.M) {
	testscript.Main(waiting{m}, map[string]func(){"port_exporter": cli.Main})
}

type waiting struct{ *testing.M }

// Run runs the tests at the root of the repository.
func (w waiting) Run() int {
	if err := os.Chdir("../.."); err != nil {
		panic(err)
	}
	return porttest.RunWaiting(w.M)
}
