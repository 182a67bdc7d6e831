package probe

import (
	"strings"
	"testing"
	"time"
)

// TestLinkLocalWithoutZone is a target that nobody can try: which link it is on is
// not said.
func TestLinkLocalWithoutZone(t *testing.T) {
	for kind, prober := range map[string]Prober{"tcp": &TCP{}, "udp": &UDP{}} {
		m := &Module{Name: kind, Kind: kind, Timeout: 5 * time.Second, Prober: prober}
		got := m.Probe(t.Context(), Request{Address: "[fe80::1]:9100"})
		if got.Outcome != LocalError || got.Origin != OriginLocal || got.Err == nil || !strings.Contains(got.Err.Error(), "zone") {
			t.Errorf("%s: %v, %v, %v", kind, got.Outcome, got.Origin, got.Err)
		}
	}
}
