package dial

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// namesOffenders says that an ICMP error is found in the error queue, so that
// without one it was no ICMP error. TCP keeps those that end a SYN since
// Linux 5.9.
const namesOffenders = true

// KeepErrors makes a socket keep the ICMP errors that it causes: IP_RECVERR of
// ip(7), IPV6_RECVERR of ipv6(7). It is called before connect(2).
func KeepErrors(fd uintptr, v6 bool) error { return setKeepErrors(int(fd), v6, 1) }

// ignoreErrors undoes keepErrors: an ICMP error ends an established connection
// only where it is asked for, and an ordinary client does not ask.
func ignoreErrors(fd uintptr, v6 bool) error { return setKeepErrors(int(fd), v6, 0) }

func setKeepErrors(fd int, v6 bool, on int) error {
	if v6 {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVERR, on)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, on)
}

// ReadError takes the last ICMP error out of the error queue of a socket. It
// never waits.
func ReadError(fd uintptr) (probe.ICMPError, bool) {
	var last probe.ICMPError
	oob := make([]byte, 512)
	for range MaxQueuedErrors {
		_, n, flags, _, err := unix.Recvmsg(int(fd), nil, oob, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil || flags&unix.MSG_ERRQUEUE == 0 {
			break
		}
		if e, ok := ParseErrorMessage(oob[:n]); ok {
			last = e
		}
	}
	return last, last.Offender.IsValid()
}

// MaxQueuedErrors bounds how many errors of one socket are read; a probe sends
// a handful of packets.
const MaxQueuedErrors = 64

// ParseErrorMessage finds the ICMP error in the control messages of
// MSG_ERRQUEUE.
func ParseErrorMessage(oob []byte) (probe.ICMPError, bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return probe.ICMPError{}, false
	}
	for _, m := range messages {
		v4 := m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_RECVERR
		v6 := m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_RECVERR
		if v4 || v6 {
			if e, ok := parseExtendedError(m.Data); ok {
				return e, true
			}
		}
	}
	return probe.ICMPError{}, false
}

// The layout of struct sock_extended_err, and of the struct sockaddr_in or
// sockaddr_in6 of the offender behind it (SO_EE_OFFENDER): linux/errqueue.h,
// linux/in.h, linux/in6.h.
const (
	offsetOrigin    = 4
	offsetKind      = 5
	offsetCode      = 6
	offsetInfo      = 8
	sizeError       = 16
	offsetAddress4  = sizeError + 4
	offsetAddress6  = sizeError + 8
	sizeWithOffense = sizeError + 2
)

// parseExtendedError reads a struct sock_extended_err and the address behind
// it. Errors that did not come by ICMP are none of ours.
func parseExtendedError(b []byte) (probe.ICMPError, bool) {
	if len(b) < sizeWithOffense {
		return probe.ICMPError{}, false
	}
	e := probe.ICMPError{Type: b[offsetKind], Code: b[offsetCode]}
	switch b[offsetOrigin] {
	case unix.SO_EE_ORIGIN_ICMP:
	case unix.SO_EE_ORIGIN_ICMP6:
		e.V6 = true
	default:
		return probe.ICMPError{}, false
	}
	if e.TooLarge() {
		e.MTU = binary.NativeEndian.Uint32(b[offsetInfo:])
	}
	switch family := binary.NativeEndian.Uint16(b[sizeError:]); {
	case family == unix.AF_INET && len(b) >= offsetAddress4+4:
		e.Offender = netip.AddrFrom4([4]byte(b[offsetAddress4:]))
	case family == unix.AF_INET6 && len(b) >= offsetAddress6+16:
		e.Offender = netip.AddrFrom16([16]byte(b[offsetAddress6:])).Unmap()
	}
	return e, e.Offender.IsValid()
}

// ReadHandshake reads TCP_INFO (tcp(7)) of a socket that just connected, or
// failed to.
func ReadHandshake(fd uintptr) (Handshake, bool) {
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return Handshake{}, false
	}
	segment := int(info.Snd_mss) // without the options that every packet has
	if info.Options&hasTimestamps != 0 {
		segment += lengthTimestamps
	}
	return Handshake{
		Retransmits: int(info.Total_retrans),
		RoundTrip:   time.Duration(info.Rtt) * time.Microsecond,
		Sent:        info.Segs_out > 0,
		Connected:   info.State == unix.BPF_TCP_ESTABLISHED || info.State == unix.BPF_TCP_CLOSE_WAIT,
		MSS:         segment,
	}, true
}

// The option that every packet of a connection has where both ends take it:
// TCPI_OPT_TIMESTAMPS of linux/tcp.h, and its length with padding.
const (
	hasTimestamps    = 1
	lengthTimestamps = 12
)

// duplicate returns a second descriptor of a socket, which keeps it after the
// first one is closed.
func duplicate(fd uintptr) (int, error) { return unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }

