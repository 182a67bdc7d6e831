package main

func fleet() board {
	return board{
		file: "fleet", uid: "port-exporter-fleet",
		title: "Fleet",
		text:  "Which hosts of many need a look, and where a service listens. Most of its queries are of what examples/rules/fleet.yml records.",
		rows: []row{
			fleetOverview(),
			fleetWhatFires(),
			fleetWhatListensWhere(),
			fleetTheBusiestHosts(),
			fleetTheExporters(),
		},
	}
}

func fleetOverview() row {
	return row{title: "Overview", panels: []panel{
		{
			kind: single, unit: "short",
			title:   "Hosts",
			text:    "Exporters that Prometheus scrapes.",
			queries: []query{{expr: "sum(up)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Hosts that are not seen",
			text:    "Exporters that cannot be scraped.",
			queries: []query{{expr: "count(up == 0) or vector(0)"}},
		},
		{
			kind: single, unit: "short", red: 1, none: "no policy",
			title:   "Hosts with unexpected listeners",
			text:    "Of the hosts with a policy, those where something listens that no rule expects.",
			queries: []query{{expr: "count(instance:port_policy_unexpected_listeners:sum > 0) or vector(0)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Hosts that drop connections",
			text:    "Hosts where an accept queue drops connections.",
			queries: []query{{expr: "count(instance:port_listener_accept_queue_drops:rate5m > 0) or vector(0)"}},
		},
		{
			kind: single, unit: "percentunit", red: 0.8,
			title:   "Most ports to one destination",
			text:    "Of all hosts, the highest share of the local ports towards one destination that is in use.",
			queries: []query{{expr: "max(instance:port_ephemeral_destination_ports_used:ratio)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Alerts",
			text:    "Alerts of port_exporter's rules that fire now.",
			queries: []query{{expr: `count(ALERTS{alertname=~"Port.+", alertstate="firing"}) or vector(0)`}},
		},
	}}
}

func fleetWhatFires() row {
	return row{title: "What fires, and where", panels: []panel{
		{
			kind: rows, unit: "short",
			title:   "Alerts by host",
			text:    "The hosts with the most alerts first.",
			queries: []query{{expr: `sort_desc(count by (instance, severity) (ALERTS{alertname=~"Port.+", alertstate="firing"}))`}},
			columns: []column{{label: "instance"}, {label: "severity"}, {"Value", "alerts"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Alerts by name",
			text:    "One name on many hosts is one cause.",
			queries: []query{{expr: `sort_desc(count by (alertname, severity) (ALERTS{alertname=~"Port.+", alertstate="firing"}))`}},
			columns: []column{{label: "alertname", heading: "alert"}, {label: "severity"}, {"Value", "hosts and ports"}},
		},
	}}
}

func fleetWhatListensWhere() row {
	return row{title: "What listens where", panels: []panel{
		{
			kind: rows, height: 12, unit: "short",
			title:   "Services by number of hosts",
			text:    "On how many hosts a program listens on a port. One on a single host deserves a look: the rarest come first.",
			queries: []query{{expr: `sort(job_process:port_listener_info:count{scope!="loopback"})`}},
			columns: []column{{label: "process"}, {label: "protocol"}, {label: "port"}, {label: "scope"}, {"Value", "hosts"}},
		},
		{
			kind: rows, height: 12, unit: "short",
			title:   "Unexpected listeners by host",
			text:    "How many listeners of a host no rule of its policy expects.",
			queries: []query{{expr: "sort_desc(instance:port_policy_unexpected_listeners:sum > 0)"}},
			columns: []column{{label: "instance"}, {"Value", "unexpected"}},
		},
	}}
}

func fleetTheBusiestHosts() row {
	return row{title: "The busiest hosts", panels: []panel{
		{
			kind: chart, unit: "short",
			title:   "Sockets",
			text:    "The ten hosts with the most.",
			queries: []query{{"topk(10, instance:port_sockets:sum)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "cps",
			title:   "New connections",
			text:    "Begun here or by others, per second: the ten hosts with the most.",
			queries: []query{{"topk(10, instance:port_tcp_opens:rate5m)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "pps",
			title:   "Segments retransmitted",
			text:    "The ten hosts with the most: a bad link or path.",
			queries: []query{{"topk(10, instance:port_tcp_segments_retransmitted:rate5m)", "{{instance}}"}},
		},
		{
			kind: chart, unit: "percentunit", red: 0.8,
			title:   "Local ports towards the busiest destination",
			text:    "The ten hosts with the highest share.",
			queries: []query{{"topk(10, instance:port_ephemeral_destination_ports_used:ratio)", "{{instance}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Sockets of the fleet by state",
			text:    "All hosts together.",
			queries: []query{{"sum by (protocol, state) (job:port_sockets:sum)", "{{protocol}} {{state}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Outbound connections of the fleet by remote port",
			text:    "What the fleet depends on: the ten remote ports with the most.",
			queries: []query{{"topk(10, sum by (remote_port) (job_remote_port:port_outbound_connections:sum))", "{{remote_port}}"}},
		},
	}}
}

func fleetTheExporters() row {
	return row{title: "The exporters", panels: []panel{
		{
			kind: rows, unit: "short",
			title:   "Versions",
			text:    "How many hosts run which version.",
			queries: []query{{expr: "sort_desc(job:port_exporter_build_info:count)"}},
			columns: []column{{label: "version"}, {"Value", "hosts"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Slowest scrapes",
			text:    "The ten hosts whose slowest collector takes longest.",
			queries: []query{{"topk(10, instance:port_scrape_collector_duration_seconds:max)", "{{instance}}"}},
		},
	}}
}
