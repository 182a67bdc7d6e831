package schedule

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// The bounds of traces, over all targets.
const (
	// traceInterval is how often one target is traced.
	traceInterval = time.Minute
	// maxTracing is how many traces may be under way. A probe that fails beyond that has
	// none, and the next one asks again.
	maxTracing = 4
	// maxTraced is how many targets are remembered, those that clients choose among them.
	maxTraced = 10_000
)

// traces remembers the paths to the targets that do not answer. Traces run beside the
// probes, so that they hold up no scrape: what they find is in the results from then on,
// for as long as the target fails. It is safe for concurrent use.
type traces struct {
	mu      sync.Mutex
	of      map[string]*traced // by key of target
	running int
}

// traced is a target that was traced.
type traced struct {
	began   time.Time
	failing bool // since then
	path    probe.Path
	ended   time.Time
}

// begin reports whether a target is to be traced now. Whoever gets true calls end.
func (t *traces) begin(key string, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.of[key]
	if one != nil {
		one.failing = true
		if now.Sub(one.began) < traceInterval {
			return false
		}
	}
	if t.running == maxTracing {
		return false
	}
	if one == nil {
		if len(t.of) >= maxTraced && !t.prune(now) {
			return false
		}
		one = &traced{failing: true}
		t.of[key] = one
	}
	one.began = now
	t.running++
	return true
}

// prune forgets the targets that may be traced again. It reports whether there is room
// then. The caller holds mu.
func (t *traces) prune(now time.Time) bool {
	for key, one := range t.of {
		if now.Sub(one.began) >= traceInterval {
			delete(t.of, key)
		}
	}
	return len(t.of) < maxTraced
}

// end keeps what a trace found. Nothing takes the place of what was found before, which
// is older than what is known now.
func (t *traces) end(key string, path probe.Path, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if one := t.of[key]; one != nil && one.failing {
		one.path, one.ended = path, now
	}
}

// recover forgets the path to a target that does not fail any more.
func (t *traces) recover(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.of[key]; one != nil {
		one.failing, one.path = false, nil
	}
}

// path returns what is known of the path to a target, and since when; nil if nothing is.
func (t *traces) path(key string) (probe.Path, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.of[key]; one != nil {
		return one.path, one.ended
	}
	return nil, time.Time{}
}

// trace starts a trace beside the probes if the result asks for one.
func (r *Runner) trace(t *probe.Target, allow func(netip.AddrPort) error, result probe.Result) {
	if !t.Module.Trace || !result.Outcome.Tried() {
		return
	}
	key := keyOf(t)
	tracer := t.Module.Tracer(result)
	if tracer == nil {
		r.traces.recover(key)
		return
	}
	if !r.traces.begin(key, time.Now()) {
		return
	}
	r.beside(func() {
		var path probe.Path
		defer func() { r.traces.end(key, path, time.Now()) }()
		path = tracer.Trace(r.within(r.ctx, t), probe.Request{Address: t.Address, Allow: allow}, result)
	})
}

// addPath adds to a result what is known of the path to its target, if it asks for that.
func (r *Runner) addPath(t *probe.Target, result *probe.Result) {
	if path, _ := r.Path(t, result); path != nil {
		result.Samples = slices.Concat(result.Samples, path.Samples())
	}
}

// Path returns the path to a target, and when it was traced; nil if it is unknown, or if
// the result of the target does not ask for it.
func (r *Runner) Path(t *probe.Target, of *probe.Result) (probe.Path, time.Time) {
	if t.Module.Tracer(*of) == nil {
		return nil, time.Time{}
	}
	return r.traces.path(keyOf(t))
}

// beside runs a task of its own, unless the runner has stopped.
func (r *Runner) beside(task func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx.Err() != nil {
		return
	}
	r.tasks.Go(func() {
		if err := probe.Guarded(task); err != nil {
			r.logPanic(err, "")
		}
	})
}
