package main

func connections() board {
	return board{
		file: "time-wait-and-connections-by-service", uid: "port-exporter-connections",
		title:   "TIME_WAIT and connections by service",
		text:    "Which service and which upstream the connections of a host belong to, and where they pile up: port_exporter.",
		choices: []string{"netns", "service"},
		rows: []row{
			connectionsOverview(),
			connectionsSockets(),
			connectionsInbound(),
			connectionsOutboundAndOrphaned(),
			connectionsThatStall(),
			connectionsByUnitAndContainer(),
			connectionsBytesInQueues(),
		},
	}
}

func connectionsOverview() row {
	return row{title: "Overview", panels: []panel{
		exportersUp,
		{
			kind: single, unit: "short",
			title:   "Sockets",
			text:    "Every socket of the chosen hosts, of every protocol and state.",
			queries: []query{{expr: "sum(port_sockets)"}},
		},
		timeWaitOfItsLimit,
		{
			kind: single, unit: "short",
			title:   "CLOSE_WAIT",
			text:    "Connections that the peer has closed and a program on a chosen host has not. The panels by service and by remote port show which.",
			queries: []query{{expr: `sum(port_sockets{protocol="tcp", state="close_wait"})`}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Connects without an answer",
			text:    "Sockets in SYN_SENT that have sent their SYN more than once: the server is down, or a firewall drops them.",
			queries: []query{{expr: "sum(port_syn_sent_retransmitting) or vector(0)"}},
		},
		{
			kind: single, unit: "short",
			title:   "Orphaned connections",
			text:    "Connections of a service port on which nothing listens any more: what a restarted or crashed service left.",
			queries: []query{{expr: "sum(port_orphaned_connections) or vector(0)"}},
		},
	}}
}

func connectionsSockets() row {
	return row{title: "Sockets", panels: []panel{
		{
			kind: stacked, unit: "short",
			title:   "TCP sockets by state",
			text:    "All TCP sockets, listening ones included. A connection between two programs of one host is two sockets.",
			queries: []query{{`sum by (state) (port_sockets{protocol="tcp"}) > 0`, "{{state}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "TIME_WAIT by host",
			text:    "Connections closed from here in the last minute. Steep growth means that connections are no longer reused; the panels by service and by remote port show which.",
			queries: []query{{`sum by (instance) (port_sockets{protocol="tcp", state="time_wait"})`, "{{instance}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Sockets by family and protocol",
			text:    "Which of IPv4 and IPv6 is used, and how many UDP sockets there are.",
			queries: []query{{"sum by (family, protocol) (port_sockets) > 0", "{{protocol}} {{family}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "UDP sockets by state",
			text:    "Connected UDP sockets have one peer; unconnected ones are servers and clients alike.",
			queries: []query{{`sum by (protocol, state) (port_sockets{protocol!="tcp"}) > 0`, "{{protocol}} {{state}}"}},
		},
	}}
}

func connectionsInbound() row {
	return row{title: "Inbound: connections of the listeners", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "TIME_WAIT by service",
			text:    "Connections that the service closed first, within the last minute. Much of it for few clients: keep-alive is missing.",
			queries: []query{{byListener(`port_inbound_connections{state="time_wait"}`), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Established connections by service",
			text:    "Clients now connected, by the address and port of the listener that took them.",
			queries: []query{{byListener(`port_inbound_connections{state="established"}`), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "CLOSE_WAIT by service",
			text:    "The client has closed and the service has not. A line that only rises is a leak of connections in that service.",
			queries: []query{{byListener(`port_inbound_connections{state="close_wait"}`), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "SYN_RECV by service",
			text:    "Handshakes that wait for the client's last packet. Many of them: a slow network, a full accept queue or a SYN flood.",
			queries: []query{{byListener(`port_inbound_connections{state="syn_recv"}`), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: stacked, width: 24, unit: "short",
			title:   "Inbound connections by port and state",
			text:    "TCP sockets that belong to a listener, by its port.",
			queries: []query{{"sum by (port, state) (port_inbound_connections) > 0", "{{port}} {{state}}"}},
		},
	}}
}

func connectionsOutboundAndOrphaned() row {
	return row{title: "Outbound and orphaned connections", panels: []panel{
		{
			kind: stacked, unit: "short",
			title:   "Outbound connections by remote port",
			text:    "Connections made from the chosen hosts, by the port they go to. The least busy ports are one line, other.",
			queries: []query{{"sum by (remote_port) (port_outbound_connections) > 0", "{{remote_port}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Outbound connections by state",
			text:    "SYN_SENT that stays: a server does not answer. CLOSE_WAIT that stays: a client program leaks connections.",
			queries: []query{{"sum by (state) (port_outbound_connections) > 0", "{{state}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Outbound TIME_WAIT by remote port",
			text:    "Each holds a local port towards one destination for a minute. The dashboard of ephemeral ports shows how many are left.",
			queries: []query{{`sum by (instance, remote_port) (port_outbound_connections{state="time_wait"}) > 0`, "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Outbound CLOSE_WAIT by remote port",
			text:    "The server has closed and the client program has not. A line that only rises is a leak, as of a pool without an idle timeout.",
			queries: []query{{`sum by (instance, remote_port) (port_outbound_connections{state="close_wait"}) > 0`, "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Connects without an answer, by destination",
			text:    "Sockets in SYN_SENT that have sent their SYN more than once. What stays here is a server that is down or behind a firewall.",
			queries: []query{{"sum by (instance, remote_address, remote_port) (port_destination_syn_sent_retransmitting)", "{{instance}} to {{remote_address}} port {{remote_port}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Orphaned connections by local port",
			text:    "Connections of a service port on which nothing listens any more: what a restarted or crashed service left.",
			queries: []query{{"sum by (port, state) (port_orphaned_connections) > 0", "{{port}} {{state}}"}},
		},
	}}
}

func connectionsThatStall() row {
	return row{title: "Connections that stall", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Clients that do not acknowledge",
			text:    "Data was retransmitted after a timeout, and nothing came back since: the client is gone, or the path to it drops packets.",
			queries: []query{{byListener("port_inbound_retransmitting_connections"), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Servers that do not acknowledge",
			text:    "Data was retransmitted after a timeout, and nothing came back since: the server is gone, or the path to it drops packets.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_retransmitting_connections)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Clients that do not read",
			text:    "Their window is zero: the client program is slow or hangs. Normal where the service streams faster than its clients read.",
			queries: []query{{byListener("port_inbound_zero_window_connections"), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Servers that do not read",
			text:    "Their window is zero: the server hangs, or is slower than this host writes.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_zero_window_connections)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, width: 24, unit: "short",
			title:   "SYN-ACKs without an answer",
			text:    "SYNs arrive and the answers do not reach the clients: asymmetric routing, a firewall, or spoofed addresses.",
			queries: []query{{byListener("port_inbound_syn_ack_retransmitting"), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
	}}
}

func connectionsByUnitAndContainer() row {
	return row{title: "Connections by unit and container", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Who talks to which port",
			text:    "Outbound connections by the unit or container whose cgroup made the socket.",
			queries: []query{{"sum by (instance, unit, container, remote_port) (port_owner_outbound_connections) > 0", "{{instance}} {{unit}} {{container}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Inbound connections by owner",
			text:    "Established connections to the listeners of a unit or container.",
			queries: []query{{`sum by (instance, unit, container) (port_owner_connections{direction="inbound", state="established"}) > 0`, "{{instance}} {{unit}} {{container}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "CLOSE_WAIT by owner",
			text:    "The peer has closed and the program has not. A line that only rises is a leak.",
			queries: []query{{`sum by (instance, unit, container, direction) (port_owner_connections{state="close_wait"}) > 0`, "{{instance}} {{unit}} {{container}} {{direction}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Connections without a known owner",
			text:    "Their cgroup was removed, or is outside of what the exporter sees. TIME_WAIT and SYN_RECV never have an owner and are not counted.",
			queries: []query{{"sum by (instance) (port_owner_connections_unattributed)", "{{instance}}"}},
		},
	}}
}

func connectionsBytesInQueues() row {
	return row{title: "Bytes in queues", panels: []panel{
		{
			kind: chart, unit: "bytes",
			title:   "Not read by the service",
			text:    "Bytes that clients have sent and the service has not read.",
			queries: []query{{byListener("port_inbound_receive_queue_bytes"), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "Not acknowledged by clients",
			text:    "Bytes that the service has written and its clients have not acknowledged: they read slowly, or the network is slow.",
			queries: []query{{byListener("port_inbound_send_queue_bytes"), "{{instance}} {{process}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "Not read by the client program",
			text:    "Bytes that servers have sent and a client program on a chosen host has not read, by remote port.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_receive_queue_bytes) > 0", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "Not acknowledged by servers",
			text:    "Bytes that a client program has written and the server has not acknowledged, by remote port.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_send_queue_bytes) > 0", "{{instance}} to port {{remote_port}}"}},
		},
	}}
}
