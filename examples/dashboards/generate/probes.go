package main

func probesBoard() board {
	const known = `label_values(probe_outcome_code{job=~"$job"}, `
	return board{
		title: "Probes", uid: "port-exporter-probes",
		about: "What was probed, whether it can be reached, and why not: port_exporter. It reads /metrics, and jobs that ask /probe as well.",
		// A series of /probe has no label target: its instance is the target. What
		// matches all of them must match none, too.
		variables: []variable{
			labelVariable("job", "Job", ".+", `label_values(probe_outcome_code, job)`),
			labelVariable("instance", "Instance", ".+", known+`instance)`),
			labelVariable("module", "Module", ".*", known+`module)`),
			labelVariable("target", "Target", ".*", known+`target)`),
		},
		host: `job=~"$job", instance=~"$instance", module=~"$module", target=~"$target"`,
		sections: []section{
			{title: "Overview", panels: probesOverview()},
			{title: "What fails, and why", panels: probeFailures()},
			{title: "How long it takes", panels: probeDurations()},
			{title: "Certificates, own listeners, NAT", panels: probeFindings()},
			{title: "The prober itself", panels: probing()},
		},
	}
}

const probeLegend = "{{target}} {{module}} from {{instance}}"

// probed are the labels of a target, as columns.
func probed(more ...string) []string {
	return append([]string{"instance", "target_name", "target", "module"}, more...)
}

func probesOverview() []panel {
	return []panel{
		{
			title: "As expected",
			about: "The share of the targets at which the last probe found what its module expects. Those that could not be tried do not count.",
			kind:  stat, width: 4, unit: "percentunit", alarm: 1, max: 1,
			query: []query{{`avg(probe_success{HOST})`, ""}},
		},
		{
			title: "Not as expected",
			about: "Targets at which the last probe found something else than its module expects. The table says why.",
			kind:  stat, width: 4, unit: "short", warn: 1,
			query: []query{{`count(probe_success{HOST} == 0) or vector(0)`, ""}},
		},
		{
			title: "Not tried",
			about: "Targets that could not be probed: this host lacks ports or descriptors, the address is not allowed, or there was no time. It says nothing of the target.",
			kind:  stat, width: 4, unit: "short", warn: 1,
			query: []query{{`count(probe_outcome_code{HOST} >= 16 <= 18) or vector(0)`, ""}},
		},
		{
			title: "Slowest probe",
			about: "How long the slowest of the last probes took.",
			kind:  stat, width: 4, unit: "s",
			query: []query{{`max(probe_duration_seconds{HOST})`, ""}},
		},
		{
			title: "SYNs lost",
			about: "Targets to which the last probe had to send its SYN again: each time costs a second or more.",
			kind:  stat, width: 4, unit: "short", warn: 1,
			query: []query{{`count(probe_tcp_syn_retransmits{HOST} > 0) or vector(0)`, ""}},
		},
		{
			title: "Next certificate expires in",
			about: "The earliest end of a certificate in any chain that was seen.",
			kind:  stat, width: 4, unit: "s", alarm: 14 * 24 * 60 * 60, none: "no TLS",
			query: []query{{`min(probe_ssl_earliest_cert_expiry{HOST}) - time()`, ""}},
		},
	}
}

func probeFailures() []panel {
	return []panel{
		{
			title: "Failures now",
			about: "reason: what became of the probe. phase: how far it came. origin: who said so; none is silence, as of a firewall that drops.",
			kind:  table, width: 24, unit: "short", columns: probed("reason", "phase", "origin"),
			query: []query{{`probe_failure_info{HOST}`, ""}},
		},
		{
			title: "Failures by reason",
			about: "Targets whose last probe did not find what its module expects, by what became of it.",
			width: 12, unit: "short", stack: true,
			query: []query{{`sum by (reason) (probe_failure_info{HOST})`, "{{reason}}"}},
		},
		{
			title: "Probes by what became of them",
			about: "Per minute, of the configured targets, those that went well too. What happens between two scrapes is in it.",
			width: 12, unit: "short", stack: true,
			query: []query{{`60 * sum by (outcome) (rate(probe_results_total{HOST}[$__rate_interval])) > 0`, "{{outcome}}"}},
		},
		{
			title: "As expected, over the time shown",
			about: "The share of the scrapes at which the target was as its module expects, the worst first.",
			kind:  table, width: 24, unit: "percentunit", value: "as expected", columns: probed(),
			query: []query{{`sort(avg_over_time(probe_success{HOST}[$__range]))`, ""}},
		},
	}
}

