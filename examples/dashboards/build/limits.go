package main

func limits() board {
	return board{
		file: "ephemeral-ports-and-limits", uid: "port-exporter-limits",
		title:   "Ephemeral ports and limits",
		text:    "What will run out: local ports towards a destination, and what the kernel limits: port_exporter.",
		choices: []string{"netns"},
		rows: []row{
			limitsOverview(),
			limitsEphemeralPorts(),
			limitsOfTheKernel(),
			limitsHandshakesAndDrops(),
			limitsFailures(),
		},
	}
}

func limitsOverview() row {
	return row{title: "Overview: how much of each is in use, on the host that uses the most", panels: []panel{
		{
			kind: single, unit: "percentunit", red: 0.8,
			title:   "Ports to one destination",
			text:    "The destination towards which the fewest local ports are left. At 100 % connects to it fail.",
			queries: []query{{expr: `max((port_ephemeral_destination_ports_used - (port_ephemeral_destination_ports_in_time_wait and on (job, instance, netns) port_tcp_time_wait_reuse == 1 or port_ephemeral_destination_ports_in_time_wait{remote_address=~"127[.].+|::1"} and on (job, instance, netns) port_tcp_time_wait_reuse == 2) or port_ephemeral_destination_ports_used) / on (job, instance, netns) group_left () (port_ephemeral_ports > 0))`}},
		},
		timeWaitOfItsLimit,
		{
			kind: single, unit: "percentunit", red: 0.5,
			title:   "Orphans, of their limit",
			text:    "Connections that no process holds any more and that have not ended (net.ipv4.tcp_max_orphans). From 50 % on the kernel resets some.",
			queries: []query{{expr: "max(port_tcp_orphans / (port_tcp_orphan_limit > 0))"}},
		},
		{
			kind: single, unit: "percentunit", red: 0.6,
			title:   "TCP memory, of its limit",
			text:    "Memory in the buffers of all TCP sockets (the third figure of net.ipv4.tcp_mem).",
			queries: []query{{expr: "max(port_tcp_memory_bytes / (port_tcp_memory_limit_bytes > 0))"}},
		},
		{
			kind: single, unit: "percentunit", red: 0.8, none: "not loaded",
			title:   "Conntrack, of its limit",
			text:    "Connections that netfilter tracks. At 100 % the packets of new ones are dropped.",
			queries: []query{{expr: "max(port_conntrack_entries / (port_conntrack_entries_limit > 0))"}},
		},
		{
			kind: single, unit: "cps", red: 0.001,
			title:   "Dropped because something was full",
			text:    "Handshakes, connections and sockets in TIME_WAIT per second that the kernels of the chosen hosts dropped because something was full.",
			queries: []query{{expr: "sum(rate(port_tcp_listen_overflows_total[$__rate_interval]) + rate(port_tcp_syn_queue_full_drops_total[$__rate_interval]) + rate(port_tcp_time_wait_overflows_total[$__rate_interval]) + rate(port_tcp_abort_on_memory_total[$__rate_interval]))"}},
		},
	}}
}

