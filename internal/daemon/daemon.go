// Package daemon is what lives as long as the process: it reads the configuration,
// builds the exporter from it, serves, and reads it again.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/promslog"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/gate"
	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/logs"
	"github.com/port-exporter/port_exporter/internal/names"
	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/system"
	"github.com/port-exporter/port_exporter/internal/web"
	"github.com/port-exporter/port_exporter/internal/web/discovery"
)

// daemon is what lives as long as the process. What a reload replaces is in
// current.
type daemon struct {
	options Options
	door    *gate.Gate
	system  *system.System
	memory  *collector.Memory
	names   *names.Book // of watched destinations
	tls     *listenertls.Book
	// closed is nil if it is not asked for, and endClosed ends it.
	closed    func() (collector.Closed, error)
	endClosed func()
	runner    *schedule.Runner
	log       *logs.Queue
	logger    *slog.Logger

	started   time.Time
	files     *beside.Calls // read the configuration
	reloading chan struct{} // one at a time
	current   atomic.Pointer[state]
	success   prometheus.Gauge
	loadedAt  prometheus.Gauge
}

// state is built from the configuration file, whole, and never changed.
type state struct {
	config   *config.Config
	plan     *schedule.Plan
	exporter *collector.Exporter
}

// NewLogger returns a logger that keeps the log short and plain.
func NewLogger(c *promslog.Config, w io.Writer) *slog.Logger {
	handler := promslog.New(&promslog.Config{Level: c.Level, Format: c.Format, Style: c.Style, Writer: w}).Handler()
	if c.Format != nil && c.Format.String() == "json" { // logfmt quotes by itself
		handler = logs.Plain(handler)
	}
	return slog.New(logs.Limited(handler, time.Now))
}

// newDaemon returns a daemon with its configuration loaded. It is to be closed.
func newDaemon(ctx context.Context, o Options, door *gate.Gate, log *logs.Queue) (*daemon, error) {
	d, err := assemble(ctx, o, NewLogger(o.Log, log))
	if err != nil {
		return nil, err
	}
	d.door, d.log = door, log
	for _, flag := range o.Ignored {
		d.logger.Warn("flag has no effect", "flag", flag)
	}
	c, err := o.LoadConfig(ctx)
	if err != nil {
		return nil, err
	}
	d.begin(ctx, c)
	return d, nil
}

// assemble returns a daemon with its host open, and without a configuration.
func assemble(ctx context.Context, o Options, logger *slog.Logger) (*daemon, error) {
	d := &daemon{
		options: o,
		memory:  collector.NewMemory(time.Now),
		names:   names.New(net.DefaultResolver.LookupNetIP, time.Now, logger),
		tls:     listenertls.New(listenertls.Ask, time.Now),
		logger:  logger,
		started: time.Now(),
		files:   files.NewCalls(), reloading: make(chan struct{}, 1),
		endClosed: func() {},
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "port_config_last_reload_successful",
			Help: "Whether the last configuration load succeeded (1 or 0).",
		}),
		loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "port_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded, in seconds since the epoch.",
		}),
	}
	var err error
	if d.system, err = d.open(ctx); system.IsShortage(err) {
		return nil, fmt.Errorf("%w\nhint: this host or process lacks descriptors, buffers or memory", err)
	} else if err != nil {
		return nil, fmt.Errorf("%w\nhint: --source=auto uses the best source available; in a container mount /proc, and allow AF_NETLINK in seccomp", err)
	}
	// Scrapes that run when ctx ends are let finish.
	d.runner = schedule.NewRunner(context.WithoutCancel(ctx), mostProbes(d.system.Descriptors()))
	d.runner.Remember(o.HistoryLimit)
	d.runner.Logger = d.logger
	d.runner.Netns = func(name string) probe.Netns { return d.system.Netns(name) }
	if why := d.system.Fallback; why != nil {
		d.warnOfFallback(why)
	}
	if r, err := d.system.EphemeralPorts(); err != nil {
		d.logger.Warn("cannot read ephemeral port range, using default", "first", r.First, "last", r.Last, "reserved", len(r.Reserved), "err", err)
	}
	return d, nil
}

// begin puts the first configuration in force.
func (d *daemon) begin(ctx context.Context, c *config.Config) {
	if !slices.Contains(d.options.Disabled, "closed") {
		d.recordClosed(ctx, c.Limits)
	}
	d.putInForce(d.build(c))
}

// close ends the probes, and what records closed connections.
func (d *daemon) close() {
	d.runner.Stop()
	d.endClosed()
}

func (d *daemon) warnOfFallback(why error) {
	if d.system.Name == system.SockDiag {
		d.logger.Warn("bpf is not available, using sock_diag", "err", why)
		return
	}
	d.logger.Warn("sock_diag is not available, using /proc/net without accept queue limits and drops", "err", why)
}

// startPatience is how long a shortage may last at start.
const startPatience = 30 * time.Second

