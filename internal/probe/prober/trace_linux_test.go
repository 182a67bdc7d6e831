package prober

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// A path is traced from the source address of the module, as its probes are.
func TestPathOfSourceAddress(t *testing.T) {
	elsewhere := netip.MustParseAddr("192.0.2.99") // bind(2) fails, and nothing is sent
	empty, err := payload.Parse("")
	if err != nil {
		t.Fatal(err)
	}
	for kind, p := range map[string]probe.Prober{
		probe.KindTCP: &TCP{SourceAddress: elsewhere}, probe.KindUDP: &UDP{SourceAddress: elsewhere, Payload: empty},
		probe.KindSTUN: &STUN{SourceAddress: elsewhere}, probe.KindDNS: &DNS{SourceAddress: elsewhere},
	} {
		m := &probe.Module{Kind: kind, Prober: p}
		path, err := PathOf(t.Context(), m, probe.Request{}, probe.Result{Peer: netip.MustParseAddrPort("127.0.0.1:9")})
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("%s: error %v, answer %v; want EADDRNOTAVAIL", kind, err, &path.Answer)
		}
	}
}
