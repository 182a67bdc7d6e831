package sockdiag

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// TestClosingsInNamespace reads what it closes, as a user without rights too.
func TestClosingsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	space := porttest.NewSpace(t)
	var s *Closings
	var err error
	if failed := space.AsNobody(func() { s, err = Subscribe() })(); err != nil || failed != nil {
		t.Fatalf("without rights: %v, %v", err, failed)
	}
	space.Do(t, func() { leave(t, porttest.Listen(t, "[::]:80", 64), 500) })
	got := map[string]int{}
	count := func(c *socket.Closed) {
		if c.Remote.Port() == 80 {
			got["client"]++
		}
		if c.Local.Port() == 80 {
			got["server"]++
		}
	}
	for got["client"] < 500 || got["server"] < 500 {
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, malformed, err := s.Take(count); malformed > 0 || err != nil {
			t.Fatalf("%d malformed, %v", malformed, err)
		}
	}
	if lost, err := s.Lost(); lost != 0 || err != nil || got["client"] != 500 || got["server"] != 500 {
		t.Errorf("lost %d, %v; %v", lost, err, got)
	}
	go func() { _ = s.Close() }()
	if err := s.Wait(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func leave(t *testing.T, listener, n int) {
	t.Helper()
	porttest.LeaveTimeWait(t, listener, n, func(int) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:80") })
}

// TestClosingsLostInNamespace has a buffer with room for a few messages: those that
// are lost are counted to the last one.
func TestClosingsLostInNamespace(t *testing.T) {
	porttest.Namespace(t)
	listener := porttest.Listen(t, "127.0.0.1:80", 64)
	s, err := subscribe(1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const connections = 300
	leave(t, listener, connections)
	var lost uint64
	got := 0
	for got+int(lost) < 2*connections { // those that the kernel has not freed come late
		if err := s.Wait(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Take(func(*socket.Closed) { got++ }); err != nil {
			t.Fatal(err)
		}
		if lost, err = s.Lost(); err != nil {
			t.Fatal(err)
		}
	}
	if lost == 0 || got == 0 || got+int(lost) != 2*connections {
		t.Errorf("%d of %d lost, %d received", lost, 2*connections, got)
	}
}
