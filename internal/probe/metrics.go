package probe

import "slices"

// Metrics returns every metric that a prober of this package may emit. The
// labels of probe_expect_info are those of its module, so they are not told
// here.
func Metrics() []*Metric {
	return slices.Concat(addressMetrics(), udpMetrics(), stunMetrics())
}

// The metrics of every prober that looks a name up. Names, help and values are
// those of blackbox_exporter.
var (
	dnsLookupTime = &Metric{Name: "probe_dns_lookup_time_seconds", Help: "Returns the time taken for probe dns lookup in seconds"}
	ipProtocol    = &Metric{Name: "probe_ip_protocol", Help: "Specifies whether probe ip protocol is IP4 or IP6"}
	ipAddressHash = &Metric{Name: "probe_ip_addr_hash", Help: "Specifies the hash of IP address. It's useful to detect if the IP address changes."}
)

func addressMetrics() []*Metric { return []*Metric{dnsLookupTime, ipProtocol, ipAddressHash} }
