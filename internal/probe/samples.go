package probe

import (
	"hash/fnv"
	"net/netip"
	"slices"
)

// samples gathers the measurements of one probe.
type samples []Sample

// newSamples has room for those of a probe without TLS.
func newSamples() samples { return make(samples, 0, 12) }

// set notes a measurement, in the place of an earlier one of the same metric
// and labels. It keeps the labels.
func (s *samples) set(m *Metric, value float64, labels ...string) {
	for i := range *s {
		if have := &(*s)[i]; have.Metric == m && slices.Equal(have.Labels, labels) {
			have.Value = value
			return
		}
	}
	*s = append(*s, Sample{Metric: m, Value: value, Labels: labels})
}

// add adds to a measurement.
func (s *samples) add(m *Metric, value float64, labels ...string) {
	for _, have := range *s {
		if have.Metric == m && slices.Equal(have.Labels, labels) {
			value += have.Value
		}
	}
	s.set(m, value, labels...)
}

// value returns a measurement that has no labels.
func (s samples) value(m *Metric) (value float64, ok bool) {
	for i := range s {
		if s[i].Metric == m {
			return s[i].Value, true
		}
	}
	return 0, false
}

// address notes the address that a name led to; the zero value if to none.
func (s *samples) address(addr netip.Addr) {
	if !addr.IsValid() {
		s.set(ipProtocol, 0)
		s.set(ipAddressHash, 0)
		return
	}
	version := 6.0
	if addr.Is4() {
		version = 4
	}
	s.set(ipProtocol, version)
	s.set(ipAddressHash, hashOf(addr))
}

// info notes a measurement of a metric that is made anew for each probe, unless
// one of the same name and labels is there.
func (s *samples) info(m *Metric, values []string) {
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
	dnsLookupTime = &Metric{Name: "probe_dns_lookup_time_seconds", Help: "Returns the time taken for probe dns lookup in seconds"}
	ipProtocol    = &Metric{Name: "probe_ip_protocol", Help: "Specifies whether probe ip protocol is IP4 or IP6"}
	ipAddressHash = &Metric{Name: "probe_ip_addr_hash", Help: "Specifies the hash of IP address. It's useful to detect if the IP address changes."}
)

// AddressMetrics returns the metrics of every prober that looks a name up.
func AddressMetrics() []*Metric { return []*Metric{dnsLookupTime, ipProtocol, ipAddressHash} }