func limitsEphemeralPorts() row {
	return row{title: "Ephemeral ports", panels: []panel{
		{
			kind: chart, unit: "percentunit", red: 0.8,
			title:   "Local ports in use, by destination",
			text:    "As a share of those that a client can get; each destination has all of them. Connections in TIME_WAIT hold theirs for a minute, and are left out where net.ipv4.tcp_tw_reuse gives it away. At 100 % connects fail.",
			queries: []query{{`(port_ephemeral_destination_ports_used - (port_ephemeral_destination_ports_in_time_wait and on (job, instance, netns) port_tcp_time_wait_reuse == 1 or port_ephemeral_destination_ports_in_time_wait{remote_address=~"127[.].+|::1"} and on (job, instance, netns) port_tcp_time_wait_reuse == 2) or port_ephemeral_destination_ports_used) / on (job, instance, netns) group_left () (port_ephemeral_ports > 0) > 0`, "{{instance}} to {{remote_address}} port {{remote_port}}"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Destinations",
			text:    "Those that use the most local ports, and those that the configuration watches: how many they use now.",
			queries: []query{{expr: "sort_desc(port_ephemeral_destination_ports_used)"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {"remote_address", "remote address"}, {"remote_port", "remote port"}, {"Value", "ports used"}},
		},
		{
			kind: chart, unit: "percentunit", most: 1,
			title:   "Local ports in use, by protocol",
			text:    "Towards whatever destination. TCP can use a port again for another destination; for UDP, whose sockets often have no destination, this is what runs out.",
			queries: []query{{"port_ephemeral_ports_used / on (job, instance, netns) group_left () (port_ephemeral_ports > 0) > 0", "{{instance}} {{protocol}}"}},
		},
		{
			kind: rows, width: 6, unit: "short",
			title:   "Watched names that are not found",
			text:    "Host names of the configuration whose last lookup failed: the addresses they last had are watched.",
			queries: []query{{expr: "port_ephemeral_destination_lookup_success == 0"}},
			columns: []column{{label: "instance"}, {label: "hostname"}},
		},
		{
			kind: single, width: 6, height: 8, unit: "short",
			title:   "Ports that may be missing in the count",
			text:    "By how much the count may be too low for a destination that is not watched: 0 up to 16384 destinations.",
			queries: []query{{expr: "max(port_ephemeral_destination_undercount_ports)"}},
		},
	}}
}

func limitsOfTheKernel() row {
	return row{title: "Limits of the kernel", panels: []panel{
		{
			kind: chart, unit: "percentunit", red: 0.8,
			title:   "TIME_WAIT, of its limit",
			text:    "Sockets in TIME_WAIT, and in FIN_WAIT2 without a process, as a share of those that the kernel keeps. Beyond it ends them at once.",
			queries: []query{{"port_tcp_time_wait_entries / (port_tcp_time_wait_limit > 0)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "percentunit", red: 0.5,
			title:   "Orphans, of their limit",
			text:    "Connections that no process holds any more and that have not ended. From a half on the kernel resets those whose peer is long silent.",
			queries: []query{{"port_tcp_orphans / (port_tcp_orphan_limit > 0)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "TCP memory",
			text:    "Memory in the buffers of all TCP sockets of a host, as a share of what the kernel allows. From two thirds on, as a rule, it holds buffers small.",
			queries: []query{{"port_tcp_memory_bytes / (port_tcp_memory_limit_bytes > 0)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "percentunit", red: 0.8,
			title:   "Connections that netfilter tracks",
			text:    "As a share of those that it can track. Beyond the limit it drops the packets of new ones. Absent where conntrack is not loaded.",
			queries: []query{{"port_conntrack_entries / (port_conntrack_entries_limit > 0)", "{{instance}}"}},
		},
		{
			kind: rows, width: 24, height: 12, unit: "none",
			title:   "Settings",
			text:    "The limits in force, by the name of the setting.",
			queries: []query{{expr: `label_replace(port_ephemeral_ports, "setting", "ports of net.ipv4.ip_local_port_range, less reserved ones", "", "") or label_replace(port_tcp_time_wait_limit, "setting", "net.ipv4.tcp_max_tw_buckets", "", "") or label_replace(port_tcp_time_wait_reuse, "setting", "net.ipv4.tcp_tw_reuse", "", "") or label_replace(port_tcp_orphan_limit, "setting", "net.ipv4.tcp_max_orphans", "", "") or label_replace(port_tcp_memory_pressure_bytes, "setting", "net.ipv4.tcp_mem, pressure, in bytes", "", "") or label_replace(port_tcp_memory_limit_bytes, "setting", "net.ipv4.tcp_mem, limit, in bytes", "", "") or label_replace(port_tcp_max_syn_backlog, "setting", "net.ipv4.tcp_max_syn_backlog", "", "") or label_replace(port_somaxconn, "setting", "net.core.somaxconn", "", "") or label_replace(port_conntrack_entries_limit, "setting", "net.netfilter.nf_conntrack_max", "", "")`}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "setting"}, {"Value", "limit"}},
		},
	}}
}

func limitsHandshakesAndDrops() row {
	return row{title: "Handshakes and drops", panels: []panel{
		{
			kind: chart, unit: "cps",
			title: "Accept queues",
			text:  "Connections per second that found the accept queue of their listener full, and those that listeners dropped for whatever reason. Listeners and exposure shows which listener.",
			queries: []query{
				{"sum by (instance) (rate(port_tcp_listen_overflows_total[$__rate_interval]))", "{{instance}} queue full"},
				{"sum by (instance) (rate(port_tcp_listen_drops_total[$__rate_interval]))", "{{instance}} dropped"},
			},
		},
		{
			kind: chart, unit: "cps",
			title: "SYN queues",
			text:  "Handshakes per second that found no place: answered with a cookie, or dropped where cookies are off. A SYN flood, or a short backlog.",
			queries: []query{
				{"sum by (instance) (rate(port_tcp_syn_cookies_sent_total[$__rate_interval]))", "{{instance}} cookies"},
				{"sum by (instance) (rate(port_tcp_syn_queue_full_drops_total[$__rate_interval]))", "{{instance}} dropped"},
			},
		},
		{
			kind: chart, unit: "cps",
			title: "TIME_WAIT cut short, connections reset because memory ran out",
			text:  "Per second. Both are a limit that was reached: see its panel above.",
			queries: []query{
				{"sum by (instance) (rate(port_tcp_time_wait_overflows_total[$__rate_interval]))", "{{instance}} TIME_WAIT"},
				{"sum by (instance) (rate(port_tcp_abort_on_memory_total[$__rate_interval]))", "{{instance}} memory"},
			},
		},
		{
			kind: chart, unit: "pps",
			title:   "SYNs sent again",
			text:    "SYNs and SYN-ACKs that were not answered, per second: servers that are down, lost packets, or clients that are not there.",
			queries: []query{{"sum by (instance) (rate(port_tcp_syn_retransmits_total[$__rate_interval]))", "{{instance}} "}},
		},
	}}
}

func limitsFailures() row {
	return row{title: "Failures", panels: []panel{
		{
			kind: chart, unit: "cps",
			title: "Connections that failed",
			text:  "Per second: handshakes that came to nothing, from here and towards here, and established connections that were reset.",
			queries: []query{
				{"sum by (instance) (rate(port_tcp_connect_failures_total[$__rate_interval]))", "{{instance}} handshakes"},
				{"sum by (instance) (rate(port_tcp_established_resets_total[$__rate_interval]))", "{{instance}} established"},
			},
		},
		{
			kind: chart, unit: "pps",
			title: "Segments sent again, and resets sent",
			text:  "Per second. Resets answer segments for which there is no connection or no listener; many of them may be a port scan.",
			queries: []query{
				{"sum by (instance) (rate(port_tcp_segments_retransmitted_total[$__rate_interval]))", "{{instance}} again"},
				{"sum by (instance) (rate(port_tcp_resets_sent_total[$__rate_interval]))", "{{instance}} resets"},
			},
		},
		{
			kind: chart, unit: "pps",
			title:   "UDP: nothing listens there",
			text:    "Datagrams per second for ports on which nothing listens: a service that is down, or a port scan.",
			queries: []query{{"sum by (instance, family) (rate(port_udp_no_port_datagrams_total[$__rate_interval]))", "{{instance}} {{family}}"}},
		},
		{
			kind: chart, unit: "pps",
			title: "UDP: buffers full",
			text:  "Datagrams lost per second, on receipt and on sending. Listeners and exposure shows which listener.",
			queries: []query{
				{"sum by (instance, family) (rate(port_udp_receive_buffer_errors_total[$__rate_interval]))", "{{instance}} {{family}} receive"},
				{"sum by (instance, family) (rate(port_udp_send_buffer_errors_total[$__rate_interval]))", "{{instance}} {{family}} send"},
			},
		},
	}}
}
