package examplestest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	examples  = "../../examples"
	rules     = examples + "/rules/*.yml"
	ruleTests = examples + "/rules/tests/*.yml"
)

func TestPromtool(t *testing.T) {
	tests := []struct {
		name string
		args []string
	}{
		{"config", []string{"check", "config", examples + "/prometheus.yml"}},
		{"rules", append([]string{"check", "rules"}, glob(t, rules)...)},
		{"rule tests", append([]string{"test", "rules"}, glob(t, ruleTests)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { output(t, porttest.PromtoolPath(t), tt.args...) })
	}
}

// promtool calls a duplicate rule a mistake only when asked to lint, so the
// names are compared here.
func TestRuleNames(t *testing.T) {
	level := regexp.MustCompile(`^[a-z]+(_[a-z]+)*:port_[a-z_]+:[a-z0-9]+$`)
	alert := regexp.MustCompile(`^Port[A-Z][A-Za-z]+$`)
	seen := map[string]bool{}
	for _, r := range readRules(t) {
		if r.kind == "record" && !level.MatchString(r.name) {
			t.Errorf("record %s: want level:metric:operation", r.name)
		}
		if r.kind == "alert" && !alert.MatchString(r.name) {
			t.Errorf("alert %s: want a name in camel case that begins with Port", r.name)
		}
		if seen[r.name] {
			t.Errorf("%s %s is defined twice", r.kind, r.name)
		}
		seen[r.name] = true
	}
}

func TestEveryRuleIsTested(t *testing.T) {
	cases := readRuleTests(t)
	for _, r := range readRules(t) {
		if !cases[r.name].met {
			t.Errorf("%s %s: no test in which it gives something", r.kind, r.name)
		}
		if !cases[r.name].unmet {
			t.Errorf("%s %s: no test in which it gives nothing", r.kind, r.name)
		}
	}
}

// Prometheus refuses to start over a file of promtool's tests.
func TestRuleFilesLeaveTheTestsOut(t *testing.T) {
	_, list, ok := strings.Cut(read(t, examples+"/prometheus.yml"), "\nrule_files:\n")
	if !ok {
		t.Fatal("prometheus.yml has no rule_files")
	}
	list, _, _ = strings.Cut(list, "\n\n")
	var got []string
	for _, m := range regexp.MustCompile(`(?m)^ +- (\S+)$`).FindAllStringSubmatch(list, -1) {
		got = append(got, glob(t, filepath.Join(examples, m[1]))...)
	}
	if diff := cmp.Diff(glob(t, rules), got); diff != "" {
		t.Errorf("files that rule_files names (-want +got):\n%s", diff)
	}
}

func TestMetricsExist(t *testing.T) {
	families := readFamilies(t)
	embedded := regexp.MustCompile(`^probe_(http|dns|icmp)_`) // those of blackbox_exporter's probers
	files := slices.Concat(glob(t, examples+"/*.yml"), glob(t, rules), glob(t, ruleTests), glob(t, examples+"/dashboards/*.json"))
	for _, file := range files {
		for _, name := range metricNames(read(t, file)) {
			if !families[name] && !embedded.MatchString(name) {
				t.Errorf("%s: no metric %s in docs/metrics.md", file, name)
			}
		}
	}
}

func TestMetricNames(t *testing.T) {
	tests := []struct {
		text string
		want []string
	}{
		{`job_name: port_exporter`, nil},
		{`remote_port="other"`, nil},
		{`instance:port_sockets_time_wait:avg5m > 5000`, nil},
		{`rate(port_udp_receive_drops_total{port="53"}[5m])`, []string{"port_udp_receive_drops_total"}},
		{`probe_success == 0`, []string{"probe_success"}},
		{`port_sockets-port_sockets`, []string{"port_sockets"}},
	}
	for _, tt := range tests {
		if got := metricNames(tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("metricNames(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}

func TestDashboardIsGenerated(t *testing.T) {
	for _, file := range glob(t, examples+"/dashboards/generate/*.go") {
		read(t, file) // go test would not notice a change, and answer from its cache
	}
	generated := output(t, "go", "run", examples+"/dashboards/generate")
	if diff := cmp.Diff(generated, read(t, examples+"/dashboards/ports-and-sockets.json")); diff != "" {
		t.Errorf("run go generate ./examples/...: the dashboard differs from its generator (-generator +file):\n%s", diff)
	}
}

func TestDashboardPanels(t *testing.T) {
	for _, p := range readPanels(t) {
		t.Run(p.Title, func(t *testing.T) {
			if p.Description == "" {
				t.Error("no description")
			}
			if p.FieldConfig.Defaults.Unit == "" {
				t.Error("no unit")
			}
			if p.Datasource.UID != "${datasource}" {
				t.Errorf("datasource %q is not the variable", p.Datasource.UID)
			}
			if len(p.Targets) == 0 {
				t.Error("no query")
			}
			for _, q := range p.Targets {
				if q.Expr == "" || q.Datasource.UID != "${datasource}" {
					t.Errorf("query %+v: want an expression and the datasource variable", q)
				}
			}
		})
	}
}

func TestDashboardQueries(t *testing.T) {
	var queries []string
	for _, p := range readPanels(t) {
		for _, q := range p.Targets {
			queries = append(queries, strings.ReplaceAll(q.Expr, "$__rate_interval", "5m"))
		}
	}
	porttest.CheckQueries(t, queries)
}

type rule struct{ kind, name string }

func readRules(t *testing.T) []rule {
	t.Helper()
	var out []rule
	for _, file := range glob(t, rules) {
		for _, m := range regexp.MustCompile(`(?m)^ +- (alert|record): (\S+)$`).FindAllStringSubmatch(read(t, file), -1) {
			out = append(out, rule{m[1], m[2]})
		}
	}
	if len(out) == 0 {
		t.Fatalf("no rule found in %s", rules)
	}
	return out
}

// cases says whether a rule has a test that expects something of it, and one
// that expects nothing.
type cases struct{ met, unmet bool }

// readRuleTests depends on the order of the keys, as all our tests have it:
// promtool reads any, but a parser for YAML is no dependency of this package.
func readRuleTests(t *testing.T) map[string]cases {
	t.Helper()
	out := map[string]cases{}
	for _, pattern := range []*regexp.Regexp{
		regexp.MustCompile(`alertname: (\w+)\n +exp_alerts:( \[\])?\n`),
		regexp.MustCompile(`- expr: ([\w:]+)(?:{.*})?\n +eval_time: \w+\n +exp_samples:( \[\])?\n`),
	} {
		for _, file := range glob(t, ruleTests) {
			for _, m := range pattern.FindAllStringSubmatch(read(t, file), -1) {
				c := out[m[1]]
				c.met, c.unmet = c.met || m[2] == "", c.unmet || m[2] != ""
				out[m[1]] = c
			}
		}
	}
	return out
}

// readFamilies reads the names in the first column of the tables.
func readFamilies(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\|([^|]*`(?:port|probe)_[^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`((?:port|probe)_[a-z0-9_]+)").FindAllStringSubmatch(row[1], -1) {
			out[name[1]] = true
		}
	}
	if len(out) == 0 {
		t.Fatal("docs/metrics.md has no table of metrics")
	}
	return out
}

// metricNames returns the names of our metrics in a text, without the names of
// recording rules and the name of the program.
func metricNames(text string) []string {
	text = regexp.MustCompile(`\b[a-z_]+:port_[a-z_]+:[a-z0-9]+\b`).ReplaceAllString(text, "")
	names := regexp.MustCompile(`\b(?:port|probe)_[a-z_]+`).FindAllString(text, -1)
	names = slices.DeleteFunc(names, func(name string) bool { return name == "port_exporter" })
	slices.Sort(names)
	return slices.Compact(names)
}

type panel struct {
	Type, Title, Description string
	Datasource               datasource
	FieldConfig              struct{ Defaults struct{ Unit string } }
	Targets                  []struct {
		Expr       string
		Datasource datasource
	}
}

type datasource struct{ UID string }

// readPanels returns the panels that show something: all but the rows.
func readPanels(t *testing.T) []panel {
	t.Helper()
	var dashboard struct{ Panels []panel }
	if err := json.Unmarshal([]byte(read(t, examples+"/dashboards/ports-and-sockets.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	panels := slices.DeleteFunc(dashboard.Panels, func(p panel) bool { return p.Type == "row" })
	if len(panels) == 0 {
		t.Fatal("the dashboard has no panels")
	}
	return panels
}

// output runs a command that must succeed and returns its standard output.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, &stdout, &stderr)
	}
	return stdout.String()
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// glob returns the files that a pattern matches, of which there must be some.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no such file (%v)", pattern, err)
	}
	return files
}
