package porttest

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// Settle waits until datagrams get to the server and back, in both versions of
// IP. A new link drops packets until the kernel's own worker has started its
// queue (linkwatch_do_dev, net/core/link_watch.c); a request of ARP or ND that
// is lost so is sent again after a second only.
func (n *Network) Settle(t testing.TB) {
	t.Helper()
	awaitUp(t, n.Client, "eth0")
	awaitUp(t, n.Router, "eth0")
	awaitUp(t, n.Router, "eth1")
	awaitUp(t, n.Server, "eth0")
	const closedPort = "1"
	for _, host := range []string{ServerIP4, ServerIP6} {
		if err := untilRefused(net.JoinHostPort(host, closedPort)); err != nil {
			t.Fatalf("the network does not settle: %v", err)
		}
	}
}

func awaitUp(t testing.TB, s *Space, name string) {
	t.Helper()
	s.Do(t, func() {
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if link(t, name).Attrs().OperState == netlink.OperUp {
				return
			}
		}
		t.Fatalf("%s does not come up", name)
	})
}

// untilRefused sends datagrams until one is answered by an ICMP error.
func untilRefused(address string) error {
	conn, err := net.Dial("udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if _, err = conn.Write(nil); err == nil {
			if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				return err
			}
			_, err = conn.Read(make([]byte, 1))
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w", address, err)
}
