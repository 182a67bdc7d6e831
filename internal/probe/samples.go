package probe

import (
	"hash/fnv"
	"net/netip"
	"slices"
)

// Samples gathers the measurements of one probe.
type Samples []Sample

// NewSamples has room for those of a probe without TLS.
func NewSamples() Samples { return make(Samples, 0, 12) }

// Set notes a measurement, in the place of an earlier one of the same metric
// and labels. It keeps the labels.
func (s *Samples) Set(m *Metric, value float64, labels ...string) {
	for i := range *s {
		if have := &(*s)[i]; have.Metric == m && slices.Equal(have.Labels, labels) {
			have.Value = value
			return
		}
	}
	*s = append(*s, Sample{Metric: m, Value: value, Labels: labels})
}

// Add adds to a measurement.
func (s *Samples) Add(m *Metric, value float64, labels ...string) {
	for _, have := range *s {
		if have.Metric == m && slices.Equal(have.Labels, labels) {
			value += have.Value
		}
	}
	s.Set(m, value, labels...)
}

// Value returns a measurement that has no labels.
func (s Samples) Value(m *Metric) (value float64, ok bool) {
	for i := range s {
		if s[i].Metric == m {
			return s[i].Value, true
		}
	}
	return 0, false
}

// Address notes the address that a name led to; the zero value if to none.
func (s *Samples) Address(addr netip.Addr) {
	if !addr.IsValid() {
		s.Set(ipProtocol, 0)
		s.Set(ipAddressHash, 0)
		return
	}
	version := 6.0
	if addr.Is4() {
		version = 4
	}
	s.Set(ipProtocol, version)
	s.Set(ipAddressHash, hashOf(addr))
}

// Info notes a measurement of a metric that is made anew for each probe, unless
// one of the same name and labels is there.
func (s *Samples) Info(m *Metric, values []string) {
	for _, have := range *s {
		if have.Metric.Name == m.Name && slices.Equal(have.Metric.Labels, m.Labels) && slices.Equal(have.Labels, values) {
			return
		}
	}
	*s = append(*s, Sample{Metric: m, Value: 1, Labels: values})
}

// hashOf is the hash that blackbox_exporter makes of an address: FNV-1a over
// its 4 or 16 bytes.
func hashOf(addr netip.Addr) float64 {
	h := fnv.New32a()
	_, _ = h.Write(addr.AsSlice())
	return float64(h.Sum32())
}

// The metrics of every prober that looks a name up. Names, help and values are
// those of blackbox_exporter.
var (
	DNSLookupTime = &Metric{Name: "probe_dns_lookup_time_seconds", Help: "Returns the time taken for probe dns lookup in seconds"}
	ipProtocol    = &Metric{Name: "probe_ip_protocol", Help: "Specifies whether probe ip protocol is IP4 or IP6"}
	ipAddressHash = &Metric{Name: "probe_ip_addr_hash", Help: "Specifies the hash of IP address. It's useful to detect if the IP address changes."}
)

// AddressMetrics returns the metrics of every prober that looks a name up.
func AddressMetrics() []*Metric { return []*Metric{DNSLookupTime, ipProtocol, ipAddressHash} }
