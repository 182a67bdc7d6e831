// Package dial reaches an address, keeps what the kernel knows of the attempt, and
// says what it means: the table of docs/diagnosis.md.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// An Attempt is the making of one TCP connection, and what its socket knew when
// it was made or failed. It connects once.
type Attempt struct {
	Target netip.AddrPort
	// Source is the address of this host to connect from; the zero value lets the
	// kernel choose.
	Source netip.Addr
	// Device is [probe.Request].Device.
	Device string
	// Allow is [probe.Request].Allow.
	Allow func(netip.AddrPort) error
	// Exchanges says that the connection is to be used, which takes time: one that is made
	// when none is left is a timeout.
	Exchanges bool

	began bool // there was a socket to connect
	// kept is a second descriptor of the socket, or -1: package net closes the
	// first one before it reports a failure, and the error queue with it.
	kept int

	netns         probe.Netns // of the socket; nil is our own
	handshake     Handshake
	knowHandshake bool
	icmp          probe.ICMPError
}

// Handshake is what TCP_INFO (tcp(7)) says of the making of a connection.
type Handshake struct {
	Retransmits int           // of the SYN
	RoundTrip   time.Duration // 0 if it was not measured
	Sent        bool          // a SYN was sent
	Connected   bool          // the peer accepted, and no end was seen of this side
	MSS         int           // bytes that a segment to the peer may have, options included; 0 if it is not known
}

// Failure is why an [Attempt] made no connection.
type Failure struct {
	Outcome probe.Outcome
	Origin  probe.Origin
	ICMP    probe.ICMPError // the ICMP error that was the reason, if one was
	Err     error
}

// Error implements error.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap returns the error of the socket.
func (f *Failure) Unwrap() error { return f.Err }

// Result returns the result of a probe that failed so.
func (f *Failure) Result(peer netip.AddrPort) probe.Result {
	return probe.Result{Outcome: f.Outcome, Phase: probe.PhaseConnect, Origin: f.Origin, ICMP: f.ICMP, Peer: peer, Err: f.Err}
}

// Connect connects to the target. Without another network namespace in ctx it does so on
// the caller's thread, so that the socket is of its network namespace.
func (a *Attempt) Connect(ctx context.Context) (*net.TCPConn, *Failure) {
	a.kept, a.netns = -1, probe.NetnsOf(ctx)
	// Without keep-alives: a probe is over before the first would be sent.
	d := net.Dialer{KeepAlive: -1, ControlContext: a.control}
	d.SetMultipathTCP(false)
	if a.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.Source, 0))
	}
	start := time.Now()
	conn, err := dialOne(ctx, &d, "tcp", a.Target)
	conn, err = a.examine(conn, err)
	a.note(ctx, conn, err, time.Since(start))
	if IsTimeout(err) && !a.began {
		return nil, &Failure{Outcome: probe.NotRun, Origin: probe.OriginLocal, Err: errNoTime}
	}
	if err != nil {
		outcome, origin := Classify(err, a.evidence())
		return nil, &Failure{Outcome: outcome, Origin: origin, ICMP: a.icmp, Err: err}
	}
	if a.Exchanges && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		_ = conn.Close()
		return nil, &Failure{Outcome: probe.Timeout, Origin: probe.OriginTarget, Err: errLate}
	}
	return conn.(*net.TCPConn), nil
}

// errNoTime is about a deadline that was over before anything was sent.
var errNoTime = errors.New("no time was left to connect")

// errLate is about a connection that was made when the time was up.
var errLate = fmt.Errorf("connected, and no time was left: %w", context.DeadlineExceeded)

// note adds the connection to the details of the probe.
func (a *Attempt) note(ctx context.Context, conn net.Conn, err error, took time.Duration) {
	details := probe.DetailsOf(ctx)
	if details == nil {
		return
	}
	c := probe.Connection{To: a.Target, Duration: took, Err: err}
	if handshake, ok := a.Handshake(); ok {
		c.Retransmits, c.RoundTrip = handshake.Retransmits, handshake.RoundTrip
	}
	if err == nil {
		c.MSS = a.handshake.MSS
		if from, ok := conn.LocalAddr().(*net.TCPAddr); ok {
			c.From = from.AddrPort()
		}
	}
	details.AddConnection(c)
}

// Handshake returns what is known of the handshake, if a SYN was sent.
func (a *Attempt) Handshake() (Handshake, bool) {
	return a.handshake, a.knowHandshake && a.handshake.Sent
}

