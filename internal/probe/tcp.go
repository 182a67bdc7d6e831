package probe

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// TCP connects to host:port, and says and hears there what its module asks for.
// By default it sends no byte: a printer prints what it receives.
type TCP struct {
	Resolution
	Breadth
	Conversation
	// SourceAddress is the address of this host to connect from; the zero value
	// lets the kernel choose.
	SourceAddress netip.Addr
	// CloseReset ends the connection with an RST (SO_LINGER 0), so that no
	// socket stays in TIME_WAIT on either side.
	CloseReset bool
}

// Probe implements [Prober].
func (p *TCP) Probe(ctx context.Context, r Request) Result {
	found := newSamples()
	addrs, failed := p.targets(ctx, "tcp", r, tcpDuration, &found)
	if failed != nil {
		failed.Samples = found
		return *failed
	}
	return p.probe(addrs, found, tcpAddresses, tcpAddressesOpen, func(addr netip.AddrPort, found samples) Result {
		return p.probeAddress(ctx, r, addr, found)
	})
}

func (p *TCP) probeAddress(ctx context.Context, r Request, addr netip.AddrPort, found samples) Result {
	a := Attempt{Target: addr, Source: p.SourceAddress, Allow: r.Allow}
	start := time.Now()
	conn, failed := a.Connect(ctx)
	found.set(tcpDuration, time.Since(start).Seconds(), PhaseConnect.Labels()...)
	noteHandshake(&found, &a)
	if failed != nil {
		result := failed.Result(addr)
		result.Samples = found
		return result
	}
	result := Result{Peer: addr}
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

// noteHandshake notes what TCP_INFO says of a connection.
func noteHandshake(found *samples, a *Attempt) {
	handshake, ok := a.Handshake()
	if !ok {
		return
	}
	found.set(tcpRetransmits, float64(handshake.Retransmits))
	if handshake.RoundTrip > 0 {
		found.set(tcpRoundTrip, handshake.RoundTrip.Seconds())
	}
}
