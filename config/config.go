// Package config turns a YAML file into validated values. Keys are strict, and
// every error names its place.
package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// Config is a validated configuration.
type Config struct {
	Limits Limits
	// Destinations says which destinations of outbound connections are exported.
	Destinations Destinations
	// Policy has the rules that listeners are compared with. It is nil when HasPolicy
	// is not set; a policy without rules expects nothing.
	Policy    []policy.Rule
	HasPolicy bool
	// Modules say how to probe, by name; Targets what, on each scrape or in the
	// background; Access what else may be probed on request.
	Modules map[string]*probe.Module
	Targets []probe.Target
	Access  access.Control
	// ListenerTLS says whose certificates are read among the listeners of this host.
	ListenerTLS listenertls.Settings
	// MaxProbes is how many probes may be in flight.
	MaxProbes int
	// Warnings are about what is valid, but probably not meant.
	Warnings []string

	raw    raw
	source source
	read   []content
	all    map[string]*probe.Module // Modules and the built-in ones
}

// Module returns a module of the configuration, or a built-in one of that name:
// as for targets, these are there whatever is configured. It is nil for a name
// that neither has.
func (c *Config) Module(name string) *probe.Module { return c.all[name] }

// ModuleNames returns the names of all modules that there are, sorted.
func (c *Config) ModuleNames() []string { return moduleNames(c.all) }

// Limits bound the number of series.
type Limits struct {
	Listeners     int // listeners with their own series
	OutboundPorts int // remote ports of outbound connections
	OrphanedPorts int // local ports of orphaned connections
	Owners        int // units and containers with their own connections
	Destinations  int // destinations that use the most ephemeral ports
	// WatchedDestinations bounds those that are exported because they are watched.
	WatchedDestinations int
	Namespaces          int // other network namespaces with series
	NamespaceListeners  int // listeners of each of these with their own series
}

// raw has the shape of the file.
type raw struct {
	Limits         rawLimits       `yaml:"limits"`
	Destinations   rawDestinations `yaml:"destinations"`
	Probes         rawProbes       `yaml:"probes"`
	BlackboxConfig plainText       `yaml:"blackbox_config,omitempty"`
	Modules        modules         `yaml:"modules,omitempty"`
	Targets        []rawTarget     `yaml:"targets,omitempty"`
	ListenerTLS    rawListenerTLS  `yaml:"listener_tls"`
	Policy         *rawPolicy      `yaml:"policy,omitempty"`

	included    modules // those of BlackboxConfig
	cutIncluded bool    // its file does not end with a line break
	lines       keyLines
}

func (r *raw) SetKeyLine(key string, line int) { r.lines.set(key, line) }

type rawLimits struct {
	Listeners           int `yaml:"listeners"`
	OutboundPorts       int `yaml:"outbound_ports"`
	OrphanedPorts       int `yaml:"orphaned_ports"`
	Owners              int `yaml:"owners"`
	Destinations        int `yaml:"destinations"`
	WatchedDestinations int `yaml:"watched_destinations"`
	Namespaces          int `yaml:"namespaces"`
	NamespaceListeners  int `yaml:"namespace_listeners"`

	lines keyLines
}

func (l *rawLimits) SetKeyLine(key string, line int) { l.lines.set(key, line) }

func (l *rawLimits) limits() Limits {
	return Limits{
		Listeners:           l.Listeners,
		OutboundPorts:       l.OutboundPorts,
		OrphanedPorts:       l.OrphanedPorts,
		Owners:              l.Owners,
		Destinations:        l.Destinations,
		WatchedDestinations: l.WatchedDestinations,
		Namespaces:          l.Namespaces,
		NamespaceListeners:  l.NamespaceListeners,
	}
}

// keyLines are the lines in which the keys of a section stand.
type keyLines map[string]int

func (l *keyLines) set(key string, line int) {
	if *l == nil {
		*l = keyLines{}
	}
	(*l)[key] = line
}

// between reports a value of the section that is out of range.
func (l keyLines) between(section, key string, value, low, high int) error {
	if low <= value && value <= high {
		return nil
	}
	return fmt.Errorf("line %d: %s.%s: %d is out of range\nhint: it must be from %d to %d", l[key], section, key, value, low, high)
}

// defaults is the one place that has the values of keys that are left out; a
// test compares it with the reference file.
func defaults() raw {
	return raw{
		Limits:       rawLimits{Listeners: 4096, OutboundPorts: 25, OrphanedPorts: 25, Owners: 100, Destinations: 10, WatchedDestinations: 100, Namespaces: 200, NamespaceListeners: 50},
		Destinations: rawDestinations{MinShare: 0.01},
		Probes:       rawProbes{MaxInFlight: 128},
		ListenerTLS:  rawListenerTLS{Interval: duration(time.Hour)},
	}
}

// Defaults are those of the command line, for keys that a file leaves out.
type Defaults struct {
	AllowAny bool // probes.allow is any
}

// raw returns all defaults.
func (d Defaults) raw() raw {
	r := defaults()
	r.Probes.Allow.any = d.AllowAny
	return r
}

// Default returns the configuration without a file.
func Default() *Config { return Defaults{}.Config() }

