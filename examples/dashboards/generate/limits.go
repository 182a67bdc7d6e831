package main

func limitsBoard() board {
	variables, host := onHosts()
	return board{
		title: "Ephemeral ports and limits", uid: "port-exporter-limits",
		about:     "What will run out: local ports towards a destination, and what the kernel limits: port_exporter.",
		variables: variables, host: host,
		sections: []section{
			{title: "Overview: how much of each is in use, on the host that uses the most", panels: limitsOverview()},
			{title: "Ephemeral ports", panels: ephemeral()},
			{title: "Limits of the kernel", panels: kernelLimits()},
			{title: "Handshakes and drops", panels: handshakes()},
			{title: "Failures", panels: failures()},
		},
	}
}

const (
	// Less those in TIME_WAIT where connect() takes them again, as in the rules.
	destinationShare = `(port_ephemeral_destination_ports_used{HOST} - (` +
		`port_ephemeral_destination_ports_in_time_wait{HOST} and on (job, instance, netns) port_tcp_time_wait_reuse{HOST} == 1 or ` +
		`port_ephemeral_destination_ports_in_time_wait{HOST, remote_address=~"127[.].+|::1"} and on (job, instance, netns) port_tcp_time_wait_reuse{HOST} == 2) or ` +
		`port_ephemeral_destination_ports_used{HOST}) / ` + perHost + ` (port_ephemeral_ports{HOST} > 0)`
	memoryShare    = `port_tcp_memory_bytes{HOST} / (port_tcp_memory_limit_bytes{HOST} > 0)`
	orphanShare    = `port_tcp_orphans{HOST} / (port_tcp_orphan_limit{HOST} > 0)`
	timeWaitShare  = `port_tcp_time_wait_entries{HOST} / (port_tcp_time_wait_limit{HOST} > 0)`
	conntrackShare = `port_conntrack_entries{HOST} / (port_conntrack_entries_limit{HOST} > 0)`
)

func limitsOverview() []panel {
	const size = 4
	return []panel{
		{
			title: "Ports to one destination",
			about: "The destination towards which the fewest local ports are left. At 100 % connects to it fail.",
			kind:  stat, width: size, unit: "percentunit", warn: 0.8,
			query: []query{{`max(` + destinationShare + `)`, ""}},
		},
		timeWaitOfLimit(),
		{
			title: "Orphans, of their limit",
			about: "Connections that no process holds any more and that have not ended (net.ipv4.tcp_max_orphans). From 50 % on the kernel resets some.",
			kind:  stat, width: size, unit: "percentunit", warn: 0.5,
			query: []query{{`max(` + orphanShare + `)`, ""}},
		},
		{
			title: "TCP memory, of its limit",
			about: "Memory in the buffers of all TCP sockets (the third figure of net.ipv4.tcp_mem).",
			kind:  stat, width: size, unit: "percentunit", warn: 0.6,
			query: []query{{`max(` + memoryShare + `)`, ""}},
		},
		{
			title: "Conntrack, of its limit",
			about: "Connections that netfilter tracks. At 100 % the packets of new ones are dropped.",
			kind:  stat, width: size, unit: "percentunit", warn: 0.8, none: "not loaded",
			query: []query{{`max(` + conntrackShare + `)`, ""}},
		},
		{
			title: "Dropped for want of room",
			about: "Handshakes, connections and sockets in TIME_WAIT per second that the kernels of the chosen hosts dropped because something was full.",
			kind:  stat, width: size, unit: "cps", warn: 0.001,
			query: []query{{`sum(rate(port_tcp_listen_overflows_total{HOST}[$__rate_interval]) + rate(port_tcp_syn_queue_full_drops_total{HOST}[$__rate_interval]) + ` +
				`rate(port_tcp_time_wait_overflows_total{HOST}[$__rate_interval]) + rate(port_tcp_abort_on_memory_total{HOST}[$__rate_interval]))`, ""}},
		},
	}
}

