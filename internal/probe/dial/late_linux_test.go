package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestLateConnection has the kernel make a connection when the deadline is over, as on a
// host that is too busy to look. It is a connection all the same, and no silence; where
// something was to be said on it, there was no time for that.
func TestLateConnection(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	for _, exchanges := range []bool{false, true} {
		details := &probe.Details{}
		ctx, cancel := context.WithTimeout(probe.WithDetails(context.Background(), details), 200*time.Millisecond)
		defer cancel()
		late := func(netip.AddrPort) error { <-ctx.Done(); return nil } // is called before connect(2)
		a := Attempt{Target: to, Allow: late, Exchanges: exchanges}
		conn, failed := a.Connect(ctx)
		switch {
		case !exchanges && failed != nil:
			t.Errorf("only to be made: %v", failed)
		case exchanges && (failed == nil || failed.Outcome != probe.Timeout || failed.Origin != probe.OriginTarget || !errors.Is(failed, context.DeadlineExceeded)):
			t.Errorf("to be used: %+v", failed)
		}
		if made := details.Connections(); len(made) != 1 || made[0].Err != nil || made[0].RoundTrip == 0 || !made[0].From.IsValid() {
			t.Errorf("exchanges %v: noted as %+v", exchanges, made)
		}
		if conn == nil {
			continue
		}
		if err := conn.SetLinger(0); err != nil { // it is a socket of its own, and not closed
			t.Error(err)
		}
		_ = conn.Close()
	}
}

// TestNoTimeToConnect has a deadline that is over before there is a socket: nothing was
// tried, and the target is not silent.
func TestNoTimeToConnect(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	a := Attempt{Target: netip.MustParseAddrPort("127.0.0.1:1")}
	if _, failed := a.Connect(ctx); failed == nil || failed.Outcome != probe.NotRun || failed.Origin != probe.OriginLocal {
		t.Errorf("%+v", failed)
	}
}

// TestLateSilence has a deadline that is over and a listener whose queue is full: the
// kernel has no connection, so it is silence.
func TestLateSilence(t *testing.T) {
	to := porttest.LocalAddr(t, porttest.Listen(t, "127.0.0.1:0", 0))
	porttest.Dial(t, to.String()) // the kernel takes one more than the limit
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	a := Attempt{Target: to, Allow: func(netip.AddrPort) error { <-ctx.Done(); return nil }}
	conn, failed := a.Connect(ctx)
	if conn != nil || failed == nil || failed.Outcome != probe.Timeout || failed.Origin != probe.OriginNone {
		t.Errorf("%v, %+v", conn, failed)
	}
}
