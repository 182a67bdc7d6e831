package prober

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestUnixPermission probes a socket that only root may write to, as somebody
// else. Root is kept out by nothing.
func TestUnixPermission(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP-ROOT: only root can become somebody else")
	}
	path := filepath.Join(porttest.OpenDir(t), "socket")
	startServer(t, "unix", path, hold)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}

	var got probe.Result
	porttest.AsNobody(t, func() { got = (&Unix{}).Probe(t.Context(), probe.Request{Address: path}) })
	if got.Outcome != probe.Prohibited || got.Origin != probe.OriginLocal || got.Phase != probe.PhaseConnect {
		t.Errorf("got %s (%s) in %q: %v", got.Outcome, got.Origin, got.Phase, got.Err)
	}
}
