package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// TCP connects to host:port, and says and hears there what its module asks for.
// By default it sends no byte: a printer prints what it receives.
type TCP struct {
	Resolution
	Conversation
	// SourceAddress is the address of this host to connect from; the zero value
	// lets the kernel choose.
	SourceAddress netip.Addr
	// CloseReset ends the connection with an RST (SO_LINGER 0), so that no
	// socket stays in TIME_WAIT on either side.
	CloseReset bool
	// AllIPs probes every address of the name. The result is that of the worst:
	// one that is open and must not be, before others that are not as Expect says,
	// before those that were not tried.
	AllIPs bool
	// Expect is the outcome that AllIPs is content with: [Module.Expect].
	Expect Outcome
}

// maxAddressesAtOnce bounds the connections of one probe.
const maxAddressesAtOnce = 16

// Probe implements [Prober].
func (p *TCP) Probe(ctx context.Context, r Request) Result {
	found := newSamples()
	start := time.Now()
	addrs, err := p.resolve(ctx, "tcp", r.Address, &found)
	found.set(tcpDuration, time.Since(start).Seconds(), phaseResolve...)
	if err != nil {
		outcome, origin := classifyLookup(err)
		return Result{Outcome: outcome, Phase: PhaseResolve, Origin: origin, Err: err, Samples: found}
	}
	if r.Log != nil {
		r.Log.Debug("resolved", "address", r.Address, "addresses", addrs)
	}
	if p.AllIPs {
		return p.probeAll(ctx, r, addrs, found)
	}
	return p.probeAddress(ctx, r, addrs[0], found)
}

// probeAll probes all addresses side by side, each for as long as there is.
func (p *TCP) probeAll(ctx context.Context, r Request, addrs []netip.AddrPort, found samples) Result {
	results := make([]Result, len(addrs))
	slots := make(chan struct{}, maxAddressesAtOnce)
	var probes sync.WaitGroup
	for i, addr := range addrs {
		mine := append(newSamples(), found...)
		mine.address(addr.Addr())
		slots <- struct{}{}
		probes.Go(func() {
			results[i] = p.probeAddress(ctx, r, addr, mine)
			<-slots
		})
	}
	probes.Wait()

	worst, open := results[0], 0
	for _, result := range results {
		if result.Outcome == Open {
			open++
		}
		if p.badness(result.Outcome) > p.badness(worst.Outcome) {
			worst = result
		}
	}
	all := samples(worst.Samples)
	all.set(tcpAddresses, float64(len(addrs)))
	all.set(tcpAddressesOpen, float64(open))
	worst.Samples = all
	return worst
}

// badness ranks the outcomes of the addresses. Whoever watches ports that must be
// closed is to hear of an open one, whatever else there is.
func (p *TCP) badness(o Outcome) int {
	switch {
	case o == p.Expect:
		return 0
	case !o.Tried():
		return 1
	case o == Open:
		return 3
	default:
		return 2
	}
}

func (p *TCP) probeAddress(ctx context.Context, r Request, addr netip.AddrPort, found samples) Result {
	a := attempt{target: addr, allow: r.Allow}
	start := time.Now()
	conn, err := a.dial(ctx, p.SourceAddress)
	found.set(tcpDuration, time.Since(start).Seconds(), phaseConnect...)
	found.handshake(&a)
	result := Result{Peer: addr}
	if err != nil {
		result.Outcome, result.Origin = classify(err, a.evidence())
		result.Phase, result.Offender, result.Err = PhaseConnect, a.icmp.offender, err
		result.Samples = found
		return result
	}
	if p.CloseReset {
		_ = conn.SetLinger(0)
	}
	s := session{
		Conversation: &p.Conversation, conn: conn, serverName: serverName(r), peer: addr.Addr(),
		duration: tcpDuration, samples: found, log: r.Log,
	}
	s.run(ctx, &result)
	return result
}

// serverName is what a target is called towards it.
func serverName(r Request) string {
	if r.Hostname != "" {
		return r.Hostname
	}
	host, _, _ := net.SplitHostPort(r.Address) // it was split to resolve it
	return host
}

// handshake notes what TCP_INFO told of a connection.
func (s *samples) handshake(a *attempt) {
	if !a.knowHandshake || !a.handshake.sent {
		return
	}
	s.set(tcpRetransmits, float64(a.handshake.retransmits))
	if a.handshake.roundTrip > 0 {
		s.set(tcpRoundTrip, a.handshake.roundTrip.Seconds())
	}
}
