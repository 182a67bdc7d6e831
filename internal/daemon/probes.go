package daemon

import (
	"context"
	"math"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/version"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/web"
	"github.com/port-exporter/port_exporter/internal/web/discovery"
	"github.com/port-exporter/port_exporter/internal/web/probes"
	"github.com/port-exporter/port_exporter/internal/web/status"
)

// newPlan returns what a configuration wants probed.
func newPlan(c *config.Config) *schedule.Plan {
	return &schedule.Plan{Targets: c.Targets, Modules: c.Modules, Access: c.Access, MaxProbes: c.MaxProbes}
}

// What probes leave to the rest of the exporter, beside the connections of clients,
// and what one of them takes: its socket, a second descriptor of it that keeps the
// error queue, and one to ask a name server. An http probe may read a file besides.
const (
	reservedDescriptors = 64
	probeDescriptors    = 4
)

// mostProbes returns how many probes may be in flight with so many descriptors:
// without one left the sockets of the host could not be read, nor a scrape be
// accepted. Zero descriptors are no bound.
func mostProbes(descriptors uint64) int {
	if descriptors == 0 {
		return 0
	}
	reserved := reservedDescriptors + uint64(web.Connections(descriptors, math.MaxInt64))
	spare := max(descriptors, reserved) - reserved
	return max(1, int(min(spare/probeDescriptors, 1<<20)))
}

// connections returns how many connections of clients are open at most.
func (d *daemon) connections() int {
	return web.Connections(d.system.Descriptors(), debug.SetMemoryLimit(-1)) // which only reads the limit
}

// use puts a plan in force.
func (d *daemon) use(p *schedule.Plan) {
	d.runner.Use(p)
	if wanted := max(p.MaxProbes, 1); d.runner.Slots() < wanted {
		d.logger.Warn("too few file descriptors for the configured number of probes",
			"probes", d.runner.Slots(), "configured", wanted, "descriptors", d.system.Descriptors())
	}
}

// results returns what the collector of probes calls: nil without targets.
func (d *daemon) results(p *schedule.Plan) collector.ProbeResults {
	if len(p.Targets) == 0 {
		return nil
	}
	return func(ctx context.Context) ([]schedule.Report, error) { return d.runner.Results(ctx, p) }
}

// certificates returns what the collector of certificates reads: nil without ports.
func (d *daemon) certificates(c *config.Config) collector.Certificates {
	if len(c.ListenerTLS.Ports) == 0 {
		return nil
	}
	return d.tls.Read
}

// serveProbes adds what is served of probes, and the pages, which show them.
func (d *daemon) serveProbes(o *web.Options) {
	plan := func() *schedule.Plan { return d.current.Load().plan }
	s := probes.New(probes.Options{
		Runner:        d.runner,
		Plan:          plan,
		IsBuiltIn:     func(name string) bool { return d.current.Load().config.Module(name) != nil },
		OwnHost:       d.ownHost,
		Checked:       check.Of(d.system),
		TimeoutOffset: d.options.TimeoutOffset,
		Proxied:       d.options.Proxied,
		Connections:   d.connections(),
	})
	o.Probe, o.ProbeTargets, o.ProbeLog = http.HandlerFunc(s.Probe), discovery.Probes(plan, o.RoutePrefix), http.HandlerFunc(s.Log)
	o.Pages = status.New(status.Options{
		View:        func(ctx context.Context) (*collector.View, error) { return d.current.Load().exporter.View(ctx) },
		Targets:     func() []schedule.Past { return plan().Pasts() },
		History:     d.runner.History().Entries,
		Path:        d.runner.Path,
		Addresses:   d.system.Addresses,
		MayDebug:    s.MayDebug,
		Report:      s.Check,
		Hostname:    hostname(),
		Version:     version.Version,
		Started:     d.started,
		LinkPrefix:  web.CleanPrefix(d.options.LinkPrefix),
		MetricsPath: d.options.TelemetryPath,
		Now:         time.Now,
	})
}

// hostname returns the name of this host, for people.
func hostname() string {
	if name, err := os.Hostname(); err == nil {
		return name
	}
	return "this host"
}

// ownHost returns this host as it is when it is asked.
func (d *daemon) ownHost(ctx context.Context) *ownhost.Snapshot {
	return ownhost.New(d.system.Addresses, func() (*socket.Table, error) { return d.system.Reader().Listening(ctx) })
}

// activity exports the number of probes by prober and outcome.
type activity struct {
	runner          *schedule.Runner
	total, inFlight *prometheus.Desc
}

func newActivity(r *schedule.Runner) activity {
	return activity{
		runner: r,
		total: prometheus.NewDesc("port_exporter_probes_total",
			"Probes by prober and outcome, on request and scheduled.", []string{"prober", "outcome"}, nil),
		inFlight: prometheus.NewDesc("port_exporter_probes_in_flight", "Probes in flight.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (a activity) Describe(ch chan<- *prometheus.Desc) {
	ch <- a.total
	ch <- a.inFlight
}

// Collect implements prometheus.Collector.
func (a activity) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(a.inFlight, prometheus.GaugeValue, float64(a.runner.InFlight()))
	for kind, tally := range a.runner.Kinds() {
		for _, o := range probe.Outcomes() {
			if n := tally.Count(o); n > 0 {
				ch <- prometheus.MustNewConstMetric(a.total, prometheus.CounterValue, float64(n), kind, o.String())
			}
		}
	}
}
