package collector

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestMetricsDocument holds docs/metrics.md to the families in the code.
func TestMetricsDocument(t *testing.T) {
	porttest.Golden(t, "../docs/metrics.md", metricsDocument())
}

func metricsDocument() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Generated from the families in collector/ by `make generate`; do not edit. -->\n\n" +
		"Every socket metric has a `netns` label: empty is the network namespace that the exporter runs in.\n\n")
	for _, c := range everyCollector() {
		fmt.Fprintf(&b, "## Collector `%s`\n\n%s", c.Name(), introductions[c.Name()])
		writeFamilies(&b, c.Families())
	}
	b.WriteString("## About the exporter\n\n")
	writeFamilies(&b, selfFamilies())
	b.WriteString(otherFamilies)
	return b.String()
}

// introductions say what holds for all families of a collector.
var introductions = map[string]string{
	"probes": "On `/metrics` each series has the labels `module`, `target` and `target_name` and the target's own beside those below; " +
		"on `/probe` it has those below only, and neither `probe_age_seconds` nor `probe_results_total` is there. " +
		"The probers `dns` and `icmp` are those of blackbox_exporter and export its metrics besides: " +
		"`probe_dns_answer_rrs`, `probe_icmp_duration_seconds` and so on.\n\n" +
		"`probe_success` is 1 when the outcome is the one that the module expects, and absent when the target was not tried " +
		"(`local_error`, `denied`, `not_run`), which says nothing of it. `probe_duration_seconds` is absent when there was no probe.\n\n",
}

func writeFamilies(b *strings.Builder, families []*Family) {
	b.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, f := range families {
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", f.Name, f.TypeName(), strings.Join(f.Labels, ", "), f.Help)
	}
	b.WriteString("\n")
}

// otherFamilies are those that main and the libraries add.
const otherFamilies = "## About the process\n\n" +
	"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n" +
	"| `port_exporter_build_info` | gauge | version, revision, branch, goversion, goos, goarch, tags | 1 for the build that runs. |\n" +
	"| `port_config_last_reload_successful` | gauge |  | Whether the last load of the configuration succeeded (1) or the one before is still in force (0). |\n" +
	"| `port_config_last_reload_success_timestamp_seconds` | gauge |  | When the configuration in force was loaded, in seconds since the epoch. |\n" +
	"| `port_web_config_last_reload_successful` | gauge |  | Whether the web configuration in force is that of its files (1), or an earlier one because they are broken (0). Absent without `--web.config.file`. |\n" +
	"| `port_web_config_last_reload_success_timestamp_seconds` | gauge |  | When the web configuration in force was read, in seconds since the epoch. |\n" +
	"| `port_config_targets` | gauge |  | Targets of the configuration in force. |\n" +
	"| `port_config_policy_rules` | gauge |  | Rules of the policy in force; 0 without a policy. |\n" +
	"| `port_exporter_log_lines_dropped_total` | counter |  | Log lines dropped because whatever reads the log is too slow or gone. |\n" +
	"| `port_exporter_probes_total` | counter | prober, outcome | Probes by prober and outcome, on request and scheduled; absent for outcomes that never came. |\n" +
	"| `port_exporter_probes_in_flight` | gauge |  | Probes that are in flight. |\n" +
	"\nThe metrics of client_golang about the Go runtime (`go_*`), the process (`process_*`) and the handler of `/metrics` are " +
	"there unless `--web.disable-exporter-metrics` is given. Those of the handler: `promhttp_metric_handler_requests_total` " +
	"by status code, 503 where `--web.max-requests` was reached; `promhttp_metric_handler_requests_in_flight`; " +
	"`promhttp_metric_handler_errors_total` by cause, gathering or encoding.\n"

func TestFamilies(t *testing.T) {
	families := Families()
	names := map[string]bool{}
	for _, f := range families {
		if names[f.Name] {
			t.Errorf("%s is declared twice", f.Name)
		}
		names[f.Name] = true
		if strings.ContainsAny(f.Help, "|\n") {
			t.Errorf("the help of %s breaks the table", f.Name)
		}
		for _, label := range f.Labels {
			clashes := slices.Contains([]string{"service", "owner", "env", "type", "job", "instance", "pid", "inode", "fd"}, label)
			if clashes && f.Name != "port_packet_sockets" { // in which the type is the contract's
				t.Errorf("%s has the label %s", f.Name, label)
			}
		}
	}
}

// TestEveryFamilyIsToldSomewhere makes sure that no family is declared and
// never emitted.
func TestEveryFamilyIsToldSomewhere(t *testing.T) {
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
