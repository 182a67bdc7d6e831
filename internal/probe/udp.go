package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"syscall"
	"time"
)

// maxReply is how much of a reply is looked at, in bytes.
const maxReply = 2048

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
	d := &datagrams{target: addr, allow: r.Allow, source: u.SourceAddress}
	result := u.ask(ctx, d, &found)
	found.set(udpRequests, float64(d.sent))
	found.set(udpReplies, float64(d.received))
	result.Samples = found
	return result
}

func (u *UDP) ask(ctx context.Context, d *datagrams, found *samples) Result {
	if err := d.connect(ctx); err != nil {
		return d.failed(PhaseConnect, err)
	}
	defer d.conn.Close()

	start := time.Now()
	m := u.Payload.message(localOf(d.conn), d.target)
	err := d.exchange(ctx, m.request, udpSchedule(), func(reply []byte) error { return u.judge(m, reply) })
	found.set(udpDuration, time.Since(start).Seconds(), phaseExchange...)
	if err != nil {
		return d.failed(PhaseExchange, err)
	}
	return Result{Outcome: Open, Peer: d.target}
}

// judge returns an error when a reply is not what the module expects.
func (u *UDP) judge(m message, reply []byte) error {
	if m.check != nil {
		if err := m.check(reply); err != nil {
			return &wrongReplyError{err}
		}
	}
	if u.Expect != nil && !u.Expect.Match(reply) {
		return &wrongReplyError{fmt.Errorf("the reply does not match %q", u.Expect)}
	}
	if !bytes.Contains(reply, u.ExpectBytes) {
		return &wrongReplyError{fmt.Errorf("the reply does not contain %x", u.ExpectBytes)}
	}
	return nil
}

var (
	errNoReply = errors.New("no reply")
	errNotSent = errors.New("no time was left to send a datagram")
	// errPassOver is what a judge says of a datagram that does not matter.
	errPassOver = errors.New("not a reply")
)

// maxReplies bounds how many datagrams of one target are looked at.
const maxReplies = 64

// wrongReplyError says what is wrong with a reply.
type wrongReplyError struct{ err error }

func (e *wrongReplyError) Error() string { return e.err.Error() }
func (e *wrongReplyError) Unwrap() error { return e.err }

// datagrams are those of one probe. Their socket is connected, so that it gets
// the replies of its target only, and the ICMP errors of its own datagrams.
type datagrams struct {
	target netip.AddrPort
	source netip.Addr
	allow  func(netip.AddrPort) error

	conn           *net.UDPConn
	sent, received int
	icmp           icmpError
}

// connect makes the socket. No packet is sent.
func (d *datagrams) connect(ctx context.Context) error {
	if ctx.Err() != nil {
		return errNotSent
	}
	dialer := net.Dialer{Control: func(_, address string, c syscall.RawConn) error {
		if err := allowed(d.allow, address); err != nil {
			return err
		}
		return prepare(c, func(fd uintptr) error {
			return errors.Join(keepErrors(fd, d.target.Addr().Is6()), forbidBroadcast(fd))
		})
	}}
	if d.source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.source, 0))
	}
	conn, err := dialer.DialContext(ctx, networkOf("udp", d.target.Addr()), d.target.String())
	if err != nil {
		return err
	}
	d.conn = conn.(*net.UDPConn)
	return nil
}

// prepare does something with a socket that package net is making.
func prepare(c syscall.RawConn, do func(fd uintptr) error) error {
	var err error
	controlErr := c.Control(func(fd uintptr) { err = do(fd) })
	return errors.Join(controlErr, err)
}

// exchange sends a request at the times of a schedule and waits until a reply
// decides, an ICMP error does, or ctx ends. It returns what judge says of the
// first reply that is not passed over.
func (d *datagrams) exchange(ctx context.Context, request []byte, schedule []time.Duration, judge func([]byte) error) error {
	defer interruptible(ctx, d.conn)()
	buffer, start := make([]byte, maxReply), time.Now()
	for i := range schedule {
		if err := d.send(request); err != nil {
			return err
		}
		var until time.Time // the last one waits for as long as ctx does
		if i+1 < len(schedule) {
			until = start.Add(schedule[i+1])
		}
		if err := d.receive(ctx, until, buffer, judge); !isTimeout(err) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // nobody knows what would have come
	}
	return errNoReply
}

// send may also report the ICMP error of an earlier datagram, but for one that
// [datagrams.receive] makes nothing of either.
func (d *datagrams) send(request []byte) error {
	_, err := d.conn.Write(request)
	if errors.Is(err, syscall.EMSGSIZE) {
		_ = queuedError(d.conn)
		_, err = d.conn.Write(request)
	}
	if err != nil {
		d.icmp = queuedError(d.conn)
		return err
	}
	d.sent++
	return nil
}

// receive waits for a reply until a time, the zero value being none, and until
// ctx ends.
func (d *datagrams) receive(ctx context.Context, until time.Time, buffer []byte, judge func([]byte) error) error {
	if err := readUntil(ctx, d.conn, until); err != nil {
		return err
	}
	for {
		n, err := d.conn.Read(buffer)
		switch {
		case err == nil:
			d.received++
			if err := judge(buffer[:n]); !errors.Is(err, errPassOver) || d.received >= maxReplies {
				return err
			}
		case errors.Is(err, syscall.EMSGSIZE):
			// A router wants fragments. The kernel has learnt it, so that the
			// next datagram gets through.
			_ = queuedError(d.conn)
		case isTimeout(err):
			// An error that came in this moment stays for the next operation: taking
			// it out of the queue would take it from the socket too.
			return err
		default:
			d.icmp = queuedError(d.conn)
			return err
		}
	}
}

// interruptible lets the end of ctx interrupt reads, until the function that it
// returns is called. Deadlines are set with [readUntil].
func interruptible(ctx context.Context, conn *net.UDPConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
}

// readUntil sets a deadline, the zero value being none, without hiding the end
// of ctx.
func readUntil(ctx context.Context, conn *net.UDPConn, until time.Time) error {
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	return ctx.Err() // before which interruptible may have set another deadline
}

// queuedError takes the ICMP error that made an operation on a socket fail; the
// zero value if it was none.
func queuedError(conn syscall.Conn) (e icmpError) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return icmpError{}
	}
	_ = raw.Control(func(fd uintptr) { e, _ = readError(fd) })
	return e
}

// failed is the result of an error of connect or exchange.
func (d *datagrams) failed(phase Phase, err error) Result {
	outcome, origin := d.classify(err)
	return Result{Outcome: outcome, Phase: phase, Origin: origin, Offender: d.icmp.offender, Peer: d.target, Err: err}
}

func (d *datagrams) classify(err error) (Outcome, Origin) {
	if _, ok := errors.AsType[*wrongReplyError](err); ok {
		return Mismatch, OriginTarget
	}
	if _, ok := errors.AsType[*protocolError](err); ok {
		return Protocol, OriginTarget
	}
	switch {
	case errors.Is(err, errNoReply):
		return NoReply, OriginNone
	case errors.Is(err, errNotSent):
		return NotRun, OriginLocal
	}
	outcome, origin := classify(err, evidence{
		icmp:   d.icmp,
		target: d.target.Addr(),
		own:    d.icmp.offender.IsValid() && isOwn(d.icmp.offender),
		sent:   false, // what is no ICMP error was this host's doing
	})
	if outcome == Refused && origin == OriginTargetFirewall {
		origin = OriginTarget // a closed port says it by the same ICMP error as a firewall
	}
	return outcome, origin
}

// localOf returns the local end of a socket.
func localOf(conn *net.UDPConn) netip.AddrPort {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
}
