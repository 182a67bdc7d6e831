package closed

import (
	"math"
	"sort"
	"time"
)

// Schema is that of the native histograms: each bucket is 2^(2^-3), 9 %, wider than
// the one before, as client_golang has it by default.
const Schema = 3

// The buckets from a microsecond, below which the kernel does not measure, to 64
// seconds.
const (
	FirstBucket = -159
	lastBucket  = 48
	numBuckets  = lastBucket - FirstBucket + 1
)

// Classic are the upper bounds of the classic buckets, in seconds: for those who do
// not read native histograms.
var Classic = [...]float64{0.001, 0.01, 0.05, 0.1, 0.3, 1}

// bounds are the upper bounds of the buckets from 0.5 to 1.
var bounds = func() (b [1 << Schema]float64) {
	for i := range b {
		b[i] = math.Exp2(float64(i)/(1<<Schema) - 1)
	}
	return b
}()

// Histogram counts times. Its zero value is empty.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Classic [len(Classic)]uint64 // cumulative
	Native  [numBuckets]uint64   // from FirstBucket on
}

// Observe adds a time.
func (h *Histogram) Observe(d time.Duration) {
	seconds := d.Seconds()
	h.Count++
	h.Sum += d
	for i := len(Classic) - 1; i >= 0 && seconds <= Classic[i]; i-- {
		h.Classic[i]++
	}
	h.Native[bucketOf(seconds)-FirstBucket]++
}

// Add adds what another histogram has counted.
func (h *Histogram) Add(g *Histogram) {
	h.Count += g.Count
	h.Sum += g.Sum
	for i, n := range g.Classic {
		h.Classic[i] += n
	}
	for i, n := range g.Native {
		h.Native[i] += n
	}
}

// bucketOf returns the index of a bucket, whose upper bound is 2^(index*2^-Schema).
func bucketOf(seconds float64) int {
	fraction, exponent := math.Frexp(seconds)
	index := sort.SearchFloat64s(bounds[:], fraction) + (exponent-1)<<Schema
	return min(max(index, FirstBucket), lastBucket)
}
