package web

import (
	"testing"
	"time"
)

// FuzzTimeout reads any text as the header: what comes of it is above zero, and
// not above the longest.
func FuzzTimeout(f *testing.F) {
	for _, text := range []string{"", "10", "1e400", "-1", "0x1p-1074", "NaN", "+Inf", "1e-300", "600", " 1"} {
		f.Add(text, int64(time.Second/2))
	}
	f.Fuzz(func(t *testing.T, header string, offset int64) {
		got, err := Timeout(header, defaultTimeout, longestScrape, time.Duration(max(offset, 0)))
		if err == nil && (got < 0 || got > longestScrape) {
			t.Errorf("%q: %v", header, got)
		}
	})
}
