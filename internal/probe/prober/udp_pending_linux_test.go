package prober

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// TestErrorAtTheDeadline has an ICMP error come in the moment at which the next
// datagram is due: it must not be lost.
func TestErrorAtTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	d := &dial.Datagrams{Target: netip.MustParseAddrPort(closedPort)}
	if err := d.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer d.Conn.Close()
	defer dial.Interruptible(ctx, d.Conn)()
	if err := d.Send([]byte("ping")); err != nil { // loopback has the error there before it returns
		t.Fatal(err)
	}
	judge := func([]byte) error { return nil }
	if err := d.Receive(ctx, time.Now().Add(-time.Millisecond), make([]byte, 1), judge); !dial.IsTimeout(err) {
		t.Fatal(err)
	}
	if err := d.Send([]byte("ping")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the second datagram: %v, want what the first met", err)
	}
}

// TestTooBigAtTheDeadlineInNamespace has a router say that a datagram is too big
// in the moment at which the next one is due. That one gets through.
func TestTooBigAtTheDeadlineInNamespace(t *testing.T) {
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			n := porttest.NewNetwork(t)
			n.Router.Do(t, func() { narrow(t, "eth1") })
			n.Server.Do(t, func() { narrow(t, "eth0") })
			echoServer(t, n, f, 7)
			d := &dial.Datagrams{Target: netip.MustParseAddrPort(net.JoinHostPort(f.server, "7"))}
			if err := d.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer d.Conn.Close()
			big := bytes.Repeat([]byte("x"), 1400)
			if err := d.Send(big); err != nil {
				t.Fatal(err)
			}
			awaitError(t, d.Conn)
			if err := d.Send(big); err != nil || d.Sent != 2 {
				t.Fatalf("the second of %d datagrams: %v", d.Sent, err)
			}
			if err := d.Receive(t.Context(), time.Now().Add(answered), make([]byte, dial.MaxReply), func([]byte) error { return nil }); err != nil {
				t.Errorf("no reply: %v", err)
			}
		})
	}
}

// narrow makes an interface take no packet above 1300 bytes.
func narrow(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetMTU(link, 1300)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// awaitError waits until a socket has an error for the next operation.
func awaitError(t *testing.T, conn *net.UDPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		polled := []unix.PollFd{{Fd: int32(fd)}}
		if n, err := unix.Poll(polled, 5000); n != 1 || polled[0].Revents&unix.POLLERR == 0 {
			t.Errorf("no error came: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
