package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// mapping is a value, the word for it, and its colour.
type mapping struct{ value, text, color string }

// meanings are the values of a column that have a colour.
var meanings = map[string][]mapping{
	"scope": {
		{"any", "any", "orange"}, {"public", "public", "red"}, {"private", "private", "blue"},
		{"link_local", "link-local", "blue"}, {"multicast", "multicast", "purple"}, {"loopback", "loopback", "green"},
	},
	"verdict": {
		{"forbidden", "forbidden", "dark-red"}, {"unexpected", "unexpected", "red"}, {"undecided", "undecided", "yellow"},
		{"unverified", "unverified or expected", "orange"}, {"expected", "expected", "green"}, {"none", "no policy", "text"},
	},
	"outcome": outcomes,
	"reason":  reasons(),
	"state": {
		{"listening", "listening", "green"}, {"not_listening", "not listening", "red"}, {"queue_full", "queue full", "red"},
		{"loopback_only", "loopback only", "orange"}, {"other_address", "another address", "orange"},
	},
	"severity": {{"critical", "critical", "red"}, {"warning", "warning", "orange"}, {"info", "info", "blue"}},
}

// outcomes are the values of probe_outcome_code. Which one is as it should be, the
// module says.
var outcomes = []mapping{
	{"0", "open", "green"}, {"1", "refused", "red"}, {"2", "timeout", "orange"}, {"3", "unreachable", "red"},
	{"4", "prohibited", "purple"}, {"5", "reset", "red"}, {"6", "closed", "red"}, {"7", "dns_not_found", "yellow"},
	{"8", "dns_error", "yellow"}, {"9", "dns_timeout", "yellow"}, {"10", "tls_certificate", "orange"},
	{"11", "tls_handshake", "orange"}, {"12", "mismatch", "orange"}, {"13", "status", "orange"}, {"14", "no_reply", "orange"},
	{"15", "protocol", "orange"}, {"16", "local_error", "text"}, {"17", "denied", "text"}, {"18", "not_run", "text"}, {"19", "unknown", "text"},
}

// reasons are outcomes by their name.
func reasons() []mapping {
	var out []mapping
	for _, o := range outcomes {
		out = append(out, mapping{o.text, o.text, o.color})
	}
	return out
}

func valueMap(values []mapping) []dashboard.ValueMapping {
	options := map[string]dashboard.ValueMappingResult{}
	for i, v := range values {
		options[v.value] = dashboard.ValueMappingResult{Text: &v.text, Color: &v.color, Index: cog.ToPtr(int32(i))}
	}
	return []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: options}}}
}

// offered are the names of a board's variables.
func (b board) offered() []string {
	return append([]string{"datasource", "cluster", "job", "instance"}, b.choices...)
}

// variables are those by which every board selects hosts, and its own. The label
// cluster is one that an agent or a relabelling adds; where there is none, All
// matches.
func (b board) variables() []cog.Builder[dashboard.VariableModel] {
	known := "port_exporter_build_info"
	if b.uid == "port-exporter-probes" {
		known = "probe_outcome_code" // of blackbox_exporter's modules and of /probe too
	}
	out := []cog.Builder[dashboard.VariableModel]{
		dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus"),
		labelValues("cluster", "Cluster", known, "cluster", ".*"),
		labelValues("job", "Job", known+`{cluster=~"$cluster"}`, "job", ".+"),
		labelValues("instance", "Host", known+`{cluster=~"$cluster", job=~"$job"}`, "instance", ".+"),
	}
	chosen := `{cluster=~"$cluster", job=~"$job", instance=~"$instance"}`
	for _, choice := range b.choices {
		switch choice {
		case "netns":
			out = append(out, namespaces(chosen))
		case "service":
			out = append(out, services(chosen))
		default:
			out = append(out, labelValues(choice, choice, known+chosen, choice, ".*"))
		}
	}
	return out
}

func labelValues(name, title, metric, label, all string) *dashboard.QueryVariableBuilder {
	return queried(name, title, fmt.Sprintf("label_values(%s, %s)", metric, label)).
		Sort(dashboard.VariableSortAlphabeticalAsc).Multi(true).IncludeAll(true).AllValue(all).Current(option("All", "$__all"))
}

// namespaces offers the own network namespace beside the others. Its name is
// empty, which no list of label values has.
func namespaces(chosen string) *dashboard.QueryVariableBuilder {
	query := fmt.Sprintf(`query_result(label_replace(label_replace(vector(1), "name", "all", "", ""), "netns", ".*", "", "") or `+
		`label_replace(label_replace(vector(1), "name", "own", "", ""), "netns", "^$", "", "") or `+
		`count by (name, netns) (label_replace(port_sockets%s, "name", "$1", "netns", "(.+)") unless port_sockets{netns=""}))`, chosen)
	return queried("netns", "Network namespace", query).Regex(`/name="(?<text>[^"]*)",\s*netns="(?<value>[^"]*)"/`).
		Sort(dashboard.VariableSortDisabled).Current(optionOf("all", ".*"))
}

// services offers the ports that something listens on, with the program.
func services(chosen string) *dashboard.QueryVariableBuilder {
	query := fmt.Sprintf(`query_result(count by (name, port) (label_join(port_listener_info%s, "name", " ", "port", "process")))`, chosen)
	return queried("service", "Service", query).Regex(`/name="(?<text>[^"]*)",\s*port="(?<value>[^"]*)"/`).
		Sort(dashboard.VariableSortNumericalAsc).Multi(true).IncludeAll(true).AllValue(".*").Current(option("All", "$__all"))
}

func queried(name, title, query string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(title).Datasource(source).Definition(query).
		Query(dashboard.StringOrMap{Map: map[string]any{"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}}).
		Refresh(dashboard.VariableRefreshOnTimeRangeChanged)
}

func option(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{
		Text:  dashboard.StringOrArrayOfString{ArrayOfString: []string{text}},
		Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{value}},
	}
}

func optionOf(text, value string) dashboard.VariableOption {
	return dashboard.VariableOption{Text: dashboard.StringOrArrayOfString{String: &text}, Value: dashboard.StringOrArrayOfString{String: &value}}
}

// annotations are the moments at which something changed.
func (b board) annotations(labels families) []cog.Builder[dashboard.AnnotationQuery] {
	at := func(name, color, expr, title, tags string) *dashboard.AnnotationQueryBuilder {
		return dashboard.NewAnnotationQueryBuilder().Name(name).Datasource(source).Enable(true).IconColor(color).
			Expr(labels.choose(expr, b.offered())).TitleFormat(title).TagKeys(tags).Step("1m")
	}
	return []cog.Builder[dashboard.AnnotationQuery]{
		at("Reloads", "blue", "port_config_last_reload_success_timestamp_seconds * 1000", "Configuration loaded on {{instance}}", "instance").UseValueForTime(true),
		// Not those of the exporter's first look.
		at("Opened listeners", "orange", "(port_listener_first_seen_timestamp_seconds > on (job, instance) group_left () "+
			"(min by (job, instance) (port_listener_first_seen_timestamp_seconds) + 60)) * 1000",
			"{{protocol}} {{address}} port {{port}} opened on {{instance}}", "instance,port").UseValueForTime(true),
		at("Alerts", "red", `ALERTS{alertname=~"Port.+", alertstate="firing"}`, "{{alertname}} {{instance}}", "severity,instance"),
	}
}
