package socket

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

// Age is what is known of how long a socket has been there.
type Age uint8

// The ages.
const (
	AgeUnknown Age = iota
	AgeYoung       // seen lately for the first time
	AgeOld         // seen for long
)

// LongLived distinguishes UDP servers from clients: a client's socket is gone
// soon, so one that was seen before and is still there some time later serves.
// Its zero value is not usable; see [NewLongLived].
type LongLived struct {
	seed  maphash.Seed
	age   time.Duration
	limit int
	now   func() time.Time

	mu    sync.Mutex
	seen  map[uint64]sighting
	swept time.Time
}

// sighting is when a socket was first and last seen.
type sighting struct{ first, last time.Time }

// NewLongLived returns a memory of at most limit sockets that holds a socket
// long-lived once it was seen over a time of age. What is beyond the limit is
// not remembered, so its age stays unknown.
func NewLongLived(age time.Duration, limit int, now func() time.Time) *LongLived {
	return &LongLived{seed: maphash.MakeSeed(), age: age, limit: limit, now: now, seen: map[uint64]sighting{}}
}

// Age notes that the socket is there and returns what is known of its age.
// It is safe for concurrent use.
func (m *LongLived) Age(s *Socket) Age {
	id := m.idOf(s)
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	at, known := m.seen[id]
	if !known {
		if len(m.seen) >= m.limit && now.Sub(m.swept) >= m.age/10 {
			m.forget(now)
		}
		if len(m.seen) >= m.limit {
			return AgeUnknown
		}
		at.first = now
	}
	at.last = now
	m.seen[id] = at
	if now.Sub(at.first) >= m.age {
		return AgeOld
	}
	return AgeYoung
}

// idOf returns the identity of the socket. Where the source gives sockets none, its
// end and its process have to do.
func (m *LongLived) idOf(s *Socket) uint64 {
	if id := s.ID(); id != 0 {
		return id
	}
	type end struct {
		protocol Protocol
		local    netip.AddrPort
		pid      int32
	}
	return maphash.Comparable(m.seed, end{s.Protocol, s.Local, s.PID})
}

// forget drops the sockets that were not there lately.
func (m *LongLived) forget(now time.Time) {
	m.swept = now
	for id, at := range m.seen {
		if now.Sub(at.last) >= m.age {
			delete(m.seen, id)
		}
	}
}
