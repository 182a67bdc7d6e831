// Package collector turns what was read of a host into metric families. It
// makes no system call: sources, clocks and limits are handed to it.
package collector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/listenertls"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Collector is one group of families that succeed or fail together.
type Collector interface {
	// Name is the value of collect[], of the collector label and of the
	// --collector.<name> flag.
	Name() string
	// Families are all the families that Collect may add to.
	Families() []*Family
	// Collect adds its samples to out. With an error, none of them is emitted.
	Collect(ctx context.Context, host *Snapshot, out *Output) error
}

// Options are the sources and limits of an exporter.
type Options struct {
	Source         socket.Source
	SourceName     string            // for port_source_info
	SourceFallback error             // why it is not another source; nil if there is no reason
	Protocols      []socket.Protocol // what the source can read
	EphemeralPorts func() (socket.EphemeralPorts, error)
	// Owners finds the owners of listeners.
	Owners Owners
	// Portless reads what takes packets without a port, and PortlessOwners finds its
	// owners; nil if that is unknown.
	Portless       func(ctx context.Context) (socket.PortlessTable, error)
	PortlessOwners Owners
	// Unix reads unix listeners, and UnixOwners finds their owners; nil likewise.
	Unix       func(ctx context.Context) (socket.PortlessTable, error)
	UnixOwners Owners
	// Groups names the cgroups that made the sockets of connections; nil where there
	// is no cgroup v2.
	Groups Groups
	// KernelStats reads the kernel's limits and counters; nil where there are none.
	KernelStats func() (*kernel.Stats, error)
	// Watched returns the destinations that are exported regardless of their use; it must
	// not wait. Nil is none.
	Watched func() Watched
	// Policy are the rules that listeners are compared with; nil is no policy.
	Policy []policy.Rule
	// Probes probes the configured targets; nil is no targets.
	Probes ProbeResults
	// Certificates are those of listeners of this host; nil is none.
	Certificates Certificates
	// Firewall reads the rules of the host's firewall; nil where that is not known.
	Firewall func(ctx context.Context) (Rules, error)
	// Arguments reads the command line of a process; nil where that is not known.
	Arguments func(ctx context.Context, pid int32) []string
	// Closed records closed connections, with an error where it cannot; nil where it
	// was not asked to.
	Closed func() (Closed, error)
	// Namespaces reads the other network namespaces, and NamespaceOwners finds the owners
	// of their listeners; nil where they cannot be read.
	Namespaces      Namespaces
	NamespaceOwners Owners
	// Addresses reads the addresses of this host, each with its device.
	Addresses func() (map[netip.Addr]string, error)
	// AddressKinds says what addresses are to this host; nil where that is unknown.
	AddressKinds func([]netip.Addr) map[netip.Addr]socket.AddressKind
	Limits       Limits
	Memory       *Memory
	// Disabled names collectors that do not run.
	Disabled []string
	// MaxScrapes is how many scrapes run concurrently; zero is no limit but a high one.
	MaxScrapes int
	Logger     *slog.Logger
}

// Owners finds the owners of listeners.
type Owners interface {
	Owners(ctx context.Context, listeners []socket.Listener) owner.Result
}

// Watched are the destinations that are exported regardless of their use.
type Watched struct {
	Destinations []socket.Watched
	// Lookups has the host names among them that were looked up, and whether
	// that succeeded the last time.
	Lookups map[string]bool
}

// Limits bound the number of series.
type Limits struct {
	Listeners     int // listeners with their own series
	OutboundPorts int // remote ports of outbound connections
	OrphanedPorts int // local ports of orphaned connections, and of held ones
	Owners        int // units and containers with their own connections
	Destinations  int // destinations exported because of their use of ephemeral ports
	// WatchedDestinations are destinations exported because they are watched.
	WatchedDestinations int
	// DestinationShare is the least share of the ephemeral ports with which a
	// destination is exported, from 0.002 to 1.
	DestinationShare float64
	// Namespaces is how many other network namespaces have series, and NamespaceListeners
	// how many listeners of each of them.
	Namespaces, NamespaceListeners int
}