func ephemeral() []panel {
	return []panel{
		{
			title: "Local ports in use, by destination",
			about: "As a share of those that a client can get; each destination has all of them. Connections in TIME_WAIT hold theirs for a minute, and are left out where net.ipv4.tcp_tw_reuse gives it away. At 100 % connects fail.",
			width: 12, unit: "percentunit", warn: 0.8,
			query: []query{{destinationShare + ` > 0`, destinationLegend}},
		},
		{
			title: "Destinations",
			about: "Those that use the most local ports, and those that the configuration watches: how many they use now.",
			kind:  table, width: 12, unit: "short", value: "ports used",
			columns: []string{"instance", "netns", "remote_address", "remote_port"},
			query:   []query{{`sort_desc(port_ephemeral_destination_ports_used{HOST})`, ""}},
		},
		{
			title: "Local ports in use, by protocol",
			about: "Towards whatever destination. TCP can use a port again for another destination; for UDP, whose sockets often have no destination, this is what runs out.",
			width: 12, unit: "percentunit", max: 1,
			query: []query{{`port_ephemeral_ports_used{HOST} / ` + perHost + ` (port_ephemeral_ports{HOST} > 0) > 0`, "{{instance}} {{protocol}}"}},
		},
		{
			title: "Watched names that are not found",
			about: "Host names of the configuration whose last lookup failed: the addresses they last had are watched.",
			kind:  table, width: 6, unit: "short", columns: []string{"instance", "hostname"},
			query: []query{{`port_ephemeral_destination_lookup_success{HOST} == 0`, ""}},
		},
		{
			title: "Ports that may be missing in the count",
			about: "By how much the count may be too low for a destination that is not watched: 0 up to 16384 destinations.",
			kind:  stat, width: 6, tall: 8, unit: "short",
			query: []query{{`max(port_ephemeral_destination_undercount_ports{HOST})`, ""}},
		},
	}
}

func kernelLimits() []panel {
	return []panel{
		{
			title: "TIME_WAIT, of its limit",
			about: "Sockets in TIME_WAIT, and in FIN_WAIT2 without a process, as a share of those that the kernel keeps. Beyond it ends them at once.",
			width: 12, unit: "percentunit", warn: 0.8,
			query: []query{{timeWaitShare, "{{instance}}"}},
		},
		{
			title: "Orphans, of their limit",
			about: "Connections that no process holds any more and that have not ended. From a half on the kernel resets those whose peer is long silent.",
			width: 12, unit: "percentunit", warn: 0.5,
			query: []query{{orphanShare, "{{instance}}"}},
		},
		{
			title: "TCP memory",
			about: "Memory in the buffers of all TCP sockets of a host, as a share of what the kernel allows. From two thirds on, as a rule, it holds buffers small.",
			width: 12, unit: "percentunit",
			query: []query{{memoryShare, "{{instance}}"}},
		},
		{
			title: "Connections that netfilter tracks",
			about: "As a share of those that it can track. Beyond the limit it drops the packets of new ones. Absent where conntrack is not loaded.",
			width: 12, unit: "percentunit", warn: 0.8,
			query: []query{{conntrackShare, "{{instance}}"}},
		},
		{
			title: "Settings",
			about: "The limits in force, by the name of the setting.",
			kind:  table, width: 24, tall: 12, unit: "none", value: "limit", columns: []string{"instance", "netns", "setting"},
			query: []query{{settings(), ""}},
		},
	}
}

