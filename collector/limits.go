package collector

import (
	"context"
	"slices"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// limits exports the kernel's limits, their use, and the counters of overflows.
type limits struct {
	read func() (*kernel.Stats, error)
}

// kernelFigure is a family and its value, which is nil if this kernel does not
// report it.
type kernelFigure struct {
	family *Family
	of     func(*kernel.Stats) *float64
	labels []string
}

// namespaced returns a figure of the network namespace, and hostwide one of the
// whole host, which has no label netns.
func namespaced(f *Family, of func(*kernel.Stats) *float64) kernelFigure {
	return kernelFigure{f, of, []string{hostNetns}}
}

func hostwide(f *Family, of func(*kernel.Stats) *float64) kernelFigure {
	return kernelFigure{f, of, nil}
}

// namespaceLimits are the families of limits that each network namespace has of its own, and
// of their use. The others are counters, or of the whole host.
var namespaceLimits = []string{"port_somaxconn", "port_tcp_max_syn_backlog", "port_tcp_time_wait_limit", "port_tcp_time_wait_entries",
	"port_tcp_time_wait_reuse", "port_conntrack_entries", "port_conntrack_entries_limit"}

// addNamespaceLimits adds those of another network namespace.
func addNamespaceLimits(out *Output, netns string, stats *kernel.Stats) {
	for _, f := range kernelFigures {
		if slices.Contains(namespaceLimits, f.family.Name) {
			addKnown(out, f.family, f.of(stats), netns)
		}
	}
}

// kernelFigures are all of them, in the order of their families.
var kernelFigures = []kernelFigure{
	namespaced(gauge("port_somaxconn",
		"Limit on the backlog of a listener (net.core.somaxconn).", "netns"),
		func(s *kernel.Stats) *float64 { return s.SoMaxConn }),
	namespaced(gauge("port_tcp_max_syn_backlog",
		"Limit on handshakes of a listener without SYN cookies (net.ipv4.tcp_max_syn_backlog).", "netns"),
		func(s *kernel.Stats) *float64 { return s.MaxSynBacklog }),
	namespaced(gauge("port_tcp_time_wait_limit",
		"Limit on sockets in TIME_WAIT (net.ipv4.tcp_max_tw_buckets).", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWaitLimit }),
	namespaced(gauge("port_tcp_time_wait_entries",
		"Sockets that count towards port_tcp_time_wait_limit.", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWait }),
	namespaced(gauge("port_tcp_time_wait_reuse",
		"Whether connect() may reuse a port in TIME_WAIT (net.ipv4.tcp_tw_reuse).", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWaitReuse }),
	hostwide(gauge("port_tcp_orphans",
		"Orphaned TCP sockets on the whole host."),
		func(s *kernel.Stats) *float64 { return s.Orphans }),
	hostwide(gauge("port_tcp_orphan_limit",
		"Limit on orphaned TCP sockets (net.ipv4.tcp_max_orphans)."),
		func(s *kernel.Stats) *float64 { return s.OrphanLimit }),
	hostwide(gauge("port_tcp_memory_bytes",
		"Buffer memory of all TCP sockets of the host, in bytes."),
		func(s *kernel.Stats) *float64 { return s.Memory }),
	hostwide(gauge("port_tcp_memory_pressure_bytes",
		"TCP buffer memory at which the kernel starts to limit buffers, in bytes."),
		func(s *kernel.Stats) *float64 { return s.MemoryPressure }),
	hostwide(gauge("port_tcp_memory_limit_bytes",
		"Limit on TCP buffer memory, in bytes."),
		func(s *kernel.Stats) *float64 { return s.MemoryLimit }),
	namespaced(gauge("port_conntrack_entries",
		"Connections tracked by netfilter.", "netns"),
		func(s *kernel.Stats) *float64 { return s.Conntrack }),
	namespaced(gauge("port_conntrack_entries_limit",
		"Limit on connections tracked by netfilter (net.netfilter.nf_conntrack_max).", "netns"),
		func(s *kernel.Stats) *float64 { return s.ConntrackLimit }),
	namespaced(counter("port_tcp_listen_overflows_total",
		"Connections that found a full accept queue (ListenOverflows).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ListenOverflows }),
	namespaced(counter("port_tcp_listen_drops_total",
		"Connections dropped by listeners for any reason (ListenDrops).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ListenDrops }),
	namespaced(counter("port_tcp_time_wait_overflows_total",
		"Sockets not kept in TIME_WAIT because of the limit or memory (TCPTimeWaitOverflow).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.TimeWaitOverflow }),
	namespaced(counter("port_tcp_syn_retransmits_total",
		"SYNs and SYN-ACKs retransmitted (TCPSynRetrans).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynRetransmits }),
	namespaced(counter("port_tcp_syn_cookies_sent_total",
		"SYN cookies sent because of too many handshakes of a listener (SyncookiesSent).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynCookiesSent }),
	namespaced(counter("port_tcp_syn_queue_full_drops_total",
		"SYNs dropped because of too many handshakes of a listener (TCPReqQFullDrop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynQueueFullDrops }),
	namespaced(counter("port_tcp_abort_on_memory_total",
		"Connections reset because of memory or the orphan limit (TCPAbortOnMemory).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnMemory }),
	namespaced(counter("port_tcp_connect_failures_total",
		"Failed TCP handshakes, outbound and inbound (AttemptFails).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.AttemptFails }),
	namespaced(counter("port_tcp_established_resets_total",
		"Established connections that were reset (EstabResets).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.EstabResets }),
	namespaced(counter("port_tcp_segments_retransmitted_total",
		"TCP segments retransmitted (RetransSegs).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.RetransSegs }),
	namespaced(counter("port_tcp_resets_sent_total",
		"TCP resets sent (OutRsts).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.ResetsSent }),
	namespaced(counter("port_tcp_active_opens_total",
		"Connections that this host began (ActiveOpens).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.ActiveOpens }),
	namespaced(counter("port_tcp_passive_opens_total",
		"Connections that others began (PassiveOpens).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.PassiveOpens }),
	namespaced(counter("port_tcp_syn_cookies_received_total",
		"Valid SYN cookies received (SyncookiesRecv).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynCookiesValid }),
	namespaced(counter("port_tcp_syn_cookies_failed_total",
		"Invalid SYN cookies received (SyncookiesFailed).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynCookiesInvalid }),
	namespaced(counter("port_tcp_timeouts_total",
		"Retransmission timeouts of TCP (TCPTimeouts).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.Timeouts }),
	namespaced(counter("port_tcp_loss_probes_total",
		"Tail loss probes sent (TCPLossProbes).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.LossProbes }),
	namespaced(counter("port_tcp_zero_window_drops_total",
		"Segments dropped because the receive window was closed (TCPZeroWindowDrop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ZeroWindowDrop }),
	namespaced(counter("port_tcp_backlog_drops_total",
		"Segments dropped because the socket's backlog was full (TCPBacklogDrop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.BacklogDrop }),
	namespaced(counter("port_tcp_receive_queue_drops_total",
		"Segments dropped because the receive queue was full (TCPRcvQDrop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ReceiveQueueDrop }),
	namespaced(counter("port_reverse_path_filter_drops_total",
		"Packets dropped by the reverse-path filter (IPReversePathFilter).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ReversePathFilter }),
	namespaced(counter("port_conntrack_drops_total",
		"Packets dropped because conntrack had no room (drop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Tracking.Drops }),
	namespaced(counter("port_conntrack_insert_failures_total",
		"Packets dropped because their connection was tracked already (insert_failed).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Tracking.InsertFailures }),
}

// tcpAborts counts connections that the kernel reset, by reason. Those for lack of
// memory are in a family of their own.
var tcpAborts = counter("port_tcp_aborts_total",
	"Connections aborted by this host, by reason (TCPAbortOn*).", "netns", "reason")

var abortReasons = []struct {
	reason string
	of     func(*kernel.Stats) *float64
}{
	{"data", func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnData }},
	{"close", func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnClose }},
	{"timeout", func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnTimeout }},
	{"linger", func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnLinger }},
	{"failed", func(s *kernel.Stats) *float64 { return s.Netstat.AbortFailed }},
}

// The figures that the kernel counts by address family.
var (
	icmpRateLimited = counter("port_icmp_rate_limited_total",
		"ICMP errors not sent because of the rate limits.", "netns", "family")
	neighbourTableFull = counter("port_neighbour_table_overflows_total",
		"Neighbours not added because the table was full (table_fulls).", "family")
	udpNoPort = counter("port_udp_no_port_datagrams_total",
		"Datagrams received for a port without a listener (NoPorts).", "netns", "family")
	udpReceiveBufferErrors = counter("port_udp_receive_buffer_errors_total",
		"Datagrams dropped because of a full receive buffer (RcvbufErrors).", "netns", "family")
	udpSendBufferErrors = counter("port_udp_send_buffer_errors_total",
		"Datagrams not sent because of a full send buffer (SndbufErrors).", "netns", "family")
)

func (limits) Name() string { return "limits" }

func (limits) Families() []*Family {
	var families []*Family
	for _, f := range kernelFigures {
		families = append(families, f.family)
	}
	return append(families, tcpAborts, icmpRateLimited, neighbourTableFull, udpNoPort, udpReceiveBufferErrors, udpSendBufferErrors)
}

func (c limits) Collect(_ context.Context, host *Snapshot, out *Output) error {
	stats, err := c.read()
	if stats == nil {
		return err
	}
	host.Missing(out, err)
	for _, f := range kernelFigures {
		addKnown(out, f.family, f.of(stats), f.labels...)
	}
	for _, r := range abortReasons {
		addKnown(out, tcpAborts, r.of(stats), hostNetns, r.reason)
	}
	addKnown(out, icmpRateLimited, stats.ICMP.RateLimited, hostNetns, socket.IPv4.String())
	addKnown(out, icmpRateLimited, stats.ICMP6.RateLimited, hostNetns, socket.IPv6.String())
	addKnown(out, neighbourTableFull, stats.Neighbours.TableFull, socket.IPv4.String())
	addKnown(out, neighbourTableFull, stats.Neighbours6.TableFull, socket.IPv6.String())
	addUDP(out, stats.UDP, socket.IPv4)
	addUDP(out, stats.UDP6, socket.IPv6)
	return nil
}

func addUDP(out *Output, udp kernel.UDP, family socket.Family) {
	addKnown(out, udpNoPort, udp.NoPorts, hostNetns, family.String())
	addKnown(out, udpReceiveBufferErrors, udp.ReceiveFull, hostNetns, family.String())
	addKnown(out, udpSendBufferErrors, udp.SendFull, hostNetns, family.String())
}

// addKnown adds a figure if there is one.
func addKnown(out *Output, f *Family, figure *float64, labels ...string) {
	if figure != nil {
		out.add(f, *figure, labels...)
	}
}
