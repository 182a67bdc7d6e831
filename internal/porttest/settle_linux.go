package porttest

import (
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// settle waits until datagrams get to the server and back, in both versions of
// IP. A new link drops packets until the kernel's own worker has started its
// queue (linkwatch_do_dev, net/core/link_watch.c); a request of ARP or ND that
// is lost so is sent again after a second only.
func (n *Network) settle(t testing.TB) {
	t.Helper()
	awaitUp(t, n.Client, "eth0")
	awaitUp(t, n.Router, "eth0")
	awaitUp(t, n.Router, "eth1")
	awaitUp(t, n.Server, "eth0")
	const closedPort = "1"
	for _, host := range []string{ServerIP4, ServerIP6} {
		address := net.JoinHostPort(host, closedPort)
		Await(t, "a refusal of "+address, func() bool { return refuses(address) })
	}
}

func awaitUp(t testing.TB, s *Space, name string) {
	t.Helper()
	s.Do(t, func() {
		Await(t, name, func() bool { return link(t, name).Attrs().OperState == netlink.OperUp })
	})
}

// refuses reports whether a datagram is answered by an ICMP error.
func refuses(address string) bool {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err = conn.Write(nil); err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
