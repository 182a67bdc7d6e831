package main

import "strings"

// verdicts has each listener with what the policy says of it. Which of those with an
// unknown owner a rule may match, no metric says.
var verdicts = strings.NewReplacer("ON", "on (job, instance, netns, protocol, address, port, interface)").Replace(strings.Join([]string{
	`label_replace(port_listener_info and ON port_policy_forbidden_listener, "verdict", "forbidden", "", "")`,
	`label_replace(port_listener_info and ON port_policy_unexpected_listener, "verdict", "unexpected", "", "")`,
	`label_replace(port_listener_info and ON port_policy_undecided_listener, "verdict", "undecided", "", "")`,
	`label_replace(port_listener_info unless on (job, instance) port_policy_unexpected_listeners, "verdict", "none", "", "")`,
	`label_replace(port_listener_info and on (job, instance, netns) (port_policy_unverified_listeners > 0), "verdict", "unverified", "", "")`,
	`label_replace(port_listener_info, "verdict", "expected", "", "")`,
}, " or ignoring (verdict) "))

func listeners() board {
	return board{
		file: "listeners-and-exposure", uid: "port-exporter-listeners",
		title:   "Listeners and exposure",
		text:    "What listens, for whom, who can reach it, whether that is expected, and whether it keeps up: port_exporter.",
		choices: []string{"netns", "service"},
		rows: []row{
			listenersOverview(),
			listenersListeners(),
			listenersPolicy(),
			listenersWithoutPorts(),
			listenersOwners(),
			listenersQueuesAndDrops(),
			listenersCertificates(),
			listenersTheExporter(),
		},
	}
}

