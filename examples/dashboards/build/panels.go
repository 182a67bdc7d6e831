package main

// Panels that stand on several boards.
var (
	exportersUp = panel{
		kind: single, unit: "percentunit", green: 1, most: 1,
		title:   "Exporters up",
		text:    "How many of the chosen exporters were scraped. Below 100 % a host is not seen.",
		queries: []query{{expr: "avg(up)"}},
	}
	timeWaitOfItsLimit = panel{
		kind: single, unit: "percentunit", red: 0.8,
		title:   "TIME_WAIT, of its limit",
		text:    "The host that is nearest to the most sockets in TIME_WAIT that its kernel keeps (net.ipv4.tcp_max_tw_buckets).",
		queries: []query{{expr: "max(port_tcp_time_wait_entries / (port_tcp_time_wait_limit > 0))"}},
	}
)
