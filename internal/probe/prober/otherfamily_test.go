package prober

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// TestOtherFamilyIsNamed has a name with an IPv6 address where nothing answers and an
// IPv4 address: the error of each prober names the second.
func TestOtherFamilyIsNamed(t *testing.T) {
	if c, err := net.ListenPacket("udp", "[::1]:0"); err == nil {
		c.Close()
	} else if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Skip("SKIP-IPV6: this host has no ::1")
	}
	r := dial.Resolution{Resolver: porttest.NameServer(t, porttest.Records("127.0.0.1", "::1"))}
	only6 := dial.Resolution{Resolver: porttest.NameServer(t, porttest.Records("::1"))}
	for _, tt := range []struct {
		kind, target string
		of           func(dial.Resolution) probe.Prober
	}{
		{probe.KindTCP, "name.example.:1", func(r dial.Resolution) probe.Prober { return &TCP{Resolution: r} }},
		{probe.KindUDP, "name.example.:1", func(r dial.Resolution) probe.Prober { return &UDP{Resolution: r} }},
		{probe.KindSTUN, "name.example.:1", func(r dial.Resolution) probe.Prober { return &STUN{Resolution: r} }},
		{probe.KindGRPC, "name.example.:1", func(r dial.Resolution) probe.Prober { return &GRPC{Resolution: r} }},
		{probe.KindHTTP, "http://name.example.:1/", func(r dial.Resolution) probe.Prober { return &HTTP{Resolution: r} }},
		{probe.KindDNS, "name.example.:1", func(r dial.Resolution) probe.Prober {
			return &DNS{Resolution: r, Question: dns.Question{Name: "a.", Qtype: dns.TypeA, Qclass: dns.ClassINET}}
		}},
	} {
		const hint = "\nhint: the name also has 127.0.0.1, which preferred_ip_protocol: ip4 probes"
		probed := func(r dial.Resolution) probe.Result {
			m := &probe.Module{Kind: tt.kind, Prober: tt.of(r), Timeout: 20 * time.Second}
			return m.Probe(t.Context(), probe.Request{Address: tt.target})
		}
		if got := probed(r); got.Outcome != probe.Refused || !strings.Contains(got.Err.Error(), hint) {
			t.Errorf("%s: %s: %v", tt.kind, got.Outcome, got.Err)
		}
		if got := probed(only6); got.Outcome != probe.Refused || strings.Contains(got.Err.Error(), "hint:") {
			t.Errorf("%s, IPv6 only: %s: %v", tt.kind, got.Outcome, got.Err)
		}
	}
}
