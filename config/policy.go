package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// rawPolicy has the shape of the section policy.
type rawPolicy struct {
	Rules []rawRule `yaml:"rules"`
}

type rawRule struct {
	Name       plainText       `yaml:"name,omitempty"`
	Comment    plainText       `yaml:"comment,omitempty"`
	Protocol   list[protocol]  `yaml:"protocol,omitempty"`
	Ports      list[ports]     `yaml:"ports,omitempty"`
	Address    list[address]   `yaml:"address,omitempty"`
	Scope      list[scope]     `yaml:"scope,omitempty"`
	Interface  list[plainText] `yaml:"interface,omitempty"`
	Path       list[pattern]   `yaml:"path,omitempty"`
	Filter     *bool           `yaml:"filter,omitempty"`
	Process    list[pattern]   `yaml:"process,omitempty"`
	Executable list[pattern]   `yaml:"executable,omitempty"`
	User       list[pattern]   `yaml:"user,omitempty"`
	Unit       list[pattern]   `yaml:"unit,omitempty"`
	Container  list[pattern]   `yaml:"container,omitempty"`
	Netns      list[plainText] `yaml:"netns,omitempty"`
	Pod        list[pattern]   `yaml:"pod,omitempty"`
	Required   bool            `yaml:"required,omitempty"`
	Forbid     bool            `yaml:"forbid,omitempty"`
	Until      date            `yaml:"until,omitempty"`
	Severity   severity        `yaml:"severity,omitempty"`

	line int
}

func (r *rawRule) SetLine(line int) { r.line = line }

// RuleLine returns the line of the file in which a rule of the policy begins, by
// its name; 0 if there is none.
func (c *Config) RuleLine(name string) int {
	if c.raw.Policy == nil {
		return 0
	}
	for _, r := range c.raw.Policy.Rules {
		if string(r.Name) == name {
			return r.line
		}
	}
	return 0
}

// validate returns the rules, each with a name, and what is odd about them.
func (p *rawPolicy) validate() (rules []policy.Rule, warnings []string, err error) {
	if p == nil {
		return nil, nil, nil
	}
	if len(p.Rules) > maxRules {
		return nil, nil, tooMany(p.Rules[maxRules].line, "policy.rules", maxRules, "a rule may have several ports, addresses and processes")
	}
	rules = make([]policy.Rule, len(p.Rules))
	for i, r := range p.Rules {
		rules[i] = r.rule()
	}
	rules = policy.WithNames(rules)
	for i := range rules {
		p.Rules[i].Name = plainText(rules[i].Name)
	}

	var faults []error
	for _, problem := range policy.Lint(rules, time.Now()) {
		r := p.Rules[problem.Rule]
		found := fmt.Sprintf("line %d: policy.rules[%d] %q: %s", r.line, problem.Rule, r.Name, problem.Message)
		switch problem.Level {
		case policy.Error:
			faults = append(faults, fmt.Errorf("%s\nhint: %s", found, problem.Hint))
		case policy.Warning:
			warnings = append(warnings, fmt.Sprintf("%s; hint: %s", found, problem.Hint))
		}
	}
	return rules, warnings, errors.Join(faults...)
}

func (r *rawRule) rule() policy.Rule {
	rule := policy.Rule{
		Name:        string(r.Name),
		Comment:     string(r.Comment),
		Protocols:   convert(r.Protocol, func(p protocol) socket.Protocol { return p.Protocol }),
		Addresses:   convert(r.Address, func(a address) netip.Prefix { return a.Prefix }),
		Scopes:      convert(r.Scope, func(s scope) socket.Scope { return s.Scope }),
		Interfaces:  stringsOf(r.Interface),
		Paths:       stringsOf(r.Path),
		Filters:     filtersOf(r.Filter),
		Processes:   stringsOf(r.Process),
		Executables: stringsOf(r.Executable),
		Users:       stringsOf(r.User),
		Units:       stringsOf(r.Unit),
		Containers:  stringsOf(r.Container),
		Netns:       stringsOf(r.Netns),
		Pods:        stringsOf(r.Pod),
		Required:    r.Required,
		Forbid:      r.Forbid,
		Until:       r.Until.Time,
		Severity:    r.Severity.Severity,
	}
	for _, p := range r.Ports {
		if p.ephemeral {
			rule.Ephemeral = true
		} else {
			rule.Ports = append(rule.Ports, p.PortRange)
		}
	}
	return rule
}

