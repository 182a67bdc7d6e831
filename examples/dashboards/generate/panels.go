package main

// This file is the dashboard. A section is a row of it; its panels flow from
// left to right over a width of 24. In a query, HOST stands for the matchers of
// the job and the instances chosen at the top of the page.

type section struct {
	title  string
	panels []panel
}

type panel struct {
	title string
	about string // what the figure says and what to do about it
	kind  kind
	width int
	unit  string  // Grafana's name of the unit
	stack bool    // time series only
	warn  float64 // turns red from here on, if not 0
	alarm float64 // turns red below this, if not 0
	max   float64 // end of the axis, if not 0
	query []query
}

type query struct {
	expr   string
	legend string
}

type kind int

const (
	timeSeries kind = iota
	stat
	table
)

func sections() []section {
	return []section{
		{"Overview", overview()},
		{"Sockets", sockets()},
		{"Inbound: connections of the listeners", inbound()},
		{"Outbound and orphaned connections", outbound()},
		{"Listeners", listeners()},
		{"Queues and drops", queues()},
		{"The exporter itself", exporter()},
	}
}

func overview() []panel {
	return []panel{
		{
			title: "Exporters up",
			about: "How many of the chosen exporters were scraped, in percent. Below 100 % a host is not seen.",
			kind:  stat, width: 4, unit: "percentunit", alarm: 1, max: 1,
			query: []query{{`avg(up{HOST})`, ""}},
		},
		{
			title: "Sockets",
			about: "Every socket of the chosen hosts, of every protocol and state.",
			kind:  stat, width: 5, unit: "short",
			query: []query{{`sum(port_sockets{HOST})`, ""}},
		},
		{
			title: "Listeners on every address",
			about: "Listeners bound to 0.0.0.0 or [::] in the host's own namespace. The table below names them.",
			kind:  stat, width: 5, unit: "short",
			query: []query{{`count(port_listener_info{HOST, scope="any", netns=""}) or vector(0)`, ""}},
		},
		{
			title: "Fullest accept queue",
			about: "The highest share of its limit that any accept queue has in use. The kernel drops new connections of a full one.",
			kind:  stat, width: 5, unit: "percentunit", warn: 0.8,
			query: []query{{`max(port_listener_accept_queue_length{HOST} / (port_listener_accept_queue_limit{HOST} > 0))`, ""}},
		},
		{
			title: "Connections and datagrams dropped",
			about: "Drops per second of all accept queues and UDP receive buffers. Anything but 0 is felt by a client.",
			kind:  stat, width: 5, unit: "cps", warn: 0.001,
			query: []query{{`(sum(rate(port_listener_accept_queue_drops_total{HOST}[$__rate_interval])) or vector(0)) + ` +
				`(sum(rate(port_udp_receive_drops_total{HOST}[$__rate_interval])) or vector(0))`, ""}},
		},
	}
}

func sockets() []panel {
	return []panel{
		{
			title: "TCP sockets by state",
			about: "All TCP sockets, listening ones included. A connection between two programs of one host is two sockets.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (state) (port_sockets{HOST, protocol="tcp"})`, "{{state}}"}},
		},
		{
			title: "TIME_WAIT",
			about: "Connections closed from here in the last minute. Steep growth means that connections are no longer reused; the panels by port tell which.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance) (port_sockets{HOST, protocol="tcp", state="time_wait"})`, "{{instance}}"}},
		},
		{
			title: "Sockets by family and protocol",
			about: "Which of IPv4 and IPv6 is used, and how many UDP sockets there are.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (family, protocol) (port_sockets{HOST})`, "{{protocol}} {{family}}"}},
		},
		{
			title: "UDP sockets by state",
			about: "Connected UDP sockets have one peer; unconnected ones are servers and clients alike.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (protocol, state) (port_sockets{HOST, protocol!="tcp"})`, "{{protocol}} {{state}}"}},
		},
	}
}

func inbound() []panel {
	return []panel{
		{
			title: "Inbound connections by port and state",
			about: "TCP sockets that belong to a listener, by its port.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (port, state) (port_inbound_connections{HOST}) > 0`, "{{port}} {{state}}"}},
		},
		{
			title: "Established connections by service",
			about: "Clients now connected, by the address and port of the listener that took them.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, address, port) (port_inbound_connections{HOST, state="established"})`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "TIME_WAIT by service",
			about: "Connections that the service closed first, within the last minute. Much of it for few clients: keep-alive is missing.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, address, port) (port_inbound_connections{HOST, state="time_wait"})`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "CLOSE_WAIT by service",
			about: "The client has closed and the service has not. A line that only rises is a leak of connections in that service.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, address, port) (port_inbound_connections{HOST, state="close_wait"})`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "SYN_RECV by service",
			about: "Handshakes that wait for the client's last packet. Many of them: a slow network, a full accept queue or a SYN flood.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, address, port) (port_inbound_connections{HOST, state="syn_recv"})`, "{{instance}} {{address}} port {{port}}"}},
		},
	}
}

