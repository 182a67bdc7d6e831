package prober

import (
	"context"
	"errors"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/trace"
)

func (p *TCP) path(ctx context.Context, r probe.Request, of probe.Result) (trace.Path, error) {
	return trace.Run(ctx, trace.Options{Target: of.Peer, Protocol: probe.KindTCP, Source: source(&r, p.SourceAddress), Device: r.Device, Allow: r.Allow})
}

// path sends the datagrams of the probe.
func (u *UDP) path(ctx context.Context, r probe.Request, of probe.Result) (trace.Path, error) {
	from := source(&r, u.SourceAddress)
	local := from
	if !local.IsValid() {
		local = netip.IPv6Unspecified()
	}
	request := u.Payload.Message(netip.AddrPortFrom(local, 0), of.Peer).Request
	return trace.Run(ctx, trace.Options{Target: of.Peer, Protocol: probe.KindUDP, Source: from, Device: r.Device, Payload: request, Allow: r.Allow})
}

// PathOf traces the path to the address that a probe with a module tried last. The probers
// that speak over TCP or UDP have one. Its errors are those of [trace.Run].
func PathOf(ctx context.Context, m *probe.Module, r probe.Request, of probe.Result) (trace.Path, error) {
	if !of.Peer.IsValid() || of.Proxy != "" {
		return trace.Path{}, errors.New("no packet was sent to an address of the target")
	}
	o := trace.Options{Target: of.Peer, Protocol: probe.KindTCP, Source: r.Source, Device: r.Device, Allow: r.Allow}
	switch p := m.Prober.(type) {
	case *TCP:
		return p.path(ctx, r, of)
	case *UDP:
		return p.path(ctx, r, of)
	case *STUN:
		o.Protocol, o.Source = probe.KindUDP, source(&r, p.SourceAddress)
	case *DNS:
		o.Source = source(&r, p.SourceAddress)
		if !p.TCP {
			o.Protocol = probe.KindUDP
		}
	case *Unix, *ICMP:
		return trace.Path{}, errors.New("a path is traced by TCP or UDP\nhint: name a port, as in 192.0.2.1:443")
	}
	return trace.Run(ctx, o)
}

// Trace implements [probe.Tracer].
func (p *TCP) Trace(ctx context.Context, r probe.Request, of probe.Result) probe.Path {
	return found(p.path(ctx, r, of))
}

// Trace implements [probe.Tracer].
func (u *UDP) Trace(ctx context.Context, r probe.Request, of probe.Result) probe.Path {
	return found(u.path(ctx, r, of))
}

// found returns a path; nil if it is not whole.
func found(p trace.Path, err error) probe.Path {
	if err != nil {
		return nil
	}
	return &p
}
