package config

import (
	"bytes"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

const policyHeader = `# A policy for port_exporter, written from what listens on a host. Read each rule
# before you trust it: from now on what it matches is expected. The first rule
# that matches a listener wins; a listener that no rule matches is unexpected.
`

// WritePolicy returns the text of a configuration file that has these rules.
func WritePolicy(rules []policy.Rule) ([]byte, error) {
	if len(rules) == 0 {
		return []byte(policyHeader + "policy:\n  rules: []\n"), nil
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
	if len(r.Protocols) > 0 && !slices.ContainsFunc(r.Protocols, func(p socket.Protocol) bool { return slices.Contains(socket.Protocols(), p) }) {
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
	gap, err := findGap(text)
	if err != nil {
		return nil, err
	}
	merged, err := gap.fill(text, added)
	if err != nil {
		return nil, err
	}
	after, err := ParseIn(dir, merged)
	if err != nil {
		return nil, fmt.Errorf("the file cannot be read with the rules in it: %w", err)
	}
	if !isMerged(before, after, added) {
		return nil, errNotMerged(nil, "no rules can be added to the policy as it is written")
	}
	return merged, nil
}

// isMerged reports whether a configuration has the added rules and nothing else
// new.
func isMerged(before, after *Config, added []policy.Rule) bool {
	return before.raw.isSame(after.raw) && after.HasPolicy &&
		reflect.DeepEqual(slices.Concat(before.Policy, added), after.Policy)
}

func errNotMerged(at *yaml.Node, why string) error {
	if at != nil {
		why = fmt.Sprintf("line %d: %s", at.Line, why)
	}
	return fmt.Errorf("%s: rules are added to plain lists only\nhint: write policy.rules as lines with a dash for each rule, or empty", why)
}

// gap is where rules go in a text: in the place of text[from:to].
type gap struct {
	from, to int
	blank    bool   // an empty line goes before
	head     string // lines that go before the list
	indent   string // of the dashes
}

// fill returns the text with the rules in the gap, in lines that end as those
// of the text do.
func (g gap) fill(text []byte, rules []policy.Rule) ([]byte, error) {
	list, err := writeRules(rules, g.indent)
	if err != nil {
		return nil, err
	}
	fresh := g.head + list
	if g.blank {
		fresh = "\n" + fresh
	}
	if g.from > 0 && text[g.from-1] != '\n' {
		fresh = "\n" + fresh
	}
	if line, _, _ := bytes.Cut(text, []byte("\n")); bytes.HasSuffix(line, []byte("\r")) {
		fresh = strings.ReplaceAll(fresh, "\n", "\r\n")
	}
	return slices.Concat(text[:g.from], []byte(fresh), text[g.to:]), nil
}

// findGap finds where rules go in the text of a valid configuration.
func findGap(text []byte) (gap, error) {
	l := slices.Collect(bytes.Lines(text))
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return gap{}, err
	}
	top := &doc
	if len(doc.Content) > 0 {
		top = doc.Content[0]
	}
	policyKey, section := child(top, "policy")
	rulesKey, rules := child(section, "rules")
	switch {
	case top.Kind != yaml.MappingNode:
		return after(l, len(l), 1, "policy", "rules"), nil // nothing but comments
	case !isBlock(top):
		return gap{}, errNotMerged(top, "the file is written in braces")
	case policyKey == nil:
		return after(l, len(l), top.Column, "policy", "rules"), nil
	case isAbsent(section):
		return after(l, policyKey.Line, policyKey.Column+2, "rules"), nil
	case !isBlock(section):
		return gap{}, errNotMerged(section, "the policy is written in braces, or elsewhere")
	case isAbsent(rules):
		return after(l, rulesKey.Line, rulesKey.Column+2), nil
	case isBlock(rules):
		return afterList(l, rules), nil
	case rules.Kind == yaml.SequenceNode && len(rules.Content) == 0:
		return insteadOf(text, l, rulesKey, rules)
	default:
		return gap{}, errNotMerged(rules, "the rules are written in brackets, or elsewhere")
	}
}

// child returns a key of a mapping and its value, or nil.
func child(mapping *yaml.Node, name string) (key, value *yaml.Node) {
	if mapping == nil || mapping.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return mapping.Content[i], mapping.Content[i+1]
		}
	}
	return nil, nil
}

func isBlock(n *yaml.Node) bool {
	return (n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode) && n.Style&yaml.FlowStyle == 0
}

// isAbsent reports whether a key has nothing behind it.
func isAbsent(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Value == "" }

// after returns the gap after a line, with keys in a column that are not there
// yet, one below the other. A whole section has an empty line before it.
func after(lines [][]byte, line, column int, keys ...string) gap {
	g := gap{from: offset(lines, line)}
	g.to = g.from
	g.blank = len(keys) == 2 && line > 0 && len(bytes.TrimSpace(lines[line-1])) > 0
	for _, key := range keys {
		g.head += spaces(column) + key + ":\n"
		column += 2
	}
	g.indent = spaces(column)
	return g
}

// afterList returns the gap after a list. To the list belong all lines that are
// indented more than its dashes, and comments in the column of the dashes.
func afterList(lines [][]byte, list *yaml.Node) gap {
	end := lastLine(list)
	for i := end; i < len(lines); i++ {
		text := bytes.TrimLeft(lines[i], " ")
		column := len(lines[i]) - len(text) + 1
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if column < list.Column || column == list.Column && text[0] != '#' {
			break
		}
		end = i + 1
	}
	from := offset(lines, end)
	return gap{from: from, to: from, blank: true, indent: spaces(list.Column)}
}

// insteadOf returns the gap after a line that ends in [], but for a comment. The
// line is part of the gap, so that it can lose the brackets.
func insteadOf(text []byte, lines [][]byte, key, list *yaml.Node) (gap, error) {
	from, to := offset(lines, list.Line-1), offset(lines, list.Line)
	line := bytes.TrimRight(text[from:to], "\r\n")
	m := regexp.MustCompile(`^([^#]*?:) *\[ *\]( *| +#.*)$`).FindSubmatch(line)
	if m == nil || key.Line != list.Line {
		return gap{}, errNotMerged(list, "the list of rules is empty, but not plainly")
	}
	return gap{from: from, to: to, head: string(m[1]) + string(m[2]) + "\n", indent: spaces(key.Column + 2)}, nil
}

// lastLine returns the last line in which a node or one inside it begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// offset returns where the line after a number of lines begins.
func offset(lines [][]byte, n int) int {
	at := 0
	for _, line := range lines[:min(n, len(lines))] {
		at += len(line)
	}
	return at
}

// spaces returns what stands before a column.
func spaces(column int) string { return strings.Repeat(" ", column-1) }