func probeDurations() []panel {
	return []panel{
		{
			title: "Duration by target",
			about: "How long the whole probe took. A target that does not answer takes as long as its module lets it.",
			width: 24, unit: "s",
			query: []query{{`probe_duration_seconds{HOST}`, probeLegend}},
		},
		{
			title: "TCP: phases",
			about: "The mean of the targets that are open. resolve is the name server's share, connect the network's, tls and exchange the service's.",
			width: 12, unit: "s", stack: true,
			query: []query{{`avg by (phase) (probe_tcp_duration_seconds{HOST} and on (job, instance, module, target, target_name) probe_outcome_code{HOST} == 0)`, "{{phase}}"}},
		},
		{
			title: "TCP: round-trip time by target",
			about: "Of the handshake, as the kernel measured it. It has no share of the service's own slowness.",
			width: 12, unit: "s",
			query: []query{{`probe_tcp_rtt_seconds{HOST}`, probeLegend}},
		},
		{
			title: "TCP: SYNs sent again by target",
			about: "Lost packets, or a full accept queue: an answer after one or three seconds often is one of these.",
			width: 12, unit: "short",
			query: []query{{`probe_tcp_syn_retransmits{HOST} > 0`, probeLegend}},
		},
		{
			title: "UDP: exchange by target",
			about: "From the first datagram to the reply, or to the end of the time where there is none.",
			width: 12, unit: "s",
			query: []query{{`probe_udp_duration_seconds{HOST, phase="exchange"}`, probeLegend}},
		},
		{
			title: "Look-ups of names by target",
			about: "How long the name server took.",
			width: 24, unit: "s",
			query: []query{{`probe_dns_lookup_time_seconds{HOST}`, probeLegend}},
		},
	}
}

func probeFindings() []panel {
	return []panel{
		{
			title: "Certificates",
			about: "When the first certificate of the chain expires, the next one first. Those that cannot be verified are in it.",
			kind:  table, width: 12, unit: "s", value: "expires in", columns: probed(),
			query: []query{{`sort(probe_ssl_earliest_cert_expiry{HOST} - time())`, ""}},
		},
		{
			title: "Targets on this host",
			about: "What the exporter's own table of listeners says: Yes, something listens there. When the probe fails all the same, a firewall or a full queue is in between.",
			kind:  table, width: 12, unit: "bool_yes_no", value: "listens", columns: probed("scope", "state"),
			query: []query{{`probe_local_listener{HOST} * ignoring (scope, state) group_left (state) probe_local_listener_info{HOST}`, ""}},
		},
		{
			title: "NAT: mapping and filtering",
			about: "What STUN servers tell of the NAT between this host and them.",
			kind:  table, width: 12, unit: "short", columns: probed("mapping", "filtering"),
			query: []query{{`probe_stun_mapping_info{HOST}`, ""}},
		},
		{
			title: "NAT: mapped port",
			about: "The port that a STUN server sees. One that changes from probe to probe keeps peers from reaching this host.",
			width: 12, unit: "none",
			query: []query{{`probe_stun_mapped_port{HOST}`, probeLegend}},
		},
		{
			title: "Behind a NAT",
			about: "Whether the STUN server sees another address or port than ours.",
			kind:  stat, width: 12, unit: "bool_yes_no", none: "no STUN",
			query: []query{{`probe_stun_nat{HOST}`, "{{target}}"}},
		},
		{
			title: "Port preserved",
			about: "Whether the NAT keeps the port that we send from.",
			kind:  stat, width: 12, unit: "bool_yes_no", none: "no STUN",
			query: []query{{`probe_stun_port_preserved{HOST}`, "{{target}}"}},
		},
	}
}

// probing has no targets, so the variables of these are left out.
func probing() []panel {
	const exporter = `{job=~"$job", instance=~"$instance"}`
	return []panel{
		{
			title: "Probes by prober",
			about: "Per second, those on request at /probe too.",
			width: 12, unit: "cps", stack: true,
			query: []query{{`sum by (prober) (rate(port_exporter_probes_total` + exporter + `[$__rate_interval]))`, "{{prober}}"}},
		},
		{
			title: "Probes in flight",
			about: "At the time of the scrape. Near the limit (128 by default) probes wait, and some are not run.",
			width: 12, unit: "short",
			query: []query{{`sum by (instance) (port_exporter_probes_in_flight` + exporter + `)`, "{{instance}}"}},
		},
	}
}
