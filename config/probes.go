package config

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// include reads the modules of blackbox_config.
func (r *raw) include(dir string, read func(path string) ([]byte, error)) error {
	if r.BlackboxConfig == "" {
		return nil
	}
	file := string(r.BlackboxConfig)
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	text, err := read(file)
	if err != nil {
		return fmt.Errorf("line %d: blackbox_config: %w\nhint: the path is relative to this file", r.lines["blackbox_config"], err)
	}
	r.cutIncluded = isCut(text)
	if r.included, err = parseBlackbox(text); err != nil {
		return fmt.Errorf("blackbox_config: %s: %w", file, err)
	}
	for i := range r.included {
		r.included[i].file = file
	}
	return nil
}

// parseBlackbox reads a configuration file of blackbox_exporter.
func parseBlackbox(text []byte) (modules, error) {
	doc, err := yamldoc.Read(text)
	if err != nil || doc == nil {
		return nil, err
	}
	var file struct {
		Modules modules `yaml:"modules"`
	}
	err = yamldoc.Decode(doc, &file)
	return file.Modules, err
}

// probes makes of the sections on probes what they say.
func (r *raw) probes(c *Config) error {
	built, odd, err := r.build()
	if err != nil {
		return err
	}
	builtin, err := builtins()
	if err != nil {
		return err
	}
	if c.Modules = built; len(r.Modules)+len(r.included) == 0 {
		c.Modules = builtin
	}
	all := maps.Clone(builtin)
	maps.Copy(all, built)
	r.leaveOut(all)
	c.all = all
	err = r.targets(c, all)
	missing, filesErr := r.checkFiles(c.Targets)
	odd = append(odd, missing...)
	access, open, accessErr := r.Probes.access(all, c.Modules)
	c.Access = access
	if err = errors.Join(err, filesErr, accessErr); err == nil && r.Probes.MaxInFlight > 0 {
		c.Warnings = append(append(odd, open...), slowScrape(c.Targets, r.Probes.MaxInFlight)...)
	}
	return err
}

// build makes the modules of both places.
func (r *raw) build() (built map[string]*probe.Module, odd []string, err error) {
	built = map[string]*probe.Module{}
	list, err := r.modules()
	faults := []error{err}
	reader := files.NewReader() // one for all, so that what hangs is bounded
	for _, m := range list {
		m.reader = reader
		if !m.isKnown() {
			continue
		}
		one, err := m.build()
		faults = append(faults, err)
		built[m.name] = one
	}
	return built, oddities(list), errors.Join(faults...)
}

// leaveOut has nil in the place of each module whose prober there is not, so that
// a built-in one of its name does not stand in for it.
func (r *raw) leaveOut(all map[string]*probe.Module) {
	list, _ := r.modules() // build returns its error
	for _, m := range list {
		if !m.isKnown() {
			all[m.name] = nil
		}
	}
}

// noModule says why there is no such module among all.
func noModule(name string, all map[string]*probe.Module) error {
	if _, leftOut := all[name]; leftOut {
		return fmt.Errorf("the module %q is left out, for there is no prober of the name that it has\nhint: the probers are %s", name, strings.Join(probe.Kinds(), ", "))
	}
	return fmt.Errorf("there is no module %q\nhint: %s", name, yamldoc.Suggest(name, "modules", moduleNames(all)))
}

// moduleNames are those that can be used, sorted.
func moduleNames(all map[string]*probe.Module) []string {
	return slices.DeleteFunc(sortedKeys(all), func(name string) bool { return all[name] == nil })
}

// modules returns those of both places. A name that is in both is an error.
func (r *raw) modules() (list []*module, err error) {
	lines := map[string]int{}
	var faults []error
	for _, of := range []modules{r.Modules, r.included} {
		for i := range of {
			m := &of[i]
			if line, twice := lines[m.name]; twice {
				faults = append(faults, fmt.Errorf("line %d: modules.%s: %s has a module of that name\nhint: it is in line %d there; rename one", line, m.name, r.BlackboxConfig, m.line))
				continue
			}
			lines[m.name] = m.line
			list = append(list, m)
		}
	}
	return list, errors.Join(faults...)
}

// checkFiles looks for the files that modules name. Where a target is probed with
// the module, one that cannot be read is a fault, on a reload too: all that the
// new configuration could report of the target is that it was not tried, and to
// keep the old one, and say so, breaks nothing that works. Where no target is,
// it is a warning: nothing that is configured needs the file, and that of a
// module that waits in blackbox.yml must not keep the rest from starting.
func (r *raw) checkFiles(targets []probe.Target) (warnings []string, err error) {
	used := map[string]bool{}
	for _, t := range targets {
		if t.Module != nil {
			used[t.Module.Name] = true
		}
	}
	list, _ := r.modules() // build returns its error
	var faults []error
	for _, m := range list {
		for _, f := range m.files {
			err := f.check()
			switch {
			case err == nil:
			case used[m.name]:
				faults = append(faults, fmt.Errorf("%s%w", m.origin(), err))
			default:
				warnings = append(warnings, m.origin()+strings.ReplaceAll(err.Error(), "\n", "; "))
			}
		}
	}
	return warnings, errors.Join(faults...)
}

// builtins makes the modules that there are without configuration.
func builtins() (map[string]*probe.Module, error) {
	list, err := parseModules(builtinModules)
	if err != nil {
		return nil, err
	}
	built, _, err := (&raw{Modules: list}).build()
	return built, err
}

// targets makes the targets. A built-in module that one of them uses is there
// from then on.
func (r *raw) targets(c *Config, all map[string]*probe.Module) error {
	var faults []error
	if len(r.Targets) > maxTargets {
		return tooMany(r.Targets[maxTargets].line, "targets", maxTargets, "several exporters may share them")
	}
	for i := range r.Targets {
		t, err := r.Targets[i].target(i, all)
		if err == nil && t.Module != nil {
			c.Modules[t.Module.Name] = t.Module
		}
		c.Targets = append(c.Targets, t)
		faults = append(faults, err)
	}
	return errors.Join(append(faults, checkTwins(r.Targets, c.Targets))...)
}

// withoutLines forgets where everything stood: two files that say the same are
// then equal.
func (r raw) withoutLines() raw {
	r.lines, r.Limits.lines, r.Probes.lines, r.ListenerTLS.lines = nil, nil, nil, nil
	r.Targets = append([]rawTarget(nil), r.Targets...)
	for i := range r.Targets {
		r.Targets[i].line, r.Targets[i].lines = 0, nil
	}
	r.Probes.Allow.rules = append([]rawAllowRule(nil), r.Probes.Allow.rules...)
	for i := range r.Probes.Allow.rules {
		r.Probes.Allow.rules[i].line = 0
	}
	for _, list := range []*modules{&r.Modules, &r.included} {
		*list = append(modules(nil), *list...)
		for i, m := range *list {
			(*list)[i] = module{name: m.name, node: m.node}
		}
	}
	return r
}

// isSame reports whether two configurations say the same, policies apart.
func (r raw) isSame(other raw) bool {
	r.Policy, other.Policy = nil, nil
	return reflect.DeepEqual(r, other)
}
