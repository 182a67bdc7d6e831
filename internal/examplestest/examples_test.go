package examplestest

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	examples   = "../../examples"
	rules      = examples + "/rules/*.yml"
	ruleTests  = examples + "/rules/tests/*.yml"
	dashboards = examples + "/dashboards/*.json"
	// reachability is an example with rules of its own.
	reachability = examples + "/reachability"
)

func TestPromtool(t *testing.T) {
	tests := []struct {
		name string
		args []string
	}{
		{"config", []string{"check", "config", examples + "/prometheus.yml"}},
		{"rules", append([]string{"check", "rules"}, glob(t, rules)...)},
		{"rule tests", append([]string{"test", "rules"}, glob(t, ruleTests)...)},
		{"config of reachability", []string{"check", "config", reachability + "/prometheus.yml"}},
		{"rule tests of reachability", []string{"test", "rules", reachability + "/rules_test.yml"}},
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
	_, list, ok := strings.Cut(porttest.ReadFile(t, examples+"/prometheus.yml"), "\nrule_files:\n")
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
	files := slices.Concat(glob(t, examples+"/*.yml"), glob(t, reachability+"/*.yml"), glob(t, rules), glob(t, ruleTests), glob(t, dashboards))
	for _, file := range files {
		for _, name := range metricNames(porttest.ReadFile(t, file)) {
			if _, ok := families[name]; !ok && !embedded.MatchString(name) {
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

func TestDashboardLinks(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range readDashboards(t) {
		if d.UID == "" || seen[d.UID] {
			t.Errorf("%s: the uid %q is empty or another one's too", d.Title, d.UID)
		}
		seen[d.UID] = true
		if len(d.Links) != 1 || !slices.Equal(d.Links[0].Tags, d.Tags) || d.Links[0].Type != "dashboards" || len(d.Tags) == 0 {
			t.Errorf("%s: the links %+v do not lead to the dashboards of its tags %v", d.Title, d.Links, d.Tags)
		}
	}
}

// What Grafana needs of a file, and fills with no default of its own.
func TestDashboardFormat(t *testing.T) {
	variable := regexp.MustCompile(`\$(\w+)`)
	for _, d := range readDashboards(t) {
		names := []string{"__rate_interval", "__range"}
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
			if v.Name == "datasource" && v.Type == "datasource" && string(v.Query) == `"prometheus"` {
				continue
			}
			if v.Type != "query" || v.Datasource.UID != "${datasource}" || v.Definition == "" {
				t.Errorf("%s: variable %+v: want a query of the data source", d.Title, v)
			}
		}
		if !slices.Equal(names[2:6], []string{"datasource", "cluster", "job", "instance"}) || d.SchemaVersion != 39 {
			t.Errorf("%s: variables %q, schema version %d", d.Title, names[2:], d.SchemaVersion)
		}
		ids := map[int]bool{}
		for _, p := range append(d.rows(), d.panels()...) {
			if p.ID == 0 || ids[p.ID] {
				t.Errorf("%s: %s: no id, or that of another one: %d", d.Title, p.Title, p.ID)
			}
			ids[p.ID] = true
		}
		for _, p := range d.panels() {
			for _, q := range p.Targets {
				for _, m := range variable.FindAllStringSubmatch(q.Expr, -1) {
					if !slices.Contains(names, m[1]) {
						t.Errorf("%s: %s: no variable $%s", d.Title, p.Title, m[1])
					}
				}
			}
		}
	}
}

func TestDashboardPanels(t *testing.T) {
	for _, d := range readDashboards(t) {
		for _, p := range d.panels() {
			if p.Title == "" || p.Description == "" || p.FieldConfig.Defaults.Unit == "" || p.FieldConfig.Overrides == nil {
				t.Errorf("%s: %q: want a title, a description, a unit and a list of overrides", d.Title, p.Title)
			}
			if p.Datasource != (datasource{"prometheus", "${datasource}"}) {
				t.Errorf("%s: %s: datasource %+v is not the variable", d.Title, p.Title, p.Datasource)
			}
			if !slices.Contains([]string{"timeseries", "stat", "table"}, p.Type) {
				t.Errorf("%s: %s: type %q", d.Title, p.Title, p.Type)
			}
			checkTargets(t, d.Title+": "+p.Title, p)
		}
	}
}

// checkTargets checks the queries of a panel, each of its kind: a chart asks for
// a range, and a table for its format.
func checkTargets(t *testing.T, name string, p panel) {
	t.Helper()
	if len(p.Targets) == 0 {
		t.Errorf("%s: no query", name)
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.RefID == "" || refs[q.RefID] || q.Expr == "" {
			t.Errorf("%s: query %+v: want an expression and a refId of its own", name, q)
		}
		refs[q.RefID] = true
		if q.Instant != (p.Type != "timeseries") || (q.Format == "table") != (p.Type == "table") {
			t.Errorf("%s: query %+v is not of a %s", name, q, p.Type)
		}
		chosen, err := parseQuery(q.Expr)
		if n := strings.Count(q.Expr, `{cluster=~"$cluster", job=~"$job"`); err != nil || n != len(chosen.selectors) {
			t.Errorf("%s: %d of %d selectors are of the chosen hosts: %s (%v)", name, n, len(chosen.selectors), q.Expr, err)
		}
	}
}

// Panels that overlap push each other about when the page is loaded.
func TestDashboardGrid(t *testing.T) {
	for _, d := range readDashboards(t) {
		taken := map[[2]int]string{}
		for _, p := range append(slices.Clone(d.Panels), d.folded()...) {
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if other, ok := taken[at]; ok || at[0] >= 24 {
						t.Fatalf("%s: %q is beyond the width, or on top of %q", d.Title, p.Title, other)
					}
					taken[at] = p.Title
				}
			}
		}
	}
}

func TestDashboardQueries(t *testing.T) {
	var queries []string
	for _, d := range readDashboards(t) {
		for _, p := range d.panels() {
			for _, q := range p.Targets {
				queries = append(queries, allChosen("5m").Replace(q.Expr))
			}
		}
		for _, expr := range d.otherQueries() {
			queries = append(queries, allChosen("5m").Replace(expr))
		}
	}
	porttest.CheckQueries(t, queries)
}

// otherQueries are those of annotations and of variables, where they are no mere
// list of label values.
func (d dashboard) otherQueries() []string {
	var out []string
	for _, a := range d.Annotations.List {
		out = append(out, a.Expr)
	}
	for _, v := range d.Templating.List {
		if expr, ok := strings.CutPrefix(v.Definition, "query_result("); ok {
			out = append(out, strings.TrimSuffix(expr, ")"))
		}
	}
	return out
}

// The files are what examples/dashboards/build makes: they and its sources have the
// sums that were written with them. To build it takes a minute where nothing is
// cached, so the sums are compared here.
func TestDashboardsAreBuilt(t *testing.T) {
	const dir = examples + "/dashboards"
	var got strings.Builder
	for _, file := range slices.Concat(glob(t, dashboards), glob(t, dir+"/build/*")) {
		name, err := filepath.Rel(dir, file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&got, "%x  %s\n", sha256.Sum256([]byte(porttest.ReadFile(t, file))), filepath.ToSlash(name))
	}
	if diff := cmp.Diff(porttest.ReadFile(t, dir+"/dashboards.sum"), got.String()); diff != "" {
		t.Errorf("run make dashboards (-when built +now):\n%s", diff)
	}
}

// allChosen replaces the variables of dashboards: everything is chosen, and the
// windows of queries are this long.
func allChosen(window string) *strings.Replacer {
	return strings.NewReplacer("$__rate_interval", window, "$__range", window, "$job", ".+", "$instance", ".+",
		"$cluster", ".*", "$netns", ".*", "$service", ".*", "$target", ".*", "$module", ".*")
}

// rule is an alert or a recording rule. text is what it says to people.
type rule struct{ kind, name, expr, text string }

func readRules(t *testing.T) []rule {
	t.Helper()
	var out []rule
	for _, file := range glob(t, rules) {
		var text struct {
			Groups []struct {
				Rules []struct {
					Alert, Record, Expr string
					Annotations         map[string]string
				}
			}
		}
		if err := yaml.Unmarshal([]byte(porttest.ReadFile(t, file)), &text); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, group := range text.Groups {
			for _, r := range group.Rules {
				if r.Alert != "" {
					out = append(out, rule{"alert", r.Alert, r.Expr, r.Annotations["summary"] + r.Annotations["description"]})
				} else {
					out = append(out, rule{kind: "record", name: r.Record, expr: r.Expr})
				}
			}
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

func readRuleTests(t *testing.T) map[string]cases {
	t.Helper()
	out := map[string]cases{}
	add := func(name string, expected []any) {
		c := out[name]
		c.met, c.unmet = c.met || len(expected) > 0, c.unmet || len(expected) == 0
		out[name] = c
	}
	for _, file := range glob(t, ruleTests) {
		var text struct {
			Tests []struct {
				Alerts []struct {
					Name     string `yaml:"alertname"`
					Expected []any  `yaml:"exp_alerts"`
				} `yaml:"alert_rule_test"`
				Queries []struct {
					Expr     string
					Expected []any `yaml:"exp_samples"`
				} `yaml:"promql_expr_test"`
			}
		}
		if err := yaml.Unmarshal([]byte(porttest.ReadFile(t, file)), &text); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, test := range text.Tests {
			for _, a := range test.Alerts {
				add(a.Name, a.Expected)
			}
			for _, q := range test.Queries {
				name, _, _ := strings.Cut(q.Expr, "{")
				add(name, q.Expected)
			}
		}
	}
	return out
}

// readFamilies reads the tables of docs/metrics.md: the labels by name. Those of
// probes have the labels of their target beside them.
func readFamilies(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	rows := regexp.MustCompile("(?m)^\\| `((?:port|probe)_[a-z0-9_]+)` \\| ([^|]*) \\|([^|]*)\\|").FindAllStringSubmatch(porttest.ReadFile(t, "../../docs/metrics.md"), -1)
	if len(rows) == 0 {
		t.Fatal("docs/metrics.md has no table of metrics")
	}
	for _, row := range rows {
		labels := strings.FieldsFunc(row[3], func(r rune) bool { return r == ' ' || r == ',' })
		out[row[1]] = labels
		if row[2] == "histogram" { // its classic buckets
			out[row[1]+"_bucket"] = append(slices.Clip(labels), "le")
		}
	}
	for name, labels := range out {
		if strings.HasPrefix(name, "probe_") {
			out[name] = append(slices.Clip(labels), "module", "target", "target_name")
		}
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

type dashboard struct {
	name       string // of its file
	Title, UID string
	Tags       []string
	Links      []struct {
		Type string
		Tags []string
	}
	SchemaVersion int
	Annotations   struct{ List []annotation }
	Templating    struct {
		List []struct {
			Name, Type, Definition string
			Query                  json.RawMessage
			Datasource             datasource
		}
	}
	Panels []panel
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               datasource
	FieldConfig              struct {
		Defaults  struct{ Unit string }
		Overrides []any
	}
	GridPos struct{ X, Y, W, H int }
	Targets []struct {
		RefID, Expr, LegendFormat, Format string
		Instant                           bool
	}
	Panels []panel // of a collapsed row
}

type datasource struct{ Type, UID string }

type annotation struct{ Name, Expr string }

func readDashboards(t *testing.T) []dashboard {
	t.Helper()
	var out []dashboard
	for _, file := range glob(t, dashboards) {
		d := dashboard{name: strings.TrimSuffix(filepath.Base(file), ".json")}
		if err := json.Unmarshal([]byte(porttest.ReadFile(t, file)), &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if len(d.panels()) == 0 {
			t.Fatalf("%s has no panels", file)
		}
		out = append(out, d)
	}
	return out
}

// panels returns the panels that show something: all but the rows.
func (d dashboard) panels() []panel {
	var out []panel
	for _, p := range d.Panels {
		if p.Type != "row" {
			out = append(out, p)
		}
		out = append(out, p.Panels...)
	}
	return out
}

// folded returns the panels inside of rows.
func (d dashboard) folded() []panel {
	var out []panel
	for _, p := range d.Panels {
		out = append(out, p.Panels...)
	}
	return out
}

// rows returns the headings between the panels.
func (d dashboard) rows() []panel {
	return slices.DeleteFunc(slices.Clone(d.Panels), func(p panel) bool { return p.Type != "row" })
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

// glob returns the files that a pattern matches, of which there must be some.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: no such file (%v)", pattern, err)
	}
	return files
}

// write writes a file that every user can read, and returns its path.
func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