// Exporter makes the metrics of a host. It is immutable and safe for
// concurrent use.
type Exporter struct {
	options    Options
	collectors []Collector
	maxRunning int64 // concurrent collectors, those left behind included
	// named and namedElsewhere report whether a rule of the policy names the port of a
	// socket, here and in other network namespaces.
	named, namedElsewhere func(*socket.Socket) bool
}

// manyScrapes is how many scrapes run concurrently where no limit was chosen. Each
// collector that runs may have descriptors and the memory of a whole table.
const manyScrapes = 128

// mostRunning returns how many collectors run concurrently: as many as the scrapes have, and
// as many again that scrapes before them left behind.
func mostRunning(scrapes int) int64 {
	return 2 * int64(cmp.Or(scrapes, manyScrapes)) * int64(len(Names()))
}

// New returns an exporter.
func New(o Options) *Exporter {
	e := &Exporter{options: o, named: policy.Named(o.Policy), namedElsewhere: policy.NamedElsewhere(o.Policy), maxRunning: mostRunning(o.MaxScrapes)}
	for _, c := range collectors(o) {
		if e.enabled(c.Name()) {
			e.collectors = append(e.collectors, c)
		}
	}
	return e
}

func (e *Exporter) enabled(name string) bool { return !slices.Contains(e.options.Disabled, name) }

// collectors returns the collectors that have something to export.
func collectors(o Options) []Collector {
	all := []Collector{
		sockets{protocols: o.Protocols},
		listeners{protocols: o.Protocols},
		connections{limits: o.Limits, memory: o.Memory},
		openConnections{limits: o.Limits, memory: o.Memory},
		ownedConnections{groups: o.Groups, limit: o.Limits.Owners, memory: o.Memory},
		ephemeral{protocols: o.Protocols, limits: o.Limits, memory: o.Memory},
	}
	if o.KernelStats != nil {
		all = append(all, limits{read: o.KernelStats})
	}
	if o.Portless != nil {
		all = append(all, portless{})
	}
	if o.Unix != nil {
		all = append(all, unix{limit: o.Limits.Listeners})
	}
	if o.Firewall != nil {
		all = append(all, rules{})
	}
	if o.Policy != nil {
		all = append(all, findings{rules: o.Policy, limit: o.Limits.Listeners, limitElsewhere: o.Limits.NamespaceListeners})
	}
	if o.Probes != nil {
		all = append(all, probes{results: bounded(o.Probes), addresses: o.Addresses, memory: o.Memory})
	}
	if o.Certificates != nil {
		all = append(all, certificates{read: o.Certificates, addresses: o.Addresses, memory: o.Memory})
	}
	if o.Closed != nil {
		all = append(all, closedConnections{open: o.Closed, limits: o.Limits})
	}
	if o.Namespaces != nil {
		all = append(all, namespaces{protocols: o.Protocols, limits: o.Limits, memory: o.Memory})
	}
	return all
}

// everyCollector is each collector there is.
func everyCollector() []Collector {
	return collectors(Options{
		Policy:       []policy.Rule{},
		Firewall:     func(context.Context) (Rules, error) { return nil, firewall.ErrPrivilege },
		KernelStats:  func() (*kernel.Stats, error) { return &kernel.Stats{}, nil },
		Portless:     func(context.Context) (socket.PortlessTable, error) { return socket.PortlessTable{}, nil },
		Unix:         func(context.Context) (socket.PortlessTable, error) { return socket.PortlessTable{}, nil },
		Probes:       func(context.Context) ([]schedule.Report, error) { return nil, nil },
		Certificates: func(*socket.Table, map[netip.Addr]string) ([]listenertls.Found, int) { return nil, 0 },
		Closed:       func() (Closed, error) { return nil, nil },
		Namespaces:   noNamespaces{},
	})
}

