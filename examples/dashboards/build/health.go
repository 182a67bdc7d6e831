package main

func health() board {
	return board{
		file: "tcp-health", uid: "port-exporter-tcp-health",
		title:   "TCP health",
		text:    "How the TCP connections of a host fare: rates, failures, losses, round trips, stalls and owners: port_exporter.",
		choices: []string{"netns", "service"},
		rows: []row{
			healthOverview(),
			healthConnectionRate(),
			healthFailuresToConnect(),
			healthRetransmissions(),
			healthRoundTrips(),
			healthStallsAndLimits(),
			healthStalledNow(),
			healthOpenConnections(),
			healthOwners(),
			healthUnixListeners(),
		},
	}
}

func healthOverview() row {
	return row{title: "Overview", panels: []panel{
		{
			kind: single, unit: "cps", none: "closed is off",
			title:   "Connections closed",
			text:    "Per second, those of listeners and those from here. A connection between two programs of a host counts twice.",
			queries: []query{{expr: "sum(rate(port_inbound_connections_closed_total[$__rate_interval])) + sum(rate(port_outbound_connections_closed_total[$__rate_interval]))"}},
		},
		{
			kind: single, unit: "cps", none: "closed is off",
			title:   "Connects that failed",
			text:    "Per second: closed before they were established.",
			queries: []query{{expr: "sum(rate(port_outbound_connects_failed_total[$__rate_interval]))"}},
		},
		{
			kind: single, unit: "percentunit", red: 0.05, none: "closed is off",
			title:   "Retransmitted",
			text:    "Of all segments that closed connections sent. Far below 1 % in a sound network.",
			queries: []query{{expr: "(sum(rate(port_inbound_connections_segments_retransmitted_total[$__rate_interval])) + sum(rate(port_outbound_connections_segments_retransmitted_total[$__rate_interval]))) / (sum(rate(port_inbound_connections_segments_sent_total[$__rate_interval])) + sum(rate(port_outbound_connections_segments_sent_total[$__rate_interval])))"}},
		},
		{
			kind: single, unit: "short", red: 1, none: "closed is off",
			title:   "Stalled now",
			text:    "Open connections that retransmit, wait for a zero window, or whose SYN-ACK is not answered.",
			queries: []query{{expr: "(sum(port_inbound_retransmitting_connections) or vector(0)) + (sum(port_outbound_retransmitting_connections) or vector(0)) + (sum(port_inbound_zero_window_connections) or vector(0)) + (sum(port_outbound_zero_window_connections) or vector(0)) + (sum(port_inbound_syn_ack_retransmitting) or vector(0))"}},
		},
		{
			kind: single, unit: "short", red: 1, none: "closed is off",
			title:   "Full unix queues",
			text:    "Unix listeners that do not accept: their clients wait or fail.",
			queries: []query{{expr: "sum(port_unix_listener_accept_queue_full_sockets) or vector(0)"}},
		},
		{
			kind: single, unit: "short", red: 1, none: "closed is off",
			title:   "Lost",
			text:    "Closed sockets whose values the kernel could not deliver: the rows below are too low by them.",
			queries: []query{{expr: "sum(increase(port_closed_connections_lost_total[$__range]))"}},
		},
	}}
}