// rawOf returns what [rawRule.rule] makes the rule of.
func rawOf(rule policy.Rule) rawRule {
	r := rawRule{
		Name:       plainText(rule.Name),
		Comment:    plainText(rule.Comment),
		Protocol:   convert(rule.Protocols, func(p socket.Protocol) protocol { return protocol{p} }),
		Ports:      convert(rule.Ports, func(p socket.PortRange) ports { return ports{PortRange: p} }),
		Address:    convert(rule.Addresses, func(p netip.Prefix) address { return address{p} }),
		Scope:      convert(rule.Scopes, func(s socket.Scope) scope { return scope{s} }),
		Interface:  fromStrings[plainText](rule.Interfaces),
		Path:       fromStrings[pattern](rule.Paths),
		Filter:     fromFilters(rule.Filters),
		Process:    fromStrings[pattern](rule.Processes),
		Executable: fromStrings[pattern](rule.Executables),
		User:       fromStrings[pattern](rule.Users),
		Unit:       fromStrings[pattern](rule.Units),
		Container:  fromStrings[pattern](rule.Containers),
		Netns:      fromStrings[plainText](rule.Netns),
		Pod:        fromStrings[pattern](rule.Pods),
		Required:   rule.Required,
		Forbid:     rule.Forbid,
		Until:      date{rule.Until},
		Severity:   severity{rule.Severity},
	}
	if rule.Ephemeral {
		r.Ports = append(r.Ports, ports{ephemeral: true})
	}
	return r
}

// filtersOf returns the filters that a rule asks for.
func filtersOf(filter *bool) []socket.Filter {
	switch {
	case filter == nil:
		return nil
	case *filter:
		return []socket.Filter{socket.HasFilter}
	default:
		return []socket.Filter{socket.NoFilter}
	}
}

// fromFilters returns what [filtersOf] makes the filters of.
func fromFilters(filters []socket.Filter) *bool {
	if len(filters) != 1 {
		return nil
	}
	return new(filters[0] == socket.HasFilter)
}

func convert[To, From any](from []From, one func(From) To) []To {
	var to []To
	for _, f := range from {
		to = append(to, one(f))
	}
	return to
}

func stringsOf[From ~string](from []From) []string {
	return convert(from, func(f From) string { return string(f) })
}

func fromStrings[To ~string](from []string) []To {
	return convert(from, func(f string) To { return To(f) })
}

// list is one value or several.
type list[T any] []T

func (l list[T]) Check() error {
	if len(l) > maxList {
		return fmt.Errorf("%d elements are more than %d\nhint: ports may be ranges such as 8000-8100, addresses networks, names patterns", len(l), maxList)
	}
	if len(l) == 0 {
		return errors.New("the list is empty\nhint: leave the key out to match everything")
	}
	return nil
}

// MarshalYAML writes one value without brackets.
func (l list[T]) MarshalYAML() (any, error) {
	if len(l) == 1 {
		return l[0], nil
	}
	var node yaml.Node
	err := node.Encode([]T(l))
	node.Style = yaml.FlowStyle
	return &node, err
}

type protocol struct{ socket.Protocol }

func (p *protocol) UnmarshalText(written []byte) (err error) {
	p.Protocol, err = oneOf(string(written), "protocols", socket.Judged())
	return err
}

func (p protocol) MarshalYAML() (any, error) { return p.String(), nil }

type scope struct{ socket.Scope }

func (s *scope) UnmarshalText(written []byte) (err error) {
	s.Scope, err = oneOf(string(written), "scopes", socket.Scopes())
	return err
}

func (s scope) MarshalYAML() (any, error) { return s.String(), nil }

type severity struct{ policy.Severity }

func (s *severity) UnmarshalText(written []byte) (err error) {
	s.Severity, err = oneOf(string(written), "severities", policy.Severities())
	return err
}

func (s severity) MarshalYAML() (any, error) { return s.String(), nil }

// date is a day, in UTC.
type date struct{ time.Time }

func (d *date) UnmarshalText(written []byte) (err error) {
	if d.Time, err = time.Parse(time.DateOnly, string(written)); err != nil {
		return fmt.Errorf("%q is not a day\nhint: write the last day on which the rule holds, as 2027-01-31", written)
	}
	return nil
}

