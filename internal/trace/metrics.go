package trace

import "github.com/port-exporter/port_exporter/internal/probe"

// The metrics of the path to a target that does not answer.
var (
	traceInfo = &probe.Metric{Name: "probe_trace_info", Help: "Where packets to a target that does not answer end; always 1.", Labels: []string{"finding", "last_hop"}}
	traceHops = &probe.Metric{Name: "probe_trace_hops", Help: "Number of the last hop that answered a trace; 0 if none did."}
	pathMTU   = &probe.Metric{Name: "probe_path_mtu_bytes", Help: "Largest packet that passes the traced path, in bytes; absent if unknown."}
)

// Metrics returns the metrics of a path.
func Metrics() []*probe.Metric { return []*probe.Metric{traceInfo, traceHops, pathMTU} }

// Samples implements [probe.Path].
func (p *Path) Samples() []probe.Sample {
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
