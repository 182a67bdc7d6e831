// Package trace finds out where on the way to a target packets die: by TCP SYNs or UDP
// datagrams whose TTL runs out at one router after the other, on ordinary sockets that
// keep the ICMP errors they cause (IP_RECVERR). It requires no privilege. It also finds
// the MTU of the path, and whether larger packets die in silence.
package trace

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// The bounds of one trace. What it sends is SYNs, datagrams without content or with
// that of [Options], and echo requests.
const (
	// MaxHops is the longest path that is followed.
	MaxHops = 30
	// MaxPackets is how many packets are sent at most, beside those of the kernel: it
	// repeats the one SYN that has the usual TTL up to [MaxRepeats] times.
	MaxPackets = 200
	MaxRepeats = 3
	// MaxDuration is how long a trace takes at most. One that ends in silence takes four
	// seconds, and some more to find an MTU.
	MaxDuration = 15 * time.Second
	// OtherPort is a port where hosts rarely listen, as traceroute(8) takes it: their
	// rejection shows that they are up.
	OtherPort = 33434

	// gap is how many hops in a row may be silent before the path ends.
	gap = 5
	// revisits is how often a router must be met to be part of a loop. Twice may be a
	// route that changes.
	revisits = 3
)

// Options say what to trace.
type Options struct {
	Target   netip.AddrPort
	Protocol string // tcp or udp
	// Source is the address of this host to send from; the zero value lets the kernel
	// choose.
	Source netip.Addr
	Device string // [probe.Request].Device
	// Payload is what a datagram to the target has, for UDP.
	Payload []byte
	// Allow is [probe.Request].Allow. What it denies is left out; where that is the
	// target, nothing is sent.
	Allow func(netip.AddrPort) error
}

// Path is what was found of the way to a target.
type Path struct {
	Target   netip.AddrPort
	Protocol string
	// Hops are those of the path from the first on, the silent ones among them too, up to
	// the last that answered.
	Hops []Hop
	// Answer is that of the target's port, or of who answered in its place.
	Answer Answer
	// Host is an answer of the target's host to something else, if there is one: a ping,
	// or a closed port.
	Host Answer
	// Loop has the routers that send packets in a circle; empty if there is none.
	Loop []netip.Addr

	MTU MTU
	// Packets is how many packets were sent.
	Packets int
}

// Hop is one step of a path.
type Hop struct {
	Number    int        // the TTL that reached it
	Addr      netip.Addr // who answered; the zero value is silence
	RoundTrip time.Duration
	// ICMP is the error that it sent; the zero value if it is the target and answered by
	// its protocol.
	ICMP probe.ICMPError
}

// Answer is what a packet with the usual TTL led to.
type Answer struct {
	// To says what was asked: tcp/80, udp/33434, ping.
	To        string
	Outcome   probe.Outcome // NoReply and Timeout are silence
	Origin    probe.Origin
	ICMP      probe.ICMPError
	RoundTrip time.Duration
	Err       error // nil if it was reached
}

// IsTarget reports whether it is the target's host that answered.
func (a *Answer) IsTarget() bool {
	return a.To != "" && (a.Outcome == probe.Open || a.Origin == probe.OriginTarget || a.Origin == probe.OriginTargetFirewall)
}

// LastHop returns the last hop that answered and is not the target; false if none did.
// Its number is 0 where that is a router which rejects packets and is no hop otherwise.
func (p *Path) LastHop() (Hop, bool) {
	rejector := netip.Addr{}
	if p.Answer.Origin == probe.OriginNetwork && len(p.Loop) == 0 {
		rejector = p.Answer.ICMP.Offender
	}
	for _, h := range slices.Backward(p.Hops) {
		if h.Addr.IsValid() && !netaddr.SameHost(h.Addr, p.Target.Addr()) && (!rejector.IsValid() || h.Addr == rejector) {
			return h, true
		}
	}
	return Hop{Addr: rejector, ICMP: p.Answer.ICMP}, rejector.IsValid()
}

