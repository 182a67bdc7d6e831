package socket

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"time"
)

// How firmly a ranking holds to its choice: a newcomer must weigh more than
// rankingMargin times the recent peak of what it takes the place of, and that
// peak halves in rankingHalfLife. What is away for longer than rankingAway has
// lost its place: else a burst that is over would hide what is there.
const (
	rankingMargin   = 1.25
	rankingHalfLife = 10 * time.Minute
	rankingAway     = 3 * time.Minute
)

// Ranking chooses the heaviest of many, scrape after scrape, and changes its
// mind seldom: what weighs about the same must not take turns, for each turn
// ends a series and begins another. It remembers as many as it may choose.
// It is safe for concurrent use.
type Ranking[K comparable] struct {
	now func() time.Time

	mu    sync.Mutex
	at    time.Time
	peaks map[K]peak // of those that were chosen last
}

// peak is the most that something weighed lately.
type peak struct {
	weight float64
	seen   time.Time // when it was last there
}

// NewRanking returns a ranking that has chosen nothing yet and reads the time
// from now.
func NewRanking[K comparable](now func() time.Time) *Ranking[K] {
	return &Ranking[K]{now: now, peaks: map[K]peak{}}
}

// Candidate is something to choose.
type Candidate[K comparable] struct {
	Key    K
	Weight int
	// Floor is the least weight with which it can be chosen; half of it will do
	// for what was chosen last.
	Floor int
}

// Choose returns the keys of the n heaviest candidates. Of those that weigh the
// same, the first in the list come first. What was chosen last and is not there
// now, or is below its floor, is not in the result, but keeps its place for
// rankingAway or until its peak has faded: it may be back the next time.
func (r *Ranking[K]) Choose(candidates []Candidate[K], n int) map[K]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	fade := math.Exp2(-float64(now.Sub(r.at)) / float64(rankingHalfLife))
	all := make([]place[K], 0, len(candidates)+len(r.peaks))
	there := map[K]bool{}
	for _, c := range candidates {
		weight := float64(c.Weight)
		old, held := r.peaks[c.Key]
		switch {
		case held && 2*c.Weight >= c.Floor:
			weight = max(weight, old.weight*fade)
			all = append(all, place[K]{c.Key, peak{weight, now}, weight * rankingMargin})
			there[c.Key] = true
		case c.Weight >= c.Floor:
			all = append(all, place[K]{c.Key, peak{weight, now}, weight})
			there[c.Key] = true
		}
	}
	for key, old := range r.peaks {
		weight := old.weight * fade
		if !there[key] && weight >= 1 && now.Sub(old.seen) <= rankingAway {
			all = append(all, place[K]{key, peak{weight, old.seen}, weight * rankingMargin})
		}
	}
	slices.SortStableFunc(all, func(a, b place[K]) int { return cmp.Compare(b.rank, a.rank) })

	chosen := make(map[K]bool, n)
	clear(r.peaks)
	for _, p := range all[:min(n, len(all))] {
		r.peaks[p.key] = p.peak
		if there[p.key] {
			chosen[p.key] = true
		}
	}
	r.at = now
	return chosen
}

// place is what competes for one of the places.
type place[K comparable] struct {
	key  K
	peak peak
	rank float64
}
