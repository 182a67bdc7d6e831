package probe

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"time"
)

// UDP asks a port with a datagram, which is sent again after one second and
// after three. A reply is Open, and Mismatch when it is none to the payload or
// not what is expected. A port that keeps silent may be open or filtered, and
// nobody can tell: NoReply. Of a server that never replies, as of syslog, the
// module expects NoReply; then it watches that nobody refuses.
type UDP struct {
	Resolution
	Breadth
	// SourceAddress is the address of this host that datagrams come from; the
	// zero value lets the kernel choose.
	SourceAddress netip.Addr
	Payload       Payload
	// Expect matches a reply; nil matches every reply.
	Expect *regexp.Regexp
	// ExpectBytes are somewhere in a reply.
	ExpectBytes []byte
}

// udpSchedule returns when datagrams are sent, counted from the first.
func udpSchedule() []time.Duration { return []time.Duration{0, time.Second, 3 * time.Second} }

// The metrics of the udp prober.
var (
	udpDuration = &Metric{Name: "probe_udp_duration_seconds", Help: "Duration of a UDP probe by phase", Labels: []string{"phase"}}
	udpRequests = &Metric{Name: "probe_udp_requests", Help: "Datagrams sent: more than one when the first was not answered within a second"}
	udpReplies  = &Metric{Name: "probe_udp_replies", Help: "Datagrams received in reply"}

	udpAddresses     = &Metric{Name: "probe_udp_addresses", Help: "How many addresses of the name were probed, with all_ips"}
	udpAddressesOpen = &Metric{Name: "probe_udp_addresses_open", Help: "How many of the addresses of the name were open, with all_ips"}
)

func udpMetrics() []*Metric {
	return []*Metric{udpDuration, udpRequests, udpReplies, udpAddresses, udpAddressesOpen}
}

// Probe implements [Prober].
func (u *UDP) Probe(ctx context.Context, r Request) Result {
	found := newSamples()
	found.set(udpRequests, 0)
	found.set(udpReplies, 0)
	addrs, failed := u.targets(ctx, "udp", r, udpDuration, &found)
	if failed != nil {
		failed.Samples = found
		return *failed
	}
	return u.probe(addrs, found, udpAddresses, udpAddressesOpen, func(addr netip.AddrPort, found samples) Result {
		return u.probeAddress(ctx, r, addr, found)
	})
}

func (u *UDP) probeAddress(ctx context.Context, r Request, addr netip.AddrPort, found samples) Result {
	d := &Datagrams{Target: addr, Source: u.SourceAddress, Allow: r.Allow}
	result := u.ask(ctx, d, &found)
	found.set(udpRequests, float64(d.Sent))
	found.set(udpReplies, float64(d.Received))
	result.Samples = found
	return result
}

func (u *UDP) ask(ctx context.Context, d *Datagrams, found *samples) Result {
	if err := d.Connect(ctx); err != nil {
		return d.Failed(PhaseConnect, err)
	}
	defer d.Conn.Close()

	start := time.Now()
	m := u.Payload.message(localOf(d.Conn), d.Target)
	err := d.Exchange(ctx, m.request, udpSchedule(), func(reply []byte) error { return u.judge(m, reply) })
	found.set(udpDuration, time.Since(start).Seconds(), PhaseExchange.Labels()...)
	if err != nil {
		return d.Failed(PhaseExchange, err)
	}
	return Result{Outcome: Open, Peer: d.Target}
}

// judge returns an error when a reply is not what the module expects.
func (u *UDP) judge(m message, reply []byte) error {
	if m.check != nil {
		if err := m.check(reply); err != nil {
			return TargetFault(Mismatch, err)
		}
	}
	if u.Expect != nil && !u.Expect.Match(reply) {
		return TargetFault(Mismatch, fmt.Errorf("the reply does not match %q", u.Expect))
	}
	if !bytes.Contains(reply, u.ExpectBytes) {
		return TargetFault(Mismatch, fmt.Errorf("the reply does not contain %x", u.ExpectBytes))
	}
	return nil
}