// Names returns the name of every collector there is.
func Names() []string {
	var names []string
	for _, c := range everyCollector() {
		names = append(names, c.Name())
	}
	return names
}

// OffByDefault returns the names of the collectors that run only if asked for: one
// costs the others on the host something, some make a scrape dearer or require a
// privilege.
func OffByDefault() []string {
	return []string{closedConnections{}.Name(), healthName, rules{}.Name(), namespaces{}.Name()}
}

// Families returns every family that an exporter may emit.
func Families() []*Family {
	var families []*Family
	for _, c := range everyCollector() {
		families = append(families, c.Families()...)
	}
	return append(families, selfFamilies()...)
}

// UnknownCollectorError says that a collector was asked for that there is not, or
// that is disabled.
type UnknownCollectorError struct {
	Name    string
	Enabled []string
}

func (e *UnknownCollectorError) Error() string {
	return fmt.Sprintf("unknown or disabled collector %q\nhint: the enabled collectors are %s", e.Name, strings.Join(e.Enabled, ", "))
}

// UnknownFamilyError says that a family was asked for that there is not.
type UnknownFamilyError struct{ Name string }

func (e *UnknownFamilyError) Error() string {
	return fmt.Sprintf("unknown metric %q\nhint: name[] takes the name of a family, as in port_sockets; /metrics lists them", e.Name)
}

