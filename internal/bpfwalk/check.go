//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// attempts is how often sockets are compared before a difference counts, and pause how
// long after: the kernel may send, or acknowledge, between the two reads.
const (
	attempts = 5
	pause    = 10 * time.Millisecond
)

// check compares what the programs read of sockets of our own with what sock_diag says
// of them. It protects from kernels that lay something out in another way than those
// that this was written for.
func (e *Engine) check(ctx context.Context) error {
	diag, err := sockdiag.New(ctx)
	if err != nil {
		return fmt.Errorf("nothing to compare with: %w", err)
	}
	w := &witnesses{ports: map[uint16]bool{}}
	defer w.close()
	if err := w.open(e.udplite != 0); err != nil {
		return fmt.Errorf("make sockets on loopback: %w", err)
	}
	for range attempts {
		want, err := w.read(ctx, diag) // first: it gives them cookies
		if err != nil {
			return fmt.Errorf("sock_diag: %w", err)
		}
		got, err2 := w.read(ctx, e.Source())
		if err2 != nil {
			return err2
		}
		if err = w.compare(want, got); err == nil {
			return nil
		}
		time.Sleep(pause)
	}
	return err
}

// witnesses are sockets of our own on loopback.
type witnesses struct {
	fds   []int
	ports map[uint16]bool
	made  int // sockets that a read must show
}

func (w *witnesses) close() {
	for _, fd := range w.fds {
		_ = unix.Close(fd)
	}
}

var (
	loopback4 = &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	loopback6 = &unix.SockaddrInet6{Addr: [16]byte{15: 1}}
	// mapped makes an IPv6 socket where no interface has an IPv6 address.
	mapped = &unix.SockaddrInet6{Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
)

// open makes a socket of each kind.
func (w *witnesses) open(udplite bool) error {
	listener, address, err := w.listen(loopback4)
	if err != nil {
		return err
	}
	if _, _, err := w.listen(mapped); err != nil {
		return err
	}
	if _, _, err := w.listen(loopback6); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
		return err
	}
	if err := w.connect(listener, address); err != nil {
		return err
	}
	if err := w.leaveTimeWait(listener, address); err != nil {
		return err
	}
	if _, err := w.dial(address); err != nil { // it waits to be accepted
		return err
	}
	w.made += 2
	return w.datagrams(udplite)
}

// socket makes a socket that resets its connection when it is closed, as accepted ones do
// after their listener: none stays in TIME_WAIT, where metrics would count it.
func (w *witnesses) socket(domain, kind, protocol int) (int, error) {
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, err
	}
	w.fds = append(w.fds, fd)
	return fd, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// bind binds a socket to a port of the kernel's choice.
func (w *witnesses) bind(fd int, address unix.Sockaddr) (unix.Sockaddr, error) {
	if err := unix.Bind(fd, address); err != nil {
		return nil, err
	}
	name, err := unix.Getsockname(fd)
	switch name := name.(type) {
	case *unix.SockaddrInet4:
		w.ports[uint16(name.Port)] = true
	case *unix.SockaddrInet6:
		w.ports[uint16(name.Port)] = true
	}
	return name, err
}

func (w *witnesses) listen(address unix.Sockaddr) (int, unix.Sockaddr, error) {
	domain := unix.AF_INET6
	if address == unix.Sockaddr(loopback4) {
		domain = unix.AF_INET
	}
	fd, err := w.socket(domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, nil, err
	}
	if address == unix.Sockaddr(loopback6) {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, nil, err
		}
	}
	name, err := w.bind(fd, address)
	if err != nil {
		return -1, nil, err
	}
	w.made++
	return fd, name, unix.Listen(fd, 5)
}

// dial makes a connection of a client that has no use for a port of its own yet.
func (w *witnesses) dial(address unix.Sockaddr) (int, error) {
	fd, err := w.socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, address)
}

// connect makes a connection with something to read.
func (w *witnesses) connect(listener int, address unix.Sockaddr) error {
	client, err := w.dial(address)
	if err != nil {
		return err
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	w.fds = append(w.fds, server)
	w.made += 2
	_, err = unix.Write(client, []byte("read"))
	return err
}

// leaveTimeWait leaves the client's end to the kernel, which keeps it as it keeps those in
// TIME_WAIT, with FIN_WAIT2 as its state until the server resets the connection.
func (w *witnesses) leaveTimeWait(listener int, address unix.Sockaddr) error {
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = unix.Connect(client, address)
	if err := errors.Join(err, unix.Close(client)); err != nil {
		return err
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	w.fds = append(w.fds, server)
	w.made += 2
	return nil
}

// datagrams makes UDP sockets with and without a peer.
func (w *witnesses) datagrams(udplite bool) error {
	protocols := []int{unix.IPPROTO_UDP, unix.IPPROTO_UDP}
	if udplite {
		protocols = append(protocols, unix.IPPROTO_UDPLITE)
	}
	var last unix.Sockaddr
	for _, protocol := range protocols {
		fd, err := w.socket(unix.AF_INET, unix.SOCK_DGRAM, protocol)
		if err != nil {
			return err
		}
		name, err := w.bind(fd, loopback4)
		if err != nil {
			return err
		}
		w.made++
		if protocol == unix.IPPROTO_UDP && last != nil {
			if err := unix.Connect(fd, last); err != nil {
				return err
			}
			if _, err := unix.Write(fd, []byte("read")); err != nil {
				return err
			}
		}
		last = name
	}
	return nil
}

// witness identifies a socket for a comparison.
type witness struct {
	protocol      socket.Protocol
	family        socket.Family
	local, remote netip.AddrPort
}

func (w witness) String() string { return fmt.Sprintf("%v %v to %v", w.protocol, w.local, w.remote) }

// read returns the sockets that a source has of ours.
func (w *witnesses) read(ctx context.Context, source socket.Source) (map[witness]socket.Socket, error) {
	found := map[witness]socket.Socket{}
	for _, want := range []socket.StateSet{socket.Listening, socket.Connections} {
		for s, err := range source.Sockets(ctx, want) {
			if errors.Is(err, socket.ErrMalformed) || errors.Is(err, socket.ErrInterrupted) {
				continue
			}
			if err != nil {
				return nil, err
			}
			if s.Local.Addr().IsLoopback() && (w.ports[s.Local.Port()] || w.ports[s.Remote.Port()]) {
				found[witness{s.Protocol, s.Family, s.Local, s.Remote}] = *s
			}
		}
	}
	return found, nil
}

// compare returns the first difference.
func (w *witnesses) compare(want, got map[witness]socket.Socket) error {
	if len(want) < w.made {
		return fmt.Errorf("sock_diag shows %d of %d sockets", len(want), w.made)
	}
	for id, wanted := range want {
		is, ok := got[id]
		switch {
		case !ok:
			return fmt.Errorf("%v is missing", id)
		case is != wanted:
			return fmt.Errorf("%v: %s", id, difference(wanted, is))
		}
	}
	if len(got) > len(want) {
		return fmt.Errorf("%d sockets, where sock_diag has %d", len(got), len(want))
	}
	return nil
}

// difference names the first field in which two sockets differ.
func difference(want, got socket.Socket) string {
	w, g := reflect.ValueOf(want), reflect.ValueOf(got)
	for i := range w.NumField() {
		if !w.Field(i).Equal(g.Field(i)) {
			return fmt.Sprintf("%s is %v, and %v in sock_diag", w.Type().Field(i).Name, g.Field(i), w.Field(i))
		}
	}
	return "no difference"
}
