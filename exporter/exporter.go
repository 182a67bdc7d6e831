// Package exporter embeds port_exporter into another program, as a collector of Prometheus.
//
// It has the metrics of docs/metrics.md that begin with port_ or probe_, without those about
// the process and its configuration file (port_exporter_*, port_config_*). It parses no flags,
// serves no port, uses neither the default registry nor the default mux, and changes no
// setting of the Go runtime.
//
// Counting sockets requires no privilege on Linux. The owners of other users' listeners
// require CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH; without them port_privilege_missing says
// what is missing.
package exporter

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/daemon"
	"github.com/port-exporter/port_exporter/internal/system"
)

// Options say what an exporter reads. The zero value is what port_exporter does without
// flags and without a configuration file.
type Options struct {
	// Config has limits, policy, targets, watched destinations and TLS ports, as
	// [config.Parse] returns it from the text of a file. Nil is the defaults: no policy and
	// no targets. What it says of /probe has no effect.
	Config *config.Config
	// Collectors are the names of those that run: see collector.Names. Nil is those that
	// port_exporter runs by default.
	Collectors []string
	// Source is where sockets are read: auto, sock_diag, bpf, procfs or gopsutil. Empty is
	// auto, the best that this host has.
	Source string
	// Procfs is the mount point of procfs, /proc if empty. Rootfs is that of the host's root,
	// for the names of users in a container; if empty, the root of process 1 is used where it
	// can be read.
	Procfs, Rootfs string
	// Timeout is how long Collect may take, 10 s if zero. Collectors that are not done by
	// then have no series but port_scrape_collector_success 0.
	Timeout time.Duration
	// MaxScrapes is how many scrapes may run concurrently, 10 if zero. Further ones fail.
	MaxScrapes int
	// Logger has what cannot be read. Nil discards it.
	Logger *slog.Logger
}

// Exporter makes the metrics of this host. It is a [prometheus.Collector] and safe for
// concurrent use. One is enough for a process: each has its own history of listeners and its
// own cache of owners.
type Exporter struct {
	host    *daemon.Embedded
	timeout time.Duration
}

// New opens the sources of this host. It reads a few sockets, to see which source works, and
// ends with ctx; the exporter does not. Between scrapes an exporter does nothing, unless its
// configuration has targets with an interval, or TLS ports, or the collector closed is asked
// for. Call Close when it is no longer needed.
//
// The error says which option is wrong, or why no source can be read.
func New(ctx context.Context, o Options) (*Exporter, error) {
	disabled, err := disabled(o.Collectors)
	if err != nil {
		return nil, err
	}
	source := cmp.Or(o.Source, system.Auto)
	if !slices.Contains(system.SourceNames(), source) {
		return nil, fmt.Errorf("option Source: %q is not one of %s", source, strings.Join(system.SourceNames(), ", "))
	}
	if o.Timeout < 0 || o.MaxScrapes < 0 {
		return nil, fmt.Errorf("options: Timeout %v and MaxScrapes %d must not be negative", o.Timeout, o.MaxScrapes)
	}
	if o.Config == nil {
		o.Config = config.Default()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	host, err := daemon.Embed(ctx, daemon.Options{
		Source:      source,
		Procfs:      cmp.Or(o.Procfs, "/proc"),
		Rootfs:      o.Rootfs,
		Disabled:    disabled,
		MaxRequests: cmp.Or(o.MaxScrapes, 10),
	}, o.Config, o.Logger)
	if err != nil {
		return nil, err
	}
	return &Exporter{host: host, timeout: cmp.Or(o.Timeout, 10*time.Second)}, nil
}

// disabled returns the collectors that are not wanted.
func disabled(wanted []string) ([]string, error) {
	if wanted == nil {
		return collector.OffByDefault(), nil
	}
	for _, name := range wanted {
		if !slices.Contains(collector.Names(), name) {
			return nil, fmt.Errorf("option Collectors: %q is not one of %s", name, strings.Join(collector.Names(), ", "))
		}
	}
	return slices.DeleteFunc(collector.Names(), func(name string) bool { return slices.Contains(wanted, name) }), nil
}

// Close ends what runs in the background. Scrapes that run are not waited for; after it none
// may begin.
func (e *Exporter) Close() { e.host.Close() }

// Gatherer returns one scrape, which runs when it is gathered and ends with ctx: for a
// handler that knows how long its client waits. It is cheaper than a registry, which checks
// each sample.
func (e *Exporter) Gatherer(ctx context.Context) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		scrape, err := e.host.Scrape(ctx)
		if err != nil {
			return nil, err
		}
		return scrape.Gather()
	})
}

// Describe implements [prometheus.Collector]. It sends nothing: the labels of probe targets
// come from the configuration, and some families from the modules.
func (e *Exporter) Describe(chan<- *prometheus.Desc) {}

// Collect implements [prometheus.Collector]. A scrape that cannot run, because too many run
// already, is an invalid metric.
func (e *Exporter) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), e.timeout)
	defer cancel()
	families, err := e.Gatherer(ctx).Gather()
	if err != nil {
		ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
	}
	for _, f := range families {
		var last *sample
		for _, m := range f.Metric {
			last = &sample{m, descOf(f, m, last)}
			ch <- last
		}
	}
}

// sample is a metric that was read.
type sample struct {
	metric *dto.Metric
	desc   *prometheus.Desc
}

// descOf returns the description of a metric, that of the last one if it has the same labels.
func descOf(f *dto.MetricFamily, m *dto.Metric, last *sample) *prometheus.Desc {
	same := func(a, b *dto.LabelPair) bool { return a.GetName() == b.GetName() }
	if last != nil && slices.EqualFunc(m.Label, last.metric.Label, same) {
		return last.desc
	}
	names := make([]string, len(m.Label))
	for i, l := range m.Label {
		names[i] = l.GetName()
	}
	return prometheus.NewDesc(f.GetName(), f.GetHelp(), names, nil)
}

// Desc implements [prometheus.Metric].
func (s *sample) Desc() *prometheus.Desc { return s.desc }

// Write implements [prometheus.Metric].
func (s *sample) Write(out *dto.Metric) error {
	out.Label, out.TimestampMs = s.metric.Label, s.metric.TimestampMs
	out.Gauge, out.Counter, out.Untyped = s.metric.Gauge, s.metric.Counter, s.metric.Untyped
	out.Summary, out.Histogram = s.metric.Summary, s.metric.Histogram
	return nil
}
