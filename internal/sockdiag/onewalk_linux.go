package sockdiag

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// givesBothFamilies reports whether the legacy request (TCPDIAG_GETSOCK, which
// names no family) gives the sockets of IPv4 and of IPv6 alike on this kernel.
// It halves the price of a scrape, because the walk of the established hash is
// what costs. Any doubt means no.
//
// It asks for listeners after making one of each family, on loopback, on a
// port of the kernel's choice.
func givesBothFamilies(ctx context.Context) bool {
	want := map[uint16]socket.Family{}
	for family, bind := range map[socket.Family]unix.Sockaddr{
		socket.IPv4: &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}},
		// The IPv4-mapped loopback address makes an IPv6 socket where no
		// interface has an IPv6 address.
		socket.IPv6: &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}},
	} {
		fd, port, err := listen(bind)
		if err != nil {
			return false
		}
		defer unix.Close(fd)
		want[port] = family
	}
	oneWalk := &Source{oneWalk: true}
	for s, err := range oneWalk.Sockets(ctx, 1<<socket.Listen) {
		if err != nil {
			return false
		}
		if family, ours := want[s.Local.Port()]; ours && family == s.Family && s.Local.Addr().IsLoopback() {
			delete(want, s.Local.Port())
		}
	}
	return len(want) == 0
}

// listen returns a listening socket and its port.
func listen(bind unix.Sockaddr) (fd int, port uint16, err error) {
	domain := unix.AF_INET
	if _, ok := bind.(*unix.SockaddrInet6); ok {
		domain = unix.AF_INET6
	}
	fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.Bind(fd, bind); err != nil {
		return -1, 0, err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return -1, 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, err
	}
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		port = uint16(name.Port)
	case *unix.SockaddrInet6:
		port = uint16(name.Port)
	}
	return fd, port, nil
}
