package main

func listenersBoard() board {
	variables, host := onHosts()
	return board{
		title: "Listeners and exposure", uid: "port-exporter-listeners",
		about:     "What listens, for whom, who can reach it, whether that is expected, and whether it keeps up: port_exporter.",
		variables: variables, host: host,
		sections: []section{
			{title: "Overview", panels: listenersOverview()},
			{title: "Listeners", panels: listeners()},
			{title: "Policy", panels: policy()},
			{title: "Sockets without a port of TCP or UDP", panels: portless()},
			{title: "Owners", panels: owners()},
			{title: "Queues and drops", panels: queues()},
			{title: "The exporter itself", panels: exporter(), collapsed: true},
		},
	}
}

func listenersOverview() []panel {
	return []panel{
		{
			title: "Listeners on every address",
			about: "Listeners bound to 0.0.0.0 or [::] in the host's own namespace. The table below names them.",
			kind:  stat, width: 4, unit: "short",
			query: []query{{`count(count by (` + listener + `) (port_listener_info{HOST, scope="any", netns=""})) or vector(0)`, ""}},
		},
		{
			title: "Unexpected listeners",
			about: "Listeners that no rule of the policy expects.",
			kind:  stat, width: 4, unit: "short", warn: 1, none: "no policy",
			query: []query{{`sum(port_policy_unexpected_listeners{HOST})`, ""}},
		},
		{
			title: "Required listeners missing",
			about: "Required rules of the policy that nothing answers to: a service is down, or is not what it was.",
			kind:  stat, width: 4, unit: "short", warn: 1, none: "none required",
			query: []query{{`sum(port_policy_missing_listener{HOST})`, ""}},
		},
		{
			title: "Ports in conflict",
			about: "Ports that different owners cover on overlapping addresses: clients get answers from the wrong one.",
			kind:  stat, width: 4, unit: "short", warn: 1,
			query: []query{{`sum(port_listener_conflict{HOST}) or vector(0)`, ""}},
		},
		{
			title: "Fullest accept queue",
			about: "The highest share of its limit that any accept queue has in use. The kernel drops new connections of a full one.",
			kind:  stat, width: 4, unit: "percentunit", warn: 0.8,
			query: []query{{`max(port_listener_accept_queue_length{HOST} / (port_listener_accept_queue_limit{HOST} > 0))`, ""}},
		},
		{
			title: "Dropped per second",
			about: "Connections and datagrams that the listeners of the chosen hosts drop. Anything but 0 is felt by a client.",
			kind:  stat, width: 4, unit: "cps", warn: 0.001,
			query: []query{{`(sum(rate(port_listener_accept_queue_drops_total{HOST}[$__rate_interval])) or vector(0)) + ` +
				`(sum(rate(port_udp_receive_drops_total{HOST}[$__rate_interval])) or vector(0))`, ""}},
		},
	}
}

func listeners() []panel {
	return []panel{
		{
			title: "Listeners",
			about: "Everything that others can send to, and from where it can be reached: scope any means on every address.",
			kind:  table, width: 24, tall: 14, unit: "short",
			columns: []string{
				"instance", "netns", "protocol", "address", "port", "interface", "scope", "dual_stack",
				"process", "user", "unit", "container", "ephemeral",
			},
			query: []query{{`port_listener_info{HOST}`, ""}},
		},
		{
			title: "Listeners by scope",
			about: "How many listeners there are, by who can reach them. A step up in any or public deserves a look at the table.",
			width: 12, unit: "short", stack: true,
			query: []query{{`count by (scope) (count by (` + listener + `, scope) (port_listener_info{HOST}))`, "{{scope}}"}},
		},
		{
			title: "Listeners opened and closed",
			about: "Per minute. Each scrape compares with the one before, so what lives shorter than that is not seen.",
			width: 12, unit: "short",
			query: []query{{`60 * sum by (instance, protocol, change) (rate(port_listener_changes_total{HOST}[$__rate_interval])) > 0`, "{{instance}} {{protocol}} {{change}}"}},
		},
		{
			title: "Sockets per listener",
			about: "More than one: the service shares the port between sockets (SO_REUSEPORT). A change means that workers came or went.",
			width: 12, unit: "short",
			query: []query{{`port_listener_sockets{HOST} > 1`, listenerLegend}},
		},
		{
			title: "Unix-domain listeners",
			about: "Listening unix-domain sockets by the kind of their name. An abstract one has no permissions: every process of its namespace can connect.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (kind) (port_unix_listeners{HOST})`, "{{kind}}"}},
		},
	}
}

