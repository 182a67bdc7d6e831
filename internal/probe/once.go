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
	shared
	entry Entry // when it is done
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
	defer r.leave(&c.shared)
	select {
	case <-c.done:
	case <-ctx.Done():
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return Entry{}, context.Cause(ctx)
		}
		<-c.done // soon, for the call has hardly more time than ctx
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
	if c := r.calls[of]; !alone && c != nil && c.take(wanted) {
		return c, nil
	}
	c := &call{shared: newShared(wanted)}
	err := r.start(&c.shared, wanted, func() { run(c) }, func() {
		if r.calls[of] == c {
			delete(r.calls, of)
		}
	})
	if err == nil && !alone {
		r.calls[of] = c
	}
	return c, err
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
