package socket

import (
	"slices"
	"sync"
	"time"
)

// History is what one scrape cannot know: since when a listener is there, how
// many came and went, and what the closed sockets of a group had dropped. It
// is safe for concurrent use.
type History struct {
	now func() time.Time

	mu        sync.Mutex
	last      time.Time // when the read of the last table began
	listeners map[ListenerID]*past
	changes   map[Protocol]Changes
}

// past is the history of one listener.
type past struct {
	firstSeen time.Time
	present   bool
	client    bool     // it may be a client: then it is no change that it comes or goes
	members   []Member // that were there last
	departed  uint64   // drops of those that are gone
}

// Changes counts the listeners that came and went between scrapes.
type Changes struct{ Opened, Closed uint64 }

// NewHistory returns an empty history that reads the time from now.
func NewHistory(now func() time.Time) *History {
	return &History{now: now, listeners: map[ListenerID]*past{}, changes: map[Protocol]Changes{}}
}

// Record is the history up to one table.
type Record struct {
	// FirstSeen is when each listener of the table, in its order, was first in one.
	FirstSeen []time.Time
	// Drops is what each listener of the table dropped since it was first seen,
	// closed sockets of its group included, so that it never falls while the
	// listener is there.
	Drops []uint64
	// Changes has every protocol. The listeners of the first table are no change.
	Changes map[Protocol]Changes
}

// Now returns the time to note a table with: that at which its read begins.
func (h *History) Now() time.Time { return h.now() }

// Note adds a table, whose read began at a time, and returns the history up to
// it. A table that is older than the last one, as concurrent scrapes can have it,
// adds nothing: what it lacks has not gone, and what it has may have.
func (h *History) Note(began time.Time, listeners []Listener) Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !began.Before(h.last) {
		h.add(began, listeners)
	}
	r := Record{Changes: map[Protocol]Changes{}}
	for _, l := range listeners {
		p, known := h.listeners[l.ListenerID]
		if !known {
			p = &past{firstSeen: began}
		}
		r.FirstSeen = append(r.FirstSeen, p.firstSeen)
		r.Drops = append(r.Drops, l.Drops+p.departed)
	}
	for _, p := range Protocols() {
		r.Changes[p] = h.changes[p]
	}
	return r
}

func (h *History) add(began time.Time, listeners []Listener) {
	for i := range listeners {
		h.note(&listeners[i], began)
	}
	for id, p := range h.listeners {
		if !p.present {
			delete(h.listeners, id)
			if !p.client {
				h.change(id.Protocol, 0, 1)
			}
		}
		p.present = false
	}
	h.last = began
}

func (h *History) note(l *Listener, began time.Time) {
	p, known := h.listeners[l.ListenerID]
	if !known {
		p = &past{firstSeen: began}
		h.listeners[l.ListenerID] = p
		if !h.last.IsZero() && !l.MayBeClient {
			h.change(l.Protocol, 1, 0)
		}
	}
	p.present, p.client = true, l.MayBeClient
	members := l.Members
	if len(l.Peers) > 0 {
		members = slices.Concat(members, l.Peers)
	}
	p.note(members)
}

func (h *History) change(p Protocol, opened, closed uint64) {
	c := h.changes[p]
	h.changes[p] = Changes{c.Opened + opened, c.Closed + closed}
}

// note keeps what each member has dropped, and adds up those that are gone.
func (p *past) note(members []Member) {
	there := contains(members)
	for _, m := range p.members {
		if m.Drops > 0 && !there(m.ID()) {
			p.departed += uint64(m.Drops)
		}
	}
	p.members = members
}

// contains returns whether members have an ID, by a map where there are many.
func contains(members []Member) func(id uint64) bool {
	const few = 16
	if len(members) <= few {
		return func(id uint64) bool {
			return slices.ContainsFunc(members, func(m Member) bool { return m.ID() == id })
		}
	}
	ids := make(map[uint64]bool, len(members))
	for _, m := range members {
		ids[m.ID()] = true
	}
	return func(id uint64) bool { return ids[id] }
}
