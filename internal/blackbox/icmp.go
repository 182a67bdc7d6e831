package blackbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// probeICMP hands the prober an address that is allowed, as probeDNS does. The
// port of the address is 0.
func (p *Prober) probeICMP(ctx context.Context, r probe.Request) probe.Result {
	m := p.module
	at, took, failed := locate(ctx, r, m.ICMP.IPProtocol, m.ICMP.IPProtocolFallback, r.Address, 0)
	if failed != nil {
		failed.Samples = append(failed.Samples, p.atRest(took)...)
		return *failed
	}
	deadline, _ := ctx.Deadline()
	watch := watchErrors(at.Addr(), deadline)
	f := p.execute(ctx, at.Addr().String(), &m, r.Log)
	result := resultOfICMP(ctx, f)
	if e := watch.stop(); e != nil && result.Outcome == probe.Timeout {
		result.Outcome, result.Origin = probe.ClassifyICMP(e.kind, e.code, e.offender, at.Addr())
		result.Offender = e.offender
		result.Err = fmt.Errorf("icmp type %d code %d from %v", e.kind, e.code, e.offender)
	}
	result.Peer = at
	result.Samples = samplesOf(f.families)
	setLookup(result.Samples, took)
	return result
}

// resultOfICMP says what became of an echo request, ICMP errors apart. There is
// no connection that an exchange could follow: whether the target is reached is
// all that a ping asks, so what fails is the phase connect.
func resultOfICMP(ctx context.Context, f findings) probe.Result {
	err := f.log.last()
	switch {
	case f.success:
		return probe.Result{}
	case f.panicked != nil:
		return probe.Result{Outcome: probe.Unknown, Err: f.panicked}
	case f.overdue, err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: errors.New("the module cannot be used as it is")}
	}
	r := probe.Result{Phase: probe.PhaseConnect, Err: err}
	r.Outcome, r.Origin = classify(err)
	var op *net.OpError
	switch {
	case errors.As(err, &op) && op.Op == "listen": // no right to make such a socket, or no such source address
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	case errors.Is(err, syscall.EMSGSIZE): // larger than the path takes
		r.Outcome, r.Origin = probe.Unreachable, probe.OriginLocal
	case r.Outcome == probe.Unreachable, r.Outcome == probe.Prohibited:
		r.Origin = probe.OriginLocal // the packet was not sent
	}
	return r
}
