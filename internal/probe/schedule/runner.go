// Package schedule says when each target is probed, how many at once, and remembers
// what came of it.
package schedule

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// A Runner probes: the targets of a scrape, those that have an interval in the
// background, and others on request. It lives as long as the process and bounds
// the probes in flight over all of it. It is safe for concurrent use.
type Runner struct {
	// Logger takes the panics of probers, one a minute; nil takes none. It is set
	// before the first probe.
	Logger *slog.Logger
	// Netns returns the network namespace of a name, for the targets that have one. It is
	// set before the first probe.
	Netns func(name string) probe.Netns

	ctx    context.Context // ends when the runner stops
	cancel context.CancelCauseFunc
	tasks  sync.WaitGroup

	slots pool // every probe has one of these
	heavy pool // a heavy probe takes one of these first
	most  int  // slots that there may be whatever a plan says; zero is no bound

	history    *History
	bodies     *probe.Bodies
	background *background
	traces     traces

	mu      sync.Mutex
	plan    *Plan
	flights []*flight          // under way
	turns   turns              // where the next one begins
	calls   map[ask]*call      // under way, by what they ask
	records map[string]*record // by key of target
	kinds   map[string]*Tally  // by kind of module

	panicked time.Time // when a panic was logged last
}

// bodiesSize is the memory for large bodies, in bytes.
const bodiesSize = 2 * probe.MaxMatchedBody

// NewRunner returns a runner that stops when ctx ends. Most bounds the probes in
// flight, whatever a plan says, where descriptors are few; zero does not.
func NewRunner(ctx context.Context, most int) *Runner {
	r := &Runner{most: most, history: newHistory(historyLimit), bodies: probe.NewBodies(bodiesSize), records: map[string]*record{}, kinds: map[string]*Tally{}, calls: map[ask]*call{}, traces: traces{of: map[string]*traced{}}}
	r.ctx, r.cancel = context.WithCancelCause(ctx)
	r.slots.size, r.heavy.size = r.sizes(DefaultMaxProbes)
	r.background = newBackground(r)
	return r
}

func (r *Runner) sizes(n int) (all, heavy int) {
	if r.most > 0 {
		n = min(n, r.most)
	}
	return max(n, 1), max(n/heavyShare, 1)
}

// Stop ends every probe and returns when all are done.
func (r *Runner) Stop() {
	r.mu.Lock() // whoever starts a task looks whether it has stopped under it
	r.cancel(errStopping)
	r.mu.Unlock()
	r.tasks.Wait()
}

// Slots returns how many probes may be in flight.
func (r *Runner) Slots() int { return r.slots.capacity() }

// InFlight returns how many probes are in flight.
func (r *Runner) InFlight() int { return r.slots.inUse() }

// Kinds returns what the probes of each kind of prober came to.
func (r *Runner) Kinds() map[string]*Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.kinds)
}

// Remember sets how many recent probes, and as many failures before them, are remembered.
// It is for the time before the first probe.
func (r *Runner) Remember(limit int) { r.history = newHistory(limit) }

// History returns the recent probes.
func (r *Runner) History() *History { return r.history }

// Use puts a plan in force, at start and on a reload. Targets that were in the
// one before keep their counters, their latest result and their place in the
// interval; of those that are not in it any more nothing is kept. Scrapes that
// run go on with the plan they began with.
func (r *Runner) Use(p *Plan) {
	p.prepare()
	all, heavy := r.sizes(cmp.Or(p.MaxProbes, DefaultMaxProbes))
	r.slots.resize(all)
	r.heavy.resize(heavy)

	r.mu.Lock()
	defer r.mu.Unlock()
	kept := make(map[string]*record, len(p.Targets))
	p.records = make([]*record, len(p.Targets))
	for i, key := range p.keys {
		if kept[key] = r.records[key]; kept[key] == nil {
			kept[key] = &record{}
		}
		p.records[i] = kept[key]
	}
	r.records, r.plan = kept, p
	r.background.use(p)
}