func policy() []panel {
	owner := []string{"instance", "netns", "protocol", "address", "port", "interface", "scope", "process", "user", "unit", "container"}
	return []panel{
		{
			title: "Unexpected listeners",
			about: "What the policy does not expect. Stop it, or add a rule as port_exporter baseline --merge writes it.",
			kind:  table, width: 24, unit: "short", columns: owner,
			query: []query{{`port_policy_unexpected_listener{HOST}`, ""}},
		},
		{
			title: "Unexpected listeners by scope",
			about: "How many, by who can reach them.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (scope) (port_policy_unexpected_listeners{HOST})`, "{{scope}}"}},
		},
		{
			title: "Required, but missing",
			about: "Required rules that nothing answers to now.",
			kind:  table, width: 6, unit: "short", columns: []string{"instance", "rule"},
			query: []query{{`port_policy_missing_listener{HOST} == 1`, ""}},
		},
		{
			title: "Stale rules",
			about: "Rules that expect nothing that is there, required ones apart: they excuse whatever turns up next.",
			kind:  table, width: 6, unit: "short", columns: []string{"instance", "rule"},
			query: []query{{`port_policy_rule_listeners{HOST} == 0 unless port_policy_missing_listener{HOST}`, ""}},
		},
	}
}

func portless() []panel {
	return []panel{
		{
			title: "Not expected, and who has them",
			about: "Raw sockets, packet sockets and vsock listeners that no rule of the policy expects. Each takes what no port and no firewall shows.",
			kind:  table, width: 24, unit: "short",
			columns: []string{"instance", "netns", "kind", "protocol", "address", "interface", "packet_type", "filter", "process", "user", "unit", "container"},
			query:   []query{{`port_policy_unexpected_portless_socket{HOST}`, ""}},
		},
		{
			title: "Packet sockets",
			about: "They see frames before a firewall drops them. Unknown filters require CAP_NET_ADMIN; an eBPF filter counts as none.",
			width: 8, unit: "short", stack: true,
			query: []query{{`sum by (type, filter) (port_packet_sockets{HOST}) > 0`, "{{type}}, filter {{filter}}"}},
		},
		{
			title: "Raw sockets",
			about: "By the IP protocol whose packets they take.",
			width: 8, unit: "short", stack: true,
			query: []query{{`sum by (family, protocol) (port_raw_sockets{HOST})`, "{{family}} {{protocol}}"}},
		},
		{
			title: "Could be read",
			about: "No: rules about the protocol have no verdict. Vsock requires the kernel module vsock_diag.",
			kind:  stat, width: 4, unit: "bool_yes_no", alarm: 1,
			query: []query{{`min by (protocol) (port_portless_read{HOST})`, "{{protocol}}"}},
		},
		{
			title: "Not read",
			about: "Sockets beyond what is read, by protocol: what the policy says of them is unknown.",
			width: 4, unit: "short",
			query: []query{{`sum by (protocol) (port_listener_sockets_unread{HOST})`, "{{protocol}}"}},
		},
	}
}

func owners() []panel {
	return []panel{
		{
			title: "Ports in conflict",
			about: "Every owner that listens on a port which different owners cover on overlapping addresses.",
			kind:  table, width: 12, unit: "short",
			columns: []string{"instance", "netns", "protocol", "port", "address", "interface", "process", "user", "unit", "container"},
			query: []query{{`sum by (` + listener + `, process, user, unit, container) (port_listener_info{HOST}) and on (job, instance, netns, protocol, port) ` +
				`port_listener_conflict{HOST} == 1`, ""}},
		},
		{
			title: "Programs that are gone from the disk",
			about: "Listeners whose owner runs a binary that was deleted or replaced: an update without a restart, or worse.",
			kind:  table, width: 12, unit: "short",
			columns: []string{"instance", "netns", "protocol", "address", "port", "interface", "process", "user", "unit", "container"},
			query: []query{{`sum by (` + listener + `, process, user, unit, container) (port_listener_info{HOST}) and on (` + listener + `) ` +
				`port_listener_executable_deleted{HOST} == 1`, ""}},
		},
		{
			title: "Listeners of unknown owners",
			about: "Listeners whose process could not be read. The kernel's own have none.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance) (port_listeners_unattributed{HOST})`, "{{instance}}"}},
		},
		{
			title: "Privileges that are missing",
			about: "What keeps the owners of listeners unknown: a capability that the unit of the exporter can give, the namespaces of a container, a security module.",
			kind:  table, width: 12, unit: "short", columns: []string{"instance", "privilege"},
			query: []query{{`port_privilege_missing{HOST} == 1`, ""}},
		},
	}
}

