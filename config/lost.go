package config

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// source is what a configuration knows of its text.
type source struct {
	cut bool // it does not end with a line break
	// Whether there is a list, which may be empty.
	targets, rules, watch, modules bool
}

func sourceOf(text []byte, doc *yaml.Node, r *raw) source {
	s := source{
		cut:     len(text) > 0 && text[len(text)-1] != '\n',
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
	isCut := c.source.cut && !before.source.cut
	var faults []error
	for _, l := range c.lists(before) {
		switch {
		case l.Before > 0 && l.Now == 0 && !l.written:
			faults = append(faults, fmt.Errorf("%s: nothing is left of the %d before\nhint: is the file half written? If none is meant, write %s", l.Key, l.Before, l.none))
		case isCut && l.Now < l.Before:
			faults = append(faults, fmt.Errorf("%s: %d are left of the %d before, and the file does not end with a line break\nhint: is it half written? If this is meant, end its last line", l.Key, l.Now, l.Before))
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

func (r *raw) countModules() int { return len(r.Modules) + len(r.included) }
