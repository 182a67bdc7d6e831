package socket

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pick chooses among weights, whose keys are their places in the list.
func pick(r *Ranking[int], n int, weights ...int) []int {
	candidates := make([]Candidate[int], len(weights))
	for i, w := range weights {
		candidates[i] = Candidate[int]{Key: i, Weight: w, Floor: 10}
	}
	return slices.Sorted(maps.Keys(r.Choose(candidates, n)))
}

func TestRankingHoldsOn(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := NewRanking[int](func() time.Time { return now })
	for _, step := range []struct {
		after   time.Duration
		weights []int
		want    []int
		why     string
	}{
		{0, []int{9, 100, 50, 50}, []int{1, 2}, "the heaviest, and the first of those that weigh the same"},
		{time.Second, []int{9, 100, 50, 62}, []int{1, 2}, "a quarter more than the peak is not enough"},
		{time.Second, []int{9, 20, 50, 62}, []int{1, 2}, "a recent peak counts"},
		{time.Second, []int{9, 20, 50, 64}, []int{1, 3}, "more than a quarter above the lower peak"},
		{20 * time.Minute, []int{9, 20, 36, 64}, []int{2, 3}, "an old peak fades"},
		{time.Second, []int{9, 4, 5, 64}, []int{2, 3}, "half of the floor keeps a place"},
		{time.Second, []int{9, 4, 4, 64}, []int{3}, "less does not"},
		{time.Second, []int{9, 4, 5, 64}, []int{3}, "nor does it win one"},
		{time.Second, nil, nil, "nothing to choose"},
		{time.Second, []int{10, 10, 10, 10}, []int{0, 1}, "and all over again"},
	} {
		now = now.Add(step.after)
		if got := pick(r, 2, step.weights...); !slices.Equal(got, step.want) {
			t.Errorf("%s: %v gives %v, want %v", step.why, step.weights, got, step.want)
		}
	}
	if got := pick(r, 0, 50); len(got) != 0 {
		t.Errorf("none wanted: %v", got)
	}
}

// Forty ports that are busy by chance, about the same: without hysteresis most
// of the choice changes at each scrape.
func TestRankingDoesNotFlap(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := NewRanking[int](func() time.Time { return now })
	random := rand.New(rand.NewPCG(1, 2))
	changes, plainChanges := 0, 0
	var last, plainLast []int
	const scrapes, n = 240, 20 // an hour
	for range scrapes {
		weights := make([]int, 40)
		for i := range weights {
			weights[i] = 100 + random.IntN(30)
		}
		got, plain := pick(r, n, weights...), pick(NewRanking[int](time.Now), n, weights...)
		changes += newIn(got, last)
		plainChanges += newIn(plain, plainLast)
		last, plainLast = got, plain
		now = now.Add(15 * time.Second)
	}
	if changes > n+10 || plainChanges < 10*n {
		t.Errorf("%d series began in an hour, %d without hysteresis", changes, plainChanges)
	}
}

func newIn(now, before []int) int {
	n := 0
	for _, key := range now {
		if !slices.Contains(before, key) {
			n++
		}
	}
	return n
}