func closeDescriptor(fd int) { _ = unix.Close(fd) }

// BindLate makes a socket that is bound to an address choose its port when it
// connects, so that ports run out for each destination and not for the host
// (IP_BIND_ADDRESS_NO_PORT of ip(7), which IPv6 sockets take too). Where there is no such
// option, as under qemu-user, the port is chosen at once.
func BindLate(fd uintptr) error {
	err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return nil
	}
	return os.NewSyscallError("setsockopt", err)
}

// BindToDevice has a socket send by an interface of this host, and receive only what
// arrives there: SO_BINDTODEVICE of socket(7), which requires CAP_NET_RAW before Linux 5.7.
// Without that right the routes choose. Addresses of this host, in a network namespace
// (see [IsOwn]), are reached over loopback, so for them nothing is bound.
func BindToDevice(in probe.Netns, fd uintptr, device string, to netip.Addr) error {
	if device == "" || IsOwn(in, to) {
		return nil
	}
	err := unix.BindToDevice(int(fd), device)
	if errors.Is(err, unix.EPERM) {
		return nil
	}
	return os.NewSyscallError("setsockopt", err)
}

// Socket makes a socket in the network namespace of ctx.
func Socket(ctx context.Context, domain, kind, protocol int) (fd int, err error) {
	fd = -1
	err = probe.Inside(ctx, func() (err error) {
		fd, err = unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
		return os.NewSyscallError("socket", err)
	})
	return fd, err
}

// move puts in the place of a socket that package net has just made one of the network
// namespace of ctx: a socket belongs to that of the thread that makes it. From then on
// package net binds and connects the other one.
func move(ctx context.Context, fd uintptr) error {
	if probe.NetnsOf(ctx) == nil {
		return nil
	}
	var like [3]int
	for i, option := range []int{unix.SO_DOMAIN, unix.SO_TYPE, unix.SO_PROTOCOL} {
		value, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, option)
		if err != nil {
			return os.NewSyscallError("getsockopt", err)
		}
		like[i] = value
	}
	other, err := Socket(ctx, like[0], like[1], like[2])
	if err != nil {
		return err
	}
	defer closeDescriptor(other)
	if like[0] == unix.AF_INET6 { // as package net has it
		only, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err := errors.Join(err, unix.SetsockoptInt(other, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("dup3", unix.Dup3(other, int(fd), unix.O_CLOEXEC))
}

// interfaceIndex returns the number of an interface in the network namespace of the
// calling thread. Package net would remember its answer for our own.
func interfaceIndex(name string) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer closeDescriptor(fd)
	request, err := unix.NewIfreq(name)
	if err != nil || unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request) != nil {
		return 0, fmt.Errorf("%s: %w", name, errNoInterface)
	}
	return int(request.Uint32()), nil
}

// forbidBroadcast takes from a socket that it may send to the broadcast address
// of a network of this host, which package net gives it: SO_BROADCAST of
// socket(7). Which addresses those are only the kernel knows; it answers EACCES.
func forbidBroadcast(fd uintptr) error {
	return unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 0)
}

// SetTTL sets how many routers may forward what a socket sends: the TTL of IPv4,
// the hop limit of IPv6.
func SetTTL(fd uintptr, v6 bool, ttl int) error {
	if v6 {
		return unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ttl)
	}
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl)
}

// ForbidFragments has what a socket sends go out whole or not at all, whatever an
// earlier packet has learned of the path (IP_PMTUDISC_PROBE of ip(7), IPV6_DONTFRAG
// of RFC 3542 section 11.2).
func ForbidFragments(fd uintptr, v6 bool) error {
	if !v6 {
		return unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE); err != nil {
		return err
	}
	return unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, 1)
}

// PathMTU returns what the kernel holds for the MTU of the path of a connected
// socket, or 0.
func PathMTU(fd uintptr, v6 bool) int {
	level, option := unix.IPPROTO_IP, unix.IP_MTU
	if v6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	mtu, err := unix.GetsockoptInt(int(fd), level, option)
	if err != nil {
		return 0
	}
	return mtu
}

// SocketAddress returns an address as bind(2) and connect(2) take it.
func SocketAddress(to netip.AddrPort) unix.Sockaddr {
	addr := to.Addr()
	if addr.Is4() {
		return &unix.SockaddrInet4{Addr: addr.As4(), Port: int(to.Port())}
	}
	return &unix.SockaddrInet6{Addr: addr.As16(), Port: int(to.Port()), ZoneId: zoneID(addr.Zone())}
}

// zoneID returns the index of an interface, or 0.
func zoneID(zone string) uint32 {
	if number, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(number)
	}
	if link, err := net.InterfaceByName(zone); err == nil {
		return uint32(link.Index)
	}
	return 0
}
