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
		{time.Second, []int{9, 4, 4, 64}, []int{3}, "with less it is not told"},
		{time.Second, []int{9, 4, 5, 64}, []int{2, 3}, "but it has its place when it is back"},
		{time.Second, nil, nil, "nothing to choose"},
		{time.Second, []int{30, 30, 30, 60}, []int{2, 3}, "what was away for a scrape keeps its place"},
		{2 * time.Hour, nil, nil, "nothing for long"},
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

// A burst towards many, which is over: the one that is there is exported soon, however
// little it weighs beside them.
func TestRankingForgetsWhatIsAway(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := NewRanking[int](func() time.Time { return now })
	pick(r, 3, 500, 500, 500)
	for _, step := range []struct {
		after time.Duration
		want  []int
	}{{time.Minute, nil}, {rankingAway - time.Minute, nil}, {time.Second, []int{3}}} {
		now = now.Add(step.after)
		if got := pick(r, 3, 0, 0, 0, 10); !slices.Equal(got, step.want) {
			t.Errorf("after %v: %v, want %v", step.after, got, step.want)
		}
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

// Ports with a few short connections each, often none at all.
func TestRankingOfPassingCandidates(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	r := NewRanking[int](func() time.Time { return now })
	random := rand.New(rand.NewPCG(3, 4))
	const scrapes, n = 240, 25 // an hour
	changes := 0
	var last []int
	for i := range scrapes {
		var candidates []Candidate[int]
		for key := range 40 {
			if weight := random.IntN(5); weight > 0 {
				candidates = append(candidates, Candidate[int]{Key: key, Weight: weight})
			}
		}
		if chosen := r.Choose(candidates, n); len(chosen) > n {
			t.Fatalf("%d chosen of %d", len(chosen), n)
		}
		held := slices.Sorted(maps.Keys(r.peaks))
		if i > 20 { // five minutes in, when every peak was seen
			changes += newIn(held, last)
		}
		last = held
		now = now.Add(15 * time.Second)
	}
	if changes > 4*n {
		t.Errorf("%d places changed hands in an hour, want at most %d", changes, 4*n)
	}
	t.Logf("%d places changed hands in an hour", changes)
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
