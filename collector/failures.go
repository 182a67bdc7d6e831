package collector

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
)

// remindEvery is how often a failure that lasts is logged: the metrics have each.
const remindEvery = 5 * time.Minute

// failures remembers how the collectors failed, by name, so that the log has one line
// for what does not change.
type failures struct {
	mu   sync.Mutex
	last map[string]failure
}

// failure is how a collector failed the last time.
type failure struct {
	text    string
	logged  time.Time
	repeats int // since then
}

// note takes in what came of the collectors of a scrape. It returns those that failed
// and are to be logged, and how many failures of theirs were not.
func (f *failures) note(now time.Time, outcomes []outcome) (due []outcome, repeats int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range outcomes {
		if o.err == nil {
			delete(f.last, o.name)
			continue
		}
		last, known := f.last[o.name]
		if known && last.text == o.err.Error() && now.Sub(last.logged) < remindEvery {
			last.repeats++
			f.last[o.name] = last
			continue
		}
		due, repeats = append(due, o), repeats+last.repeats
		if f.last == nil {
			f.last = map[string]failure{}
		}
		f.last[o.name] = failure{text: o.err.Error(), logged: now}
	}
	return due, repeats
}

// logFailures logs in one line what failed in a scrape.
func (s *scrape) logFailures(outcomes []outcome) {
	gone := func(o outcome) bool { return errors.Is(o.err, context.Canceled) } // the client has
	memory := s.exporter.options.Memory
	due, repeats := memory.failures.note(memory.history.Now(), slices.DeleteFunc(slices.Clone(outcomes), gone))
	if len(due) == 0 {
		return
	}
	var names, errs []string
	longest := slices.MaxFunc(due, func(a, b outcome) int { return cmp.Compare(a.elapsed, b.elapsed) })
	for _, o := range due {
		names = append(names, o.name)
		if text := o.err.Error(); !slices.Contains(errs, text) {
			errs = append(errs, text)
		}
	}
	s.exporter.options.Logger.LogAttrs(context.WithoutCancel(s.ctx), slog.LevelError, "collectors failed",
		slog.String("collectors", strings.Join(names, ", ")), slog.String("err", strings.Join(errs, "; ")),
		slog.Duration("duration", longest.elapsed), slog.Int("repeats", repeats))
}
