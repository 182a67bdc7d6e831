package main

func connectionsBoard() board {
	variables, host := onHosts()
	return board{
		title: "TIME_WAIT and connections by service", uid: "port-exporter-connections",
		about:     "Which service and which upstream the connections of a host belong to, and where they pile up: port_exporter.",
		variables: variables, host: host,
		sections: []section{
			{title: "Overview", panels: connectionsOverview()},
			{title: "Sockets", panels: sockets()},
			{title: "Inbound: connections of the listeners", panels: inbound()},
			{title: "Outbound and orphaned connections", panels: outbound()},
			{title: "Bytes in queues", panels: queuedBytes()},
		},
	}
}

func connectionsOverview() []panel {
	return []panel{
		exportersUp(),
		{
			title: "Sockets",
			about: "Every socket of the chosen hosts, of every protocol and state.",
			kind:  stat, width: 4, unit: "short",
			query: []query{{`sum(port_sockets{HOST})`, ""}},
		},
		timeWaitOfLimit(),
		{
			title: "CLOSE_WAIT",
			about: "Connections that the peer has closed and a program on a chosen host has not. The panels by service and by remote port tell which.",
			kind:  stat, width: 4, unit: "short",
			query: []query{{`sum(port_sockets{HOST, protocol="tcp", state="close_wait"})`, ""}},
		},
		{
			title: "Connects that nobody answers",
			about: "Sockets in SYN_SENT that have sent their SYN more than once: the server is down, or a firewall drops them.",
			kind:  stat, width: 4, unit: "short", warn: 1,
			query: []query{{`sum(port_syn_sent_retransmitting{HOST}) or vector(0)`, ""}},
		},
		{
			title: "Orphaned connections",
			about: "Connections of a service port on which nothing listens any more: what a restarted or crashed service left.",
			kind:  stat, width: 4, unit: "short",
			query: []query{{`sum(port_orphaned_connections{HOST}) or vector(0)`, ""}},
		},
	}
}

func exportersUp() panel {
	return panel{
		title: "Exporters up",
		about: "How many of the chosen exporters were scraped. Below 100 % a host is not seen.",
		kind:  stat, width: 4, unit: "percentunit", alarm: 1, max: 1,
		query: []query{{`avg(up{HOST})`, ""}},
	}
}

func timeWaitOfLimit() panel {
	return panel{
		title: "TIME_WAIT, of its limit",
		about: "The host that is nearest to the most sockets in TIME_WAIT that its kernel keeps (net.ipv4.tcp_max_tw_buckets).",
		kind:  stat, width: 4, unit: "percentunit", warn: 0.8,
		query: []query{{`max(` + timeWaitShare + `)`, ""}},
	}
}

func sockets() []panel {
	return []panel{
		{
			title: "TCP sockets by state",
			about: "All TCP sockets, listening ones included. A connection between two programs of one host is two sockets.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (state) (port_sockets{HOST, protocol="tcp"}) > 0`, "{{state}}"}},
		},
		{
			title: "TIME_WAIT by host",
			about: "Connections closed from here in the last minute. Steep growth means that connections are no longer reused; the panels by service and by remote port tell which.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance) (port_sockets{HOST, protocol="tcp", state="time_wait"})`, "{{instance}}"}},
		},
		{
			title: "Sockets by family and protocol",
			about: "Which of IPv4 and IPv6 is used, and how many UDP sockets there are.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (family, protocol) (port_sockets{HOST}) > 0`, "{{protocol}} {{family}}"}},
		},
		{
			title: "UDP sockets by state",
			about: "Connected UDP sockets have one peer; unconnected ones are servers and clients alike.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (protocol, state) (port_sockets{HOST, protocol!="tcp"}) > 0`, "{{protocol}} {{state}}"}},
		},
	}
}

