package schedule

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// flight is one run of the probes of a scrape. Scrapes that come while it is
// under way share it.
type flight struct {
	shared
	runner *Runner
	plan   *Plan
	turns  turns // where it begins

	mu      sync.Mutex
	results []probe.Result // by index of the target
	ended   []time.Time    // zero where the result is still to come
}

// margin is what the probes of so many targets end earlier than the scrape, so that all
// of them can be exported: the last half of it is for the export. It takes some 10 µs a
// target on a quiet machine, and ten times as long on one that is busy.
func margin(left time.Duration, targets int) time.Duration {
	return min(500*time.Millisecond+time.Duration(targets)*100*time.Microsecond, left/5)
}

// Results probes the targets of a plan and returns what is known of each, in
// their order; of those that are probed in the background the latest result.
// Scrapes at the same time share one run, which lives as long as one of them
// waits for it. Before ctx reaches its deadline the run ends, and what did not
// start is not_run. The error is that of a ctx that ends otherwise.
func (r *Runner) Results(ctx context.Context, p *Plan) ([]Report, error) {
	f, err := r.join(ctx, p)
	if err != nil {
		return nil, err
	}
	defer r.leave(&f.shared)
	answer := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		answer, cancel = context.WithDeadline(ctx, deadline.Add(-margin(time.Until(deadline), len(p.Targets))/2))
		defer cancel()
	}
	select {
	case <-f.done:
	case <-answer.Done():
		if err := answer.Err(); !errors.Is(err, context.DeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
	}
	return f.reports(), nil
}

// join returns the flight that is under way, if it is for the same plan and has
// about as much time as ctx, or starts one.
func (r *Runner) join(ctx context.Context, p *Plan) (*flight, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wanted := spanOf(ctx)
	for _, f := range r.flights {
		if f.plan == p && f.take(wanted) {
			return f, nil
		}
	}
	f := &flight{
		shared: newShared(wanted), runner: r, plan: p, turns: r.turns,
		results: make([]probe.Result, len(p.Targets)), ended: make([]time.Time, len(p.Targets)),
	}
	probing := wanted
	if !wanted.ends.IsZero() {
		probing.ends = wanted.ends.Add(-margin(time.Until(wanted.ends), len(p.Targets)))
	}
	if err := r.start(&f.shared, probing, f.run, f.over); err != nil {
		return nil, err
	}
	r.flights = append(r.flights, f)
	return f, nil
}

// turns are where in the targets of a plan a flight begins: where the one before
// ran out of time, so that each of more targets than a scrape can probe has its
// turn in one of the next.
type turns struct{ light, heavy int }

// run probes every target: as many workers as there can be slots take the next
// one each.
func (f *flight) run() {
	all, heavy := f.runner.slots.capacity(), f.runner.heavy.capacity()
	var workers probe.Crew
	f.work(&workers, f.plan.light, f.turns.light, all)
	f.work(&workers, f.plan.heavy, f.turns.heavy, heavy)
	workers.Wait()
}

// over takes the flight from the list. The caller holds the runner's mu.
func (f *flight) over() {
	f.runner.flights = slices.DeleteFunc(f.runner.flights, func(other *flight) bool { return other == f })
	if f.hasCounted() {
		f.runner.turns = turns{f.leftOut(f.plan.light, f.turns.light), f.leftOut(f.plan.heavy, f.turns.heavy)}
	}
}

// work starts workers for the targets, which are indices into those of the plan,
// from the one whose turn it is.
func (f *flight) work(workers *probe.Crew, targets []int, turn, most int) {
	next := &atomic.Int64{}
	for range min(most, len(targets)) {
		workers.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= len(targets) {
					return
				}
				f.probe(targets[(turn+n)%len(targets)])
			}
		})
	}
}

// leftOut returns whose turn is next: that of the first target that was not
// tried. All have their results.
func (f *flight) leftOut(targets []int, turn int) int {
	for n := range targets {
		if at := (turn + n) % len(targets); f.results[targets[at]].Outcome == probe.NotRun {
			return at
		}
	}
	return turn
}

// hasCounted reports whether the flight ended by itself or by its deadline, and
// not because all waiters have gone.
func (f *flight) hasCounted() bool {
	return f.ctx.Err() == nil || errors.Is(context.Cause(f.ctx), context.DeadlineExceeded)
}

func (f *flight) probe(i int) {
	t := &f.plan.Targets[i]
	g := grant{address: f.plan.Access.Configured(t.Module, t.Address)}
	result := f.runner.probe(f.ctx, f.began, wanted{target: t, grant: g}, scheduled, nil)
	f.runner.trace(t, g.address, result)
	now := time.Now()
	f.mu.Lock()
	f.results[i], f.ended[i] = result, now
	f.mu.Unlock()
	if f.hasCounted() {
		f.runner.note(Entry{Report: Report{Target: t, Result: result, At: now}}, f.plan.records[i])
	}
}

// reports returns what is known of each target now.
func (f *flight) reports() []Report {
	reports := make([]Report, len(f.plan.Targets))
	f.mu.Lock()
	for i := range reports {
		r := Report{Target: &f.plan.Targets[i], Result: f.results[i], At: f.ended[i], Tally: &f.plan.records[i].Tally}
		if r.At.IsZero() {
			r.Result = notRun(errUnderWay)
		}
		reports[i] = r
	}
	f.mu.Unlock()
	f.runner.background.fill(f.plan, reports)
	for i := range reports {
		f.runner.addPath(reports[i].Target, &reports[i].Result)
	}
	return reports
}
