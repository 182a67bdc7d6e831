package probe

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

// TestErrorAtTheDeadline has an ICMP error come in the moment at which the next
// datagram is due: it must not be lost.
func TestErrorAtTheDeadline(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	d := &datagrams{target: netip.MustParseAddrPort(closedPort)}
	if err := d.connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer d.conn.Close()
	defer interruptible(ctx, d.conn)()
	if err := d.send([]byte("ping")); err != nil { // loopback has the error there before it returns
		t.Fatal(err)
	}
	judge := func([]byte) error { return nil }
	if err := d.receive(ctx, time.Now().Add(-time.Millisecond), make([]byte, 1), judge); !isTimeout(err) {
		t.Fatal(err)
	}
	if err := d.send([]byte("ping")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("the second datagram: %v, want what the first met", err)
	}
}