// MarshalYAML writes a day without quotes: it is read as a text.
func (d date) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!timestamp", Value: d.Format(time.DateOnly)}, nil
}

// oneOf finds a value by its name.
func oneOf[T fmt.Stringer](word, what string, all []T) (T, error) {
	var names []string
	for _, value := range all {
		if value.String() == word {
			return value, nil
		}
		names = append(names, value.String())
	}
	var none T
	return none, fmt.Errorf("%q is not known\nhint: %s", word, yamldoc.Suggest(word, what, names))
}

// ephemeral is how a rule names the ports that the kernel hands out.
const ephemeral = "ephemeral"

// ports is a port, a range of them, or the ephemeral ones.
type ports struct {
	socket.PortRange
	ephemeral bool
}

func (p *ports) UnmarshalText(written []byte) (err error) {
	word := string(written)
	if word == ephemeral {
		p.ephemeral = true
		return nil
	}
	first, last, isRange := strings.Cut(word, "-")
	if p.First, err = parsePort(first, word); err != nil {
		return err
	}
	p.Last = p.First
	if !isRange {
		return nil
	}
	if p.Last, err = parsePort(last, word); err != nil {
		return err
	}
	if p.First > p.Last {
		return fmt.Errorf("%q is an empty range\nhint: the smaller port comes first: %d-%d", word, p.Last, p.First)
	}
	return nil
}

// parsePort reads one end of what is written in the file.
func parsePort(end, written string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(end), 10, 16)
	switch {
	case err == nil && n > 0 && end[0] == '0':
		return 0, fmt.Errorf("%q begins with 0, which YAML takes for octal\nhint: write %d", written, n)
	case err == nil && n > 0:
		return uint16(n), nil
	case strings.ContainsAny(written, ",;"):
		return 0, fmt.Errorf("%q is not a port\nhint: several ports are a list: [22, 80]", written)
	case yamldoc.Distance(strings.ToLower(written), ephemeral) < 3:
		return 0, fmt.Errorf("%q is not a port\nhint: did you mean %q?", written, ephemeral)
	default:
		return 0, fmt.Errorf("%q is not a port\nhint: write a port from 1 to 65535, a range such as 8000-8100, or ephemeral", written)
	}
}

func (p ports) MarshalYAML() (any, error) {
	switch {
	case p.ephemeral:
		return ephemeral, nil
	case p.First == p.Last:
		return p.First, nil
	default:
		return fmt.Sprintf("%d-%d", p.First, p.Last), nil
	}
}

// address is a bind address or a network.
type address struct{ netip.Prefix }

func (a *address) UnmarshalText(written []byte) error {
	word := string(written)
	if addr, err := netip.ParseAddr(word); err == nil {
		if addr.Zone() != "" {
			return fmt.Errorf("%q has a zone\nhint: interface: %s beside address: %q says the same", word, addr.Zone(), addr.WithZone(""))
		}
		addr = addr.Unmap()
		a.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	prefix, err := netip.ParsePrefix(word)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not an address\nhint: write an address as 192.0.2.1 or \"::1\", or a network as 10.0.0.0/8; for any address leave the key out", word)
	case prefix != prefix.Masked():
		return fmt.Errorf("%q is neither an address nor a network\nhint: write %s, or %s", word, prefix.Addr(), prefix.Masked())
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	a.Prefix = prefix
	return nil
}

func (a address) MarshalYAML() (any, error) {
	if a.IsSingleIP() {
		return a.Addr().String(), nil
	}
	return a.String(), nil
}

// pattern is a glob on what may not be known of an owner.
type pattern string

func (p *pattern) UnmarshalText(written []byte) error {
	if len(written) == 0 {
		return errors.New("an empty text matches nothing\nhint: leave the key out to match everything")
	}
	*p = pattern(written)
	return nil
}

// MarshalYAML writes it as a text is written.
func (p pattern) MarshalYAML() (any, error) { return plainText(p).MarshalYAML() }

// plainText is written so that it is read again as it was: the library is at fault
// with some that have tabs or line breaks in them.
type plainText string

// MarshalYAML quotes what has control characters.
func (t plainText) MarshalYAML() (any, error) {
	if !strings.ContainsFunc(string(t), unicode.IsControl) {
		return string(t), nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Style: yaml.DoubleQuotedStyle, Value: string(t)}, nil
}
