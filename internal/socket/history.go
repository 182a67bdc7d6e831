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
	started   bool
	listeners map[ListenerID]*past
	changes   map[Protocol]Changes
}

// past is the history of one listener.
type past struct {
	firstSeen time.Time
	present   bool
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

// Note adds a table and returns the history up to it.
func (h *History) Note(listeners []Listener) Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	r := Record{Changes: map[Protocol]Changes{}}
	for i := range listeners {
		p := h.pastOf(&listeners[i], now)
		r.FirstSeen = append(r.FirstSeen, p.firstSeen)
		r.Drops = append(r.Drops, listeners[i].Drops+p.departed)
	}
	for id, p := range h.listeners {
		if !p.present {
			delete(h.listeners, id)
			h.change(id.Protocol, 0, 1)
		}
		p.present = false
	}
	h.started = true
	for _, p := range Protocols() {
		r.Changes[p] = h.changes[p]
	}
	return r
}

func (h *History) pastOf(l *Listener, now time.Time) *past {
	p, known := h.listeners[l.ListenerID]
	if !known {
		p = &past{firstSeen: now}
		h.listeners[l.ListenerID] = p
		if h.started {
			h.change(l.Protocol, 1, 0)
		}
	}
	p.present = true
	p.note(l.Members)
	return p
}

func (h *History) change(p Protocol, opened, closed uint64) {
	c := h.changes[p]
	h.changes[p] = Changes{c.Opened + opened, c.Closed + closed}
}

// note keeps what each member has dropped, and adds up those that are gone.
func (p *past) note(members []Member) {
	for _, m := range p.members {
		if !slices.ContainsFunc(members, func(now Member) bool { return now.ID() == m.ID() }) {
			p.departed += uint64(m.Drops)
		}
	}
	p.members = members
}
