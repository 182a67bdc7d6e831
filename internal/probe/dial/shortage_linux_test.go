package dial

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestLookUpWithoutPortsInNamespace takes every port that a datagram can leave from. What was
// not sent says nothing of the name server.
func TestLookUpWithoutPortsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "50000 50001")
	var taken []net.Conn
	var err error
	for range 3 {
		var conn net.Conn
		if conn, err = net.Dial("udp", "127.0.0.1:9"); err == nil {
			taken = append(taken, conn)
		}
	}
	if len(taken) != 2 || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("%d ports taken, then: %v", len(taken), err)
	}
	silence := &net.DNSError{Err: "i/o timeout", IsTimeout: true}
	lookUp := func() probe.Outcome { outcome, _ := ClassifyLookup(shortageOr(silence)); return outcome }

	if got := lookUp(); got != probe.LocalError {
		t.Errorf("a look-up: %s", got)
	}
	for _, conn := range taken {
		_ = conn.Close()
	}
	if got := lookUp(); got != probe.DNSTimeout {
		t.Errorf("a look-up with ports: %s", got)
	}
}
