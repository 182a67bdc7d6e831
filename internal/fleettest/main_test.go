package fleettest

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/port-exporter/port_exporter/internal/cli"
)

// TestMain lets tests run port_exporter as a program.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"port_exporter": cli.Main})
}
