package config

import (
	"strings"
	"testing"
)

// FuzzConfigReadBack writes each configuration that is valid as /config shows it:
// it can be read again, and is the same.
func FuzzConfigReadBack(f *testing.F) {
	f.Add(string(reference(f)))
	f.Add("targets:\n  - {address: 'a:1', labels: {x: \"\\t\"}}\n")
	f.Add("probes: {allow: {rules: [{networks: 10.0.0.0/8, ports: [1, 2-3]}]}}\n")
	f.Add("policy: {rules: [{process: \"a\\nb\", ports: ephemeral}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text))
		if err != nil || strings.Contains(text, "blackbox_config") {
			return
		}
		shown, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if len(c.raw.Modules) > 0 { // their secrets are hidden
			return
		}
		again, err := Parse(shown)
		if err != nil {
			t.Fatalf("%v\n%s", err, shown)
		}
		if len(again.Targets) != len(c.Targets) || len(again.Policy) != len(c.Policy) {
			t.Errorf("%d targets and %d rules became %d and %d", len(c.Targets), len(c.Policy), len(again.Targets), len(again.Policy))
		}
	})
}
