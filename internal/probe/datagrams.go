package probe

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// maxReply is how much of a reply is looked at, in bytes.
const maxReply = 2048

var (
	errNoReply = errors.New("no reply")
	errNotSent = errors.New("no time was left to send a datagram")
	// errPassOver is what a judge says of a datagram that does not matter.
	errPassOver = errors.New("not a reply")
)

// maxReplies bounds how many datagrams of one target are looked at.
const maxReplies = 64

// Datagrams are those of one probe. Their socket is connected, so that it gets
// the replies of its target only, and the ICMP errors of its own datagrams.
type Datagrams struct {
	Target netip.AddrPort
	// Source is the address of this host that they come from; the zero value lets
	// the kernel choose.
	Source netip.Addr
	// Allow is [Request].Allow.
	Allow func(netip.AddrPort) error

	// Conn is the socket, once it is connected.
	Conn *net.UDPConn
	// Sent and Received count datagrams.
	Sent, Received int

	icmp icmpError
}

// Connect makes the socket. No packet is sent.
func (d *Datagrams) Connect(ctx context.Context) error {
	if ctx.Err() != nil {
		return errNotSent
	}
	dialer := net.Dialer{Control: func(_, address string, c syscall.RawConn) error {
		if err := allowed(d.Allow, address); err != nil {
			return err
		}
		return prepare(c, func(fd uintptr) error {
			return errors.Join(keepErrors(fd, d.Target.Addr().Is6()), forbidBroadcast(fd))
		})
	}}
	if d.Source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.Source, 0))
	}
	conn, err := dialer.DialContext(ctx, networkOf("udp", d.Target.Addr()), d.Target.String())
	if err != nil {
		return err
	}
	d.Conn = conn.(*net.UDPConn)
	return nil
}

// prepare does something with a socket that package net is making.
func prepare(c syscall.RawConn, do func(fd uintptr) error) error {
	var err error
	controlErr := c.Control(func(fd uintptr) { err = do(fd) })
	return errors.Join(controlErr, err)
}

// Exchange sends a request at the times of a schedule and waits until a reply
// decides, an ICMP error does, or ctx ends. It returns what judge says of the
// first reply that is not passed over.
func (d *Datagrams) Exchange(ctx context.Context, request []byte, schedule []time.Duration, judge func([]byte) error) error {
	defer interruptible(ctx, d.Conn)()
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
// [Datagrams.receive] makes nothing of either.
func (d *Datagrams) send(request []byte) error {
	_, err := d.Conn.Write(request)
	if errors.Is(err, syscall.EMSGSIZE) {
		_ = queuedError(d.Conn)
		_, err = d.Conn.Write(request)
	}
	if err != nil {
		d.icmp = queuedError(d.Conn)
		return err
	}
	d.Sent++
	return nil
}

// receive waits for a reply until a time, the zero value being none, and until
// ctx ends.
func (d *Datagrams) receive(ctx context.Context, until time.Time, buffer []byte, judge func([]byte) error) error {
	if err := readUntil(ctx, d.Conn, until); err != nil {
		return err
	}
	for {
		n, err := d.Conn.Read(buffer)
		switch {
		case err == nil:
			d.Received++
			if err := judge(buffer[:n]); !errors.Is(err, errPassOver) || d.Received >= maxReplies {
				return err
			}
		case errors.Is(err, syscall.EMSGSIZE):
			// A router wants fragments. The kernel has learnt it, so that the
			// next datagram gets through.
			_ = queuedError(d.Conn)
		case isTimeout(err):
			// An error that came in this moment stays for the next operation: taking
			// it out of the queue would take it from the socket too.
			return err
		default:
			d.icmp = queuedError(d.Conn)
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

// Failed returns the result of an error of Connect or Exchange.
func (d *Datagrams) Failed(phase Phase, err error) Result {
	outcome, origin := d.classify(err)
	return Result{Outcome: outcome, Phase: phase, Origin: origin, Offender: d.icmp.offender, Peer: d.Target, Err: err}
}

func (d *Datagrams) classify(err error) (Outcome, Origin) {
	switch {
	case errors.Is(err, errNoReply):
		return NoReply, OriginNone
	case errors.Is(err, errNotSent):
		return NotRun, OriginLocal
	}
	outcome, origin := classify(err, evidence{
		icmp:   d.icmp,
		target: d.Target.Addr(),
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

// listenUDP returns a socket at an address of this host that sends to any other,
// but for broadcast addresses.
func listenUDP(local netip.Addr) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return prepare(c, forbidBroadcast) }}
	conn, err := config.ListenPacket(context.Background(), networkOf("udp", local), netip.AddrPortFrom(local, 0).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