func inbound() []panel {
	return []panel{
		{
			title: "TIME_WAIT by service",
			about: "Connections that the service closed first, within the last minute. Much of it for few clients: keep-alive is missing.",
			width: 12, unit: "short",
			query: []query{{byService(`port_inbound_connections{HOST, state="time_wait"}`), serviceLegend}},
		},
		{
			title: "Established connections by service",
			about: "Clients now connected, by the address and port of the listener that took them.",
			width: 12, unit: "short",
			query: []query{{byService(`port_inbound_connections{HOST, state="established"}`), serviceLegend}},
		},
		{
			title: "CLOSE_WAIT by service",
			about: "The client has closed and the service has not. A line that only rises is a leak of connections in that service.",
			width: 12, unit: "short",
			query: []query{{byService(`port_inbound_connections{HOST, state="close_wait"}`), serviceLegend}},
		},
		{
			title: "SYN_RECV by service",
			about: "Handshakes that wait for the client's last packet. Many of them: a slow network, a full accept queue or a SYN flood.",
			width: 12, unit: "short",
			query: []query{{byService(`port_inbound_connections{HOST, state="syn_recv"}`), serviceLegend}},
		},
		{
			title: "Inbound connections by port and state",
			about: "TCP sockets that belong to a listener, by its port.",
			width: 24, unit: "short", stack: true,
			query: []query{{`sum by (port, state) (port_inbound_connections{HOST}) > 0`, "{{port}} {{state}}"}},
		},
	}
}

func outbound() []panel {
	return []panel{
		{
			title: "Outbound connections by remote port",
			about: "Connections made from the chosen hosts, by the port they go to. The least busy ports are one line, other.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (remote_port) (port_outbound_connections{HOST}) > 0`, "{{remote_port}}"}},
		},
		{
			title: "Outbound connections by state",
			about: "SYN_SENT that stays: a server does not answer. CLOSE_WAIT that stays: a client program leaks connections.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (state) (port_outbound_connections{HOST}) > 0`, "{{state}}"}},
		},
		{
			title: "Outbound TIME_WAIT by remote port",
			about: "Each holds a local port towards one destination for a minute. The dashboard of ephemeral ports tells how many are left.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, remote_port) (port_outbound_connections{HOST, state="time_wait"}) > 0`, remoteLegend}},
		},
		{
			title: "Outbound CLOSE_WAIT by remote port",
			about: "The server has closed and the client program has not. A line that only rises is a leak, as of a pool without an idle timeout.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, remote_port) (port_outbound_connections{HOST, state="close_wait"}) > 0`, remoteLegend}},
		},
		{
			title: "Connects that nobody answers, by destination",
			about: "Sockets in SYN_SENT that have sent their SYN more than once. What stays here is a server that is down or behind a firewall.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, remote_address, remote_port) (port_destination_syn_sent_retransmitting{HOST})`, destinationLegend}},
		},
		{
			title: "Orphaned connections by local port",
			about: "Connections of a service port on which nothing listens any more: what a restarted or crashed service left.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (port, state) (port_orphaned_connections{HOST}) > 0`, "{{port}} {{state}}"}},
		},
	}
}

func queuedBytes() []panel {
	return []panel{
		{
			title: "Not read by the service",
			about: "Bytes that clients have sent and the service has not read.",
			width: 12, unit: "bytes",
			query: []query{{byService(`port_inbound_receive_queue_bytes{HOST}`), serviceLegend}},
		},
		{
			title: "Not acknowledged by clients",
			about: "Bytes that the service has written and its clients have not acknowledged: they read slowly, or the network is slow.",
			width: 12, unit: "bytes",
			query: []query{{byService(`port_inbound_send_queue_bytes{HOST}`), serviceLegend}},
		},
		{
			title: "Not read by the client program",
			about: "Bytes that servers have sent and a client program on a chosen host has not read, by remote port.",
			width: 12, unit: "bytes",
			query: []query{{`sum by (instance, remote_port) (port_outbound_receive_queue_bytes{HOST}) > 0`, remoteLegend}},
		},
		{
			title: "Not acknowledged by servers",
			about: "Bytes that a client program has written and the server has not acknowledged, by remote port.",
			width: 12, unit: "bytes",
			query: []query{{`sum by (instance, remote_port) (port_outbound_send_queue_bytes{HOST}) > 0`, remoteLegend}},
		},
	}
}
