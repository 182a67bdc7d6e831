package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// rawProbes has the shape of the section probes.
type rawProbes struct {
	MaxInFlight       int      `yaml:"max_in_flight"`
	Allow             rawAllow `yaml:"allow"`
	DebugFromAnywhere bool     `yaml:"debug_from_anywhere"`

	lines keyLines
}

func (p *rawProbes) SetKeyLine(key string, line int) { p.lines.set(key, line) }

// The words for what may be probed on request.
const (
	AllowConfigured = "configured"
	AllowAny        = "any"
)

// rawAllow is a word, or rules.
type rawAllow struct {
	any   bool
	rules []rawAllowRule
}

type rawAllowRule struct {
	Hosts    list[hostGlob]  `yaml:"hosts,omitempty"`
	Networks list[address]   `yaml:"networks,omitempty"`
	Ports    list[portRange] `yaml:"ports,omitempty"`
	Modules  list[plainText] `yaml:"modules,omitempty"`

	line int
}

func (r *rawAllowRule) SetLine(line int) { r.line = line }

// hostGlob is an entry of hosts: a name, all names below a domain, or every host.
type hostGlob string

func (h *hostGlob) UnmarshalText(written []byte) error {
	word := string(written)
	name := strings.TrimPrefix(word, "*.")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return fmt.Errorf("%q is an address\nhint: list it in networks", word)
	}
	canonical := probe.CanonicalHost(name)
	switch {
	case word == access.AnyHost:
		*h = access.AnyHost
	case !hostName.MatchString(canonical) || endsNumber.MatchString(canonical) || len(canonical) >= 254:
		return fmt.Errorf("%q is not a host\nhint: write a name as db.example.org, \"*.example.org\" for all names below it, or \"*\" for every name", word)
	default:
		*h = hostGlob(word[:len(word)-len(name)] + canonical)
	}
	return nil
}

// portRange is a port or a range of them.
type portRange struct{ ports }

func (p *portRange) UnmarshalText(written []byte) error {
	if err := p.ports.UnmarshalText(written); err != nil {
		return err
	}
	if p.ephemeral {
		return fmt.Errorf("%q is not a port here\nhint: write the range, such as 32768-60999", written)
	}
	return nil
}

func (a *rawAllow) DecodeNode(node *yaml.Node, place string) error {
	*a = rawAllow{}
	if node.Kind == yaml.MappingNode {
		var section struct {
			Rules []rawAllowRule `yaml:"rules"`
		}
		if err := yamldoc.DecodeValue(node, settable(&section), place); err != nil {
			return err
		}
		a.rules = section.Rules
		if len(a.rules) == 0 {
			return yamldoc.Fault(node, place, "there are no rules\nhint: write %s to allow configured targets only", AllowConfigured)
		}
		return nil
	}
	switch {
	case node.Kind == yaml.ScalarNode && node.Value == AllowConfigured:
	case node.Kind == yaml.ScalarNode && node.Value == AllowAny:
		a.any = true
	default:
		return yamldoc.Fault(node, place, "%s says not what is allowed\nhint: it is %s, %s, or a mapping with rules", yamldoc.Describe(node), AllowConfigured, AllowAny)
	}
	return nil
}

// MarshalYAML writes it as it is read.
func (a rawAllow) MarshalYAML() (any, error) {
	switch {
	case a.any:
		return AllowAny, nil
	case len(a.rules) == 0:
		return AllowConfigured, nil
	default:
		return map[string][]rawAllowRule{"rules": a.rules}, nil
	}
}

// access returns what may be probed on request, and what is odd about it. A
// built-in module that a rule names is among the configured ones from then on.
func (p *rawProbes) access(all, configured map[string]*probe.Module) (allowed access.Control, odd []string, err error) {
	allowed = access.Control{Any: p.Allow.any, DebugAnywhere: p.DebugFromAnywhere}
	if allowed.Any {
		odd = append(odd, "probes.allow: any: whoever reaches the exporter can have it connect to whatever it reaches; hint: rules bound it by network, port and module")
	}
	if len(p.Allow.rules) > maxAllowRules {
		return allowed, nil, tooMany(p.Allow.rules[maxAllowRules].line, "probes.allow.rules", maxAllowRules, "a rule may have several networks, ports and modules")
	}
	for i, r := range p.Allow.rules {
		place := fmt.Sprintf("line %d: probes.allow.rules[%d]", r.line, i)
		for _, name := range r.Modules {
			m := all[string(name)]
			if m == nil {
				return allowed, nil, fmt.Errorf("%s.modules: %w", place, noModule(string(name), all))
			}
			if m.Kind == probe.KindUnix {
				odd = append(odd, fmt.Sprintf("%s.modules: %s is of the prober unix, which is for configured targets only; hint: remove it", place, name))
			}
			configured[m.Name] = m
		}
		everywhere := len(r.Networks) == 0 || slices.ContainsFunc(r.Networks, func(a address) bool { return a.Bits() == 0 })
		switch {
		case slices.Contains(r.Hosts, access.AnyHost):
			odd = append(odd, place+`.hosts: * has the exporter resolve any name for whoever reaches it; hint: hosts: ["*.example.org"]`)
		case everywhere && len(r.Hosts) == 0:
			odd = append(odd, place+": it allows every address; hint: networks: [10.0.0.0/8]")
		}
		allowed.Rules = append(allowed.Rules, access.Rule{
			Hosts:    stringsOf(r.Hosts),
			Networks: convert(r.Networks, func(a address) netip.Prefix { return a.Prefix }),
			Ports:    convert(r.Ports, func(p portRange) netaddr.PortRange { return p.PortRange }),
			Modules:  stringsOf(r.Modules),
		})
	}
	return allowed, append(odd, p.unnamed(configured)...), nil
}

// unnamed returns the modules that hold credentials and that no rule names: what
// is allowed for every module does not hold for them.
func (p *rawProbes) unnamed(configured map[string]*probe.Module) []string {
	unnamed := func(r rawAllowRule) bool { return len(r.Modules) == 0 }
	first := slices.IndexFunc(p.Allow.rules, unnamed)
	if !p.Allow.any && first < 0 {
		return nil
	}
	place := "probes.allow: any"
	if first >= 0 {
		place = fmt.Sprintf("line %d: probes.allow.rules[%d]", p.Allow.rules[first].line, first)
	}
	var names []string
	for _, name := range sortedKeys(configured) {
		isNamed := func(r rawAllowRule) bool { return slices.Contains(r.Modules, plainText(name)) }
		if configured[name].Credentials && !slices.ContainsFunc(p.Allow.rules, isNamed) {
			names = append(names, name)
		}
	}
	if names == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s: modules that hold credentials are not allowed by what names none: %s; hint: modules: [%s] in a rule whose networks are trusted with them",
		place, strings.Join(names, ", "), names[0])}
}
