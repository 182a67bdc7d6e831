package schedule

import (
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// historyLimit is how many probes of late, and as many failures before them, are
// remembered unless [Runner.Remember] is called.
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

// maxKept is what is kept of an error and of each label of a measurement, in
// bytes.
const maxKept = 2 << 10

// compact returns an entry that holds no more than it shows: an error may hold a
// certificate, a text the line of a request, and a target the plan it is of.
func compact(e Entry) Entry {
	target := *e.Target
	target.Address, target.Hostname = strings.Clone(target.Address), strings.Clone(target.Hostname)
	e.Target = &target
	e.Log = strings.Clone(e.Log)
	if e.Result.Err != nil {
		e.Result.Err = errors.New(clip(probe.Redact(e.Result.Err.Error(), target.Address))) // first: a half is not recognized
	}
	tooLong := func(text string) bool { return len(text) > maxKept }
	if slices.ContainsFunc(e.Result.Samples, func(s probe.Sample) bool { return slices.ContainsFunc(s.Labels, tooLong) }) {
		e.Result.Samples = slices.Clone(e.Result.Samples)
		for i := range e.Result.Samples {
			s := &e.Result.Samples[i]
			s.Labels = slices.Clone(s.Labels)
			for j := range s.Labels {
				s.Labels[j] = clip(s.Labels[j])
			}
		}
	}
	return e
}

// clip returns a text of its own, cut where it is longer than [maxKept].
func clip(text string) string {
	if len(text) <= maxKept {
		return strings.Clone(text)
	}
	return strings.ToValidUTF8(text[:maxKept], "") + "…"
}

// add adds a probe and gives it its ID, the first of which is 1.
func (h *History) add(e Entry) (id uint64) {
	e = compact(e)
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
	if r.size == 0 {
		return e, true
	}
	if len(r.entries) < r.size {
		r.entries = append(r.entries, e)
		return Entry{}, false
	}
	old, r.entries[r.next] = r.entries[r.next], e
	r.next = (r.next + 1) % r.size
	return old, true
}