// probe waits for a slot and probes. The module's time begins with the slot.
// What the end of ctx cuts off before it had a fair part of the time since began
// is not_run: the silence says nothing of the target.
func (r *Runner) probe(ctx context.Context, began time.Time, w wanted, c class, log *slog.Logger) probe.Result {
	t := w.target
	leave, err := r.enter(ctx, t.Module, c)
	if err != nil {
		return notRun(errNoTime)
	}
	defer leave()
	fair := true
	if deadline, ok := ctx.Deadline(); ok {
		fair = time.Until(deadline) >= min(t.Module.Limit(), deadline.Sub(began)/fairShare)
	}
	request := probe.Request{Address: t.Address, Hostname: t.Hostname, Allow: w.address, AllowHost: w.host, Bodies: r.bodies, Log: log}
	ctx = r.within(ctx, t)
	var result probe.Result
	if w.probe != nil {
		result = w.probe(ctx, t, request)
	} else {
		result = t.Module.Probe(ctx, request)
	}
	if !fair && silent(result.Outcome) { // the dialer may be up before ctx is
		return notRun(errCutShort)
	}
	return result
}

// within returns a context whose probes are made from the network namespace of a target. It
// is found anew for each probe: its name may be that of another one by then.
func (r *Runner) within(ctx context.Context, t *probe.Target) context.Context {
	if t.Netns == "" {
		return ctx
	}
	return probe.WithNetns(ctx, r.Netns(t.Netns))
}

// fairShare is the part of a scrape that a probe must have had for its silence
// to count. A third of Prometheus' ten seconds is just above the three that a
// dead neighbour takes to be reported.
const fairShare = 3

// silent reports whether an outcome may be owed to the end of the time alone.
func silent(o probe.Outcome) bool {
	return o == probe.Timeout || o == probe.DNSTimeout || o == probe.NoReply || o == probe.Unknown
}

// enter takes the slots of a probe. A heavy one takes that of the small pool
// first, so that it holds none of the others while it waits.
func (r *Runner) enter(ctx context.Context, m *probe.Module, c class) (leave func(), err error) {
	if !m.Heavy() {
		return func() { r.slots.leave(c) }, r.slots.enter(ctx, c)
	}
	if err := r.heavy.enter(ctx, c); err != nil {
		return nil, err
	}
	if err := r.slots.enter(ctx, c); err != nil {
		r.heavy.leave(c)
		return nil, err
	}
	return func() { r.slots.leave(c); r.heavy.leave(c) }, nil
}

// note remembers a probe and returns its ID in the history, if it got one. The
// target's record is nil for what is not a scheduled probe of a configured target.
func (r *Runner) note(e Entry, target *record) (id uint64) {
	if target != nil {
		target.Add(e.Result.Outcome)
		target.remember(e.Report)
	}
	r.logPanic(e.Result.Err, e.Target.Address)
	kind := e.Target.Module.Kind
	r.mu.Lock()
	if r.kinds[kind] == nil {
		r.kinds[kind] = &Tally{}
	}
	of := r.kinds[kind]
	r.mu.Unlock()
	of.Add(e.Result.Outcome)
	if e.Result.Outcome == probe.NotRun {
		return 0
	}
	return r.history.add(e)
}

// panicInterval is how often a panic is logged: a fault may meet each of many
// targets on each scrape.
const panicInterval = time.Minute

// logPanic logs a panic with its stack.
func (r *Runner) logPanic(err error, target string) {
	panicked, ok := errors.AsType[*panics.Error](err)
	if !ok || r.Logger == nil {
		return
	}
	r.mu.Lock()
	due := time.Since(r.panicked) >= panicInterval
	if due {
		r.panicked = time.Now()
	}
	r.mu.Unlock()
	if due {
		panics.Log(r.Logger.With("target", target), "prober", panicked)
	}
}