// control prepares the socket before it connects. Package net may give up a
// socket that was connected to itself, and make another.
func (a *Attempt) control(ctx context.Context, _, address string, c syscall.RawConn) error {
	a.began = true
	if err := Allowed(a.Allow, address); err != nil {
		return err
	}
	var err error
	controlErr := c.Control(func(fd uintptr) {
		if err = move(ctx, fd); err != nil {
			return
		}
		if err = KeepErrors(fd, a.Target.Addr().Is6()); err != nil {
			return
		}
		if err = errors.Join(BindLate(fd), BindToDevice(a.netns, fd, a.Device, a.Target.Addr())); err != nil {
			return
		}
		a.release()
		a.kept, err = duplicate(fd)
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// examine asks the socket for its facts, and lets go of it. A connection that the kernel
// made and that was given up for its deadline, as on a busy host, is returned after all.
func (a *Attempt) examine(conn net.Conn, err error) (net.Conn, error) {
	if a.kept < 0 {
		return conn, err
	}
	defer a.release()
	a.handshake, a.knowHandshake = ReadHandshake(uintptr(a.kept))
	late := IsTimeout(err) && a.handshake.Connected
	if err != nil && !late {
		a.icmp, _ = ReadError(uintptr(a.kept))
		return conn, err
	}
	_ = ignoreErrors(uintptr(a.kept), a.Target.Addr().Is6())
	if late {
		return a.adopt(err)
	}
	return conn, nil
}

// adopt returns the connection of the second descriptor, or the error if it cannot.
func (a *Attempt) adopt(err error) (net.Conn, error) {
	file := os.NewFile(uintptr(a.kept), "")
	a.kept = -1
	defer file.Close()
	conn, failed := net.FileConn(file) // it has a descriptor of its own
	if failed != nil {
		return nil, err
	}
	return conn, nil
}

func (a *Attempt) release() {
	if a.kept >= 0 {
		closeDescriptor(a.kept)
		a.kept = -1
	}
}

// evidence returns what is known of a failure to connect.
func (a *Attempt) evidence() Evidence {
	return Evidence{
		ICMP:   a.icmp,
		Target: a.Target.Addr(),
		Own:    IsOwn(a.netns, a.icmp.Offender),
		Sent:   !a.knowHandshake || a.handshake.Sent,
	}
}

// errNoZone is about an IPv6 link-local address: each link has such addresses, so
// connect(2) wants to know which is meant (sin6_scope_id, ipv6(7)).
var errNoZone = errors.New("a link-local address needs a zone\nhint: the name of the interface behind it, as in [fe80::1%eth0]:443")

// errNoInterface is about the zone of such an address. connect(2) answers EINVAL, as a
// blackhole route does.
var errNoInterface = errors.New("this host has no such interface")

// Allowed asks whether an address, which is that of a socket about to be
// connected, may be probed. An IPv4 address in an IPv6 one is asked for as
// IPv4.
func Allowed(allow func(netip.AddrPort) error, address string) error {
	addr, err := netip.ParseAddrPort(address)
	if err == nil && addr.Addr().Is6() && addr.Addr().IsLinkLocalUnicast() && addr.Addr().Zone() == "" {
		return errNoZone
	}
	if zone := addr.Addr().Zone(); zone != "" && !isInterface(zone) {
		return fmt.Errorf("%s: %w", zone, errNoInterface)
	}
	if allow == nil {
		return nil
	}
	if err != nil {
		return probe.Deny(err)
	}
	if err := allow(netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())); err != nil {
		return probe.Deny(err)
	}
	return nil
}

// isInterface reports whether a zone is an interface of this host, or the number of one.
func isInterface(zone string) bool {
	if _, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return true
	}
	_, err := net.InterfaceByName(zone)
	return err == nil
}

// dialOne connects to one address.
func dialOne(ctx context.Context, d *net.Dialer, protocol string, to netip.AddrPort) (net.Conn, error) {
	to, err := Numbered(ctx, to)
	if err != nil {
		return nil, err
	}
	return d.DialContext(ctx, networkOf(protocol, to.Addr()), to.String())
}

// Numbered returns an address with the number of its zone in the network namespace of ctx:
// whoever takes the name of a zone takes it for an interface of our own namespace.
func Numbered(ctx context.Context, to netip.AddrPort) (netip.AddrPort, error) {
	zone := to.Addr().Zone()
	if _, err := strconv.ParseUint(zone, 10, 32); zone == "" || err == nil || probe.NetnsOf(ctx) == nil {
		return to, nil
	}
	var index int
	err := probe.Inside(ctx, func() (err error) {
		index, err = interfaceIndex(zone)
		return err
	})
	return netip.AddrPortFrom(to.Addr().WithZone(strconv.Itoa(index)), to.Port()), err
}

// networkOf returns "tcp4" or "tcp6", so that package net makes a socket of the
// family of an address.
func networkOf(protocol string, addr netip.Addr) string {
	if addr.Is4() {
		return protocol + "4"
	}
	return protocol + "6"
}

// IsOwn reports whether an address is one of this host, in a network namespace, nil being
// that of the calling thread; the zero value is not. It lists the interfaces:
// only failures that an ICMP error explains ask.
func IsOwn(in probe.Netns, addr netip.Addr) (own bool) {
	switch {
	case !addr.IsValid():
		return false
	case in == nil:
		return isOwn(addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // that of the probe may be over
	defer cancel()
	_ = in.Do(ctx, func() error {
		own = isOwn(addr)
		return nil
	})
	return own
}

func isOwn(addr netip.Addr) bool {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, i := range interfaces {
		if prefix, ok := i.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(prefix.IP); ok && netaddr.SameHost(own, addr) {
				return true
			}
		}
	}
	return false
}