// open opens the source of sockets. A shortage of the host passes: it is no reason
// to end, and the hints that the caller adds do not help against it.
func (d *daemon) open(ctx context.Context) (*system.System, error) {
	deadline := time.Now().Add(startPatience)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		s, err := system.Open(ctx, d.options.Source, d.options.Procfs, d.options.Rootfs, d.logger)
		if err == nil || !system.IsShortage(err) || time.Now().Add(wait).After(deadline) {
			return s, err
		}
		d.logger.Warn("resource shortage, retrying", "err", err, "wait", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// build makes a state from a configuration, at start and on reload.
func (d *daemon) build(c *config.Config) *state {
	disabled := d.options.Disabled
	var watch func() collector.Watched
	if !slices.Contains(disabled, "ephemeral") { // else no name is looked up
		watch = watched(c.Destinations, d.names)
	}
	plan := newPlan(c)
	plan.OnRequest = slices.Contains(disabled, "probes")
	return &state{config: c, plan: plan, exporter: collector.New(collector.Options{
		Source:          d.system.Source,
		SourceName:      d.system.Name,
		SourceFallback:  d.system.Fallback,
		Protocols:       d.system.Protocols,
		EphemeralPorts:  d.system.EphemeralPorts,
		Owners:          d.system.Owners,
		Portless:        d.system.Portless,
		PortlessOwners:  d.system.PortlessOwners,
		Unix:            d.system.Unix,
		UnixOwners:      d.system.UnixOwners,
		Groups:          d.system.Groups,
		KernelStats:     d.system.KernelStats,
		Firewall:        d.rules(),
		Arguments:       d.system.Arguments,
		Watched:         watch,
		Policy:          c.Policy,
		Probes:          d.results(plan),
		Certificates:    d.certificates(c),
		Closed:          d.closed,
		Addresses:       d.system.Addresses,
		AddressKinds:    d.system.AddressKinds,
		Namespaces:      d.system.Namespaces,
		NamespaceOwners: d.system.NamespaceOwners,
		Limits: collector.Limits{
			Listeners:           c.Limits.Listeners,
			OutboundPorts:       c.Limits.OutboundPorts,
			OrphanedPorts:       c.Limits.OrphanedPorts,
			Owners:              c.Limits.Owners,
			Destinations:        c.Limits.Destinations,
			WatchedDestinations: c.Limits.WatchedDestinations,
			DestinationShare:    c.Destinations.MinShare,
			Namespaces:          c.Limits.Namespaces,
			NamespaceListeners:  c.Limits.NamespaceListeners,
		},
		Memory:     d.memory,
		Disabled:   disabled,
		MaxScrapes: d.options.MaxRequests,
		Logger:     d.logger,
	})}
}

// rules returns what reads the host's firewall; nil where that is not known.
func (d *daemon) rules() func(context.Context) (collector.Rules, error) {
	if d.system.Firewall == nil {
		return nil
	}
	return func(ctx context.Context) (collector.Rules, error) { return d.system.Firewall(ctx) }
}

// putInForce is the one place that changes what the daemon does.
func (d *daemon) putInForce(s *state) {
	for _, warning := range s.config.Warnings {
		d.logger.Warn("configuration", "warning", warning)
	}
	if policy.NamesOthers(s.config.Policy) && (d.system.Namespaces == nil || slices.Contains(d.options.Disabled, "namespaces")) {
		d.logger.Warn("policy names other network namespaces, which are not read", "hint", "--collector.namespaces")
	}
	d.use(s.plan)
	d.current.Store(s)
	d.names.Keep(s.config.Destinations.Hosts())
	d.tls.Use(s.config.ListenerTLS)
	d.success.Set(1)
	d.loadedAt.SetToCurrentTime()
}

// How long a reload may take, and how long the file must have been left alone
// before: most tools truncate it and write it again.
const (
	reloadTimeout = 15 * time.Second
	settle        = time.Second
)

// load reads the configuration file again and puts it in force. With an error the
// one before stays.
func (d *daemon) load(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	select {
	case d.reloading <- struct{}{}:
	case <-ctx.Done():
		return errors.New("another reload is still running")
	}
	defer func() { <-d.reloading }()
	defer func() { // what is wrong with a new configuration must not end what serves
		if panicked := panics.Recovered(recover()); panicked != nil {
			panics.Log(d.logger, "reload", panicked)
			d.success.Set(0)
			err = panicked
		}
	}()
	before := d.current.Load().config
	c, err := d.options.readConfig(ctx, d.files, files.Rules{Settle: settle})
	if err == nil {
		if err = c.Lost(before); err != nil {
			err = fmt.Errorf("%s: %w", d.options.ConfigFile, err)
		}
	}
	if err != nil {
		d.success.Set(0)
		return err
	}
	d.putInForce(d.build(c))
	d.warnOfLess(c, before)
	return nil
}

// shownMissing is how many missing keys a warning names.
const shownMissing = 5

// warnOfLess warns of what a configuration lacks that the one before had.
func (d *daemon) warnOfLess(c, before *config.Config) {
	for _, s := range c.Shrunk(before) {
		d.logger.Warn("new configuration has fewer items than the previous one", "key", s.Key, "before", s.Before, "now", s.Now)
	}
	missing, err := c.Missing(before)
	if err != nil {
		d.logger.Warn("cannot compare the new configuration with the previous one", "err", err)
	}
	if n := len(missing); n > 0 {
		d.logger.Warn("new configuration lacks keys of the previous one", "count", n, "keys", strings.Join(missing[:min(n, shownMissing)], ", "))
	}
}

// reload is load with a log of how it went.
func (d *daemon) reload(ctx context.Context) error {
	err := d.load(ctx)
	d.logReload(err)
	return err
}

func (d *daemon) logReload(err error) {
	if err != nil {
		d.logger.Error("configuration reload failed, the previous one stays in force", "err", err)
		return
	}
	d.logger.Info("configuration reloaded", "file", d.options.ConfigFile)
}

// reloadOn reloads on each signal until ctx ends.
func (d *daemon) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	for {
		select {
		case <-signals:
			_ = d.reload(ctx) // it has logged what went wrong
		case <-ctx.Done():
			return
		}
	}
}

// handler returns what is served over HTTP.
func (d *daemon) handler() (http.Handler, error) {
	self := d.selfMetrics()
	served := web.Options{
		Scrape: func(ctx context.Context, s web.Selection) (prometheus.Gatherer, error) {
			scrape, err := d.current.Load().exporter.Scrape(ctx, collector.Filter(s))
			return busyOf(scrape), err
		},
		ListenerTargets: discovery.Listeners(func(ctx context.Context) (*dto.MetricFamily, error) {
			return d.current.Load().exporter.ListenerInfo(ctx)
		}, d.system.Addresses),
		Self:          self,
		MaxRequests:   d.options.MaxRequests,
		TimeoutOffset: d.options.TimeoutOffset,
		Config:        func() ([]byte, error) { return d.current.Load().config.YAML() },
		MetricsPath:   d.options.TelemetryPath,
		RoutePrefix:   web.CleanPrefix(d.options.RoutePrefix),
		Logger:        d.logger,
	}
	d.serveProbes(&served)
	if !d.options.NoSelfMetrics {
		served.HandlerMetrics = self
	}
	served.Profiles = d.options.Profiles
	if d.options.Lifecycle {
		served.Reload = func() error { return d.reload(context.Background()) }
	}
	return web.NewHandler(served)
}

// busyOf returns a scrape whose error web knows, where there is no room for it.
func busyOf(scrape prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := scrape.Gather()
		if busy, ok := errors.AsType[*collector.BusyError](err); ok {
			err = &web.BusyError{Reason: busy.Error()}
		}
		return families, err
	})
}

