package schedule

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// Ask is a probe that somebody asked for.
type Ask struct {
	Target string
	Module *probe.Module
	// Hostname is what the target is to see. With another one than is configured
	// it is no probe of the configured target: the client chose it.
	Hostname string
	// Netns is the network namespace of a configured target; others are probed from our own.
	Netns string
	// Alone asks for a probe of one's own, for who wants to read its log, though an
	// equal one may be under way.
	Alone bool
	// Probe probes in place of the module, with its access and in its slot; nil is the
	// module. Then it is Alone.
	Probe func(context.Context, *probe.Target, probe.Request) probe.Result
}

// ask is what makes asks equal.
type ask struct {
	plan             *Plan
	module           *probe.Module
	target, hostname string
	netns            string
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
// them waits for it. A [probe.DeniedError] says that the access does not allow it, and
// nothing was sent; another error is that of a ctx that was cancelled, or that
// the runner has stopped.
func (r *Runner) Once(ctx context.Context, p *Plan, a Ask) (Entry, error) {
	a.Target, a.Hostname = strings.Clone(a.Target), strings.Clone(a.Hostname) // each may be part of a long request
	w, err := p.requested(a)
	if err != nil {
		return Entry{}, err
	}
	w.probe = a.Probe
	c, err := r.call(ctx, ask{p, a.Module, a.Target, a.Hostname, a.Netns}, a.Alone || a.Probe != nil, func(c *call) {
		c.entry = r.once(c, w)
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

// grant is what the probe of a target may reach.
type grant struct {
	host    func(string) error         // [probe.Request].AllowHost
	address func(netip.AddrPort) error // [probe.Request].Allow
}

// wanted is what is to be probed for an ask.
type wanted struct {
	target *probe.Target
	grant
	record *record                                                          // of a configured target; nil of another
	probe  func(context.Context, *probe.Target, probe.Request) probe.Result // [Ask].Probe
}

// requested returns the target of an ask, and what its probe may reach.
func (p *Plan) requested(a Ask) (wanted, error) {
	if !access.TakesHostname(a.Module.Kind) {
		a.Hostname = ""
	}
	if i, ok := p.find(a); ok {
		t := p.Targets[i]
		return wanted{target: &t, grant: grant{address: p.Access.Configured(a.Module, a.Target)}, record: p.records[i]}, nil
	}
	if a.Netns != "" {
		return wanted{}, &probe.DeniedError{
			Reason: fmt.Sprintf("no configured target has the address %s, this module and the network namespace %s", a.Target, a.Netns),
			Hint:   "only configured targets are probed from other network namespaces: netns of a target",
		}
	}
	permit, err := p.Access.Permit(a.Module, a.Target, access.HostnameOf(a.Module.Kind, a.Target, a.Hostname))
	if err != nil {
		return wanted{}, err
	}
	t := &probe.Target{Address: a.Target, Module: a.Module, Hostname: a.Hostname}
	return wanted{target: t, grant: grant{permit.AllowHost, permit.Allow}}, nil
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

// once probes and remembers it. The counters are those of scheduled probes only.
func (r *Runner) once(c *call, w wanted) Entry {
	var log Logbook
	result := r.probe(c.ctx, c.began, w, requested, log.Logger())
	r.trace(w.target, w.address, result)
	r.addPath(w.target, &result)
	entry := Entry{Report: Report{Target: w.target, Result: result, At: time.Now()}, Log: log.Text(w.target.Address)}
	if c.ctx.Err() == nil || result.Outcome != probe.NotRun { // not when the clients have gone before its turn
		entry.ID = r.note(entry, nil)
		if w.record != nil {
			w.record.remember(entry.Report)
		}
	}
	return entry
}
