package main

func probes() board {
	return board{
		file: "probes", uid: "port-exporter-probes",
		title:   "Probes",
		text:    "What was probed, whether it can be reached, and why not: port_exporter. It reads /metrics, and jobs that ask /probe as well.",
		choices: []string{"module", "target"},
		rows: []row{
			probesOverview(),
			probesWhatFails(),
			probesHowLongItTakes(),
			probesCertificates(),
			probesTheProberItself(),
		},
	}
}

func probesOverview() row {
	return row{title: "Overview", panels: []panel{
		{
			kind: single, unit: "percentunit", green: 1, most: 1,
			title:   "As expected",
			text:    "The share of the targets at which the last probe found what its module expects. Those that could not be tried do not count.",
			queries: []query{{expr: "avg(probe_success)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Not as expected",
			text:    "Targets at which the last probe found something else than its module expects. The table says why.",
			queries: []query{{expr: "count(probe_success == 0) or vector(0)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "Not tried",
			text:    "Targets that could not be probed: this host lacks ports or descriptors, the address is not allowed, or there was no time. It says nothing of the target.",
			queries: []query{{expr: "count(probe_outcome_code >= 16 <= 18) or vector(0)"}},
		},
		{
			kind: single, unit: "s",
			title:   "Slowest probe",
			text:    "How long the slowest of the last probes took.",
			queries: []query{{expr: "max(probe_duration_seconds)"}},
		},
		{
			kind: single, unit: "short", red: 1,
			title:   "SYNs lost",
			text:    "Targets to which the last probe had to send its SYN again: each time costs a second or more.",
			queries: []query{{expr: "count(probe_tcp_syn_retransmits > 0) or vector(0)"}},
		},
		{
			kind: single, unit: "s", green: 14 * 86400, none: "no TLS",
			title:   "Next certificate expires in",
			text:    "The earliest end of a certificate in any chain that was seen.",
			queries: []query{{expr: "min(((probe_ssl_last_chain_expiry_timestamp_seconds > 0) or probe_ssl_earliest_cert_expiry)) - time()"}},
		},
	}}
}

func probesWhatFails() row {
	return row{title: "What fails, and why", panels: []panel{
		{
			kind: rows, width: 24, unit: "short",
			title:   "Failures now",
			text:    "reason: what became of the probe. phase: how far it came. origin: who said so; none is silence, as of a firewall that drops.",
			queries: []query{{expr: "probe_failure_info"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {label: "reason"}, {label: "phase"}, {label: "origin"}},
		},
		{
			kind: rows, width: 24, unit: "short",
			title:   "Every target now",
			text:    "The outcome of the last probe. Which one is as it should be, the module says.",
			queries: []query{{expr: "sort_desc(probe_outcome_code)"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {"Value", "outcome"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Failures by reason",
			text:    "Targets whose last probe did not find what its module expects, by what became of it.",
			queries: []query{{"sum by (reason) (probe_failure_info)", "{{reason}}"}},
		},
		{
			kind: stacked, unit: "short",
			title:   "Probes by what became of them",
			text:    "Per minute, of the configured targets, those that went well too. What happens between two scrapes is in it.",
			queries: []query{{"60 * sum by (outcome) (rate(probe_results_total[$__rate_interval])) > 0", "{{outcome}}"}},
		},
		{
			kind: rows, width: 24, unit: "percentunit",
			title:   "As expected, over the time shown",
			text:    "The share of the scrapes at which the target was as its module expects, the worst first.",
			queries: []query{{expr: "sort(avg_over_time(probe_success[$__range]))"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {"Value", "as expected"}},
		},
	}}
}

func probesHowLongItTakes() row {
	return row{title: "How long it takes", panels: []panel{
		{
			kind: chart, width: 24, unit: "s",
			title:   "Duration by target",
			text:    "How long the whole probe took. A target that does not answer takes as long as its module lets it.",
			queries: []query{{"probe_duration_seconds", "{{target}} {{module}} from {{instance}}"}},
		},
		{
			kind: stacked, unit: "s",
			title:   "TCP: phases",
			text:    "The mean of the targets that are open. resolve is the name server's share, connect the network's, tls and exchange the service's.",
			queries: []query{{"avg by (phase) (probe_tcp_duration_seconds and on (job, instance, module, target, target_name) probe_outcome_code == 0)", "{{phase}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "TCP: round-trip time by target",
			text:    "Of the handshake, as the kernel measured it. It has no share of the service's own slowness.",
			queries: []query{{"probe_tcp_rtt_seconds", "{{target}} {{module}} from {{instance}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "TCP: SYNs sent again by target",
			text:    "Lost packets, or a full accept queue: an answer after one or three seconds often is one of these.",
			queries: []query{{"probe_tcp_syn_retransmits > 0", "{{target}} {{module}} from {{instance}}"}},
		},
		{
			kind: chart, unit: "s",
			title:   "UDP: exchange by target",
			text:    "From the first datagram to the reply, or to the end of the time where there is none.",
			queries: []query{{`probe_udp_duration_seconds{phase="exchange"}`, "{{target}} {{module}} from {{instance}}"}},
		},
		{
			kind: chart, width: 24, unit: "s",
			title:   "Look-ups of names by target",
			text:    "How long the name server took.",
			queries: []query{{"probe_dns_lookup_time_seconds", "{{target}} {{module}} from {{instance}}"}},
		},
	}}
}

func probesCertificates() row {
	return row{title: "Certificates, own listeners, NAT", panels: []panel{
		{
			kind: rows, unit: "s",
			title:   "Certificates",
			text:    "When the first certificate of the chain expires, the next one first. Those that cannot be verified are in it.",
			queries: []query{{expr: "sort(((probe_ssl_last_chain_expiry_timestamp_seconds > 0) or probe_ssl_earliest_cert_expiry) - time())"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {"Value", "expires in"}},
		},
		{
			kind: rows, unit: "bool_yes_no",
			title:   "Targets on this host",
			text:    "What the exporter's own table of listeners says: Yes, something listens there. When the probe fails all the same, a firewall or a full queue is in between.",
			queries: []query{{expr: "probe_local_listener * ignoring (scope, state) group_left (state) probe_local_listener_info"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {label: "scope"}, {label: "state"}, {"Value", "listens"}},
		},
		{
			kind: rows, unit: "short",
			title:   "NAT: mapping and filtering",
			text:    "What STUN servers say of the NAT between this host and them.",
			queries: []query{{expr: "probe_stun_mapping_info"}},
			columns: []column{{label: "instance"}, {"target_name", "target name"}, {label: "target"}, {label: "module"}, {label: "mapping"}, {label: "filtering"}},
		},
		{
			kind: chart, unit: "none",
			title:   "NAT: mapped port",
			text:    "The port that a STUN server sees. One that changes from probe to probe keeps peers from reaching this host.",
			queries: []query{{"probe_stun_mapped_port", "{{target}} {{module}} from {{instance}}"}},
		},
		{
			kind: single, width: 12, unit: "bool_yes_no", none: "no STUN",
			title:   "Behind a NAT",
			text:    "Whether the STUN server sees another address or port than ours.",
			queries: []query{{"probe_stun_nat", "{{target}}"}},
		},
		{
			kind: single, width: 12, unit: "bool_yes_no", none: "no STUN",
			title:   "Port preserved",
			text:    "Whether the NAT keeps the port that we send from.",
			queries: []query{{"probe_stun_port_preserved", "{{target}}"}},
		},
	}}
}

func probesTheProberItself() row {
	return row{title: "The prober itself", panels: []panel{
		{
			kind: stacked, unit: "cps",
			title:   "Probes by prober",
			text:    "Per second, those on request at /probe too.",
			queries: []query{{"sum by (prober) (rate(port_exporter_probes_total[$__rate_interval]))", "{{prober}}"}},
		},
		{
			kind: chart, unit: "short",
			title:   "Probes in flight",
			text:    "At the time of the scrape. Near the limit (128 by default) probes wait, and some are not run.",
			queries: []query{{"sum by (instance) (port_exporter_probes_in_flight)", "{{instance}}"}},
		},
	}}
}
