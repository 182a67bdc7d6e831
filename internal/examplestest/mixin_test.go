package examplestest

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const mixin = examples + "/mixin/mixin.libsonnet"

// mixinUser is what a user may write: the mixin as it is, and one that is changed.
const mixinUser = `
local mixin = import '` + mixin + `';
local mine = mixin { _config+:: {
  job: 'ports', grafanaUrl: 'https://grafana.example.com', runbookUrl: 'https://wiki.example.com/', without: ['PortSeriesFolded'], labels: { team: 'net' },
} };
{
  groups: mixin.prometheusAlerts.groups + mixin.prometheusRules.groups,
  dashboards: mixin.grafanaDashboards,
  mine: std.manifestYamlDoc(mine.prometheusAlerts),
}`

// TestMixin compares what the mixin makes with the files that it imports, and checks
// what its settings change.
func TestMixin(t *testing.T) {
	tool := func(args ...string) string {
		return output(t, "go", append([]string{"tool", "-modfile=../../tools.mod"}, args...)...)
	}
	tool("jsonnet-lint", mixin)
	var made struct {
		Groups     []map[string]any
		Dashboards map[string]any
		Mine       string
	}
	if err := json.Unmarshal([]byte(tool("jsonnet", "-e", mixinUser)), &made); err != nil {
		t.Fatal(err)
	}
	byName := func(a, b map[string]any) int { return strings.Compare(a["name"].(string), b["name"].(string)) }
	want := readGroups(t)
	slices.SortFunc(want, byName)
	slices.SortFunc(made.Groups, byName)
	if diff := cmp.Diff(want, made.Groups); diff != "" {
		t.Errorf("groups of rules (-files +mixin):\n%s", diff)
	}
	for _, file := range glob(t, dashboards) {
		var want any
		if err := json.Unmarshal([]byte(porttest.ReadFile(t, file)), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, made.Dashboards[filepath.Base(file)]); diff != "" {
			t.Errorf("%s (-file +mixin):\n%s", file, diff)
		}
	}
	output(t, porttest.PromtoolPath(t), "check", "rules", write(t, t.TempDir(), "mine.yml", made.Mine))
	for text, n := range map[string]int{
		`up{job=\"ports\"}`: 2, `job=\"port_exporter\"`: 0, "PortSeriesFolded": 0,
		`"https://grafana.example.com/d/`: len(readAnnotations(t)) - 4, `"https://wiki.example.com/`: len(readAnnotations(t)) - 4, `"team": "net"`: len(readAnnotations(t)) - 4,
	} { // three alerts are of examples/reachability
		if got := strings.Count(made.Mine, text); got != n {
			t.Errorf("the changed mixin has %s %d times, want %d", text, got, n)
		}
	}
}

// readGroups reads the groups of all rules as they are written.
func readGroups(t *testing.T) []map[string]any {
	t.Helper()
	var out []map[string]any
	for _, file := range glob(t, rules) {
		var text struct{ Groups []map[string]any }
		if err := yaml.Unmarshal([]byte(porttest.ReadFile(t, file)), &text); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		out = append(out, text.Groups...)
	}
	return out
}
