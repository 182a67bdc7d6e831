package porttest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Option sets something on a socket before it is bound.
type Option func(fd int) error

// V6Only sets IPV6_V6ONLY.
func V6Only(on bool) Option {
	value := 0
	if on {
		value = 1
	}
	return func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, value) }
}

// ReusePort sets SO_REUSEPORT.
func ReusePort(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }

// Transparent sets IP_TRANSPARENT.
func Transparent(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1) }

// FreeBind sets IP_FREEBIND: the socket may be bound to an address that is not
// here.
func FreeBind(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1) }

// BindToDevice sets SO_BINDTODEVICE.
func BindToDevice(name string) Option {
	return func(fd int) error { return unix.BindToDevice(fd, name) }
}

// DeferAccept sets TCP_DEFER_ACCEPT: connections to the listener stay in
// SYN_RECV until the client sends data.
func DeferAccept(fd int) error {
	return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 60)
}

// WithoutReuse clears SO_REUSEADDR, which TCP sockets have here, so that bind(2)
// takes a port that no other socket has.
func WithoutReuse(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) }

// Close closes a socket of this package before the test ends. Its number stays taken
// until then: the clean-up closes it once more, and must not close another's file.
func Close(t testing.TB, fd int) {
	t.Helper()
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
}

// Listen returns a listening TCP socket on an address ("[::]:80").
func Listen(t testing.TB, address string, backlog int, options ...Option) int {
	t.Helper()
	fd := bound(t, unix.SOCK_STREAM, 0, address, options)
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatalf("listen %s: %v", address, err)
	}
	return fd
}

// UDP returns a bound UDP socket.
func UDP(t testing.TB, address string, options ...Option) int {
	t.Helper()
	return bound(t, unix.SOCK_DGRAM, 0, address, options)
}

// UDPLite returns a bound UDP-Lite socket.
func UDPLite(t testing.TB, address string, options ...Option) int {
	t.Helper()
	return bound(t, unix.SOCK_DGRAM, unix.IPPROTO_UDPLITE, address, options)
}

// Connect connects a bound UDP socket, or a TCP socket to a listener.
func Connect(t testing.TB, fd int, remote string) {
	t.Helper()
	if err := unix.Connect(fd, sockaddr(netip.MustParseAddrPort(remote))); err != nil {
		t.Fatalf("connect %s: %v", remote, err)
	}
}

// Dial returns a TCP socket that is connected to remote.
func Dial(t testing.TB, remote string, options ...Option) int {
	t.Helper()
	fd := open(t, unix.SOCK_STREAM, 0, netip.MustParseAddrPort(remote), options)
	Connect(t, fd, remote)
	return fd
}

// TryDial is Dial where connect(2) may fail. The socket is closed with the test,
// or by the caller.
func TryDial(t testing.TB, remote string, options ...Option) (fd int, err error) {
	t.Helper()
	fd = open(t, unix.SOCK_STREAM, 0, netip.MustParseAddrPort(remote), options)
	return fd, unix.Connect(fd, sockaddr(netip.MustParseAddrPort(remote)))
}

// LeaveTimeWait makes n connections to a listener that the client closes first,
// so that its ends stay in TIME_WAIT, to the addresses that remote gives for
// each, and closes every descriptor. Options are set on the client.
func LeaveTimeWait(t testing.TB, listener, n int, remote func(i int) netip.AddrPort, options ...Option) {
	t.Helper()
	for i := range n {
		to := remote(i)
		domain := unix.AF_INET
		if to.Addr().Is6() {
			domain = unix.AF_INET6
		}
		client, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("socket %d: %v", i, err)
		}
		for _, option := range options {
			if err := option(client); err != nil {
				t.Fatalf("set socket option: %v", err)
			}
		}
		if err := unix.Connect(client, sockaddr(to)); err != nil {
			t.Fatalf("connect %d to %v: %v", i, to, err)
		}
		server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatalf("accept %d: %v", i, err)
		}
		_ = unix.Close(client)
		_ = unix.Close(server)
	}
}

// DialFrom is Dial from a local address.
func DialFrom(t testing.TB, local, remote string, options ...Option) int {
	t.Helper()
	fd := bound(t, unix.SOCK_STREAM, 0, local, options)
	Connect(t, fd, remote)
	return fd
}

// StartDial returns a TCP socket that has sent its SYN and was not answered yet.
func StartDial(t testing.TB, remote string, options ...Option) int {
	t.Helper()
	fd := open(t, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0, netip.MustParseAddrPort(remote), options)
	err := unix.Connect(fd, sockaddr(netip.MustParseAddrPort(remote)))
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatalf("connect %s: %v", remote, err)
	}
	return fd
}

// Accept returns the next connection of a listener.
func Accept(t testing.TB, listener int) int {
	t.Helper()
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// CloseWrite sends a FIN.
func CloseWrite(t testing.TB, fd int) {
	t.Helper()
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
}

// Stuff writes until the peer's receive buffer and our send buffer are full.
func Stuff(t testing.TB, fd int) {
	t.Helper()
	block := make([]byte, 64<<10)
	for quiet := 0; quiet < 3; {
		_, err := unix.SendmsgN(fd, block, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			quiet = 0
		case errors.Is(err, unix.EAGAIN):
			quiet++
			time.Sleep(10 * time.Millisecond)
		default:
			t.Fatalf("send: %v", err)
		}
	}
}

// LocalAddr returns the local end of a socket.
func LocalAddr(t testing.TB, fd int) netip.AddrPort {
	t.Helper()
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatalf("getsockname: %v", err)
	}
	return addrPort(t, name)
}

// RemoteAddr returns the other end of a connected socket.
func RemoteAddr(t testing.TB, fd int) netip.AddrPort {
	t.Helper()
	name, err := unix.Getpeername(fd)
	if err != nil {
		t.Fatalf("getpeername: %v", err)
	}
	return addrPort(t, name)
}

func addrPort(t testing.TB, name unix.Sockaddr) netip.AddrPort {
	t.Helper()
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(name.Addr), uint16(name.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), uint16(name.Port))
	default:
		t.Fatalf("a name of the kind %T", name)
		panic("unreachable")
	}
}

func bound(t testing.TB, kind, protocol int, address string, options []Option) int {
	t.Helper()
	local := netip.MustParseAddrPort(address)
	fd := open(t, kind, protocol, local, options)
	if err := unix.Bind(fd, sockaddr(local)); err != nil {
		t.Fatalf("bind %s: %v", address, err)
	}
	return fd
}

func open(t testing.TB, kind, protocol int, address netip.AddrPort, options []Option) int {
	t.Helper()
	domain := unix.AF_INET
	if address.Addr().Is6() {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatalf("socket: %v", err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if kind&unix.SOCK_STREAM != 0 {
		options = append([]Option{reuseAddress}, options...)
	}
	for _, option := range options {
		if err := option(fd); err != nil {
			t.Fatalf("set socket option for %s: %v", address, err)
		}
	}
	return fd
}

func reuseAddress(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
}

func sockaddr(address netip.AddrPort) unix.Sockaddr {
	if address.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}
}
