package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// MaxReply is how much of a reply is looked at, in bytes.
const MaxReply = 2048

var (
	// ErrNoReply says that nothing came in time.
	ErrNoReply = errors.New("no reply")
	errNotSent = errors.New("no time was left to send a datagram")
	// ErrIgnored is what a judge says of a datagram that does not matter.
	ErrIgnored = errors.New("not a reply")
)

// MaxReplies bounds how many datagrams of one target are looked at.
const MaxReplies = 64

// Datagrams are those of one probe. Their socket is connected, so that it gets
// the replies of its target only, and the ICMP errors of its own datagrams.
type Datagrams struct {
	Target netip.AddrPort
	// Source is the address of this host that they come from; the zero value lets
	// the kernel choose.
	Source netip.Addr
	// Device is [probe.Request].Device.
	Device string
	// Allow is [probe.Request].Allow.
	Allow func(netip.AddrPort) error

	// Conn is the socket, once it is connected.
	Conn  *net.UDPConn
	netns probe.Netns // of the socket; nil is our own
	// Sent and Received count datagrams.
	Sent, Received int

	ICMP probe.ICMPError
}

// Connect makes the socket. No packet is sent.
func (d *Datagrams) Connect(ctx context.Context) error {
	if ctx.Err() != nil {
		return errNotSent
	}
	d.netns = probe.NetnsOf(ctx)
	dialer := net.Dialer{ControlContext: func(ctx context.Context, _, address string, c syscall.RawConn) error {
		if err := Allowed(d.Allow, address); err != nil {
			return err
		}
		return prepare(c, func(fd uintptr) error {
			if err := move(ctx, fd); err != nil {
				return err
			}
			return errors.Join(KeepErrors(fd, d.Target.Addr().Is6()), forbidBroadcast(fd), BindToDevice(d.netns, fd, d.Device, d.Target.Addr()))
		})
	}}
	if d.Source.IsValid() {
		dialer.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(d.Source, 0))
	}
	conn, err := dialOne(ctx, &dialer, "udp", d.Target)
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
// first reply that is not discarded.
func (d *Datagrams) Exchange(ctx context.Context, request []byte, schedule []time.Duration, judge func([]byte) error) error {
	defer Interruptible(ctx, d.Conn)()
	buffer, start := make([]byte, MaxReply), time.Now()
	for i := range schedule {
		if err := d.Send(request); err != nil {
			return err
		}
		var until time.Time // the last one waits for as long as ctx does
		if i+1 < len(schedule) {
			until = start.Add(schedule[i+1])
		}
		if err := d.Receive(ctx, until, buffer, judge); !IsTimeout(err) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err() // what would have come is unknown
	}
	return ErrNoReply
}

// Send may also report the ICMP error of an earlier datagram, but for one that
// [Datagrams.Receive] makes nothing of either.
func (d *Datagrams) Send(request []byte) error {
	_, err := d.Conn.Write(request)
	if errors.Is(err, syscall.EMSGSIZE) {
		_ = QueuedError(d.Conn)
		_, err = d.Conn.Write(request)
	}
	if err != nil {
		d.ICMP = QueuedError(d.Conn)
		return err
	}
	d.Sent++
	return nil
}

// Receive waits for a reply until a time, the zero value being none, and until
// ctx ends.
func (d *Datagrams) Receive(ctx context.Context, until time.Time, buffer []byte, judge func([]byte) error) error {
	if err := ReadUntil(ctx, d.Conn, until); err != nil {
		return err
	}
	for {
		n, err := d.Conn.Read(buffer)
		switch {
		case err == nil:
			d.Received++
			if err := judge(buffer[:n]); !errors.Is(err, ErrIgnored) || d.Received >= MaxReplies {
				return err
			}
		case errors.Is(err, syscall.EMSGSIZE):
			// A router wants fragments. The kernel has learnt it, so that the
			// next datagram gets through.
			_ = QueuedError(d.Conn)
		case IsTimeout(err):
			// An error that came in this moment stays for the next operation: taking
			// it out of the queue would take it from the socket too.
			return err
		default:
			d.ICMP = QueuedError(d.Conn)
			return err
		}
	}
}

// Interruptible lets the end of ctx interrupt reads, until the function that it
// returns is called. Deadlines are set with [ReadUntil].
func Interruptible(ctx context.Context, conn *net.UDPConn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
}

// ReadUntil sets a deadline, the zero value being none, without hiding the end
// of ctx.
func ReadUntil(ctx context.Context, conn *net.UDPConn, until time.Time) error {
	if err := conn.SetReadDeadline(until); err != nil {
		return err
	}
	return ctx.Err() // before which interruptible may have set another deadline
}

// QueuedError takes the ICMP error that made an operation on a socket fail; the
// zero value if it was none.
func QueuedError(conn syscall.Conn) (e probe.ICMPError) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return probe.ICMPError{}
	}
	_ = raw.Control(func(fd uintptr) { e, _ = ReadError(fd) })
	return e
}

// Failed returns the result of an error of Connect or Exchange.
func (d *Datagrams) Failed(phase probe.Phase, err error) probe.Result {
	outcome, origin := d.classify(err)
	return probe.Result{Outcome: outcome, Phase: phase, Origin: origin, ICMP: d.ICMP, Peer: d.Target, Err: err}
}

func (d *Datagrams) classify(err error) (probe.Outcome, probe.Origin) {
	switch {
	case errors.Is(err, ErrNoReply):
		return probe.NoReply, probe.OriginNone
	case errors.Is(err, errNotSent):
		return probe.NotRun, probe.OriginLocal
	}
	return ClassifyDatagram(err, Evidence{
		ICMP:   d.ICMP,
		Target: d.Target.Addr(),
		Own:    IsOwn(d.netns, d.ICMP.Offender),
		Sent:   false, // what is no ICMP error was this host's doing
	})
}

// LocalAddr returns the local end of a socket.
func LocalAddr(conn *net.UDPConn) netip.AddrPort {
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
}

// ListenUDP returns a socket at an address of this host that sends to any other,
// but for broadcast addresses. It is of the network namespace of ctx.
func ListenUDP(ctx context.Context, local netip.Addr) (*net.UDPConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return prepare(c, func(fd uintptr) error { return errors.Join(move(ctx, fd), forbidBroadcast(fd)) })
	}}
	conn, err := config.ListenPacket(ctx, networkOf("udp", local), netip.AddrPortFrom(local, 0).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
