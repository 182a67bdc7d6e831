package closed

import (
	"maps"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// away is how long what is not there any more, or not used, keeps its counters.
const away = time.Hour

// maxWaiting bounds the keys without counters of their own that are remembered
// between two choices.
const maxWaiting = 4096

// slots gives each key counters of its own, up to a limit. What is counted for a key
// without them stays with the rest: no counter ever falls. It is not safe for
// concurrent use.
type slots[K comparable, V any] struct {
	order   func(a, b K) int // makes each choice and report the same
	of      map[K]*slot[V]
	limit   int
	waiting map[K]int // how often each key without a slot was asked for
	ranking *socket.Ranking[K]
	rest    V
	folded  int // keys that were waiting at the last choice
}

// slot has the counters of one key.
type slot[V any] struct {
	counters V
	recent   int       // uses since the last choice
	used     time.Time // the last choice before which it was used
}

func newSlots[K comparable, V any](order func(a, b K) int, now func() time.Time) *slots[K, V] {
	return &slots[K, V]{order: order, of: map[K]*slot[V]{}, waiting: map[K]int{}, ranking: socket.NewRanking[K](now)}
}

// count returns the counters of a key. A key that is fleeting, such as the ephemeral
// port of a client, gets none of its own the first time.
func (s *slots[K, V]) count(key K, fleeting bool, now time.Time) *V {
	if found := s.of[key]; found != nil {
		found.recent++
		return &found.counters
	}
	waited, known := s.waiting[key]
	if len(s.of) < s.limit && (!fleeting || waited > 0) {
		delete(s.waiting, key)
		made := &slot[V]{recent: 1, used: now}
		s.of[key] = made
		return &made.counters
	}
	if known || len(s.waiting) < maxWaiting {
		s.waiting[key] = waited + 1
	}
	return &s.rest
}

// choose gives slots to those that waited and are used more than others, which lose
// theirs.
func (s *slots[K, V]) choose(limit int, now time.Time) {
	s.limit = limit
	var candidates []socket.Candidate[K]
	for key, slot := range s.of {
		if slot.recent > 0 {
			candidates = append(candidates, socket.Candidate[K]{Key: key, Weight: slot.recent})
			slot.recent, slot.used = 0, now
		}
		if now.Sub(slot.used) > away {
			delete(s.of, key)
		}
	}
	for key, n := range s.waiting {
		candidates = append(candidates, socket.Candidate[K]{Key: key, Weight: n, Floor: 2})
	}
	slices.SortFunc(candidates, func(a, b socket.Candidate[K]) int { return s.order(a.Key, b.Key) })
	chosen := s.ranking.Choose(candidates, limit)
	s.folded = 0
	for _, c := range candidates {
		switch {
		case s.of[c.Key] != nil:
		case chosen[c.Key] && s.room(chosen):
			s.of[c.Key] = &slot[V]{used: now}
		default:
			s.folded++
		}
	}
	for len(s.of) > limit && s.evict(nil) {
	}
	clear(s.waiting)
}

// room makes room for one more, if what was not chosen has some.
func (s *slots[K, V]) room(chosen map[K]bool) bool {
	return len(s.of) < s.limit || s.evict(chosen)
}

// evict takes the slot of what was used least recently and was not chosen.
func (s *slots[K, V]) evict(chosen map[K]bool) bool {
	var oldest K
	var found *slot[V]
	for key, slot := range s.of {
		if !chosen[key] && (found == nil || slot.used.Before(found.used)) {
			oldest, found = key, slot
		}
	}
	delete(s.of, oldest)
	return found != nil
}

// keys returns the keys that have slots, in order.
func (s *slots[K, V]) keys() []K { return slices.SortedFunc(maps.Keys(s.of), s.order) }
