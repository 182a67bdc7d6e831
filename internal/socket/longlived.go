package socket

import (
	"sync"
	"time"
)

// LongLived tells UDP servers on ephemeral ports from clients: a client's
// socket is gone soon, so one that was seen before and is still there some
// time later serves. Its zero value is not usable; see [NewLongLived].
type LongLived struct {
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
// not remembered, so it counts as a client.
func NewLongLived(age time.Duration, limit int, now func() time.Time) *LongLived {
	return &LongLived{age: age, limit: limit, now: now, seen: map[uint64]sighting{}}
}

// Has notes that the socket is there and reports whether it is long-lived.
// It is safe for concurrent use.
func (m *LongLived) Has(s *Socket) bool {
	id := s.ID()
	if id == 0 {
		return false
	}
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	at, known := m.seen[id]
	if !known {
		if len(m.seen) >= m.limit && now.Sub(m.swept) >= m.age/10 {
			m.forget(now)
		}
		if len(m.seen) >= m.limit {
			return false
		}
		at.first = now
	}
	at.last = now
	m.seen[id] = at
	return now.Sub(at.first) >= m.age
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
