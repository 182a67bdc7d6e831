package check

import (
	"context"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/trace"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// trace traces the path to the address that was tried, and returns
// what the verdict is to know of it; nil if it explains nothing.
func (r *Report) trace(ctx context.Context, q *Request) *verdict.Path {
	path, err := prober.PathOf(ctx, q.Target.Module, q.Probe, r.Result)
	if err != nil {
		r.PathErr = err
		return nil
	}
	r.Path = &path
	known := &verdict.Path{BlackHole: path.MTU.BlackHole(), MTU: path.MTU.Bytes}
	switch path.Finding() {
	case trace.Lost, trace.Rejected, trace.Loop: // the probe may have missed an ICMP error, which routers limit
		if last, _ := path.LastHop(); last.Number > 0 {
			known.LastHop, known.Hop = last.Addr, last.Number
		}
	case trace.SilentPort:
		known.Host = path.Host.String()
	default:
	}
	return known
}

// path is about the way to the address that was tried, a hop a line.
func (r *Report) path() []Evidence {
	if r.PathErr != nil {
		return []Evidence{{Unknown, "trace", firstLine(r.PathErr.Error())}}
	}
	if r.Path == nil {
		return nil
	}
	return PathEvidence(r.Path)
}

// PathEvidence returns what a trace found, a hop a line.
func PathEvidence(found probe.Path) []Evidence {
	p, ok := found.(*trace.Path)
	if !ok {
		return nil
	}
	var all []Evidence
	for _, h := range p.Hops {
		mark := OK
		if !h.Addr.IsValid() {
			mark = Unknown
		} else if h.ICMP.Offender.IsValid() && !h.ICMP.Expired() && h.Addr != p.Target.Addr() {
			mark = Failed
		}
		all = append(all, Evidence{mark, "hop", h.String()})
	}
	if m := p.MTU; m.Bytes > 0 && !m.BlackHole() {
		text := m.String()
		if !m.IsWhole(p.Target.Addr()) {
			text += ", known as far as " + m.To.String()
		}
		all = append(all, Evidence{OK, "mtu", text})
	}
	mark := Failed
	if p.Finding() == trace.Reached {
		mark = OK
	}
	return append(all, Evidence{mark, "trace", p.Sentence()})
}

// pathTo is a path as JSON.
type pathTo struct {
	Finding  string  `json:"finding"`
	Sentence string  `json:"sentence"`
	Hops     []hopOf `json:"hops"`
	MTU      int     `json:"mtu,omitempty"`  // the largest packet that is known to pass
	Lost     int     `json:"lost,omitempty"` // the size of packets that die in silence
	Packets  int     `json:"packets"`
}

type hopOf struct {
	Number    int     `json:"number"`
	Address   string  `json:"address,omitempty"`
	RoundTrip float64 `json:"rtt_seconds,omitempty"`
	Type      *uint8  `json:"icmp_type,omitempty"`
	Code      *uint8  `json:"icmp_code,omitempty"`
}

func (r *Report) jsonPath() *pathTo {
	if r.Path == nil {
		return nil
	}
	p := &pathTo{Finding: r.Path.Finding().String(), Sentence: plain.Line(r.Path.Sentence()), Hops: []hopOf{},
		MTU: r.Path.MTU.Bytes, Lost: r.Path.MTU.Lost, Packets: r.Path.Packets}
	for _, h := range r.Path.Hops {
		j := hopOf{Number: h.Number, RoundTrip: h.RoundTrip.Seconds()}
		if h.Addr.IsValid() {
			j.Address = h.Addr.String()
		}
		if h.ICMP.Offender.IsValid() {
			j.Type, j.Code = &h.ICMP.Type, &h.ICMP.Code
		}
		p.Hops = append(p.Hops, j)
	}
	return p
}