func listenersOverview() row {
	return row{title: "Overview", panels: []panel{
		{
			kind: single, unit: "short",
			title:   "Listeners on every address",
			text:    "Listeners bound to 0.0.0.0 or [::] in the host's own namespace. The table below names them.",
			queries: []query{{expr: `count(count by (job, instance, netns, protocol, address, port, interface) (port_listener_info{scope="any", netns=""})) or vector(0)`}},
		},
		{
			kind: single, unit: "short", red: 1, none: "no policy",
			title:   "Unexpected listeners",
			text:    "Listeners that no rule of the policy expects.",
			queries: []query{{expr: "sum(port_policy_unexpected_listeners)"}},
		},
		{
			kind: single, unit: "short", red: 1, none: "none required",
			title:   "Required listeners missing",
			text:    "Required rules of the policy that nothing answers to: a service is down, or is not what it was.",
			queries: []query{{expr: "sum(port_policy_missing_listener)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Ports in conflict",
			text:    "Ports that different owners cover on overlapping addresses: clients get answers from the wrong one.",
			queries: []query{{expr: "sum(port_listener_conflict) or vector(0)"}},
		},
		{
			kind: single, unit: "percentunit", red: 0.8,
			title:   "Fullest accept queue",
			text:    "The highest share of its limit that any accept queue has in use. The kernel drops new connections of a full one.",
			queries: []query{{expr: "max(port_listener_accept_queue_length / (port_listener_accept_queue_limit > 0))"}},
		},
		{
			kind: single, unit: "cps", red: 0.001,
			title:   "Dropped per second",
			text:    "Connections and datagrams that the listeners of the chosen hosts drop. Anything but 0 is felt by a client.",
			queries: []query{{expr: "(sum(rate(port_listener_accept_queue_drops_total[$__rate_interval])) or vector(0)) + (sum(rate(port_udp_receive_drops_total[$__rate_interval])) or vector(0))"}},
		},
	}}
}

func listenersListeners() row {
	return row{title: "Listeners", panels: []panel{
		{
			kind: rows, width: 24, height: 14, unit: "short",
			title:   "Listeners",
			text:    "Everything that others can send to, from where it can be reached (scope any means on every address), and what the policy says of it.",
			queries: []query{{expr: verdicts}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "protocol"}, {label: "address"}, {label: "port"}, {label: "interface"}, {label: "scope"}, {label: "verdict"}, {"dual_stack", "dual stack"}, {label: "process"}, {label: "user"}, {label: "unit"}, {label: "container"}, {label: "ephemeral"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Listeners by scope",
			text:    "How many listeners there are, by who can reach them. A step up in any or public deserves a look at the table.",
			queries: []query{{"count by (scope) (count by (job, instance, netns, protocol, address, port, interface, scope) (port_listener_info))", "{{scope}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Listeners opened and closed",
			text:    "Per minute. Each scrape compares with the one before, so what lives shorter than that is not seen.",
			queries: []query{{"60 * sum by (instance, protocol, change) (rate(port_listener_changes_total[$__rate_interval])) > 0", "{{instance}} {{protocol}} {{change}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Sockets per listener",
			text:    "More than one: the service shares the port between sockets (SO_REUSEPORT). A change means that workers came or went.",
			queries: []query{{"port_listener_sockets > 1", "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Unix accept queues",
			text:    "Connections that wait to be accepted by unix listeners, such as php-fpm and gunicorn: the ten longest queues. A full one holds one more than port_unix_listener_accept_queue_limit; then clients wait, or fail with EAGAIN.",
			queries: []query{{"topk(10, port_unix_listener_accept_queue_length)", "{{instance}} {{path}}"}},
		},
	}}
}

func listenersPolicy() row {
	return row{title: "Policy", panels: []panel{
		{
			kind: rows, width: 24, unit: "short",
			title:   "Unexpected listeners",
			text:    "What the policy does not expect. Stop it, or add a rule as port_exporter baseline --merge writes it.",
			queries: []query{{expr: "port_policy_unexpected_listener"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "protocol"}, {label: "address"}, {label: "port"}, {label: "interface"}, {label: "scope"}, {label: "process"}, {label: "user"}, {label: "unit"}, {label: "container"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Unexpected listeners by scope",
			text:    "How many, by who can reach them.",
			queries: []query{{"sum by (scope) (port_policy_unexpected_listeners)", "{{scope}}"}},
		},
		{
			kind: rows, width: 6, unit: "short",
			title:   "Required, but missing",
			text:    "Required rules that nothing answers to now.",
			queries: []query{{expr: "port_policy_missing_listener == 1"}},
			columns: []column{{label: "instance"}, {label: "rule"}},
		},
		{
			kind: rows, width: 6, unit: "short",
			title:   "Stale rules",
			text:    "Rules that expect nothing that is there, required ones apart: they excuse whatever turns up next.",
			queries: []query{{expr: "port_policy_rule_listeners == 0 unless port_policy_missing_listener"}},
			columns: []column{{label: "instance"}, {label: "rule"}},
		},
	}}
}

func listenersWithoutPorts() row {
	return row{title: "Sockets without a port of TCP or UDP", panels: []panel{
		{
			kind: rows, width: 24, unit: "short",
			title:   "Not expected, and who has them",
			text:    "Raw sockets, packet sockets and vsock listeners that no rule of the policy expects. Each takes what no port and no firewall shows.",
			queries: []query{{expr: "port_policy_unexpected_portless_socket"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "kind"}, {label: "protocol"}, {label: "address"}, {label: "interface"}, {"packet_type", "packet type"}, {label: "filter"}, {label: "process"}, {label: "user"}, {label: "unit"}, {label: "container"}},
		},
		{
			kind: stacked, width: 8, unit: "short",
			title:   "Packet sockets",
			text:    "They see frames before a firewall drops them. Unknown filters require CAP_NET_ADMIN; an eBPF filter counts as none.",
			queries: []query{{"sum by (type, filter) (port_packet_sockets) > 0", "{{type}}, filter {{filter}}"}},
		},
		{
			kind: stacked, width: 8, unit: "short",
			title:   "Raw sockets",
			text:    "By the IP protocol whose packets they take.",
			queries: []query{{"sum by (family, protocol) (port_raw_sockets)", "{{family}} {{protocol}}"}},
		},
		{
			kind: single, unit: "bool_yes_no", green: 1,
			title:   "Could be read",
			text:    "No: rules about the protocol have no verdict. Vsock requires the kernel module vsock_diag.",
			queries: []query{{"min by (protocol) (port_portless_read)", "{{protocol}}"}},
		},
		{
			kind: chart, width: 4, unit: "short",
			title:   "Not read",
			text:    "Sockets beyond what is read, by protocol: what the policy says of them is unknown.",
			queries: []query{{"sum by (protocol) (port_listener_sockets_unread)", "{{protocol}}"}},
		},
	}}
}

func listenersOwners() row {
	return row{title: "Owners", panels: []panel{
		{
			kind: rows, unit: "short",
			title:   "Ports in conflict",
			text:    "Every owner that listens on a port which different owners cover on overlapping addresses.",
			queries: []query{{expr: "sum by (job, instance, netns, protocol, address, port, interface, process, user, unit, container) (port_listener_info) and on (job, instance, netns, protocol, port) port_listener_conflict == 1"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "protocol"}, {label: "port"}, {label: "address"}, {label: "interface"}, {label: "process"}, {label: "user"}, {label: "unit"}, {label: "container"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Programs that are gone from the disk",
			text:    "Listeners whose owner runs a binary that was deleted or replaced: an update without a restart, or worse.",
			queries: []query{{expr: "sum by (job, instance, netns, protocol, address, port, interface, process, user, unit, container) (port_listener_info) and on (job, instance, netns, protocol, address, port, interface) port_listener_executable_deleted == 1"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "protocol"}, {label: "address"}, {label: "port"}, {label: "interface"}, {label: "process"}, {label: "user"}, {label: "unit"}, {label: "container"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Listeners of unknown owners",
			text:    "Listeners whose process could not be read. The kernel's own have none.",
			queries: []query{{"sum by (instance) (port_listeners_unattributed)", "{{instance}}"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Privileges that are missing",
			text:    "What keeps the owners of listeners unknown: a capability that the unit of the exporter can give, the namespaces of a container, a security module.",
			queries: []query{{expr: "port_privilege_missing == 1"}},
			columns: []column{{label: "instance"}, {label: "privilege"}},
		},
	}}
}

func listenersQueuesAndDrops() row {
	return row{title: "Queues and drops", panels: []panel{
		{
			kind: chart, unit: "percentunit", red: 0.8,
			title:   "Accept queue in use",
			text:    "Connections that wait for accept(), as a share of the limit in force. At 100 % the kernel drops new ones.",
			queries: []query{{"port_listener_accept_queue_length / (port_listener_accept_queue_limit > 0) > 0", "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "cps",
			title:   "Accept queue drops",
			text:    "Connections that a listener dropped, per second. Their clients wait a second or longer.",
			queries: []query{{"rate(port_listener_accept_queue_drops_total[$__rate_interval]) > 0", "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "bytes",
			title:   "UDP receive queue",
			text:    "Bytes that wait for a UDP service to read them. A queue that never empties comes before drops.",
			queries: []query{{"port_udp_receive_queue_bytes > 0", "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
		{
			kind: chart, unit: "pps",
			title:   "UDP drops",
			text:    "Datagrams lost per second because the receive buffer was full. The senders get no error.",
			queries: []query{{"rate(port_udp_receive_drops_total[$__rate_interval]) > 0", "{{instance}} {{protocol}} {{address}} port {{port}}"}},
		},
	}}
}

func listenersCertificates() row {
	return row{title: "Certificates", panels: []panel{
		{
			kind: rows, width: 24, unit: "s", negative: true,
			title:   "Certificates of listeners",
			text:    "When the first certificate that a listener sends expires, the next one first. Only with listener_tls in the configuration. They are read, not verified.",
			queries: []query{{expr: "sort((port_listener_tls_certificate_expiry_timestamp_seconds - time()) * on (job, instance, netns, protocol, address, port, interface) group_right () port_listener_tls_info)"}},
			columns: []column{{label: "instance"}, {label: "netns"}, {label: "protocol"}, {label: "port"}, {label: "address"}, {label: "interface"}, {label: "subject"}, {label: "issuer"}, {label: "version"}, {"Value", "expires in"}},
			hidden:  []string{"fingerprint_sha256"},
		},
	}}
}

func listenersTheExporter() row {
	return row{collapsed: true, title: "The exporter itself", panels: []panel{
		exportersUp,
		{
			kind: single, unit: "bool_yes_no", green: 1,
			title:   "Configuration loaded",
			text:    "No: a reload failed on a host, which goes on with the configuration it had. The log has the reason.",
			queries: []query{{expr: "min(port_config_last_reload_successful)"}},
		},
		{
			kind: single, width: 8, unit: "short",
			title:   "Sources",
			text:    "Where the sockets are read from, and by how many exporters. On Linux sock_diag is the fast one; procfs is the fallback.",
			queries: []query{{"count by (source) (port_source_info == 1)", "{{source}}"}},
		},
		{
			kind: single, width: 8, unit: "short",
			title:   "Versions",
			text:    "The versions of port_exporter that run, and on how many hosts.",
			queries: []query{{"count by (version) (port_exporter_build_info)", "{{version}}"}},
		},
		{
			kind: single, width: 24, unit: "bool_yes_no", green: 1,
			title:   "Collectors",
			text:    "Whether every collector succeeded. The metrics of one that failed are missing, not zero.",
			queries: []query{{"min by (collector) (port_scrape_collector_success)", "{{collector}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "Time per collector",
			text:    "How long the slowest host took. It must stay well below the scrape timeout.",
			queries: []query{{"max by (collector) (port_scrape_collector_duration_seconds)", "{{collector}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Folded series",
			text:    "What has no series of its own, by metric: ports are summed as other, destinations and listeners left out. The limits are in the configuration.",
			queries: []query{{"sum by (instance, metric) (port_folded_items) > 0", "{{instance}} {{metric}}"}},
		},
		{
			kind: rows, unit: "short",
			title:   "Files that cannot be read",
			text:    "Files below /proc whose figures are missing. The exporter's log has the reason.",
			queries: []query{{expr: "port_unreadable_files"}},
			columns: []column{{label: "instance"}, {label: "file"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Searches for owners",
			text:    "Walks through the processes of the host, per minute. On a host where nothing changes there are none.",
			queries: []query{{"60 * sum by (instance) (rate(port_owner_searches_total[$__rate_interval]))", "{{instance}}"}},
		},
		{
			kind: chart, unit: "short",
			title: "Reads of the socket table that were not whole",
			text:  "Per minute: interrupted twice in a row, so that sockets may be missed or repeated, and rows that could not be understood.",
			queries: []query{
				{"60 * sum by (instance) (rate(port_source_interrupted_reads_total[$__rate_interval]))", "{{instance}} interrupted"},
				{"60 * sum by (instance) (rate(port_source_malformed_rows_total[$__rate_interval]))", "{{instance}} malformed rows"},
			},
		},
	}}
}
