package collector

import (
	"fmt"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// legends are what docs/metrics.md says of a family after its HELP text: values of
// labels, limits and when it is absent.
var legends = map[string]string{
	"port_sockets":                                  "The family is that of the socket: an IPv4 connection to a dual-stack listener is an IPv6 socket.",
	"port_listener_info":                            "`scope`: any, public, private, link_local, loopback or multicast. `dual_stack`: an IPv6 wildcard that also accepts IPv4. `ephemeral`: the port is in the ephemeral port range. `process`, `user`, `unit`, `container`: the owner; empty means unknown. A listener that several programs share has a series for each.",
	"port_listener_sockets_unread":                  "A required rule may then have no verdict.",
	"port_listener_accept_queue_length":             "The sum over all sockets of the listener.",
	"port_listener_accept_queue_limit":              "The sum over all sockets of the listener. The kernel lets each queue hold one more.",
	"port_listener_accept_queue_drops_total":        "The sum of `sk_drops` of its LISTEN sockets, closed ones of its group included.",
	"port_udp_receive_queue_bytes":                  "Includes its sockets with a peer.",
	"port_udp_receive_drops_total":                  "Includes its sockets with a peer.",
	"port_listener_address_absent":                  "It receives nothing until the host has the address.",
	"port_listener_executable_deleted":              "The cause is an update without a restart, or malware.",
	"port_listener_conflict":                        "One of them shadows the other.",
	"port_listeners_unattributed":                   "Includes sockets beyond the limit of a group.",
	"port_privilege_missing":                        "`privilege`: a capability, a namespace or a security module. It hides owners of listeners, or filters of packet sockets.",
	"port_listener_changes_total":                   "Those of the first scrape are not counted.",
	"port_inbound_connections":                      "The address is the bind address of the listener. established, time_wait, close_wait and syn_recv are always exported, other states when not 0.",
	"port_outbound_connections":                     "The busiest remote ports; the rest is \"other\". established, time_wait, close_wait and syn_sent are always exported, other states when not 0.",
	"port_orphaned_connections":                     "The busiest ports; the rest is \"other\".",
	"port_held_connections":                         "The busiest ports; the rest is \"other\".",
	"port_syn_sent_retransmitting":                  "They are in SYN_SENT: the destination does not answer. Only ports with such sockets: those with the most; the rest is \"other\".",
	"port_destination_syn_sent_retransmitting":      "They are in SYN_SENT: the destination does not answer. Only destinations with such sockets: those with the most.",
	"port_inbound_retransmitting_connections":       "Now: after a retransmission timeout, until the next acknowledgement. Not tail loss probes, nor SYN_RECV.",
	"port_inbound_zero_window_connections":          "Now: they have data to send, and probe the client's window.",
	"port_inbound_syn_ack_retransmitting":           "Now, in SYN_RECV: the path back to the client is broken, or its address is spoofed. With procfs, those that TCP_DEFER_ACCEPT holds back are included.",
	"port_outbound_retransmitting_connections":      "Now: after a retransmission timeout, until the next acknowledgement. Not tail loss probes, nor SYN_SENT: see `port_syn_sent_retransmitting`. Only ports with such connections: those with the most; the rest is \"other\".",
	"port_outbound_zero_window_connections":         "Now: they have data to send, and probe the server's window. Only ports with such connections: those with the most; the rest is \"other\".",
	"port_ephemeral_ports":                          "net.ipv4.ip_local_port_range without ip_local_reserved_ports. Each destination has all of them, except those that a listener holds, or a client that called bind() without IP_BIND_ADDRESS_NO_PORT.",
	"port_ephemeral_ports_used":                     "Distinct ports. TCP can reuse a port for another destination, so `port_ephemeral_destination_ports_used` is what runs out. Only clients that call bind() before connect() run out here.",
	"port_ephemeral_destination_ports_used":         "Distinct ports of TCP sockets, those in TIME_WAIT included. connect() fails with EADDRNOTAVAIL, unless `port_tcp_time_wait_reuse` lets it use those in TIME_WAIT. With several local addresses, the value is that of the address with the most. Exported are the destinations with the most, and those that the configuration watches.",
	"port_ephemeral_destination_ports_in_time_wait": "They are included in `port_ephemeral_destination_ports_used`; see `port_tcp_time_wait_reuse`.",
	"port_ephemeral_destination_undercount_ports":   "0 unless there are more than 16384 destinations. Watched destinations have exact counters (4096 single ones, and 4096 in networks).",
	"port_ephemeral_destination_lookup_success":     "After a failure, its last known addresses are watched.",
	"port_tcp_max_syn_backlog":                      "With net.ipv4.tcp_syncookies=0 the kernel drops SYNs of unknown peers from three quarters of this limit on. With SYN cookies, the default, `port_listener_accept_queue_limit` applies.",
	"port_tcp_time_wait_limit":                      "The kernel closes further ones immediately.",
	"port_tcp_time_wait_entries":                    "Those in TIME_WAIT, and those in FIN_WAIT2 without a process.",
	"port_tcp_time_wait_reuse":                      "0: never. 1: after one second. 2: after one second, from and to loopback addresses. The peer must use TCP timestamps; without net.ipv4.tcp_timestamps it is 0.",
	"port_tcp_orphans":                              "Sockets without a process that are not closed yet.",
	"port_tcp_orphan_limit":                         "The kernel resets further ones.",
	"port_tcp_memory_pressure_bytes":                "The second value of net.ipv4.tcp_mem.",
	"port_tcp_memory_limit_bytes":                   "The third value of net.ipv4.tcp_mem.",
	"port_conntrack_entries":                        "Absent if conntrack is not loaded.",
	"port_conntrack_entries_limit":                  "Netfilter drops the packets of further connections. Absent if there is no limit.",
	"port_tcp_listen_overflows_total":               "`port_listener_accept_queue_drops_total` has the drops of each listener.",
	"port_tcp_listen_drops_total":                   "Includes overflows.",
	"port_tcp_syn_cookies_sent_total":               "The limit is `port_listener_accept_queue_limit`.",
	"port_tcp_syn_queue_full_drops_total":           "The limit is `port_listener_accept_queue_limit`. Only without SYN cookies.",
	"port_tcp_aborts_total":                         "`reason`: data (data for a closed socket), close (data unread), timeout (no answer), linger, failed (the reset could not be sent). Memory: `port_tcp_abort_on_memory_total`.",
	"port_tcp_active_opens_total":                   "With `port_tcp_passive_opens_total`: the rate of new connections.",
	"port_tcp_timeouts_total":                       "Nothing was acknowledged in time, so that the last segment was sent again.",
	"port_reverse_path_filter_drops_total":          "A packet arrived on an interface that does not lead back to its sender (net.ipv4.conf.*.rp_filter).",
	"port_conntrack_insert_failures_total":          "Two packets of a new connection raced; often UDP DNS from containers.",
	"port_icmp_rate_limited_total":                  "Clients see silence instead (net.ipv4.icmp_ratelimit, icmp_msgs_per_sec).",
	"port_neighbour_table_overflows_total":          "Of the host's first network namespace only (net.ipv4.neigh.default.gc_thresh3).",
	"port_tcp_resets_sent_total":                    "Answers to segments without a connection or listener, and aborts.",
	"port_udp_receive_buffer_errors_total":          "`port_udp_receive_drops_total` has those of each listener; there is no such metric for clients.",
	"port_packet_sockets":                           "The filter is a classic one. It is unknown without CAP_NET_ADMIN.",
	"port_vsock_listeners":                          "Ports above 65535 are \"other\".",
	"port_policy_unexpected_portless_socket":        "A series for each socket and owner.",
	"port_policy_unexpected_listener":               "A series for each listener and owner.",
	"port_policy_undecided_listeners":               "They belong to a client or to a service. Absent without a policy.",
	"port_policy_undecided_listener":                "A series for each listener and owner. `port=\"ephemeral\"` for a program with many.",
	"port_policy_missing_listener":                  "1: no listener matches or may match. 0: one does. Absent instead of 1 where some listeners were not read.",
	"port_policy_unverified_listeners":              "They are not unexpected.",
	"port_policy_forbidden_listener":                "It is unexpected too.",
	"port_policy_rule_listeners":                    "0 is a stale rule. Absent for rules that forbid, and instead of 0 where some sockets were not read.",
	"port_policy_rule_info":                         "`kind`: expect, require or forbid.",
	"probe_outcome_code":                            outcomeLegend(),
	"probe_failure_info":                            "`reason`: the outcome. `phase`: resolve, connect, tls or exchange. `origin`: who reported it: target, target_firewall, network, local or proxy; none means silence. `place`: here, path, there, names or unknown.",
	"probe_local_listener":                          "Only for a target on this host. `scope`: that of the listener, as in `port_listener_info`; otherwise that of the most exposed listener on the port, empty if there is none.",
	"probe_local_listener_info":                     "`state`: not_listening, loopback_only, other_address, queue_full or listening.",
	"probe_age_seconds":                             "Only for targets with an `interval`. Absent before the first result.",
	"probe_results_total":                           "Outcomes that never occurred are absent.",
	"port_scrape_collector_success":                 "A failed collector exports nothing else.",
	"port_folded_items":                             "Ports that are aggregated into \"other\". For `port_listener_info`: listening sockets without series of their own; their connections are in `port_inbound_connections` as \"other\". For `port_listener_tls_info`: listening sockets beyond the first 256 listeners. For `port_ephemeral_destination_ports_used` and `port_destination_syn_sent_retransmitting`: destinations omitted because of the limits.",
	"port_source_interrupted_reads_total":           "Their values may miss or repeat sockets.",
	"port_unreadable_files":                         "The metrics from it are absent.",
	"probe_tcp_duration_seconds":                    "`phase`: resolve, connect, tls or exchange.",
	"probe_unix_duration_seconds":                   "`phase`: connect, tls or exchange.",
	"probe_tcp_rtt_seconds":                         "As the kernel measured it; absent without a handshake.",
	"probe_trace_info":                              "Only with `trace: true`, from the first trace of a target until it answers. `finding`: reached, rejected, routing_loop, silent_port, path_drops, no_hop, not_sent or mtu_black_hole. `last_hop`: the last router that answered; empty if none did.",
	"probe_trace_hops":                              "The target counts as a hop if it answered.",
	"probe_path_mtu_bytes":                          "As far as anything answers. With `finding=\"mtu_black_hole\"`, larger packets die in silence.",
	"probe_udp_requests":                            "More than one if the first was not answered within a second.",
	"probe_stun_duration_seconds":                   "Without the tests of NAT behaviour.",
	"probe_stun_mapping_info":                       "`mapping`, `filtering`: endpoint-independent, address-dependent, address-and-port-dependent or unknown, for example if the server has no second address.",
	"probe_http_failed_expectation_info":            "Absent if none failed.",
	"port_config_last_reload_successful":            "After a failure the previous configuration stays in force.",
	"port_web_config_last_reload_successful":        "0: the files are broken and an earlier configuration is in force. Absent without `--web.config.file`.",
	"port_exporter_probes_total":                    "Outcomes that never occurred are absent.",

	"port_listener_tls_certificate_expiry_timestamp_seconds": "Certificates are not verified. Absent if the listener sent none. Only with `listener_tls`; see [certificates.md](certificates.md).",
	"port_listener_tls_info":                                 "Subject and issuer are truncated to 1 kB. `version` is empty if the handshake failed after the certificate was sent.",
	"port_listener_tls_outcome_info":                         "`outcome`: as in `probe_outcome_code`. `local_error`: no address of this host leads to the listener.",
}

func outcomeLegend() string {
	var codes []string
	for _, o := range probe.Outcomes() {
		codes = append(codes, fmt.Sprintf("%d %v", o, o))
	}
	return strings.Join(codes, ", ") + "."
}