// Config returns the configuration without a file.
func (d Defaults) Config() *Config {
	c, err := d.raw().validate()
	if err != nil {
		panic(err) // a test parses the same values
	}
	return c
}

// Load is [Defaults.Load] without any of the command line.
func Load(ctx context.Context, path string, rules files.Rules) (*Config, error) {
	return Defaults{}.Load(ctx, path, rules)
}

// Load reads a file, and the one that its blackbox_config names, under the rules.
// The error names the file, and the line and key in it. Both may be on a file
// system that does not answer: see package beside.
func (d Defaults) Load(ctx context.Context, path string, rules files.Rules) (*Config, error) {
	var read []content
	remember := func(path string) ([]byte, error) {
		text, err := rules.Read(ctx, path)
		read = append(read, content{path, sha256.Sum256(text)})
		return text, err
	}
	text, err := remember(path)
	if err != nil {
		return nil, err
	}
	rules.Pipes = false // there is one /dev/stdin
	c, err := d.parse(filepath.Dir(path), text, remember)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.read = read
	return c, nil
}

// content is what was in a file.
type content struct {
	path string
	sum  [sha256.Size]byte
}

// Changed reports whether a file that the configuration was read from has another content
// now.
func (c *Config) Changed(ctx context.Context, rules files.Rules) (bool, error) {
	for _, before := range c.read {
		text, err := rules.Read(ctx, before.path)
		if err != nil {
			return false, err
		}
		if sha256.Sum256(text) != before.sum {
			return true, nil
		}
	}
	return false, nil
}

// Parse is ParseIn for a text that stands in the working directory.
func Parse(text []byte) (*Config, error) { return ParseIn("", text) }

// ParseIn reads the text of a file in a directory. All that is wrong with it
// comes in one error, a line or two for each fault. The only other file that it
// reads is the one that blackbox_config names; of those that modules name it looks
// whether they can be read.
func ParseIn(dir string, text []byte) (*Config, error) {
	return Defaults{}.parse(dir, text, func(path string) ([]byte, error) { return files.Rules{}.Read(context.Background(), path) })
}

func (d Defaults) parse(dir string, text []byte, read func(path string) ([]byte, error)) (*Config, error) {
	r := d.raw()
	doc, err := yamldoc.Read(text)
	if err != nil {
		return nil, err
	}
	if doc != nil {
		if err := yamldoc.Decode(doc, &r); err != nil {
			return nil, fewer(err)
		}
	}
	if err := r.include(dir, read); err != nil {
		return nil, fewer(err)
	}
	c, err := r.validate()
	if err != nil {
		return nil, fewer(err)
	}
	c.source = sourceOf(text, doc, &r)
	if d.AllowAny && !r.Probes.Allow.any {
		c.Warnings = append(c.Warnings, "--probes.allow=any has no effect: the file has probes.allow")
	}
	if doc == nil || doc.ShortTag() == "!!null" {
		c.Warnings = append(c.Warnings, "the file says nothing, so every default holds; hint: port_exporter baseline writes a policy to begin with")
	}
	c.Warnings = fewWarnings(c.Warnings)
	return c, nil
}

// YAML returns the configuration in force, defaults included and secrets hidden.
// The modules of blackbox_config stand among the others.
func (c *Config) YAML() ([]byte, error) { return yaml.Marshal(c.shown()) }

func (c *Config) shown() raw {
	shown := c.raw
	shown.BlackboxConfig = ""
	shown.Modules = slices.Concat(shown.Modules, shown.included)
	return shown
}

func (r raw) validate() (*Config, error) {
	l := r.Limits
	rules, warnings, err := r.Policy.validate()
	destinations, destinationsErr := r.Destinations.validate()
	listenerTLS, listenerTLSErr := r.ListenerTLS.validate()
	c := &Config{
		Limits:       l.limits(),
		Destinations: destinations,
		ListenerTLS:  listenerTLS,
		Policy:       rules,
		HasPolicy:    r.Policy != nil,
		MaxProbes:    r.Probes.MaxInFlight,
	}
	err = errors.Join(
		l.lines.between("limits", "listeners", l.Listeners, 1, 100_000),
		l.lines.between("limits", "outbound_ports", l.OutboundPorts, 0, 1000),
		l.lines.between("limits", "orphaned_ports", l.OrphanedPorts, 0, 1000),
		l.lines.between("limits", "owners", l.Owners, 0, 1000),
		l.lines.between("limits", "destinations", l.Destinations, 0, 1000),
		l.lines.between("limits", "watched_destinations", l.WatchedDestinations, 0, 1000),
		l.lines.between("limits", "namespaces", l.Namespaces, 1, 10_000),
		l.lines.between("limits", "namespace_listeners", l.NamespaceListeners, 1, 10_000),
		r.Probes.lines.between("probes", "max_in_flight", r.Probes.MaxInFlight, 1, 10_000),
		destinationsErr,
		listenerTLSErr,
		err,
		r.probes(c),
	)
	if err != nil {
		return nil, err
	}
	c.Warnings = append(c.Warnings, warnings...)
	c.raw = r.withoutLines()
	return c, nil
}
