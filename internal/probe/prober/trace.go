package prober

import (
	"context"
	"errors"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/trace"
)

// The metrics of the path to a target that does not answer.
var (
	traceInfo = &probe.Metric{Name: "probe_trace_info", Help: "Where packets to a target that does not answer end; always 1.", Labels: []string{"finding", "last_hop"}}
	traceHops = &probe.Metric{Name: "probe_trace_hops", Help: "Number of the last hop that answered a trace; 0 if none did."}
	pathMTU   = &probe.Metric{Name: "probe_path_mtu_bytes", Help: "Largest packet that passes the traced path, in bytes; absent if unknown."}
)

func traceMetrics() []*probe.Metric { return []*probe.Metric{traceInfo, traceHops, pathMTU} }

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
func (p *TCP) Trace(ctx context.Context, r probe.Request, of probe.Result) []probe.Sample {
	return samplesOf(p.path(ctx, r, of))
}

// Trace implements [probe.Tracer].
func (u *UDP) Trace(ctx context.Context, r probe.Request, of probe.Result) []probe.Sample {
	return samplesOf(u.path(ctx, r, of))
}

// samplesOf returns what is exported of a path; nothing of one that is not whole.
func samplesOf(p trace.Path, err error) []probe.Sample {
	if err != nil {
		return nil
	}
	var last string
	if hop, ok := p.LastHop(); ok {
		last = hop.Addr.String()
	}
	samples := []probe.Sample{
		{Metric: traceInfo, Value: 1, Labels: []string{p.Finding().String(), last}},
		{Metric: traceHops, Value: float64(len(p.Hops))},
	}
	if p.MTU.Bytes > 0 {
		samples = append(samples, probe.Sample{Metric: pathMTU, Value: float64(p.MTU.Bytes)})
	}
	return samples
}
