package collector

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestMetricsDocument compares docs/metrics.md with the families in the code.
func TestMetricsDocument(t *testing.T) {
	porttest.Golden(t, "../docs/metrics.md", metricsDocument())
}

func metricsDocument() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Generated from the families in collector/ by `make generate`; do not edit. -->\n\n" +
		"Every socket metric has a `netns` label: empty is the network namespace that the exporter runs in; see the collector `namespaces`.\n\n")
	for _, c := range everyCollector() {
		fmt.Fprintf(&b, "## Collector `%s`\n\n%s", c.Name(), introductions[c.Name()])
		writeFamilies(&b, c.Families())
	}
	b.WriteString("## About the exporter\n\n")
	writeFamilies(&b, selfFamilies())
	b.WriteString("## About the process\n\n")
	writeFamilies(&b, processFamilies)
	b.WriteString(libraryFamilies)
	return b.String()
}

// introductions have the facts that hold for all families of a collector.
var introductions = map[string]string{
	"closed": "Off by default: `--collector.closed`. The kernel reports each TCP socket that it frees, with its final values, so that nothing is missed " +
		"between scrapes. The values are exact while `port_closed_connections_lost_total` does not increase. Open connections are not included, unless the collector health runs too: then bytes, segments and times are counted at each scrape. " +
		"`inbound` is by listener; one that is gone keeps its series for an hour. `outbound` is by remote port, the busiest ones; the rest is \"other\". " +
		"Where the kernel forgot the remote port, it is \"unknown\". Histograms are native ones, with six classic buckets for those who do not read them. " +
		"See [closed.md](closed.md).\n\n",
	"health": "Off by default: `--collector.health`. It asks the kernel for TCP_INFO of each connection in the same read of the socket table. Only of connections " +
		"that are open at the scrape: values are sums over them, of their whole lives, and fall when one closes. Services without open connections are absent. " +
		"`inbound` is by listener; those without series of their own are \"other\". `outbound` is by remote port: the busiest, and those of watched destinations; the rest is " +
		"\"other\". Histograms are snapshots (use them without `rate`), native ones with six classic buckets. See [health.md](health.md).\n\n",
	"namespaces": "Off by default: `--collector.namespaces`. For each other network namespace with sockets it also exports `port_sockets`, " +
		"`port_listener_info`, `port_listener_sockets`, the accept and receive queues and drops of listeners, all metrics of the collector `connections`, " +
		"`port_ephemeral_ports` and `port_ephemeral_ports_used`, with its name in `netns`. Values of 0 are absent, except the figures of listeners. " +
		"See [namespaces.md](namespaces.md).\n\n",
	"probes": "On `/metrics` each series also has the labels `module`, `target` and `target_name` and the target's own labels. " +
		"On `/probe` it has only the labels below, and `probe_age_seconds` and `probe_results_total` are absent. " +
		"Metrics that blackbox_exporter has too keep its HELP text.\n\n" +
		"`probe_success` is 1 when the outcome is the one that the module expects. It is absent when the target was not tried " +
		"(`local_error`, `denied`, `not_run`). `probe_duration_seconds` is absent when no probe ran.\n\n",
}

// meaning returns the HELP text and the legend.
func meaning(f *Family) string {
	if legend := legends[f.Name]; legend != "" {
		return f.Help + " " + legend
	}
	return f.Help
}

func writeFamilies(b *strings.Builder, families []*Family) {
	b.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, f.TypeName(), strings.Join(f.Labels, ", "), meaning(f))
	}
	b.WriteString("\n")
}

// libraryFamilies describes what client_golang adds.
const libraryFamilies = "The metrics of client_golang about the Go runtime (`go_*`), the process (`process_*`) and the handler of `/metrics` are " +
	"exported unless `--web.disable-exporter-metrics` is given. Those of the handler: `promhttp_metric_handler_requests_total` " +
	"by status code, 503 where `--web.max-requests` was reached; `promhttp_metric_handler_requests_in_flight`; " +
	"`promhttp_metric_handler_errors_total` by cause, gathering or encoding.\n"

func TestFamilies(t *testing.T) {
	families := slices.Concat(Families(), processFamilies)
	names := map[string]bool{}
	for _, f := range families {
		if names[f.Name] {
			t.Errorf("%s is declared twice", f.Name)
		}
		names[f.Name] = true
		if faults := porttest.HelpFaults(f.Help); len(faults) > 0 && !isBlackboxHelp(f.Help) {
			t.Errorf("HELP of %s: %s: %s", f.Name, strings.Join(faults, ", "), f.Help)
		}
		if strings.ContainsAny(meaning(f), "|\n") {
			t.Errorf("the legend of %s breaks the table", f.Name)
		}
		for _, label := range f.Labels {
			clashes := slices.Contains([]string{"service", "owner", "env", "type", "job", "instance", "pid", "inode", "fd"}, label)
			if clashes && f.Name != "port_packet_sockets" { // in which the type is the contract's
				t.Errorf("%s has the label %s", f.Name, label)
			}
		}
	}
}

// isBlackboxHelp reports whether a HELP text is one of blackbox_exporter's, which
// end without a full stop; ours have one.
func isBlackboxHelp(help string) bool {
	return !strings.HasSuffix(help, ".") || strings.HasPrefix(help, "Specifies the hash of IP address.")
}

// TestLegends finds legends of families that do not exist.
func TestLegends(t *testing.T) {
	families := slices.Concat(Families(), processFamilies)
	for name := range legends {
		if !slices.ContainsFunc(families, func(f *Family) bool { return f.Name == name }) {
			t.Errorf("a legend for %s, which no collector exports", name)
		}
	}
}

// TestEveryFamilyIsExported makes sure that no family is declared and
// never emitted.
func TestEveryFamilyIsExported(t *testing.T) {
	var all strings.Builder
	for name := range stories {
		text, err := os.ReadFile("testdata/" + name + ".prom")
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, f := range Families() {
		if !strings.Contains(all.String(), "# TYPE "+f.Name+" "+f.TypeName()+"\n") {
			t.Errorf("no golden file has %s", f.Name)
		}
	}
}
