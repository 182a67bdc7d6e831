package prober

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// pingSocket is a socket that is connected to the target of a ping. It is an
// unprivileged one of icmp(7), where net.ipv4.ping_group_range allows it, else a
// raw one, which requires CAP_NET_RAW. Both keep the ICMP errors about what they
// sent (IP_RECVERR).
type pingSocket struct {
	net.Conn
	raw      syscall.RawConn
	to       netip.Addr
	is4      bool
	isRaw    bool
	kernelID bool // the id of the request is the kernel's
}

// openPing returns a socket with the settings of a module, the source address apart. Its error is an
// [*openError] where there can be none, and an errno of connect(2).
func openPing(ctx context.Context, from netip.Addr, device string, to netip.Addr, p *ICMP) (*pingSocket, error) {
	s := &pingSocket{to: to, is4: to.Is4()}
	at, err := dial.Numbered(ctx, netip.AddrPortFrom(to, 0))
	if err != nil {
		return nil, &openError{err}
	}
	fd, err := s.open(ctx)
	if err != nil {
		return nil, &openError{err}
	}
	if err := errors.Join(s.prepare(fd, from, p), dial.BindToDevice(probe.NetnsOf(ctx), uintptr(fd), device, to)); err != nil {
		_ = unix.Close(fd)
		return nil, &openError{err}
	}
	if err := unix.Connect(fd, dial.SocketAddress(at)); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("connect", err)
	}
	file := os.NewFile(uintptr(fd), "ping")
	defer file.Close() // net has a descriptor of its own
	if s.Conn, err = net.FileConn(file); err != nil {
		return nil, &openError{err}
	}
	if s.raw, err = s.Conn.(syscall.Conn).SyscallConn(); err != nil {
		_ = s.Close()
		return nil, &openError{err}
	}
	return s, nil
}

// open makes the socket.
func (s *pingSocket) open(ctx context.Context) (fd int, err error) {
	family, protocol := unix.AF_INET6, unix.IPPROTO_ICMPV6
	if s.is4 {
		family, protocol = unix.AF_INET, unix.IPPROTO_ICMP
	}
	fd, err = dial.Socket(ctx, family, unix.SOCK_DGRAM, protocol)
	s.kernelID = err == nil
	if isPermission(err) {
		s.isRaw = true
		fd, err = dial.Socket(ctx, family, unix.SOCK_RAW, protocol)
	}
	return fd, err
}

// prepare sets the options of the socket and binds it.
func (s *pingSocket) prepare(fd int, from netip.Addr, p *ICMP) error {
	err := errors.Join(dial.KeepErrors(uintptr(fd), !s.is4), s.receiveHopLimit(fd), s.setMTUDiscovery(fd, p.DontFragment))
	if p.TTL > 0 {
		err = errors.Join(err, dial.SetTTL(uintptr(fd), !s.is4, p.TTL))
	}
	if s.isRaw {
		err = errors.Join(err, s.repliesOnly(fd))
	}
	if err == nil && from.IsValid() {
		err = os.NewSyscallError("bind", unix.Bind(fd, dial.SocketAddress(netip.AddrPortFrom(from, 0))))
	}
	return err
}

func (s *pingSocket) receiveHopLimit(fd int) error {
	if s.is4 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
}

// setMTUDiscovery lets routers fragment a packet of IPv4, or forbids it. It is
// sent then whatever an earlier one learned of the path, so that each probe hears
// from the router (IP_PMTUDISC_PROBE of ip(7)).
func (s *pingSocket) setMTUDiscovery(fd int, dontFragment bool) error {
	switch {
	case !s.is4:
		return nil
	case dontFragment:
		return dial.ForbidFragments(uintptr(fd), false)
	default:
		return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
	}
}

// Types of ICMP, and the filter of raw(7) for IPv4: linux/icmp.h. A bit that is
// set drops a type.
const (
	echoReply4     = 0
	echoReply6     = 129
	solRaw         = 255
	icmpFilter     = 1
	onlyEchoReply4 = ^(1 << echoReply4)
)

// repliesOnly drops what other programs of the host receive.
func (s *pingSocket) repliesOnly(fd int) error {
	if s.is4 {
		return unix.SetsockoptInt(fd, solRaw, icmpFilter, onlyEchoReply4)
	}
	var filter unix.ICMPv6Filter
	for i := range filter.Data {
		filter.Data[i] = ^uint32(0)
	}
	filter.Data[echoReply6>>5] &^= 1 << (echoReply6 & 31)
	return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &filter)
}

// send sends a message. It may report the ICMP error about an earlier one.
func (s *pingSocket) send(message []byte) error {
	_, err := s.Write(message)
	if err == nil {
		return nil
	}
	return s.explain(err)
}

// receive returns how much of b a message fills, from the header of ICMP on, and
// its hop limit, which is -1 if it is not known.
func (s *pingSocket) receive(b []byte) (n, hopLimit int, err error) {
	oob := make([]byte, 128)
	var length, lengthOOB int
	waitErr := s.raw.Read(func(fd uintptr) bool {
		for {
			length, lengthOOB, _, _, err = unix.Recvmsg(int(fd), b, oob, unix.MSG_DONTWAIT)
			if !errors.Is(err, unix.EINTR) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if waitErr != nil {
		return 0, -1, waitErr
	}
	if err != nil {
		return 0, -1, s.explain(os.NewSyscallError("recvmsg", err))
	}
	if s.isRaw && s.is4 { // raw(7): with the header of IP
		header := int(b[0]&0xf) * 4
		length = copy(b, b[min(header, length):length])
	}
	return length, hopLimitOf(oob[:lengthOOB]), nil
}

// hopLimitOf finds the TTL or hop limit in control messages.
func hopLimitOf(oob []byte) int {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	for _, m := range messages {
		ttl := m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TTL
		hops := m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_HOPLIMIT
		if (ttl || hops) && len(m.Data) >= 4 {
			return int(binary.NativeEndian.Uint32(m.Data))
		}
	}
	return -1
}

// explain returns the ICMP error behind that of an operation, if there is one.
func (s *pingSocket) explain(err error) error {
	report := s.queued()
	switch {
	case report != nil && report.TooLarge():
		return &probe.TooLargeError{MTU: int(report.MTU), ICMP: report.ICMPError}
	case report != nil:
		return report
	case errors.Is(err, unix.EMSGSIZE):
		return &probe.TooLargeError{MTU: s.mtu()}
	default:
		return err
	}
}

// mtu returns what the kernel holds for the MTU of the path, or 0.
func (s *pingSocket) mtu() (mtu int) {
	_ = s.raw.Control(func(fd uintptr) { mtu = dial.PathMTU(fd, !s.is4) })
	return mtu
}

// queued takes an ICMP error out of the error queue, with what it quotes; nil if
// there is none.
func (s *pingSocket) queued() (found *icmpReport) {
	quoted, oob := make([]byte, 64), make([]byte, 512)
	_ = s.raw.Control(func(fd uintptr) {
		for range dial.MaxQueuedErrors {
			n, lengthOOB, flags, _, err := unix.Recvmsg(int(fd), quoted, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
			if err != nil || flags&unix.MSG_ERRQUEUE == 0 {
				return
			}
			if e, ok := dial.ParseErrorMessage(oob[:lengthOOB]); ok {
				found = &icmpReport{ICMPError: e, quoted: quoted[:n]}
				return
			}
		}
	})
	return found
}
