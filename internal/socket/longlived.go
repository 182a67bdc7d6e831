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
// So does a port that a program chose and binds again each time it was closed.
// Its zero value is not usable; see [NewLongLived].
type LongLived struct {
	seed maphash.Seed
	age  time.Duration
	now  func() time.Time

	mu      sync.Mutex
	sockets sightings
	ports   sightings // of sockets on ports that the kernel does not hand out
}

// sightings are when sockets or ports were first and last seen, at most limit of
// them. One that was not seen for the time of gap is seen for the first time again,
// if it is a port: another client may have it now.
type sightings struct {
	limit   int
	gap     time.Duration
	restart bool
	seen    map[uint64]sighting
	swept   time.Time
}

// sighting is when a socket or port was first and last seen.
type sighting struct{ first, last time.Time }

// NewLongLived returns a memory of at most limit sockets, and as many ports, that
// holds a socket long-lived once it was seen over a time of age. What is beyond the
// limit is not remembered, so its age stays unknown. A port may be unbound for a
// quarter of the age: a scrape a minute sees it, and the ports that a resolver draws
// from all of them do not come again so soon, time after time.
func NewLongLived(age time.Duration, limit int, now func() time.Time) *LongLived {
	return &LongLived{
		seed: maphash.MakeSeed(), age: age, now: now,
		sockets: sightings{limit: limit, gap: age, seen: map[uint64]sighting{}},
		ports:   sightings{limit: limit, gap: age / 4, restart: true, seen: map[uint64]sighting{}},
	}
}

// Age notes that the socket is there and returns what is known of its age. Chosen
// says that its program chose the port, which then ages with the sockets on it.
// It is safe for concurrent use.
func (m *LongLived) Age(s *Socket, chosen bool) Age {
	now := m.now()
	m.mu.Lock()
	defer m.mu.Unlock()
	age := m.ageOf(&m.sockets, m.idOf(s), now)
	if chosen && m.ageOf(&m.ports, m.portOf(s), now) == AgeOld {
		return AgeOld
	}
	return age
}

// ageOf notes a sighting and returns the age of what was seen.
func (m *LongLived) ageOf(of *sightings, id uint64, now time.Time) Age {
	first, ok := of.note(id, now)
	switch {
	case !ok:
		return AgeUnknown
	case now.Sub(first) >= m.age:
		return AgeOld
	default:
		return AgeYoung
	}
}

// idOf returns the identity of the socket. Where the source gives sockets none, its
// end and its process have to do.
func (m *LongLived) idOf(s *Socket) uint64 {
	if id := s.ID(); id != 0 {
		return id
	}
	return m.end(s, s.PID)
}

// portOf returns the identity of the end of the socket, whoever has it.
func (m *LongLived) portOf(s *Socket) uint64 { return m.end(s, 0) }

func (m *LongLived) end(s *Socket, pid int32) uint64 {
	type end struct {
		protocol Protocol
		local    netip.AddrPort
		device   string
		pid      int32
	}
	return maphash.Comparable(m.seed, end{s.Protocol, s.Local, s.Interface, pid})
}

// note remembers that something is there and returns since when; not ok if there is
// no room.
func (s *sightings) note(id uint64, now time.Time) (first time.Time, ok bool) {
	at, known := s.seen[id]
	if !known {
		if len(s.seen) >= s.limit && now.Sub(s.swept) >= s.gap/10 {
			s.forget(now)
		}
		if len(s.seen) >= s.limit {
			return first, false
		}
	}
	if !known || s.restart && now.Sub(at.last) > s.gap {
		at.first = now
	}
	at.last = now
	s.seen[id] = at
	return at.first, true
}

// forget drops what was not there lately.
func (s *sightings) forget(now time.Time) {
	s.swept = now
	for id, at := range s.seen {
		if now.Sub(at.last) >= s.gap {
			delete(s.seen, id)
		}
	}
}