func healthConnectionRate() row {
	return row{title: "Connection rate (collector closed)", panels: []panel{
		{
			kind: chart, unit: "cps",
			title:   "Closed connections by listener",
			text:    "Per second, short ones between two scrapes included. About the rate of new connections, as long as the number of open ones is steady.",
			queries: []query{{"sum by (instance, address, port) (rate(port_inbound_connections_closed_total[$__rate_interval]))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "cps",
			title:   "Closed connections by remote port",
			text:    "Per second, of the connections made from here.",
			queries: []query{{"sum by (instance, remote_port) (rate(port_outbound_connections_closed_total[$__rate_interval]))", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "Bps",
			title:   "Bytes by listener",
			text:    "Received and sent. Counted when a connection ends; with the collector health, at each scrape.",
			queries: []query{{"sum by (instance, address, port) (rate(port_inbound_connections_received_bytes_total[$__rate_interval])) + sum by (instance, address, port) (rate(port_inbound_connections_sent_bytes_total[$__rate_interval]))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "Bps",
			title:   "Bytes by remote port",
			text:    "Received and sent. Counted when a connection ends; with the collector health, at each scrape.",
			queries: []query{{"sum by (instance, remote_port) (rate(port_outbound_connections_received_bytes_total[$__rate_interval])) + sum by (instance, remote_port) (rate(port_outbound_connections_sent_bytes_total[$__rate_interval]))", "{{instance}} to port {{remote_port}}"}},
		},
	}}
}

func healthFailuresToConnect() row {
	return row{title: "Failures to connect (collector closed)", panels: []panel{
		{
			kind: chart, unit: "cps",
			title:   "By destination",
			text:    "Per second. unanswered: nothing came back. other: something did, mostly a reset.",
			queries: []query{{"sum by (instance, remote_address, remote_port, outcome) (rate(port_destination_connects_failed_total[$__rate_interval])) > 0", "{{remote_address}} port {{remote_port}}, {{outcome}} ({{instance}})"}},
		},
		{
			kind: chart, unit: "cps",
			title:   "By remote port",
			text:    "Per second. unknown: the kernel forgets the port of a blocking connect() that failed.",
			queries: []query{{"sum by (instance, remote_port, outcome) (rate(port_outbound_connects_failed_total[$__rate_interval])) > 0", "{{instance}} to port {{remote_port}}, {{outcome}}"}},
		},
	}}
}

func healthRetransmissions() row {
	return row{title: "Retransmissions (collector closed)", panels: []panel{
		{
			kind: chart, unit: "percentunit",
			title:   "Retransmitted by listener",
			text:    "Of the segments sent. Counted when a connection ends; with the collector health, at each scrape. From 5 % on users notice.",
			queries: []query{{"sum by (instance, address, port) (rate(port_inbound_connections_segments_retransmitted_total[$__rate_interval])) / (sum by (instance, address, port) (rate(port_inbound_connections_segments_sent_total[$__rate_interval])) > 0)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Retransmitted by remote port",
			text:    "Of the segments sent. Counted when a connection ends; with the collector health, at each scrape. From 5 % on users notice.",
			queries: []query{{"sum by (instance, remote_port) (rate(port_outbound_connections_segments_retransmitted_total[$__rate_interval])) / (sum by (instance, remote_port) (rate(port_outbound_connections_segments_sent_total[$__rate_interval])) > 0)", "{{instance}} to port {{remote_port}}"}},
		},
	}}
}

func healthRoundTrips() row {
	return row{title: "Round trips (collector closed)", panels: []panel{
		{
			kind: chart, unit: "s",
			title:   "Round trip of clients, 90 %",
			text:    "Smoothed round trip at the end: nine in ten connections had less. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.9, sum by (instance, address, port) (rate(port_inbound_connections_round_trip_seconds[$__rate_interval]))) or histogram_quantile(0.9, sum by (instance, address, port, le) (rate(port_inbound_connections_round_trip_seconds_bucket[$__rate_interval])))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Round trip of servers, 90 %",
			text:    "Smoothed round trip at the end: nine in ten connections had less. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.9, sum by (instance, remote_port) (rate(port_outbound_connections_round_trip_seconds[$__rate_interval]))) or histogram_quantile(0.9, sum by (instance, remote_port, le) (rate(port_outbound_connections_round_trip_seconds_bucket[$__rate_interval])))", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Distance of clients, median",
			text:    "The least round trip of a connection: the path without its queues. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.5, sum by (instance, address, port) (rate(port_inbound_connections_minimum_round_trip_seconds[$__rate_interval]))) or histogram_quantile(0.5, sum by (instance, address, port, le) (rate(port_inbound_connections_minimum_round_trip_seconds_bucket[$__rate_interval])))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Distance of servers, median",
			text:    "The least round trip of a connection: the path without its queues. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.5, sum by (instance, remote_port) (rate(port_outbound_connections_minimum_round_trip_seconds[$__rate_interval]))) or histogram_quantile(0.5, sum by (instance, remote_port, le) (rate(port_outbound_connections_minimum_round_trip_seconds_bucket[$__rate_interval])))", "{{instance}} to port {{remote_port}}"}},
		},
	}}
}

func healthStallsAndLimits() row {
	return row{title: "Stalls and limits (collector closed)", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Limited, by listener",
			text:    "Connections at a time that could not send. receiver: the client reads too slowly. send_buffer: the buffer here is too small.",
			queries: []query{{"sum by (instance, address, port, by) (rate(port_inbound_connections_limited_seconds_total[$__rate_interval]))", "{{instance}} {{address}}:{{port}}, by {{by}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Limited, by remote port",
			text:    "Connections at a time that could not send. receiver: the server reads too slowly. send_buffer: the buffer here is too small.",
			queries: []query{{"sum by (instance, remote_port, by) (rate(port_outbound_connections_limited_seconds_total[$__rate_interval]))", "{{instance}} to port {{remote_port}}, by {{by}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Stalled, by listener",
			text:    "Connections at a time that waited for a retransmission timeout. Linux 6.7 and later.",
			queries: []query{{"sum by (instance, address, port) (rate(port_inbound_connections_stalled_seconds_total[$__rate_interval]))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Stalled, by remote port",
			text:    "Connections at a time that waited for a retransmission timeout. Linux 6.7 and later.",
			queries: []query{{"sum by (instance, remote_port) (rate(port_outbound_connections_stalled_seconds_total[$__rate_interval]))", "{{instance}} to port {{remote_port}}"}},
		},
	}}
}

func healthStalledNow() row {
	return row{title: "Stalled now", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Listeners: retransmitting",
			text:    "Open connections whose client does not acknowledge.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_retransmitting_connections)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Remote ports: retransmitting",
			text:    "Open connections whose server does not acknowledge.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_retransmitting_connections)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Listeners: zero window",
			text:    "Open connections whose client does not read.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_zero_window_connections)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Remote ports: zero window",
			text:    "Open connections whose server does not read.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_zero_window_connections)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, width: 24, unit: "short",
			title:   "SYN-ACKs without an answer",
			text:    "Clients whose SYN arrives and who do not get the answer: the way back is broken, or the addresses are spoofed.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_syn_ack_retransmitting)", "{{instance}} {{address}}:{{port}}"}},
		},
	}}
}

func healthOpenConnections() row {
	return row{title: "Open connections (collector health)", panels: []panel{
		{
			kind: chart, unit: "s",
			title:   "Round trip of clients now, 90 %",
			text:    "Smoothed round trip of open connections: nine in ten have less. That of an idle one is of its last data.",
			queries: []query{{"histogram_quantile(0.9, sum by (instance, address, port) (port_inbound_open_connections_round_trip_seconds)) or histogram_quantile(0.9, sum by (instance, address, port, le) (port_inbound_open_connections_round_trip_seconds_bucket))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Round trip of servers now, 90 %",
			text:    "Smoothed round trip of open connections: nine in ten have less. That of an idle one is of its last data.",
			queries: []query{{"histogram_quantile(0.9, sum by (instance, remote_port) (port_outbound_open_connections_round_trip_seconds)) or histogram_quantile(0.9, sum by (instance, remote_port, le) (port_outbound_open_connections_round_trip_seconds_bucket))", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Distance of clients now, median",
			text:    "The least round trip of open connections in the last minutes. Above it, the path is queueing. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.5, sum by (instance, address, port) (port_inbound_open_connections_minimum_round_trip_seconds)) or histogram_quantile(0.5, sum by (instance, address, port, le) (port_inbound_open_connections_minimum_round_trip_seconds_bucket))", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Distance of servers now, median",
			text:    "The least round trip of open connections in the last minutes. Above it, the path is queueing. From the native histogram where Prometheus reads it, else from a few classic buckets.",
			queries: []query{{"histogram_quantile(0.5, sum by (instance, remote_port) (port_outbound_open_connections_minimum_round_trip_seconds)) or histogram_quantile(0.5, sum by (instance, remote_port, le) (port_outbound_open_connections_minimum_round_trip_seconds_bucket))", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Lost, by listener",
			text:    "Of the data segments that open connections sent in their lives: retransmitted, and not known to have been there already.",
			queries: []query{{"(sum by (instance, address, port) (port_inbound_open_connections_segments_retransmitted) - sum by (instance, address, port) (port_inbound_open_connections_segments_spuriously_retransmitted)) / (sum by (instance, address, port) (port_inbound_open_connections_data_segments_sent) > 0)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Lost, by remote port",
			text:    "Of the data segments that open connections sent in their lives: retransmitted, and not known to have been there already.",
			queries: []query{{"(sum by (instance, remote_port) (port_outbound_open_connections_segments_retransmitted) - sum by (instance, remote_port) (port_outbound_open_connections_segments_spuriously_retransmitted)) / (sum by (instance, remote_port) (port_outbound_open_connections_data_segments_sent) > 0)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "Not sent yet, by listener",
			text:    "What programs have written and the kernel has not sent: more than the network or the peer takes.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_open_connections_unsent_bytes)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "Not sent yet, by remote port",
			text:    "What programs have written and the kernel has not sent: more than the network or the peer takes.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_open_connections_unsent_bytes)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Could not send, by listener",
			text:    "Of the time in which open connections had data to send. receiver: the peer reads too slowly. send_buffer: the buffer here is too small.",
			queries: []query{{"sum by (instance, address, port, by) (port_inbound_open_connections_limited_seconds) / ignoring (by) group_left () (sum by (instance, address, port) (port_inbound_open_connections_busy_seconds) > 0)", "{{instance}} {{address}}:{{port}}, by {{by}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Could not send, by remote port",
			text:    "Of the time in which open connections had data to send. receiver: the peer reads too slowly. send_buffer: the buffer here is too small.",
			queries: []query{{"sum by (instance, remote_port, by) (port_outbound_open_connections_limited_seconds) / ignoring (by) group_left () (sum by (instance, remote_port) (port_outbound_open_connections_busy_seconds) > 0)", "{{instance}} to port {{remote_port}}, by {{by}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "In timeouts, by listener",
			text:    "Of the time in which open connections had data to send: in retransmission timeouts. Linux 6.7 and later.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_open_connections_stalled_seconds) / (sum by (instance, address, port) (port_inbound_open_connections_busy_seconds) > 0)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "In timeouts, by remote port",
			text:    "Of the time in which open connections had data to send: in retransmission timeouts. Linux 6.7 and later.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_open_connections_stalled_seconds) / (sum by (instance, remote_port) (port_outbound_open_connections_busy_seconds) > 0)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "Bps",
			title:   "Delivery rate of a connection, by listener",
			text:    "How fast the network takes the data of an open connection, on average, where the program does not limit it.",
			queries: []query{{"sum by (instance, address, port) (port_inbound_open_connections_delivery_rate_bytes_per_second) / (sum by (instance, address, port) (port_inbound_open_connections_delivery_rate_measured) > 0)", "{{instance}} {{address}}:{{port}}"}},
		},
		{
			kind: chart, unit: "Bps",
			title:   "Delivery rate of a connection, by remote port",
			text:    "How fast the network takes the data of an open connection, on average, where the program does not limit it.",
			queries: []query{{"sum by (instance, remote_port) (port_outbound_open_connections_delivery_rate_bytes_per_second) / (sum by (instance, remote_port) (port_outbound_open_connections_delivery_rate_measured) > 0)", "{{instance}} to port {{remote_port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Congestion control of listeners",
			text:    "Open connections by their congestion control algorithm.",
			queries: []query{{"sum by (instance, congestion_control) (port_inbound_open_connections)", "{{instance}} {{congestion_control}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Congestion control to remote ports",
			text:    "Open connections by their congestion control algorithm.",
			queries: []query{{"sum by (instance, congestion_control) (port_outbound_open_connections)", "{{instance}} {{congestion_control}}"}},
		},
	}}
}

func healthOwners() row {
	return row{title: "Owners", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Who leaks CLOSE_WAIT",
			text:    "Connections that the peer has closed and the program has not, by the unit and container that made them.",
			queries: []query{{`sum by (instance, unit, container, direction) (port_owner_connections{state="close_wait"}) > 0`, "{{direction}} {{unit}} {{container}} ({{instance}})"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Who talks to which port",
			text:    "Connections made from here, by the unit and container that made them.",
			queries: []query{{expr: "sort_desc(sum by (instance, unit, container, remote_port) (port_owner_outbound_connections) > 0)"}},
			columns: []column{{label: "instance"}, {label: "unit"}, {label: "container"}, {"remote_port", "remote port"}, {"Value", "connections"}},
		},
	}}
}

func healthUnixListeners() row {
	return row{title: "Unix listeners", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Accept queues",
			text:    "Connections that wait to be accepted, by path.",
			queries: []query{{"sum by (instance, path) (port_unix_listener_accept_queue_length)", "{{instance}} {{path}}"}},
		},
		{
			kind: chart, unit: "percentunit",
			title:   "Accept queues, of their limit",
			text:    "At 100 % connect() waits or fails with EAGAIN.",
			queries: []query{{"sum by (instance, path) (port_unix_listener_accept_queue_length) / (sum by (instance, path) (port_unix_listener_accept_queue_limit) > 0)", "{{instance}} {{path}}"}},
		},
	}}
}
