package prober

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// UDP asks a port with a datagram, which is sent again after one second and
// after three. A reply is Open, and Mismatch when it is none to the payload or
// not what is expected. A port that keeps silent may be open or filtered, and
// that is unknown: NoReply. Of a server that never replies, as of syslog, the
// module expects NoReply; then it watches for rejections.
type UDP struct {
	dial.Resolution
	Breadth
	// SourceAddress is the address of this host that datagrams come from; the
	// zero value lets the kernel choose.
	SourceAddress netip.Addr
	Payload       payload.Payload
	// Expect matches a reply; nil matches every reply.
	Expect *regexp.Regexp
	// ExpectBytes are somewhere in a reply.
	ExpectBytes []byte
}

// udpSchedule returns when datagrams are sent, counted from the first.
func udpSchedule() []time.Duration { return []time.Duration{0, time.Second, 3 * time.Second} }

// The metrics of the udp prober.
var (
	udpDuration = &probe.Metric{Name: "probe_udp_duration_seconds", Help: "Duration of a UDP probe by phase, in seconds.", Labels: []string{"phase"}}
	udpRequests = &probe.Metric{Name: "probe_udp_requests", Help: "Datagrams sent, retries included."}
	udpReplies  = &probe.Metric{Name: "probe_udp_replies", Help: "Datagrams received in reply."}

	udpAddresses     = &probe.Metric{Name: "probe_udp_addresses", Help: "Addresses of the name that were probed; only with all_ips."}
	udpAddressesOpen = &probe.Metric{Name: "probe_udp_addresses_open", Help: "Addresses of the name that are open; only with all_ips."}
)

func udpMetrics() []*probe.Metric {
	return []*probe.Metric{udpDuration, udpRequests, udpReplies, udpAddresses, udpAddressesOpen}
}

// Probe implements [probe.Prober].
func (u *UDP) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	found.Set(udpRequests, 0)
	found.Set(udpReplies, 0)
	_, addrs, failed := u.Targets(ctx, probe.KindUDP, "", &r, udpDuration, &found)
	if failed != nil {
		return *failed
	}
	return u.probe(addrs, found, udpAddresses, udpAddressesOpen, func(addr netip.AddrPort, found probe.Samples) probe.Result {
		return u.probeAddress(ctx, r, addr, found)
	})
}

func (u *UDP) probeAddress(ctx context.Context, r probe.Request, addr netip.AddrPort, found probe.Samples) probe.Result {
	d := &dial.Datagrams{Target: addr, Source: source(&r, u.SourceAddress), Device: r.Device, Allow: r.Allow}
	result := u.ask(ctx, d, &found)
	found.Set(udpRequests, float64(d.Sent))
	found.Set(udpReplies, float64(d.Received))
	result.Samples = found
	return result
}

func (u *UDP) ask(ctx context.Context, d *dial.Datagrams, found *probe.Samples) probe.Result {
	if err := d.Connect(ctx); err != nil {
		return d.Failed(probe.PhaseConnect, err)
	}
	defer d.Conn.Close()

	start := time.Now()
	m := u.Payload.Message(dial.LocalAddr(d.Conn), d.Target)
	err := d.Exchange(ctx, m.Request, udpSchedule(), func(reply []byte) error { return u.judge(m, reply) })
	found.Set(udpDuration, time.Since(start).Seconds(), probe.PhaseExchange.Labels()...)
	if err != nil {
		return d.Failed(probe.PhaseExchange, err)
	}
	return probe.Result{Outcome: probe.Open, Peer: d.Target}
}

// judge returns an error when a reply is not what the module expects.
func (u *UDP) judge(m payload.Message, reply []byte) error {
	if m.Check != nil {
		if err := m.Check(reply); err != nil {
			return probe.TargetFault(probe.Mismatch, err)
		}
	}
	if u.Expect != nil && !u.Expect.Match(reply) {
		return probe.TargetFault(probe.Mismatch, fmt.Errorf("the reply does not match %q", u.Expect))
	}
	if !bytes.Contains(reply, u.ExpectBytes) {
		return probe.TargetFault(probe.Mismatch, fmt.Errorf("the reply does not contain %x", u.ExpectBytes))
	}
	return nil
}
