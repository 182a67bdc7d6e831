package dial

import (
	"net"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestLookUpWithoutPortsInNamespace has no port that a question can leave from. What
// was not sent says nothing of the name server.
func TestLookUpWithoutPortsInNamespace(t *testing.T) {
	release := porttest.TakeUDPPorts(t)
	silence := &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	lookUp := func() probe.Outcome { outcome, _ := ClassifyLookup(shortageOr(silence)); return outcome }

	if got := lookUp(); got != probe.LocalError {
		t.Errorf("a look-up: %s", got)
	}
	release()
	if got := lookUp(); got != probe.DNSTimeout {
		t.Errorf("a look-up with ports: %s", got)
	}
}
