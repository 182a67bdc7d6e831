package config

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// reference is the file with every key and its default, which users find among
// the examples.
func reference(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("../examples/port_exporter.yml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestErrorsNameTheirPlace(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"not YAML", "limits: [", []string{"line 1"}},
		{"a list at the top", "- 1", []string{"line 1: top level", "a list", "hint: the keys are limits"}},
		{"unknown key", "limits:\n  listener: 5\n", []string{"line 2: limits.listener: unknown key", `did you mean "listeners"?`}},
		{"unknown key that resembles none", "scanners: []\n", []string{"line 1: scanners: unknown key", "the keys here are limits"}},
		{"twice", "limits:\n  listeners: 5\n  listeners: 6\n", []string{"line 3: limits.listeners: stands twice", "in line 2"}},
		{"a text for a number", "limits:\n  listeners: many\n", []string{`line 2: limits.listeners: "many" is not a whole number`}},
		{"a fraction", "limits:\n  listeners: 1.5\n", []string{"limits.listeners", "whole number"}},
		{"a list for a number", "limits:\n  listeners: [1]\n", []string{"line 2: limits.listeners: a list is not a whole number"}},
		{"a number for a mapping", "limits: 5\n", []string{`line 1: limits: "5" where keys are expected`}},
		{"too small", "limits: {listeners: 0}\n", []string{"line 1: limits.listeners: 0 is out of range", "hint: it must be from 1 to 100000"}},
		{"negative", "limits: {outbound_ports: -1}\n", []string{"line 1: limits.outbound_ports: -1"}},
		{"too large", "limits:\n  # many\n  orphaned_ports: 1001\n", []string{"line 3: limits.orphaned_ports: 1001"}},
		{"too many, with an anchor", "limits: &l {destinations: 1001}\n", []string{"line 1: limits.destinations: 1001"}},
		{"watched, too many", "limits:\n  watched_destinations: 1001\n", []string{"line 2: limits.watched_destinations: 1001"}},
		{"no probes at all", "probes:\n  allow: configured\n  max_in_flight: 0\n", []string{"line 3: probes.max_in_flight: 0 is out of range", "hint: it must be from 1 to 10000"}},
		{"all faults at once", "limits:\n  x: 1\n  y: 2\nz: 3\n", []string{"line 2", "line 3", "line 4"}},
		{"two documents", "limits: {}\n---\nlimits: {}\n", []string{"a second YAML document begins"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestMissingKeysKeepDefaults(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "limits:\n", "limits: {}\n", "---\n"} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if diff := cmp.Diff(Default().Limits, got.Limits); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
	got, err := Parse([]byte("limits:\n  outbound_ports: 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Limits{Listeners: 4096, OutboundPorts: 3, OrphanedPorts: 25, Owners: 100, Destinations: 10, WatchedDestinations: 100, Namespaces: 200, NamespaceListeners: 50}); got.Limits != want {
		t.Errorf("got %+v, want %+v", got.Limits, want)
	}
}

// TestReference checks that the reference file is complete: written out again, it
// has the keys and values that the defaults have.
func TestReference(t *testing.T) {
	parsed, err := Parse(reference(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(defaults(), parsed.raw, cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
		t.Errorf("the reference is not the default (-default +reference):\n%s", diff)
	}
	written, err := Default().YAML()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(written)) {
		if !strings.Contains(string(reference(t)), strings.TrimSpace(line)) {
			t.Errorf("the reference lacks %q", line)
		}
	}
}

// TestReferenceExamples takes the # from the examples: they parse, and use every
// key.
func TestReferenceExamples(t *testing.T) {
	text := regexp.MustCompile(`(?m)^#(\S|  |$)`).ReplaceAll(reference(t), []byte("$1"))
	r := defaults()
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	if err := yamldoc.Decode(doc.Content[0], &r); err != nil {
		t.Fatal(err)
	}
	got, err := r.validate()
	if err != nil {
		t.Fatal(err)
	}
	if got.Warnings != nil {
		t.Errorf("warnings: %q", got.Warnings)
	}
	wantAllUsed(t, r.Policy.Rules)
	wantAllUsed(t, r.Targets)
	wantAllUsed(t, []rawListenerTLS{r.ListenerTLS})
	var own []ownKeys
	var tcp []ownTCPKeys
	var udp []rawUDP
	var stun []rawSTUN
	var unix []ownDialog
	var steps []ownStep
	for _, m := range r.Modules {
		unix, steps = append(unix, m.own.Unix), append(steps, m.own.TCP.QueryResponse...)
		own, tcp, udp, stun = append(own, m.own), append(tcp, m.own.TCP), append(udp, m.own.UDP), append(stun, m.own.STUN)
	}
	wantAllUsed(t, own)
	wantAllUsed(t, tcp)
	wantAllUsed(t, udp)
	wantAllUsed(t, stun)
	wantAllUsed(t, unix)
	wantAllUsed(t, steps)

	rules := bytes.Replace(text, []byte("  allow: configured\n"), nil, 1)
	rules = regexp.MustCompile(`(?m)^  # (allow:|  )`).ReplaceAll(rules, []byte("  $1"))
	if got, err = Parse(rules); err != nil {
		t.Fatal(err)
	}
	if len(got.Access.Rules) != 2 || got.Access.Rules[1].Hosts == nil {
		t.Errorf("the rules of the example: %v", got.Access.Rules)
	}
}

// wantAllUsed wants each key to have a value in one of the structs.
func wantAllUsed[T any](t *testing.T, values []T) {
	t.Helper()
	used := map[string]bool{}
	for _, r := range values {
		for field, value := range reflect.ValueOf(r).Fields() {
			used[yamldoc.KeyOf(field)] = used[yamldoc.KeyOf(field)] || !value.IsZero()
		}
	}
	for _, key := range yamldoc.KeysOf(reflect.TypeFor[T]()) {
		if !used[key] {
			t.Errorf("the example lacks %s of %T", key, values)
		}
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yml")
	if _, err := Load(t.Context(), path, files.Rules{}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("limit: {}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(t.Context(), path, files.Rules{}); err == nil || !strings.Contains(err.Error(), path+": line 1: limit: unknown key") {
		t.Errorf("a bad file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(reference(f))
	f.Add([]byte("limits: &a {listeners: 1}\nx: *a\n"))
	f.Add([]byte("policy: {rules: [&a {ports: [22, 1-3, ephemeral], address: '::', process: &b [*b]}, *a]}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse(text)
		if (c == nil) == (err == nil) {
			t.Errorf("%v, %v", c, err)
		}
	})
}
