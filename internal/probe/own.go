package probe

import (
	"net"
	"sync"
	"syscall"
	"time"
)

// OwnListeners are sockets that a prober listens on for the time of a probe, as
// the relay of an http probe. They are no service of the host, and are not told
// as one. A nil pointer is a set that stays empty; it is safe for concurrent use.
type OwnListeners struct {
	mu  sync.Mutex
	ids map[uint64]time.Time // when it was closed; zero while it is open
}

// linger is how long a closed socket is known: a read of the sockets that began
// before may still have it.
const linger = time.Minute

// Add adds a listener, until closed is called, and somewhat longer. It must not be
// one of MPTCP, which package net makes where it is not told otherwise: the
// socket in the table is then its subflow, with a cookie of its own.
func (o *OwnListeners) Add(l net.Listener) (closed func()) {
	socket, ok := l.(syscall.Conn)
	if o == nil || !ok {
		return func() {}
	}
	ids := socketIDs(socket)
	o.set(ids, time.Time{})
	return func() { o.set(ids, time.Now()) }
}

func (o *OwnListeners) set(ids []uint64, closed time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids == nil {
		o.ids = map[uint64]time.Time{}
	}
	for id, at := range o.ids {
		if !at.IsZero() && time.Since(at) > linger {
			delete(o.ids, id)
		}
	}
	for _, id := range ids {
		o.ids[id] = closed
	}
}

// Has reports whether a socket with this identity is one of them: its cookie
// (sock_diag(7)), or its inode where the source of sockets tells no cookie.
func (o *OwnListeners) Has(id uint64) bool {
	if o == nil || id == 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	_, is := o.ids[id]
	return is
}
