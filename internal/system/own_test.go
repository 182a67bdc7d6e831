package system

import (
	"context"
	"errors"
	"iter"
	"net"
	"net/netip"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// table is a source of fixed rows.
type table struct {
	rows []socket.Socket
	err  error // behind them
}

func (s *table) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		for i := range s.rows {
			if !yield(&s.rows[i], nil) {
				return
			}
		}
		if s.err != nil {
			yield(nil, s.err)
		}
	}
}

// TestOwn has listeners of this process, and tables that show them or not.
func TestOwn(t *testing.T) {
	row := func(local string, state socket.State) socket.Socket {
		return socket.Socket{Protocol: socket.TCP, State: state, Local: netip.MustParseAddrPort(local)}
	}
	all := []socket.Socket{row("[::]:10065", socket.Listen), row("127.0.0.1:80", socket.Listen), row("127.0.0.1:10065", socket.Established)}
	none := all[1:]
	tcp := func(port int) net.Addr { return &net.TCPAddr{IP: net.IPv6unspecified, Port: port} }
	for _, tt := range []struct {
		name    string
		opened  []net.Addr
		before  []socket.Socket // the read before
		rows    []socket.Socket
		err     error
		closing bool
		want    error
	}{
		{name: "not even one is shown", opened: []net.Addr{tcp(10065)}, before: all, rows: nil, want: errBlind},
		{name: "only a connection of it is shown", opened: []net.Addr{tcp(10065)}, before: all, rows: none, want: errBlind},
		{name: "one of two is shown", opened: []net.Addr{tcp(10065), tcp(80)}, before: all, rows: none, want: errBlind},
		{name: "it is shown", opened: []net.Addr{tcp(10065)}, before: all, rows: all},
		{name: "it never was", opened: []net.Addr{tcp(10065)}, before: none, rows: none},
		{name: "it is a unix socket", opened: []net.Addr{&net.UnixAddr{Name: "/run/x"}}, before: none, rows: none},
		{name: "there is none", before: all, rows: none},
		{name: "the table was interrupted", opened: []net.Addr{tcp(10065)}, before: all, rows: none, err: socket.ErrInterrupted, want: socket.ErrInterrupted},
		{name: "it is about to be closed", opened: []net.Addr{tcp(10065)}, before: all, rows: none, closing: true},
	} {
		var own Own
		inner := &table{rows: tt.before}
		source := ownSource{inner, &own}
		read := func() (last error) {
			for _, err := range source.Sockets(t.Context(), socket.Listening) {
				last = err
			}
			return last
		}
		for _, addr := range tt.opened {
			own.Opened(addr)
		}
		if err := read(); err != nil {
			t.Errorf("%s: before: %v", tt.name, err)
		}
		inner.rows, inner.err = tt.rows, tt.err
		if tt.closing {
			own.Closing()
		}
		if err := read(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		for _, err := range source.Sockets(t.Context(), socket.Connections) {
			if err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%s: a read of connections: %v", tt.name, err)
			}
		}
	}
}

// TestOwnClosedMeanwhile closes the listener while the table is read.
func TestOwnClosedMeanwhile(t *testing.T) {
	var own Own
	own.Opened(&net.TCPAddr{Port: 10065})
	listener := socket.Socket{State: socket.Listen, Local: netip.MustParseAddrPort("[::]:10065")}
	inner := &table{rows: []socket.Socket{listener}}
	source := ownSource{inner, &own}
	for range source.Sockets(t.Context(), socket.Listening) {
	}
	inner.rows[0].Local = netip.MustParseAddrPort("[::]:80")
	for _, err := range source.Sockets(t.Context(), socket.Listening) {
		if err != nil {
			t.Error(err)
		}
		own.Closing()
	}
}
