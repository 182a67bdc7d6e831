package probe

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Ask is a probe that somebody asked for.
type Ask struct {
	Target   string
	Module   *Module
	Hostname string // if not empty, instead of the configured one
	// Alone asks for a probe of one's own, for who wants to read its log, though an
	// equal one may be under way.
	Alone bool
}

// ask is what makes asks equal.
type ask struct {
	plan             *Plan
	module           *Module
	target, hostname string
}

// call is a probe on request that is under way. Equal asks share it, so that
// many clients of one target take one slot.
type call struct {
	span
	ask     ask
	ctx     context.Context // ends when the probe must
	cancel  context.CancelCauseFunc
	waiters int           // of the runner's mu
	done    chan struct{} // closed when there is the entry
	entry   Entry
}

// Once probes one target on request: a configured one, or another if the plan's
// access allows it. What the prober logs is in the entry, which is in the history
// too. Equal asks at the same time share a probe, which lives as long as one of
// them waits for it. A [DeniedError] says that the access does not allow it, and
// nothing was sent; another error is that of a ctx that was cancelled, or that
// the runner has stopped.
func (r *Runner) Once(ctx context.Context, p *Plan, a Ask) (Entry, error) {
	a.Target, a.Hostname = strings.Clone(a.Target), strings.Clone(a.Hostname) // each may be part of a long request
	t, allow, err := p.requested(a)
	if err != nil {
		return Entry{}, err
	}
	c, err := r.call(ctx, ask{p, a.Module, a.Target, a.Hostname}, a.Alone, func(c *call) {
		c.entry = r.once(c, t, allow)
	})
	if err != nil {
		return Entry{}, err
	}
	defer r.hangUp(c)
	select {
	case <-c.done:
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Entry{}, context.Cause(ctx)
		}
		<-c.done // soon, for the call has no more time than ctx
	}
	return c.entry, nil
}

// requested returns the target of an ask, and what is to be asked before each
// packet to it.
func (p *Plan) requested(a Ask) (*Target, func(netip.AddrPort) error, error) {
	if i := p.configured[[2]string{a.Target, a.Module.Name}]; i > 0 {
		configured := p.Targets[i-1]
		configured.Hostname = cmp.Or(a.Hostname, configured.Hostname)
		return &configured, p.Access.allowConfigured(a.Module, a.Target), nil
	}
	if err := p.Access.mayAllow(a.Module, a.Target); err != nil {
		return nil, nil, err
	}
	return &Target{Address: a.Target, Module: a.Module, Hostname: a.Hostname}, p.Access.allowRequested(a.Module), nil
}

// call returns the call that is under way for what is asked, if its time is about
// that of ctx, or starts one.
func (r *Runner) call(ctx context.Context, of ask, alone bool, run func(*call)) (*call, error) {
	wanted := spanOf(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := context.Cause(r.ctx); err != nil { // no task may start after Stop
		return nil, err
	}
	if c := r.calls[of]; !alone && c != nil && c.waiters > 0 && c.serves(wanted) {
		c.waiters++
		return c, nil
	}
	c := &call{span: wanted, ask: of, waiters: 1, done: make(chan struct{})}
	var stop context.CancelFunc
	c.ctx, stop = wanted.bound(r.ctx)
	c.ctx, c.cancel = context.WithCancelCause(c.ctx)
	if !alone {
		r.calls[of] = c
	}
	r.tasks.Go(func() {
		defer stop()
		defer r.end(c)
		run(c)
	})
	return c, nil
}

// end lets go of a call that has its entry.
func (r *Runner) end(c *call) {
	close(c.done)
	c.cancel(nil)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls[c.ask] == c {
		delete(r.calls, c.ask)
	}
}

// hangUp takes a waiter away. Without any the call ends.
func (r *Runner) hangUp(c *call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.waiters--
	if c.waiters == 0 {
		c.cancel(errAbandoned)
	}
}

// once probes and remembers it.
func (r *Runner) once(c *call, t *Target, allow func(netip.AddrPort) error) Entry {
	var log logbook
	result := r.probe(c.ctx, c.began, t, allow, requested, log.logger())
	entry := Entry{Report: Report{Target: t, Result: result, At: time.Now()}, Log: log.text(t.Address)}
	if c.ctx.Err() == nil || result.Outcome != NotRun { // not when the clients have gone before its turn
		entry.ID = r.note(entry, nil)
	}
	return entry
}

// span is the time that probes have. It has no end where nothing bounds it.
type span struct{ began, ends time.Time }

// spanOf returns the time from now to the deadline of ctx.
func spanOf(ctx context.Context) span {
	deadline, _ := ctx.Deadline()
	return span{time.Now(), deadline}
}

// bound returns a context that ends with the span.
func (s span) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.ends.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, s.ends)
}

// aside is the part of one's time that what one shares may have begun and may end
// earlier: then nothing that one is told is much older, or had much less time,
// than what one would have found.
const aside = 4

// serves reports whether probes with this span will do for who comes with
// another. They must not end later, but for what the probes of a scrape leave it
// for telling: of two that come at once, the one whose time ends first may be
// here last.
func (s span) serves(other span) bool {
	if s.ends.IsZero() || other.ends.IsZero() {
		return s.ends.Equal(other.ends)
	}
	length := other.ends.Sub(other.began)
	early := other.ends.Sub(s.ends)
	return early >= -margin(length)/2 && early <= length/aside && other.began.Sub(s.began).Abs() <= length/aside
}
