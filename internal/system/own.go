package system

import (
	"context"
	"iter"
	"maps"
	"net"
	"sync"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Own are the TCP listeners of this very process. A source that has shown one shows
// it at each read, or nothing that it says can be believed. Those that it never
// shows are of another network namespace: systemd may pass such a socket. It is safe
// for concurrent use.
type Own struct {
	mu    sync.Mutex
	ports map[uint16]bool // whether the source has shown the listener
}

// Opened adds a listener. One that has no TCP port does not count.
func (o *Own) Opened(addr net.Addr) {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ports == nil {
		o.ports = map[uint16]bool{}
	}
	o.ports[uint16(tcp.Port)] = false
}

// Closing says that the listeners are about to be closed.
func (o *Own) Closing() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ports = nil
}

// expected returns the listeners that a read has to show, and those that it may.
func (o *Own) expected() map[uint16]bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.ports)
}

// judge takes what a whole read has shown. A listener that was closed meanwhile may
// be missing.
func (o *Own) judge(expected, shown map[uint16]bool) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for port := range shown {
		if _, open := o.ports[port]; open {
			o.ports[port] = true
		}
	}
	for port, must := range expected {
		if must && o.ports[port] && !shown[port] {
			return errBlind
		}
	}
	return nil
}

// ownSource is a source that fails where it should show a listener of this process
// and does not.
type ownSource struct {
	socket.Source
	own *Own
}

// Sockets implements [socket.Source].
func (s ownSource) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	rows, expected := s.Source.Sockets(ctx, want), s.own.expected()
	if len(expected) == 0 || !want.Has(socket.Listen) {
		return rows
	}
	return func(yield func(*socket.Socket, error) bool) {
		shown, whole := map[uint16]bool{}, true
		for row, err := range rows {
			whole = whole && err == nil
			if err == nil && row.State == socket.Listen {
				if _, own := expected[row.Local.Port()]; own {
					shown[row.Local.Port()] = true
				}
			}
			if !yield(row, err) {
				return
			}
		}
		if !whole {
			return
		}
		if err := s.own.judge(expected, shown); err != nil {
			yield(nil, err)
		}
	}
}