// Run traces the path to a target. It takes [MaxDuration] at most. When ctx ends before
// it is done, it returns what it knows, and the error of ctx. A [probe.DeniedError] says
// that Allow denies the target; errors.ErrUnsupported, that this system keeps no ICMP
// errors for its sockets.
//
// It stays on the caller's thread, so that its sockets are of its network namespace.
func Run(ctx context.Context, o Options) (Path, error) {
	o.Target = netip.AddrPortFrom(o.Target.Addr().Unmap(), o.Target.Port())
	var err error
	if o.Target, err = dial.Numbered(ctx, o.Target); err != nil {
		return Path{}, err
	}
	p := Path{Target: o.Target, Protocol: o.Protocol}
	if err := dial.Allowed(o.Allow, o.Target.String()); err != nil {
		return p, err
	}
	w, err := newWire(ctx, &o)
	if err != nil {
		return p, err
	}
	defer w.close()
	limited, cancel := context.WithTimeout(ctx, MaxDuration)
	defer cancel()
	t := newTrail(&o, &p)
	t.netns = probe.NetnsOf(ctx)
	err = w.exchange(limited, t.questions, t.grow)
	t.report()
	if err == nil && p.Answer.Origin != probe.OriginLocal {
		err = t.measure(limited, w)
	}
	p.Packets = w.packets
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = nil // MaxDuration
	}
	return p, err
}

// trail follows the path, hop by hop.
type trail struct {
	*Options
	netns     probe.Netns // of the sockets; nil is our own
	path      *Path
	final     *question   // with the usual TTL
	others    []*question // to the host of the target
	hops      []*question
	questions []*question // all of them
	end       int         // the hop that ends the path; 0 if none is known to
}

func newTrail(o *Options, p *Path) *trail {
	t := &trail{Options: o, path: p, final: o.question(0)}
	t.final.tries, t.final.life = finalTries(t.final.method), finalLife
	t.others = []*question{
		{method: echo, to: netip.AddrPortFrom(o.Target.Addr(), 0)},
		{method: syn, to: o.otherPort()},
		{method: datagram, to: o.otherPort()},
	}
	t.questions = append([]*question{t.final}, t.others...)
	return t
}

// question returns that to the target with a TTL; 0 is the usual one.
func (o *Options) question(ttl int) *question {
	q := &question{method: syn, to: o.Target, ttl: ttl}
	if o.Protocol == probe.KindUDP {
		q.method, q.data = datagram, o.Payload
	}
	return q
}

// otherPort returns a port of the target's host that is not the target.
func (o *Options) otherPort() netip.AddrPort {
	port := uint16(OtherPort)
	if o.Target.Port() == port {
		port++
	}
	return netip.AddrPortFrom(o.Target.Addr(), port)
}

// grow asks further hops as nearer ones answer, and leaves out what lies behind the end.
func (t *trail) grow(all []*question) []*question {
	if t.final.answer != nil && !t.final.answer.sent { // nothing leaves this host
		for _, q := range all {
			q.withdraw()
		}
		return all
	}
	last := 0
	t.end = 0
	for i, q := range t.hops {
		if q.isAnonymous() { // a datagram has a name for it
			t.hops[i] = &question{method: datagram, to: t.otherPort(), ttl: i + 1}
			all = append(all, t.hops[i])
			continue
		}
		if q.answer == nil || !q.answer.sent {
			continue
		}
		last = i + 1
		if !q.answer.icmp.Expired() {
			t.end = last
			break
		}
	}
	if t.end == 0 && len(t.circle()) > 0 {
		t.end = last
	}
	for i := t.end; t.end > 0 && i < len(t.hops); i++ {
		t.hops[i].withdraw()
	}
	for t.end == 0 && len(t.hops) < min(last+gap, MaxHops) {
		q := t.question(len(t.hops) + 1)
		t.hops, all = append(t.hops, q), append(all, q)
	}
	return all
}

