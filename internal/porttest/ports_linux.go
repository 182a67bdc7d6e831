package porttest

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TakeUDPPorts takes every port of IPv4 that a datagram can leave from, in a network
// namespace of the test's own, until release is called or the test ends.
func TakeUDPPorts(t *testing.T) (release func()) {
	t.Helper()
	Namespace(t)
	Sysctl(t, "net/ipv4/ip_local_port_range", "50000 50001")
	var taken []net.Conn
	var err error
	for range 3 {
		var conn net.Conn
		if conn, err = net.Dial("udp", "127.0.0.1:9"); err == nil {
			taken = append(taken, conn)
		}
	}
	release = func() {
		for _, conn := range taken {
			_ = conn.Close()
		}
	}
	t.Cleanup(release)
	if len(taken) != 2 || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("%d ports taken, then: %v", len(taken), err)
	}
	return release
}