func outbound() []panel {
	return []panel{
		{
			title: "Outbound connections by remote port",
			about: "Connections made from the chosen hosts, by the port they go to. The least busy ports are one line, other.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (remote_port) (port_outbound_connections{HOST})`, "{{remote_port}}"}},
		},
		{
			title: "Outbound connections by state",
			about: "SYN_SENT that stays: a server does not answer. CLOSE_WAIT that stays: a client program leaks connections.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (state) (port_outbound_connections{HOST})`, "{{state}}"}},
		},
		{
			title: "Outbound TIME_WAIT by remote port",
			about: "Each holds a local port towards one destination for a minute, and there are 28232 of them by default.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, remote_port) (port_outbound_connections{HOST, state="time_wait"})`, "{{instance}} to port {{remote_port}}"}},
		},
		{
			title: "Orphaned connections by local port",
			about: "Connections of a service port on which nothing listens any more: what a restarted or crashed service left.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (port, state) (port_orphaned_connections{HOST}) > 0`, "{{port}} {{state}}"}},
		},
	}
}

func listeners() []panel {
	return []panel{
		{
			title: "Listeners",
			about: "Everything that others can send to, and from where it can be reached: scope any means on every address.",
			kind:  table, width: 24, unit: "short",
			query: []query{{`port_listener_info{HOST}`, ""}},
		},
		{
			title: "Listeners by scope",
			about: "How many listeners there are, by what can reach them. A step up in any or public deserves a look at the table.",
			width: 12, unit: "short", stack: true,
			query: []query{{`count by (scope) (port_listener_info{HOST})`, "{{scope}}"}},
		},
		{
			title: "Sockets per listener",
			about: "More than one: the service shares the port between sockets (SO_REUSEPORT). A change means that workers came or went.",
			width: 12, unit: "short",
			query: []query{{`port_listener_sockets{HOST} > 1`, "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
	}
}

func queues() []panel {
	return []panel{
		{
			title: "Accept queue in use",
			about: "Connections that wait for accept(), as a share of the limit in force. At 100 % the kernel drops new ones.",
			width: 12, unit: "percentunit", warn: 0.8,
			query: []query{{`port_listener_accept_queue_length{HOST} / (port_listener_accept_queue_limit{HOST} > 0)`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "Accept queue drops",
			about: "Connections that a listener dropped, per second. Their clients wait a second or longer.",
			width: 12, unit: "cps",
			query: []query{{`rate(port_listener_accept_queue_drops_total{HOST}[$__rate_interval])`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "UDP drops",
			about: "Datagrams lost per second because the receive buffer was full. The senders are not told.",
			width: 12, unit: "pps",
			query: []query{{`rate(port_udp_receive_drops_total{HOST}[$__rate_interval])`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "UDP receive queue",
			about: "Bytes that wait for a UDP service to read them. A queue that never empties comes before drops.",
			width: 12, unit: "bytes",
			query: []query{{`port_udp_receive_queue_bytes{HOST}`, "{{instance}} {{address}} port {{port}}"}},
		},
		{
			title: "Bytes in queues of inbound connections",
			about: "Received and not read by the service, or sent and not acknowledged by the client, by the port of the service.",
			width: 12, unit: "bytes",
			query: []query{
				{`sum by (instance, port) (port_inbound_receive_queue_bytes{HOST})`, "{{instance}} port {{port}} receive"},
				{`sum by (instance, port) (port_inbound_send_queue_bytes{HOST})`, "{{instance}} port {{port}} send"},
			},
		},
		{
			title: "Bytes in queues of outbound connections",
			about: "Received and not read by the client program, or sent and not acknowledged by the server, by remote port.",
			width: 12, unit: "bytes",
			query: []query{
				{`sum by (instance, remote_port) (port_outbound_receive_queue_bytes{HOST})`, "{{instance}} to port {{remote_port}} receive"},
				{`sum by (instance, remote_port) (port_outbound_send_queue_bytes{HOST})`, "{{instance}} to port {{remote_port}} send"},
			},
		},
	}
}

func exporter() []panel {
	return []panel{
		{
			title: "Collectors",
			about: "Whether every collector succeeded. The metrics of one that failed are missing, not zero.",
			kind:  stat, width: 8, unit: "bool_yes_no", alarm: 1,
			query: []query{{`min by (collector) (port_scrape_collector_success{HOST})`, "{{collector}}"}},
		},
		{
			title: "Configuration loaded",
			about: "No: a reload failed on a host, which goes on with the configuration it had. The log has the reason.",
			kind:  stat, width: 4, unit: "bool_yes_no", alarm: 1,
			query: []query{{`min(port_config_last_reload_successful{HOST})`, ""}},
		},
		{
			title: "Sources",
			about: "Where the sockets are read from, and by how many exporters. On Linux sock_diag is the fast one; procfs is the fallback.",
			kind:  stat, width: 6, unit: "short",
			query: []query{{`count by (source) (port_source_info{HOST} == 1)`, "{{source}}"}},
		},
		{
			title: "Versions",
			about: "The versions of port_exporter that run, and on how many hosts.",
			kind:  stat, width: 6, unit: "short",
			query: []query{{`count by (version) (port_exporter_build_info{HOST})`, "{{version}}"}},
		},
		{
			title: "Time per collector",
			about: "How long the slowest host took. It must stay well below the scrape timeout.",
			width: 12, unit: "s",
			query: []query{{`max by (collector) (port_scrape_collector_duration_seconds{HOST})`, "{{collector}}"}},
		},
		{
			title: "Folded series",
			about: "Series that are part of a sum called other, by the metric they belong to: the host has more ports than are told apart.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, metric) (port_folded_series{HOST}) > 0`, "{{instance}} {{metric}}"}},
		},
	}
}
