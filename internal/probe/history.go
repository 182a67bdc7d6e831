package probe

import (
	"slices"
	"sync"
)

// historyLimit is how many probes of late, and as many failures before them, are
// remembered.
const historyLimit = 100

// Entry is a probe in the history.
type Entry struct {
	ID uint64
	Report
	// Log is what was logged of it, for people; empty unless it was on request.
	Log string
}

// Failed reports whether the outcome was not the expected one.
func (e *Entry) Failed() bool {
	success, known := e.Target.Module.Success(e.Result)
	return !known || !success
}

// History remembers recent probes, and failures for longer. It is bounded and
// safe for concurrent use.
type History struct {
	mu               sync.Mutex
	limit            int
	last             uint64
	recent, failures ring
}

// newHistory returns an empty history of that many recent probes, and as many
// failures.
func newHistory(limit int) *History {
	return &History{limit: limit, recent: ring{size: limit}, failures: ring{size: limit}}
}

// add adds a probe and gives it its ID, the first of which is 1.
func (h *History) add(e Entry) (id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	e.ID = h.last
	if old, out := h.recent.push(e); out && old.Failed() {
		h.failures.push(old)
	}
	return e.ID
}

// Entries returns all that is remembered, the latest first.
func (h *History) Entries() []Entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries := slices.Concat(h.failures.entries, h.recent.entries)
	slices.SortFunc(entries, func(a, b Entry) int {
		if a.ID > b.ID {
			return -1
		}
		return 1
	})
	return entries
}

// Entry returns the probe with an ID, if it is still remembered.
func (h *History) Entry(id uint64) (Entry, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range []*ring{&h.recent, &h.failures} {
		if i := slices.IndexFunc(r.entries, func(e Entry) bool { return e.ID == id }); i >= 0 {
			return r.entries[i], true
		}
	}
	return Entry{}, false
}

// ring keeps the latest entries, in no order.
type ring struct {
	entries    []Entry
	size, next int
}

// push adds an entry and returns the one that it pushes out.
func (r *ring) push(e Entry) (old Entry, out bool) {
	if len(r.entries) < r.size {
		r.entries = append(r.entries, e)
		return Entry{}, false
	}
	old, r.entries[r.next] = r.entries[r.next], e
	r.next = (r.next + 1) % r.size
	return old, true
}
