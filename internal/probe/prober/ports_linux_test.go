package prober

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestNoPortsInNamespace takes every port that a datagram can leave from. What was
// not sent says nothing of its target.
func TestNoPortsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "50000 50001")
	var taken []net.Conn
	var err error
	for range 3 {
		var conn net.Conn
		if conn, err = net.Dial("udp", "127.0.0.1:9"); err == nil {
			taken = append(taken, conn)
		}
	}
	if len(taken) != 2 || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("%d ports taken, then: %v", len(taken), err)
	}
	for name, p := range map[string]probe.Prober{"udp": &UDP{}, "stun": &STUN{}} {
		got := p.Probe(t.Context(), probe.Request{Address: "127.0.0.1:9"})
		if got.Outcome != probe.LocalError || got.Origin != probe.OriginLocal || got.Phase != probe.PhaseConnect {
			t.Errorf("%s: %s (%s) in %q: %v", name, got.Outcome, got.Origin, got.Phase, got.Err)
		}
	}
	for _, conn := range taken {
		_ = conn.Close()
	}
}
