package owner

import (
	"context"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// search is one search beside the scrapes: for the holders of some sockets, and
// whether the processes of others still hold them.
type search struct {
	finder  *Finder
	unknown []socket.Member
	stale   map[int32]*holding // by pid
	began   time.Time
	done    chan struct{}
}

// holding is a process and the sockets that it held when it was last looked at.
type holding struct {
	process Process
	members []socket.Member
}

// searchFor returns the search that has to end before the answers for listeners
// are up to date, and whether it was begun here. It is nil when they are.
func (f *Finder) searchFor(listeners []socket.Listener) (s *search, own bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s = f.plan(listeners)
	f.forget()
	switch {
	case len(s.unknown) == 0 && len(s.stale) == 0:
		return nil, false
	case f.search != nil:
		return f.search, false
	}
	if len(s.unknown) > 0 {
		f.searches++
	}
	f.search = s
	go s.run()
	return s, true
}

// plan returns the search for what is not known, or due. Sockets without a holder
// are searched for again; of the others the process is looked at. Those that wait for
// a service are searched for, too, but more and more rarely.
func (f *Finder) plan(listeners []socket.Listener) *search {
	s := &search{finder: f, stale: map[int32]*holding{}, began: time.Now(), done: make(chan struct{})}
	now, left := f.now(), maxAllMembers
	for i := range listeners {
		for _, m := range lookedFor(&listeners[i], &left) {
			id := m.ID()
			if id == 0 {
				continue
			}
			a, seen := f.known[id]
			if seen {
				a.seen = now
			}
			switch {
			case !seen, !now.Before(a.due) && a.Fate != Held, a.Process.Waiting && !now.Before(a.search):
				s.unknown = append(s.unknown, m)
			case !now.Before(a.due):
				s.recheck(a.Process, m)
			}
		}
	}
	return s
}

func (s *search) recheck(p Process, m socket.Member) {
	h := s.stale[p.PID]
	if h == nil {
		h = &holding{process: p}
		s.stale[p.PID] = h
	}
	h.members = append(h.members, m)
}

// forget drops the answers for sockets that are gone.
func (f *Finder) forget() {
	now := f.now()
	for id, a := range f.known {
		if now.Sub(a.seen) >= forgetAfter {
			delete(f.known, id)
		}
	}
}

// wait waits for the search. False means that it goes on.
func (s *search) wait(ctx context.Context, own bool) bool {
	if !own {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, s.began.Add(joinWithin))
		defer cancel()
	}
	select {
	case <-s.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// run is the search. Sockets that are new, and those that their process holds no
// more, are searched for together.
func (s *search) run() {
	defer s.end()
	ctx, cancel := context.WithTimeout(context.Background(), searchLimit)
	defer cancel()
	lost := map[uint64]bool{}
	for _, h := range s.stale {
		for _, m := range s.look(ctx, h) {
			lost[m.ID()] = true
			s.unknown = append(s.unknown, m)
		}
	}
	if len(lost) > 0 && len(lost) == len(s.unknown) {
		s.count()
	}
	if len(s.unknown) > 0 {
		s.find(ctx, lost)
	}
}

// end ends the search, after a panic as well: then what it has not found is not
// known.
func (s *search) end() {
	if panicked := panics.Recovered(recover()); panicked != nil {
		s.finder.panicked(panicked)
		s.giveUp()
	}
	s.finder.mu.Lock()
	defer s.finder.mu.Unlock()
	s.finder.search = nil
	close(s.done)
}

// giveUp leaves what the search has not looked at as it is, until it is searched
// for again soon.
func (s *search) giveUp() {
	for _, m := range s.unknown {
		s.finder.postpone(m.ID())
	}
	for _, h := range s.stale {
		for _, m := range h.members {
			s.finder.postpone(m.ID())
		}
	}
}

// postpone has a socket looked for again soon, if that is due now.
func (f *Finder) postpone(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	a := f.known[id]
	if a == nil {
		a = &answer{Found: Found{Fate: Unclear}, seen: now, pause: retryAfter}
		f.known[id] = a
	}
	for _, due := range []*time.Time{&a.due, &a.search} {
		if !now.Before(*due) {
			*due = now.Add(retryAfter)
		}
	}
}

// count counts a search that only looks turned out to need.
func (s *search) count() {
	s.finder.mu.Lock()
	defer s.finder.mu.Unlock()
	s.finder.searches++
}

// look looks at a process again and returns the sockets that it holds no more.
func (s *search) look(ctx context.Context, h *holding) (lost []socket.Member) {
	seen := s.finder.host.Look(ctx, h.process, h.members)
	f := s.finder
	for _, m := range h.members {
		if !seen.Unclear && (seen.Gone || !seen.Held[m.ID()]) {
			lost = append(lost, m)
			continue
		}
		a := answer{Found: Found{Fate: Held, Process: seen.Process}}
		if !seen.Unclear {
			a.unit, a.container = f.host.Unit(ctx, m)
		}
		f.renew(m.ID(), h.process, a, seen.Unclear)
	}
	return lost
}

// renew notes what was seen of a process that holds a socket. A process that did
// not answer stays what it was.
func (f *Finder) renew(id uint64, of Process, now answer, unclear bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.known[id]
	if a == nil { // the socket is gone
		return
	}
	a.due = f.now().Add(recheckAfter)
	if unclear || a.Process.PID != of.PID {
		return
	}
	a.Process = now.Process
	if a.Process.Unsure {
		a.due = f.now().Add(retryAfter)
	}
	if a.unit == "" && a.container == "" {
		a.unit, a.container = now.unit, now.container
	}
}

// find searches for the sockets that are not known, or lost. Each answer counts
// from the moment on at which it is there.
func (s *search) find(ctx context.Context, lost map[uint64]bool) {
	left := make(map[uint64]socket.Member, len(s.unknown))
	for _, m := range s.unknown {
		left[m.ID()] = m
	}
	report := func(id uint64, found Found) {
		m, open := left[id]
		if !open {
			return
		}
		delete(left, id)
		a := &answer{Found: found}
		a.unit, a.container = s.finder.host.Unit(ctx, m)
		s.finder.note(id, a, lost[id])
	}
	s.finder.host.Find(ctx, s.unknown, report)
	for id := range left {
		report(id, Found{Fate: NotFound})
	}
}

// note keeps an answer. An earlier one stands as long as the new one is unclear,
// unless its process is known to hold the socket no more.
func (f *Finder) note(id uint64, a *answer, lost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.known[id]
	switch {
	case a.Fate == Unclear:
		if old != nil && !lost {
			a = old
		}
		a.pause = retryAfter
	case a.Process.Unsure:
		a.pause = retryAfter
	case old == nil, old.Fate != a.Fate, a.Fate == Held && (!a.Process.Waiting || !old.Process.Waiting):
		a.pause = recheckAfter
	default:
		a.pause = min(2*old.pause, longestPause)
	}
	a.seen = f.now()
	a.search = a.seen.Add(a.pause)
	a.due = a.search
	if a.Fate == Held {
		a.due = a.seen.Add(min(a.pause, recheckAfter))
	}
	f.known[id] = a
}