func queues() []panel {
	return []panel{
		{
			title: "Accept queue in use",
			about: "Connections that wait for accept(), as a share of the limit in force. At 100 % the kernel drops new ones.",
			width: 12, unit: "percentunit", warn: 0.8,
			query: []query{{`port_listener_accept_queue_length{HOST} / (port_listener_accept_queue_limit{HOST} > 0) > 0`, listenerLegend}},
		},
		{
			title: "Accept queue drops",
			about: "Connections that a listener dropped, per second. Their clients wait a second or longer.",
			width: 12, unit: "cps",
			query: []query{{`rate(port_listener_accept_queue_drops_total{HOST}[$__rate_interval]) > 0`, listenerLegend}},
		},
		{
			title: "UDP receive queue",
			about: "Bytes that wait for a UDP service to read them. A queue that never empties comes before drops.",
			width: 12, unit: "bytes",
			query: []query{{`port_udp_receive_queue_bytes{HOST} > 0`, listenerLegend}},
		},
		{
			title: "UDP drops",
			about: "Datagrams lost per second because the receive buffer was full. The senders are not told.",
			width: 12, unit: "pps",
			query: []query{{`rate(port_udp_receive_drops_total{HOST}[$__rate_interval]) > 0`, listenerLegend}},
		},
	}
}

func exporter() []panel {
	return []panel{
		exportersUp(),
		{
			title: "Configuration loaded",
			about: "No: a reload failed on a host, which goes on with the configuration it had. The log has the reason.",
			kind:  stat, width: 4, unit: "bool_yes_no", alarm: 1,
			query: []query{{`min(port_config_last_reload_successful{HOST})`, ""}},
		},
		{
			title: "Sources",
			about: "Where the sockets are read from, and by how many exporters. On Linux sock_diag is the fast one; procfs is the fallback.",
			kind:  stat, width: 8, unit: "short",
			query: []query{{`count by (source) (port_source_info{HOST} == 1)`, "{{source}}"}},
		},
		{
			title: "Versions",
			about: "The versions of port_exporter that run, and on how many hosts.",
			kind:  stat, width: 8, unit: "short",
			query: []query{{`count by (version) (port_exporter_build_info{HOST})`, "{{version}}"}},
		},
		{
			title: "Collectors",
			about: "Whether every collector succeeded. The metrics of one that failed are missing, not zero.",
			kind:  stat, width: 24, unit: "bool_yes_no", alarm: 1,
			query: []query{{`min by (collector) (port_scrape_collector_success{HOST})`, "{{collector}}"}},
		},
		{
			title: "Time per collector",
			about: "How long the slowest host took. It must stay well below the scrape timeout.",
			width: 12, unit: "s",
			query: []query{{`max by (collector) (port_scrape_collector_duration_seconds{HOST})`, "{{collector}}"}},
		},
		{
			title: "Folded series",
			about: "What has no series of its own, by metric: ports are summed as other, destinations and listeners left out. The limits are in the configuration.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance, metric) (port_folded_items{HOST}) > 0`, "{{instance}} {{metric}}"}},
		},
		{
			title: "Files that cannot be read",
			about: "Files below /proc whose figures are missing. The exporter's log has the reason.",
			kind:  table, width: 12, unit: "short", columns: []string{"instance", "file"},
			query: []query{{`port_unreadable_files{HOST}`, ""}},
		},
		{
			title: "Searches for owners",
			about: "Walks through the processes of the host, per minute. On a host where nothing changes there are none.",
			width: 12, unit: "short",
			query: []query{{`60 * sum by (instance) (rate(port_owner_searches_total{HOST}[$__rate_interval]))`, "{{instance}}"}},
		},
		{
			title: "Reads of the socket table that were not whole",
			about: "Per minute: interrupted twice in a row, so that sockets may be missed or repeated, and rows that could not be understood.",
			width: 12, unit: "short",
			query: []query{
				{`60 * sum by (instance) (rate(port_source_interrupted_reads_total{HOST}[$__rate_interval]))`, "{{instance}} interrupted"},
				{`60 * sum by (instance) (rate(port_source_malformed_rows_total{HOST}[$__rate_interval]))`, "{{instance}} malformed rows"},
			},
		},
	}
}
