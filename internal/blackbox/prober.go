// Package blackbox reads the modules of blackbox_exporter v0.28.0 with its own
// decoder, and makes our http, dns and icmp probers of their settings.
package blackbox

import (
	"fmt"
	"net/netip"

	"github.com/prometheus/blackbox_exporter/config"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// Module is a module of blackbox.yml: how to probe.
type Module = config.Module

// New returns the prober of a module, whose kind must be http, dns or icmp. It reads
// the files that the module names with f, at each probe.
func New(m Module, f *files.Reader) (probe.Prober, error) {
	switch m.Prober {
	case probe.KindHTTP:
		return newHTTP(m.HTTP, f), nil
	case probe.KindDNS:
		return newDNS(m.DNS, f), nil
	case probe.KindICMP:
		return newICMP(m.ICMP), nil
	default:
		return nil, fmt.Errorf("blackbox: there is no prober %q here", m.Prober)
	}
}

// Resolution is how the probers of blackbox_exporter choose an address, by the
// keys preferred_ip_protocol and ip_protocol_fallback: what is not ip6 is ip4,
// except nothing.
func Resolution(version string, fallback bool) dial.Resolution {
	r := dial.Resolution{Prefer: dial.IP4, NoFallback: !fallback}
	if version == "ip6" || version == "" {
		r.Prefer = dial.IP6
	}
	return r
}

// newICMP makes our prober of the settings of blackbox_exporter's.
func newICMP(s config.ICMPProbe) *prober.ICMP {
	source, _ := netip.ParseAddr(s.SourceIPAddress)
	return &prober.ICMP{
		Resolution:    Resolution(s.IPProtocol, s.IPProtocolFallback),
		SourceAddress: source,
		PayloadSize:   s.PayloadSize,
		DontFragment:  s.DontFragment,
		TTL:           s.TTL,
	}
}
