package prober

import (
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestMalformedTargets has each prober of a host and a port say the same of what
// is none: it failed, and nobody but this host is behind it. What grpc takes, as
// blackbox_exporter does, may lack a port and have a scheme and a path.
func TestMalformedTargets(t *testing.T) {
	for name, p := range map[string]probe.Prober{"tcp": &TCP{}, "udp": &UDP{}, "stun": &STUN{}, "grpc": &GRPC{}} {
		m := &probe.Module{Kind: name, Prober: p}
		addresses := []string{"", ":80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:no-such-service", "a b:80"}
		if name != "grpc" {
			addresses = append(addresses, "127.0.0.1", "::1:80", "http://127.0.0.1:80", "a/b:80")
		}
		for _, address := range addresses {
			got := m.Probe(t.Context(), probe.Request{Address: address})
			success, known := m.Success(got)
			if got.Outcome != probe.Unknown || got.Phase != probe.PhaseResolve || got.Origin != probe.OriginLocal || success || !known || got.Err == nil {
				t.Errorf("%s %q: %s in %q (%s), success %v, known %v: %v", name, address, got.Outcome, got.Phase, got.Origin, success, known, got.Err)
			}
			if said := sentence(address, &got); !strings.HasSuffix(said, " is not an address that its module takes") {
				t.Errorf("%s %q: %s", name, address, said)
			}
		}
	}
}
