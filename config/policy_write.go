package config

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

const policyHeader = `# A policy for port_exporter, written from what listens on a host. Read each rule
# before you trust it: from now on what it matches is expected. The first rule
# that matches a listener wins; a listener that no rule matches is unexpected.
`

// WritePolicy returns the text of a configuration file that has these rules.
func WritePolicy(rules []policy.Rule) ([]byte, error) {
	if len(rules) == 0 {
		return []byte(policyHeader + "policy:\n  # Nothing listened that needs a rule when this was written.\n  rules: []\n"), nil
	}
	list, err := writeRules(rules, "    ")
	return []byte(policyHeader + "policy:\n  rules:\n" + list), err
}

// writeRules returns the lines of a list, with an empty line between two rules.
func writeRules(rules []policy.Rule, indent string) (string, error) {
	var b strings.Builder
	for i, r := range rules {
		var text bytes.Buffer
		encoder := yaml.NewEncoder(&text)
		encoder.SetIndent(2)
		if err := encoder.Encode(rawOf(r)); err != nil {
			return "", fmt.Errorf("policy.rules[%d] %q: %w", i, r.Name, err)
		}
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(indent + "# " + remark(r) + "\n")
		dash := "- "
		for line := range strings.Lines(text.String()) {
			if line != "\n" {
				line = indent + dash + line
			}
			b.WriteString(line)
			dash = "  "
		}
	}
	return b.String(), nil
}

// remark says what a rule opens, for who reviews it.
func remark(r policy.Rule) string {
	seesPackets := func(p socket.Protocol) bool { return !p.HasPorts() && p != socket.Unix }
	if r.Judges(seesPackets) {
		return "Sees packets of any port."
	}
	text := "Matches no listener."
	if reach := r.Reach(); len(reach) > 0 {
		text = exposure(reach[0])
	}
	if r.Ephemeral {
		text += " Any port that the kernel gives to clients."
	}
	return text
}

func exposure(s socket.Scope) string {
	switch s {
	case socket.ScopeAny:
		return "Reachable on every address of the host."
	case socket.ScopePublic:
		return "Reachable on a public address."
	case socket.ScopePrivate:
		return "Reachable on a private address."
	case socket.ScopeLinkLocal:
		return "Reachable on the local link."
	case socket.ScopeLoopback:
		return "Reachable on this host only."
	default:
		return "Reachable through a multicast address."
	}
}

// MergePolicy returns the text of a configuration file with rules appended to
// its policy. It only inserts lines: all that is in the file stays as it is, to
// the byte. (The brackets of an empty list have to go.) What it returns has been
// read back and holds the old rules and the added ones. The directory is that of
// the file, as for ParseIn.
func MergePolicy(dir string, text []byte, added []policy.Rule) ([]byte, error) {
	before, err := ParseIn(dir, text)
	if err != nil {
		return nil, err
	}
	if len(added) == 0 {
		return bytes.Clone(text), nil
	}
	gap, err := yamldoc.FindGap(text, "policy", "rules")
	if err != nil {
		return nil, notMerged(err.Error())
	}
	list, err := writeRules(added, gap.Indent)
	if err != nil {
		return nil, err
	}
	merged := gap.Fill(text, list)
	after, err := ParseIn(dir, merged)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read with the rules in it: %w", err)
	}
	if !isMerged(before, after, added) {
		return nil, notMerged("no rules can be added to the policy as it is written")
	}
	return merged, nil
}

// isMerged reports whether a configuration has the added rules and nothing else
// new.
func isMerged(before, after *Config, added []policy.Rule) bool {
	return before.raw.isSame(after.raw) && after.HasPolicy &&
		reflect.DeepEqual(slices.Concat(before.Policy, added), after.Policy)
}

func notMerged(why string) error {
	return fmt.Errorf("%s: rules are added to plain lists only\nhint: write policy.rules as lines with a dash for each rule, or empty", why)
}
