// Package prober has the probers, a file each: what is said to a target of a
// protocol, and what its answer is worth.
package prober

import (
	"cmp"
	"context"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// TCP connects to host:port, and says and hears there what its module asks for.
// By default it sends no byte: a printer prints what it receives.
type TCP struct {
	dial.Resolution
	Breadth
	Conversation
	// SourceAddress is the address of this host to connect from; the zero value
	// lets the kernel choose.
	SourceAddress netip.Addr
	// CloseReset ends the connection with an RST (SO_LINGER 0), so that no
	// socket stays in TIME_WAIT on either side.
	CloseReset bool
}

// Probe implements [probe.Prober].
func (p *TCP) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	to, addrs, failed := p.Targets(ctx, probe.KindTCP, "", &r, tcpDuration, &found)
	if failed != nil {
		return *failed
	}
	return p.probe(addrs, found, tcpAddresses, tcpAddressesOpen, func(addr netip.AddrPort, found probe.Samples) probe.Result {
		return p.probeAddress(ctx, &r, serverName(&r, to), addr, found)
	})
}

func (p *TCP) probeAddress(ctx context.Context, r *probe.Request, serverName string, addr netip.AddrPort, found probe.Samples) probe.Result {
	a := dial.Attempt{Target: addr, Source: source(r, p.SourceAddress), Device: r.Device, Allow: r.Allow, Exchanges: p.TLS || len(p.Exchange) > 0}
	start := time.Now()
	conn, failed := a.Connect(ctx)
	found.Set(tcpDuration, time.Since(start).Seconds(), probe.PhaseConnect.Labels()...)
	noteHandshake(&found, &a)
	if failed != nil {
		result := failed.Result(addr)
		result.Samples = found
		return result
	}
	result := probe.Result{Peer: addr}
	if p.CloseReset {
		_ = conn.SetLinger(0)
	}
	s := session{
		Conversation: &p.Conversation, conn: conn, serverName: serverName, peer: addr.Addr(),
		duration: tcpDuration, samples: found, log: r.Log,
	}
	s.run(ctx, &result)
	return result
}

// source returns the address to send from: that of the request, else the module's.
func source(r *probe.Request, ofModule netip.Addr) netip.Addr {
	if r.Source.IsValid() {
		return r.Source
	}
	return ofModule
}

// serverName is what a target is called towards it.
func serverName(r *probe.Request, to probe.Address) string {
	return cmp.Or(probe.ASCIIHost(r.Hostname), to.Host)
}

// noteHandshake notes what TCP_INFO says of a connection.
func noteHandshake(found *probe.Samples, a *dial.Attempt) {
	handshake, ok := a.Handshake()
	if !ok {
		return
	}
	found.Set(tcpRetransmits, float64(handshake.Retransmits))
	if handshake.RoundTrip > 0 {
		found.Set(tcpRoundTrip, handshake.RoundTrip.Seconds())
	}
}
