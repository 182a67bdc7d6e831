package collector

import (
	"context"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// limits tells the kernel's limits, what is used of them, and what it counts
// when they are reached.
type limits struct {
	read func() (*kernel.Stats, error)
}

// kernelFigure is a family with the figure that it tells, nil where this kernel
// does not.
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

// kernelFigures are all of them, in the order of their families.
var kernelFigures = []kernelFigure{
	namespaced(gauge("port_somaxconn",
		"Limit that the kernel cuts the backlog of listeners down to (net.core.somaxconn).", "netns"),
		func(s *kernel.Stats) *float64 { return s.SoMaxConn }),
	namespaced(gauge("port_tcp_max_syn_backlog",
		"With net.ipv4.tcp_syncookies=0 the kernel drops SYNs of unknown peers from three quarters of this many handshakes of a listener on "+
			"(net.ipv4.tcp_max_syn_backlog). With SYN cookies, the default, what counts is port_listener_accept_queue_limit.", "netns"),
		func(s *kernel.Stats) *float64 { return s.MaxSynBacklog }),
	namespaced(gauge("port_tcp_time_wait_limit",
		"Sockets in TIME_WAIT that the kernel keeps; beyond it ends them at once (net.ipv4.tcp_max_tw_buckets).", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWaitLimit }),
	namespaced(gauge("port_tcp_time_wait_entries",
		"Sockets that count against port_tcp_time_wait_limit: those in TIME_WAIT, and those in FIN_WAIT2 that no process holds any more.", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWait }),
	namespaced(gauge("port_tcp_time_wait_reuse",
		"Whether connect() takes a port that a socket in TIME_WAIT has had for a second (net.ipv4.tcp_tw_reuse): 0 never, 1 always, 2 towards "+
			"and from loopback addresses. The peer must use TCP timestamps; without net.ipv4.tcp_timestamps it is 0.", "netns"),
		func(s *kernel.Stats) *float64 { return s.TimeWaitReuse }),
	hostwide(gauge("port_tcp_orphans",
		"TCP sockets that no process holds any more and that have not ended, on the whole host."),
		func(s *kernel.Stats) *float64 { return s.Orphans }),
	hostwide(gauge("port_tcp_orphan_limit",
		"Orphans that the kernel keeps; beyond it resets them (net.ipv4.tcp_max_orphans)."),
		func(s *kernel.Stats) *float64 { return s.OrphanLimit }),
	hostwide(gauge("port_tcp_memory_bytes",
		"Memory in the buffers of all TCP sockets of the host, in bytes."),
		func(s *kernel.Stats) *float64 { return s.Memory }),
	hostwide(gauge("port_tcp_memory_pressure_bytes",
		"Memory of TCP buffers from which on the kernel holds them small (the second figure of net.ipv4.tcp_mem), in bytes."),
		func(s *kernel.Stats) *float64 { return s.MemoryPressure }),
	hostwide(gauge("port_tcp_memory_limit_bytes",
		"Most memory of TCP buffers (the third figure of net.ipv4.tcp_mem), in bytes."),
		func(s *kernel.Stats) *float64 { return s.MemoryLimit }),
	namespaced(gauge("port_conntrack_entries",
		"Connections that netfilter tracks. Absent where conntrack is not loaded.", "netns"),
		func(s *kernel.Stats) *float64 { return s.Conntrack }),
	namespaced(gauge("port_conntrack_entries_limit",
		"Connections that netfilter can track; it drops the packets of new ones beyond (net.netfilter.nf_conntrack_max). Absent where there is no limit.", "netns"),
		func(s *kernel.Stats) *float64 { return s.ConntrackLimit }),
	namespaced(counter("port_tcp_listen_overflows_total",
		"Connections that found the accept queue of their listener full (ListenOverflows). port_listener_accept_queue_drops_total tells which.", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ListenOverflows }),
	namespaced(counter("port_tcp_listen_drops_total",
		"Connections that listeners dropped for whatever reason, overflows included (ListenDrops).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.ListenDrops }),
	namespaced(counter("port_tcp_time_wait_overflows_total",
		"Sockets that were not kept in TIME_WAIT, because of the limit or for want of memory (TCPTimeWaitOverflow).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.TimeWaitOverflow }),
	namespaced(counter("port_tcp_syn_retransmits_total",
		"SYNs and SYN-ACKs sent again (TCPSynRetrans).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynRetransmits }),
	namespaced(counter("port_tcp_syn_cookies_sent_total",
		"SYN cookies sent, because a listener had as many handshakes as its accept queue limit (SyncookiesSent).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynCookiesSent }),
	namespaced(counter("port_tcp_syn_queue_full_drops_total",
		"SYNs dropped because a listener had as many handshakes as its accept queue limit, where SYN cookies are off (TCPReqQFullDrop).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.SynQueueFullDrops }),
	namespaced(counter("port_tcp_abort_on_memory_total",
		"Connections reset for want of memory or beyond the limit of orphans (TCPAbortOnMemory).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Netstat.AbortOnMemory }),
	namespaced(counter("port_tcp_connect_failures_total",
		"Handshakes that came to nothing, from here and towards here (AttemptFails).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.AttemptFails }),
	namespaced(counter("port_tcp_established_resets_total",
		"Established connections that were reset (EstabResets).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.EstabResets }),
	namespaced(counter("port_tcp_segments_retransmitted_total",
		"Segments sent again (RetransSegs).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.RetransSegs }),
	namespaced(counter("port_tcp_resets_sent_total",
		"Resets sent: answers to segments for which there is no connection or no listener, and aborts (OutRsts).", "netns"),
		func(s *kernel.Stats) *float64 { return s.Snmp.ResetsSent }),
}

// The figures of UDP, which the kernel counts by address family.
var (
	udpNoPort = counter("port_udp_no_port_datagrams_total",
		"Datagrams that came for a port on which nothing listens (NoPorts).", "netns", "family")
	udpReceiveBufferErrors = counter("port_udp_receive_buffer_errors_total",
		"Datagrams dropped because the receive buffer of their socket was full (RcvbufErrors). "+
			"port_udp_receive_drops_total has those of listeners; clients have none.", "netns", "family")
	udpSendBufferErrors = counter("port_udp_send_buffer_errors_total",
		"Datagrams not sent because the send buffer was full (SndbufErrors).", "netns", "family")
)

func (limits) Name() string { return "limits" }

func (limits) Families() []*Family {
	var families []*Family
	for _, f := range kernelFigures {
		families = append(families, f.family)
	}
	return append(families, udpNoPort, udpReceiveBufferErrors, udpSendBufferErrors)
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
