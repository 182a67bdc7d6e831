package prober

import (
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestNoPortsInNamespace has no port that a datagram can leave from. What was not sent
// says nothing of its target.
func TestNoPortsInNamespace(t *testing.T) {
	porttest.TakeUDPPorts(t)
	for name, p := range map[string]probe.Prober{"udp": &UDP{}, "stun": &STUN{}} {
		got := p.Probe(t.Context(), probe.Request{Address: "127.0.0.1:9"})
		if got.Outcome != probe.LocalError || got.Origin != probe.OriginLocal || got.Phase != probe.PhaseConnect {
			t.Errorf("%s: %s (%s) in %q: %v", name, got.Outcome, got.Origin, got.Phase, got.Err)
		}
	}
}