// settings names limits as the kernel does.
func settings() string {
	expr := ""
	for _, s := range []struct{ metric, name string }{
		{"port_ephemeral_ports", "ports of net.ipv4.ip_local_port_range, less reserved ones"},
		{"port_tcp_time_wait_limit", "net.ipv4.tcp_max_tw_buckets"},
		{"port_tcp_time_wait_reuse", "net.ipv4.tcp_tw_reuse"},
		{"port_tcp_orphan_limit", "net.ipv4.tcp_max_orphans"},
		{"port_tcp_memory_pressure_bytes", "net.ipv4.tcp_mem, pressure, in bytes"},
		{"port_tcp_memory_limit_bytes", "net.ipv4.tcp_mem, limit, in bytes"},
		{"port_tcp_max_syn_backlog", "net.ipv4.tcp_max_syn_backlog"},
		{"port_somaxconn", "net.core.somaxconn"},
		{"port_conntrack_entries_limit", "net.netfilter.nf_conntrack_max"},
	} {
		if expr != "" {
			expr += " or "
		}
		expr += `label_replace(` + s.metric + `{HOST}, "setting", "` + s.name + `", "", "")`
	}
	return expr
}

// perSecond is a counter of the kernel as lines by host.
func perSecond(metric, what string) query {
	return query{`sum by (instance) (rate(` + metric + `{HOST}[$__rate_interval]))`, "{{instance}} " + what}
}

func handshakes() []panel {
	return []panel{
		{
			title: "Accept queues",
			about: "Connections per second that found the accept queue of their listener full, and those that listeners dropped for whatever reason. Listeners and exposure tells which listener.",
			width: 12, unit: "cps",
			query: []query{perSecond("port_tcp_listen_overflows_total", "queue full"), perSecond("port_tcp_listen_drops_total", "dropped")},
		},
		{
			title: "SYN queues",
			about: "Handshakes per second that found no place: answered with a cookie, or dropped where cookies are off. A SYN flood, or a short backlog.",
			width: 12, unit: "cps",
			query: []query{perSecond("port_tcp_syn_cookies_sent_total", "cookies"), perSecond("port_tcp_syn_queue_full_drops_total", "dropped")},
		},
		{
			title: "TIME_WAIT cut short, connections reset for want of memory",
			about: "Per second. Both are a limit that was reached: see its panel above.",
			width: 12, unit: "cps",
			query: []query{perSecond("port_tcp_time_wait_overflows_total", "TIME_WAIT"), perSecond("port_tcp_abort_on_memory_total", "memory")},
		},
		{
			title: "SYNs sent again",
			about: "SYNs and SYN-ACKs that were not answered, per second: servers that are down, lost packets, or clients that are not there.",
			width: 12, unit: "pps",
			query: []query{perSecond("port_tcp_syn_retransmits_total", "")},
		},
	}
}

func failures() []panel {
	return []panel{
		{
			title: "Connections that failed",
			about: "Per second: handshakes that came to nothing, from here and towards here, and established connections that were reset.",
			width: 12, unit: "cps",
			query: []query{perSecond("port_tcp_connect_failures_total", "handshakes"), perSecond("port_tcp_established_resets_total", "established")},
		},
		{
			title: "Segments sent again, and resets sent",
			about: "Per second. Resets answer segments for which there is no connection or no listener; many of them may be a port scan.",
			width: 12, unit: "pps",
			query: []query{perSecond("port_tcp_segments_retransmitted_total", "again"), perSecond("port_tcp_resets_sent_total", "resets")},
		},
		{
			title: "UDP: nothing listens there",
			about: "Datagrams per second for ports on which nothing listens: a service that is down, or a port scan.",
			width: 12, unit: "pps",
			query: []query{{`sum by (instance, family) (rate(port_udp_no_port_datagrams_total{HOST}[$__rate_interval]))`, "{{instance}} {{family}}"}},
		},
		{
			title: "UDP: buffers full",
			about: "Datagrams lost per second, on receipt and on sending. Listeners and exposure tells which listener.",
			width: 12, unit: "pps",
			query: []query{
				{`sum by (instance, family) (rate(port_udp_receive_buffer_errors_total{HOST}[$__rate_interval]))`, "{{instance}} {{family}} receive"},
				{`sum by (instance, family) (rate(port_udp_send_buffer_errors_total{HOST}[$__rate_interval]))`, "{{instance}} {{family}} send"},
			},
		},
	}
}
