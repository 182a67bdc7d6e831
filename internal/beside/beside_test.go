package beside

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
)

func answer() (int, error) { return 7, nil }

// hanging returns a call that does not return before the release.
func hanging() (call func() (int, error), release func()) {
	back := make(chan struct{})
	return func() (int, error) { <-back; return 0, nil }, func() { close(back) }
}

// TestLimits has calls that do not return: callers do, with an error, and no more
// than the limit are left behind.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const all = 3
		c := New(Limits{All: all}, nil)
		hang, release := hanging()
		over, cancel := context.WithCancel(t.Context())
		cancel()
		for range all {
			if _, err := Do(over, c, Key{}, hang); !errors.Is(err, context.Canceled) || !errors.Is(err, ErrLate) {
				t.Errorf("error %v", err)
			}
		}
		if _, err := Do(t.Context(), c, Key{}, answer); !errors.Is(err, ErrFull) {
			t.Errorf("with %d left behind: %v", all, err)
		}
		release()
		synctest.Wait()
		if n, err := Do(t.Context(), c, Key{}, answer); err != nil || n != 7 {
			t.Errorf("when they are back: %d, %v", n, err)
		}
	})
}

// TestEach has one on whose behalf all calls hang: it holds its callers for less
// than twice the patience, and takes nothing from others.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Limits{All: 8, Each: 4, Patience: time.Second}, nil)
		hang, release := hanging()
		defer release()
		began := time.Now()
		for i, want := range []error{context.DeadlineExceeded, context.DeadlineExceeded, context.DeadlineExceeded, context.DeadlineExceeded, ErrFull, ErrFull} {
			if _, err := Do(t.Context(), c, Key{Of: "eve"}, hang); !errors.Is(err, want) {
				t.Errorf("call %d: %v, want %v", i, err, want)
			}
		}
		if took := time.Since(began); took >= 2*time.Second {
			t.Errorf("they took %v", took)
		}
		began = time.Now()
		slow := func() (int, error) { time.Sleep(time.Second - 1); return 7, nil }
		if n, err := Do(t.Context(), c, Key{Of: "bob"}, slow); n != 7 || err != nil {
			t.Errorf("another one's, after %v: %d, %v", time.Since(began), n, err)
		}
	})
}

// TestRetry has one on whose behalf all calls hang: one more is made from time to time,
// ever later, and no more than the limit of all.
func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Limits{All: 6, Each: 1, Retry: time.Minute, Patience: time.Second}, nil)
		hang, release := hanging()
		defer release()
		var made []time.Duration
		for began := time.Now(); time.Since(began) < 3*time.Hour; time.Sleep(time.Second) {
			at := time.Since(began)
			if _, err := Do(t.Context(), c, Key{Of: "eve"}, hang); !errors.Is(err, ErrFull) {
				made = append(made, at.Round(time.Minute))
			}
		}
		want := []time.Duration{0, time.Minute, 3 * time.Minute, 7 * time.Minute, 15 * time.Minute, 31 * time.Minute}
		if !slices.Equal(made, want) {
			t.Errorf("made after %v, want %v", made, want)
		}
	})
}

// TestNames has a call that does not return: no other of its name is made, and
// only the first caller waits.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := New(Limits{All: 8, Patience: time.Second}, nil)
		hang, release := hanging()
		for i, longest := range []time.Duration{time.Second, 0} {
			began := time.Now()
			if _, err := Do(t.Context(), c, Key{Name: "stat"}, hang); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > longest {
				t.Errorf("call %d: %v after %v", i, err, time.Since(began))
			}
		}
		if n, err := Do(t.Context(), c, Key{Name: "fd"}, answer); n != 7 || err != nil {
			t.Errorf("of another name: %d, %v", n, err)
		}
		release()
		synctest.Wait()
		if n, err := Do(t.Context(), c, Key{Name: "stat"}, answer); n != 7 || err != nil {
			t.Errorf("when it is back: %d, %v", n, err)
		}
	})
}

// TestPanic has calls that panic: each is an error of its own, is reported with its
// stack, and gives its place back.
func TestPanic(t *testing.T) {
	var reported []string
	c := New(Limits{All: 1, Each: 1}, func(err *panics.Error) { reported = append(reported, string(err.Stack)) })
	for range 3 {
		_, err := Do(t.Context(), c, Key{Name: "x", Of: "y"}, func() (int, error) { return stumble(), nil })
		if panicked, ok := errors.AsType[*panics.Error](err); !ok || err.Error() != "panic: no legs" || !strings.Contains(string(panicked.Stack), "stumble") {
			t.Errorf("error %v", err)
		}
	}
	if len(reported) != 3 || !strings.Contains(reported[0], "stumble") {
		t.Errorf("reported: %v", reported)
	}
}

func stumble() int { panic("no legs") }
