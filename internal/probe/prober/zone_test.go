package prober

import (
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestLinkLocalWithoutZone is a target that cannot be tried: which link it is on is
// not said.
func TestLinkLocalWithoutZone(t *testing.T) {
	for kind, prober := range map[string]probe.Prober{"tcp": &TCP{}, "udp": &UDP{}} {
		m := &probe.Module{Name: kind, Kind: kind, Timeout: 5 * time.Second, Prober: prober}
		got := m.Probe(t.Context(), probe.Request{Address: "[fe80::1]:9100"})
		if got.Outcome != probe.LocalError || got.Origin != probe.OriginLocal || got.Err == nil || !strings.Contains(got.Err.Error(), "zone") {
			t.Errorf("%s: %v, %v, %v", kind, got.Outcome, got.Origin, got.Err)
		}
	}
}
