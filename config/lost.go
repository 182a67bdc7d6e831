package config

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
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
		_, value := child(doc, "modules")
		s.modules = value != nil && value.Kind == yaml.MappingNode
	}
	return s
}

// Lost reports what an earlier configuration had and this one has not, without
// its file saying so: then the file is probably half written, for each beginning
// of a file may be a valid one.
func (c *Config) Lost(before *Config) error {
	counts := []struct {
		key         string
		before, now int
		written     bool // that there is none
		none        string
	}{
		{"targets", len(before.raw.Targets), len(c.raw.Targets), c.source.targets, "targets: []"},
		{"policy.rules", len(before.Policy), len(c.Policy), c.source.rules, "policy: {rules: []}"},
		{"destinations.watch", len(before.raw.Destinations.Watch), len(c.raw.Destinations.Watch), c.source.watch, "destinations: {watch: []}"},
		{"modules", before.raw.countModules(), c.raw.countModules(), c.source.modules, "modules: {}"},
	}
	isCut := c.source.cut && !before.source.cut
	var faults []error
	for _, n := range counts {
		switch {
		case n.before > 0 && n.now == 0 && !n.written:
			faults = append(faults, fmt.Errorf("%s: nothing is left of the %d before\nhint: is the file half written? If none is meant, write %s", n.key, n.before, n.none))
		case isCut && n.now < n.before:
			faults = append(faults, fmt.Errorf("%s: %d are left of the %d before, and the file does not end with a line break\nhint: is it half written? If this is meant, end its last line", n.key, n.now, n.before))
		}
	}
	return errors.Join(faults...)
}

func (r *raw) countModules() int { return len(r.Modules) + len(r.included) }
