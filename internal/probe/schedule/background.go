package schedule

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// background probes the targets that have an interval. One goroutine for each of
// the two pools waits for what is due next, and starts it when it has a slot.
type background struct {
	runner *Runner

	mu    sync.Mutex
	items map[string]*item // by key of target
	light lane
	heavy lane
}

// lane is the queue of one pool.
type lane struct {
	queue   dueQueue
	wake    chan struct{} // has room for one: the queue has changed
	started bool
}

// item is a target in the background.
type item struct {
	target *probe.Target
	access *access.Control
	record *record
	due    time.Time
	index  int  // in its queue; -1 while it is being probed
	gone   bool // not in the plan any more

	result probe.Result
	ended  time.Time // zero before the first result
}

func newBackground(r *Runner) *background {
	b := &background{runner: r, items: map[string]*item{}}
	b.light.wake, b.heavy.wake = make(chan struct{}, 1), make(chan struct{}, 1)
	return b
}

// use puts the targets of a plan in place of those before. One that is kept, with
// the same interval, is due when it was; one that is new soon has its first turn,
// so that no alert resolves because the exporter was restarted. The caller holds
// the runner's mu.
func (b *background) use(p *Plan) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.items
	b.items = map[string]*item{}
	b.light.queue, b.heavy.queue = nil, nil
	now := time.Now()
	for i := range p.Targets {
		t := &p.Targets[i]
		if t.Interval <= 0 || p.OnRequest {
			continue
		}
		it := before[p.keys[i]]
		delete(before, p.keys[i])
		if it == nil {
			it = &item{due: firstTurn(t, now)}
		} else if it.target.Interval != t.Interval && it.index >= 0 {
			it.due = nextTurn(t, now)
			if it.ended.IsZero() {
				it.due = firstTurn(t, now)
			}
		}
		it.target, it.access, it.record = t, &p.Access, p.records[i]
		b.items[p.keys[i]] = it
		if it.index >= 0 {
			b.push(it)
		}
	}
	for _, it := range before {
		it.gone = true
	}
	for _, l := range []*lane{&b.light, &b.heavy} {
		b.start(l)
	}
}

func (b *background) push(it *item) {
	l := &b.light
	if it.target.Module.Heavy() {
		l = &b.heavy
	}
	heap.Push(&l.queue, it)
}

// start wakes a lane, or starts it when it has something to do for the first
// time.
func (b *background) start(l *lane) {
	if !l.started && len(l.queue) > 0 && b.runner.ctx.Err() == nil {
		l.started = true
		b.runner.tasks.Go(func() { b.run(l) })
	}
	l.rouse()
}

func (l *lane) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run starts what is due in a lane until the runner stops.
func (b *background) run(l *lane) {
	ctx := b.runner.ctx
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		it, wait := b.next(l)
		if it != nil {
			b.probe(ctx, it)
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-l.wake:
		case <-ctx.Done():
		}
	}
}

// next returns what is due, or how long nothing is.
func (b *background) next(l *lane) (*item, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(l.queue) == 0 {
		return nil, time.Hour // until it is woken
	}
	if wait := time.Until(l.queue[0].due); wait > 0 {
		return nil, wait
	}
	return heap.Pop(&l.queue).(*item), 0
}

// probe waits for a slot for the target and then probes it beside the lane, so
// that there are as many goroutines as slots at most.
func (b *background) probe(ctx context.Context, it *item) {
	target, _, _ := b.now(it)
	leave, err := b.runner.enter(ctx, target.Module, scheduled)
	if err != nil {
		return // the runner stops
	}
	target, allowed, gone := b.now(it) // a reload may have come in between
	if gone {
		leave()
		return
	}
	b.runner.tasks.Go(func() {
		defer leave()
		allow := allowed.Configured(target.Module, target.Address)
		result := target.Module.Probe(b.runner.within(ctx, target), probe.Request{Address: target.Address, Hostname: target.Hostname, Allow: allow, Bodies: b.runner.bodies})
		if ctx.Err() == nil {
			b.runner.trace(target, allow, result)
			b.finish(it, Report{Target: target, Result: result, At: time.Now()})
		}
	})
}

// now returns what the plan in force says of an item.
func (b *background) now(it *item) (t *probe.Target, allowed *access.Control, gone bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return it.target, it.access, it.gone
}

// finish keeps a result, and puts its target back in the queue.
func (b *background) finish(it *item, report Report) {
	b.mu.Lock()
	record := it.record
	if it.gone {
		record = nil
	} else {
		it.result, it.ended = report.Result, report.At
		it.due = nextTurn(it.target, report.At)
		b.push(it)
		b.light.rouse()
		b.heavy.rouse()
	}
	b.mu.Unlock()
	b.runner.note(Entry{Report: report}, record)
}

// fill puts the latest results in the reports of the targets that have an
// interval.
func (b *background) fill(p *Plan, reports []Report) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range reports {
		if p.Targets[i].Interval <= 0 {
			continue
		}
		it := b.items[p.keys[i]]
		if it == nil || it.ended.IsZero() {
			reports[i].Result, reports[i].At = notRun(errNotYet), time.Time{}
			continue
		}
		reports[i].Result, reports[i].At = it.result, it.ended
	}
}

// dueQueue is a heap, what is due first in front.
type dueQueue []*item

func (q dueQueue) Len() int           { return len(q) }
func (q dueQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements [heap.Interface].
func (q *dueQueue) Push(x any) {
	it := x.(*item)
	it.index = len(*q)
	*q = append(*q, it)
}

// Pop implements [heap.Interface].
func (q *dueQueue) Pop() any {
	last := len(*q) - 1
	it := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	it.index = -1
	return it
}