// circle returns the routers that were met again and again.
func (t *trail) circle() []netip.Addr {
	met := map[netip.Addr]int{}
	var members []netip.Addr
	for _, q := range t.hops {
		if q.answer == nil || !q.answer.icmp.Expired() {
			continue
		}
		from := q.answer.icmp.Offender
		if met[from]++; met[from] == 2 {
			members = append(members, from)
		}
	}
	if !slices.ContainsFunc(members, func(a netip.Addr) bool { return met[a] >= revisits }) {
		return nil
	}
	return members
}

// report puts what was found into the path.
func (t *trail) report() {
	p := t.path
	p.Answer = t.answerOf(t.final)
	for _, q := range t.others {
		if a := t.answerOf(q); a.IsTarget() && !p.Host.IsTarget() {
			p.Host = a
		}
	}
	for i, q := range t.hops {
		if t.end > 0 && i >= t.end {
			break
		}
		p.Hops = append(p.Hops, t.hopOf(i+1, q))
	}
	for len(p.Hops) > 0 && !p.Hops[len(p.Hops)-1].Addr.IsValid() {
		p.Hops = p.Hops[:len(p.Hops)-1]
	}
	if p.Loop = t.circle(); len(p.Loop) > 0 {
		p.Hops = upToSecond(p.Hops, p.Loop[0])
	}
	p.foldRejection()
}

// upToSecond returns the hops up to the second of a router in a loop: what follows is
// the same again.
func upToSecond(hops []Hop, router netip.Addr) []Hop {
	met := 0
	for i := range hops {
		if hops[i].Addr == router {
			if met++; met == 2 {
				return hops[:i+1]
			}
		}
	}
	return hops
}

// foldRejection drops the last hop where it is the one before it, which forwards no
// further: it counted the packet as forwarded before it rejected it.
func (p *Path) foldRejection() {
	n := len(p.Hops)
	if n < 2 || len(p.Loop) > 0 || p.Hops[n-1].ICMP.Expired() || p.Hops[n-1].Addr != p.Hops[n-2].Addr {
		return
	}
	p.Hops[n-2].ICMP = p.Hops[n-1].ICMP
	p.Hops = p.Hops[:n-1]
}

// hopOf returns what was found at a TTL.
func (t *trail) hopOf(number int, q *question) Hop {
	h := Hop{Number: number}
	if q.answer == nil || !q.answer.sent || !q.answer.icmp.Expired() && dial.IsOwn(t.netns, q.answer.icmp.Offender) {
		return h
	}
	h.RoundTrip, h.ICMP = q.answer.roundTrip, q.answer.icmp
	if h.ICMP.Offender.IsValid() {
		h.Addr = h.ICMP.Offender
	} else {
		h.Addr = t.Target.Addr()
	}
	return h
}

// answerOf says what came of a question.
func (t *trail) answerOf(q *question) Answer {
	a := Answer{To: q.String()}
	switch {
	case q.withdrawn || q.sent == 0 && q.answer == nil:
		return Answer{}
	case q.answer == nil && q.method == datagram:
		a.Outcome, a.Err = probe.NoReply, dial.ErrNoReply
	case q.answer == nil:
		a.Outcome, a.Err = probe.Timeout, context.DeadlineExceeded
	default:
		a.RoundTrip, a.ICMP, a.Err = q.answer.roundTrip, q.answer.icmp, q.answer.err
		if a.Err == nil {
			break
		}
		classify := dial.Classify
		if q.method == datagram {
			classify = dial.ClassifyDatagram
		}
		a.Outcome, a.Origin = classify(a.Err, dial.Evidence{
			ICMP: a.ICMP, Target: t.Target.Addr(), Own: dial.IsOwn(t.netns, a.ICMP.Offender), Sent: q.answer.sent,
		})
	}
	return a
}