// isFamily reports whether the exporter, or the process around it, may export a family.
func isFamily(name string) bool {
	for _, prefix := range []string{"go_", "process_", "promhttp_"} { // of libraries
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	is := func(f *Family) bool { return f.Name == name }
	return slices.ContainsFunc(Families(), is) || slices.ContainsFunc(processFamilies, is) || probes{}.mayExport(name)
}

// Filter narrows a scrape; empty means everything.
type Filter struct {
	Collectors []string // collect[]
	Excluded   []string // exclude[]: all collectors but these; names that are unknown exclude nothing
	Families   []string // name[]: only collectors that have one of them run
}

// errBothWays is the answer of node_exporter too: a collector in both lists would be
// ambiguous.
var errBothWays = errors.New("collect[] and exclude[] cannot be combined\nhint: use either collect[] or exclude[]")

// Scrape returns one scrape, which ends with ctx and runs when it is gathered.
// The error is about the filter; it may be an [UnknownCollectorError] or an
// [UnknownFamilyError].
func (e *Exporter) Scrape(ctx context.Context, f Filter) (prometheus.Gatherer, error) {
	if len(f.Collectors) > 0 && len(f.Excluded) > 0 {
		return nil, errBothWays
	}
	// Those that have nothing to export here, such as probes without targets, may be
	// asked for: one configuration of Prometheus is for many hosts.
	enabled := slices.DeleteFunc(Names(), func(name string) bool { return !e.enabled(name) })
	for _, name := range f.Collectors {
		if !slices.Contains(enabled, name) {
			return nil, &UnknownCollectorError{Name: name, Enabled: enabled}
		}
	}
	for _, name := range f.Families {
		if !isFamily(name) {
			return nil, &UnknownFamilyError{Name: name}
		}
	}
	s := &scrape{ctx: ctx, exporter: e}
	for _, c := range e.collectors {
		if f.wants(c) {
			s.collectors = append(s.collectors, c)
		}
	}
	return s, nil
}

func (f Filter) wants(c Collector) bool {
	if len(f.Collectors) > 0 && !slices.Contains(f.Collectors, c.Name()) || slices.Contains(f.Excluded, c.Name()) {
		return false
	}
	asked := func(family *Family) bool { return slices.Contains(f.Families, family.Name) }
	if open, ok := c.(interface{ mayExport(name string) bool }); ok && slices.ContainsFunc(f.Families, open.mayExport) {
		return true
	}
	return len(f.Families) == 0 || slices.ContainsFunc(c.Families(), asked) ||
		slices.ContainsFunc(selfFamilies(), asked) // its own metrics require a run of each collector
}

// scrape is one scrape.
type scrape struct {
	ctx        context.Context
	exporter   *Exporter
	collectors []Collector
}

// outcome is how one collector did.
type outcome struct {
	name    string
	out     *Output
	err     error
	elapsed time.Duration
}

// Gather implements [prometheus.Gatherer]: it runs the collectors side by side
// on one snapshot, and returns what each gathered. Its error is a [BusyError].
func (s *scrape) Gather() ([]*dto.MetricFamily, error) {
	_, outcomes, err := s.exporter.runAll(s.ctx, s.collectors...)
	if err != nil {
		return nil, err
	}
	s.logFailures(outcomes)

	var whole Output
	for _, o := range outcomes {
		whole.add(collectorDuration, o.elapsed.Seconds(), o.name)
		if o.err != nil {
			whole.add(collectorSuccess, 0, o.name)
			continue
		}
		whole.add(collectorSuccess, 1, o.name)
		whole.merge(o.out)
	}
	s.exporter.addSelf(&whole)
	return whole.sorted(), nil
}

// BusyError says that a scrape did not run, because too many collectors are running
// already, those that earlier scrapes left behind included.
type BusyError struct{ Running int }

func (e *BusyError) Error() string {
	return fmt.Sprintf("%d collectors are already running\nhint: scrape less often, or raise --web.max-requests", e.Running)
}

// runAll runs collectors side by side on one snapshot, which it returns with their
// outcomes. Its error is a [BusyError]: then none ran.
func (e *Exporter) runAll(ctx context.Context, all ...Collector) (*Snapshot, []outcome, error) {
	if err := e.reserve(len(all)); err != nil {
		return nil, nil, err
	}
	runs := func(name string) bool {
		return slices.ContainsFunc(all, func(c Collector) bool { return c.Name() == name })
	}
	host := newSnapshot(ctx, e, wants{health: runs(healthName), namespaces: runs(namespaces{}.Name())})
	outcomes := make([]outcome, len(all))
	var running sync.WaitGroup
	for i, c := range all {
		running.Go(func() { outcomes[i] = e.run(ctx, c, host) })
	}
	running.Wait()
	return host, outcomes, nil
}

// reserve makes room for so many collectors, for each of which run is called once. A
// scrape without some of its collectors would look like a host without what they
// export, so there is room for all of them or none.
func (e *Exporter) reserve(n int) error {
	running := &e.options.Memory.running
	if now := running.Add(int64(n)); now > e.maxRunning {
		running.Add(-int64(n))
		return &BusyError{Running: int(now) - n}
	}
	return nil
}

// run runs one collector until it is done or ctx is. One that does not heed
// ctx is left behind, so that it cannot hold up the others; what it gathers
// then is discarded.
func (e *Exporter) run(ctx context.Context, c Collector, host *Snapshot) outcome {
	start := time.Now()
	done := make(chan outcome, 1)
	go func() {
		defer e.options.Memory.running.Add(-1)
		o := outcome{name: c.Name(), out: &Output{}}
		o.err = e.collect(ctx, c, host, o.out)
		done <- o
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		o = outcome{name: c.Name(), err: context.Cause(ctx)}
	}
	o.elapsed = time.Since(start)
	return o
}

// collect is c.Collect, whose panic it makes an error: a fault of one collector
// leaves the others whole.
func (e *Exporter) collect(ctx context.Context, c Collector, host *Snapshot, out *Output) (err error) {
	defer func() {
		if panicked := panics.Recovered(recover()); panicked != nil {
			panics.Log(e.options.Logger, "collector "+c.Name(), panicked)
			err = panicked
		}
	}()
	return c.Collect(ctx, host, out)
}
