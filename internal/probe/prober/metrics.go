package prober

import (
	"slices"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/trace"
)

// Metrics returns every metric that a prober of this package may emit. The
// labels of probe_expect_info are those of its module, so they are not exported
// here.
func Metrics() []*probe.Metric {
	return slices.Concat(probe.AddressMetrics(), streamMetrics(), udpMetrics(), trace.Metrics(), stunMetrics(), grpcMetrics(), httpMetrics(), webSocketMetrics(), dnsMetrics(), icmpMetrics())
}

// The metrics of probes over a stream. Those of blackbox_exporter have its
// names, help, labels and values.
var (
	tcpDuration  = &probe.Metric{Name: "probe_tcp_duration_seconds", Help: "Duration of a TCP probe by phase, in seconds.", Labels: []string{"phase"}}
	unixDuration = &probe.Metric{Name: "probe_unix_duration_seconds", Help: "Duration of a unix socket probe by phase, in seconds.", Labels: []string{"phase"}}

	tcpRetransmits   = &probe.Metric{Name: "probe_tcp_syn_retransmits", Help: "SYN retransmissions; each costs a second or more."}
	tcpRoundTrip     = &probe.Metric{Name: "probe_tcp_rtt_seconds", Help: "Round-trip time of the TCP handshake, in seconds."}
	tcpAddresses     = &probe.Metric{Name: "probe_tcp_addresses", Help: "Addresses of the name that were probed; only with all_ips."}
	tcpAddressesOpen = &probe.Metric{Name: "probe_tcp_addresses_open", Help: "Addresses of the name that are open; only with all_ips."}

	failedDueToRegex = &probe.Metric{Name: "probe_failed_due_to_regex", Help: "Indicates if probe failed due to regex"}
	failedDueToBytes = &probe.Metric{Name: "probe_failed_due_to_bytes", Help: "Indicates if probe failed due to bytes"}
	failedStep       = &probe.Metric{Name: "probe_failed_step", Help: "Step of query_response that failed, from 1; 0 if none failed."}
	// Its labels are those of the step that matched.
	expectInfo = &probe.Metric{Name: "probe_expect_info", Help: "Explicit content matched"}

	sslEarliestExpiry  = &probe.Metric{Name: "probe_ssl_earliest_cert_expiry", Help: "Returns last SSL chain expiry in unixtime"}
	sslLastChainExpiry = &probe.Metric{Name: "probe_ssl_last_chain_expiry_timestamp_seconds", Help: "Returns last SSL chain expiry in timestamp"}
	sslLastChainInfo   = &probe.Metric{Name: "probe_ssl_last_chain_info", Help: "Contains SSL leaf certificate information", Labels: []string{"fingerprint_sha256", "subject", "issuer", "subjectalternative", "serialnumber"}}
	tlsVersion         = &probe.Metric{Name: "probe_tls_version_info", Help: "Returns the TLS version used or NaN when unknown", Labels: []string{"version"}}
)

// noteLookupAs notes the time of the lookup as that of the phase resolve too: for some
// of blackbox_exporter's probers it is one measurement under both names.
func noteLookupAs(duration *probe.Metric, found *probe.Samples) {
	if took, ok := found.Value(probe.DNSLookupTime); ok {
		found.Set(duration, took, probe.PhaseResolve.Labels()...)
	}
}

func streamMetrics() []*probe.Metric {
	return []*probe.Metric{
		tcpDuration, tcpRetransmits, tcpRoundTrip, tcpAddresses, tcpAddressesOpen, unixDuration,
		failedDueToRegex, failedDueToBytes, failedStep, expectInfo,
		sslEarliestExpiry, sslLastChainExpiry, sslLastChainInfo, tlsVersion,
	}
}
