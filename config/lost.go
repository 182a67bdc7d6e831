package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// source is what a configuration knows of its text.
type source struct {
	cut, cutIncluded bool // it, or the file of blackbox_config, does not end with a line break
	// Whether there is a list, which may be empty.
	targets, rules, watch, modules bool
}

func sourceOf(text []byte, doc *yaml.Node, r *raw) source {
	s := source{
		cut: isCut(text), cutIncluded: r.cutIncluded,
		targets: r.Targets != nil,
		rules:   r.Policy != nil && r.Policy.Rules != nil,
		watch:   r.Destinations.Watch != nil,
	}
	if doc != nil && doc.Kind == yaml.MappingNode {
		_, value := yamldoc.Child(doc, "modules")
		s.modules = value != nil && value.Kind == yaml.MappingNode
	}
	return s
}

func isCut(text []byte) bool { return len(text) > 0 && text[len(text)-1] != '\n' }

// Shrinkage is a list of the configuration that has fewer elements than the one
// before had.
type Shrinkage struct {
	Key         string // as "policy.rules"
	Before, Now int    // elements
}

// counted is a list of two configurations.
type counted struct {
	Shrinkage
	written bool   // that there is none
	none    string // how to write that
}

func (c *Config) lists(before *Config) []counted {
	return []counted{
		{Shrinkage{"targets", len(before.raw.Targets), len(c.raw.Targets)}, c.source.targets, "targets: []"},
		{Shrinkage{"policy.rules", len(before.Policy), len(c.Policy)}, c.source.rules, "policy: {rules: []}"},
		{Shrinkage{"destinations.watch", len(before.raw.Destinations.Watch), len(c.raw.Destinations.Watch)}, c.source.watch, "destinations: {watch: []}"},
		{Shrinkage{"modules", before.raw.countModules(), c.raw.countModules()}, c.source.modules, "modules: {}"},
	}
}

// Lost reports what an earlier configuration had and this one has not, without
// its file saying so: then the file is probably half written, for each beginning
// of a file may be a valid one.
func (c *Config) Lost(before *Config) error {
	const cut = "the file does not end with a line break, and did before\nhint: it may be half written; if it is not, end its last line"
	var faults []error
	if c.source.cut && !before.source.cut {
		faults = append(faults, errors.New(cut))
	}
	if c.source.cutIncluded && !before.source.cutIncluded && before.raw.BlackboxConfig != "" {
		faults = append(faults, fmt.Errorf("blackbox_config: %s: %s", c.raw.BlackboxConfig, cut))
	}
	for _, l := range c.lists(before) {
		if l.Before > 0 && l.Now == 0 && !l.written {
			faults = append(faults, fmt.Errorf("%s: nothing is left of the %d before\nhint: is the file half written? If none is meant, write %s", l.Key, l.Before, l.none))
		}
	}
	return errors.Join(faults...)
}

// Shrunk returns the lists that have fewer elements than in an earlier
// configuration. Each may be meant, or be the beginning of a half-written file that
// ends at a line break.
func (c *Config) Shrunk(before *Config) []Shrinkage {
	var shrunk []Shrinkage
	for _, l := range c.lists(before) {
		if l.Now < l.Before {
			shrunk = append(shrunk, l.Shrinkage)
		}
	}
	return shrunk
}

// Missing returns the keys that an earlier configuration had in what both have, such
// as a rule, and the lists within it that are shorter. Without them a rule may admit
// more, or a module check less. Each may be meant, as in [Config.Shrunk].
func (c *Config) Missing(before *Config) ([]string, error) {
	was, err := before.tree()
	if err != nil {
		return nil, err
	}
	is, err := c.tree()
	if err != nil {
		return nil, err
	}
	lists := c.lists(before) // which Shrunk returns
	return slices.DeleteFunc(yamldoc.Missing(was, is), func(place string) bool {
		return slices.ContainsFunc(lists, func(l counted) bool { return strings.HasPrefix(place, l.Key+" (") })
	}), nil
}

// tree returns what is in the configuration, without what a file may leave out.
func (c *Config) tree() (*yaml.Node, error) {
	var node yaml.Node
	return &node, node.Encode(c.shown())
}

func (r *raw) countModules() int { return len(r.Modules) + len(r.included) }