// selfMetrics returns the metrics about the process.
func (d *daemon) selfMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(versioncollector.NewCollector("port_exporter"), d.success, d.loadedAt, newActivity(d.runner))
	r.MustRegister(newSizes(func() *config.Config { return d.current.Load().config }))
	r.MustRegister(d.webInForce()...)
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "port_exporter_log_lines_dropped_total",
		Help: "Log lines dropped because the log's reader is too slow or gone.",
	}, func() float64 { return float64(d.log.Dropped()) }))
	if !d.options.NoSelfMetrics {
		r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	}
	return r
}

// sizes exports those of the configuration in force, both of the same one: a file that
// was cut may be valid, and has fewer.
type sizes struct {
	inForce        func() *config.Config
	targets, rules *prometheus.Desc
}

func newSizes(inForce func() *config.Config) sizes {
	return sizes{
		inForce: inForce,
		targets: prometheus.NewDesc("port_config_targets", "Probe targets in the configuration in force.", nil, nil),
		rules:   prometheus.NewDesc("port_config_policy_rules", "Policy rules in the configuration in force; 0 without a policy.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (s sizes) Describe(ch chan<- *prometheus.Desc) {
	ch <- s.targets
	ch <- s.rules
}

// Collect implements prometheus.Collector.
func (s sizes) Collect(ch chan<- prometheus.Metric) {
	c := s.inForce()
	ch <- prometheus.MustNewConstMetric(s.targets, prometheus.GaugeValue, float64(len(c.Targets)))
	ch <- prometheus.MustNewConstMetric(s.rules, prometheus.GaugeValue, float64(len(c.Policy)))
}

// webInForce returns what became of the web configuration; nothing without one.
func (d *daemon) webInForce() []prometheus.Collector {
	if _, ok := d.door.State(); !ok {
		return nil
	}
	gauge := func(name, help string, of func(gate.State) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
			state, _ := d.door.State()
			return of(state)
		})
	}
	return []prometheus.Collector{
		gauge("port_web_config_last_reload_successful",
			"Whether the web configuration in force matches its files (1 or 0).",
			func(s gate.State) float64 {
				if s.Current {
					return 1
				}
				return 0
			}),
		gauge("port_web_config_last_reload_success_timestamp_seconds",
			"When the web configuration in force was read, in seconds since the epoch.",
			func(s gate.State) float64 { return float64(s.Since.UnixNano()) / 1e9 }),
	}
}
