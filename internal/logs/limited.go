// Package logs keeps the log of the daemon short: what repeats is counted, and
// libraries write to it in its own form.
package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// maxLines is how many lines with one message are written in a window of time.
	maxLines = 20
	window   = time.Minute
	// maxMessages bounds the messages that are counted: ours are constants, but those
	// of libraries may not be.
	maxMessages = 1024
)

// Limited returns a handler that writes a message at most 20 times a minute, whatever
// its attributes are. What it drops it counts, in the attribute "dropped" of the next
// line with that message. Debug messages have no limit.
func Limited(handler slog.Handler, now func() time.Time) slog.Handler {
	return limited{Handler: handler, tallies: &tallies{now: now, of: map[string]*tally{}}}
}

type limited struct {
	slog.Handler
	*tallies
}

// tallies count the lines of each message.
type tallies struct {
	now func() time.Time
	mu  sync.Mutex
	of  map[string]*tally
}

// tally is what was written of one message since its window began.
type tally struct {
	began          time.Time
	lines, dropped int
}

// Handle implements [slog.Handler].
func (l limited) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelInfo {
		return l.Handler.Handle(ctx, r)
	}
	last, dropped := l.count(r.Message)
	switch {
	case last < 0:
		return nil
	case last == 0:
		r.AddAttrs(slog.String("limit", "more lines like this are counted and dropped for a minute"))
	}
	if dropped > 0 {
		r.AddAttrs(slog.Int("dropped", dropped))
	}
	return l.Handler.Handle(ctx, r)
}

// count counts a line. It returns how many more there may be, less than 0 if not even
// this one, and how many were dropped in the window before.
func (t *tallies) count(message string) (more, dropped int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	each, known := t.of[message]
	if !known {
		if len(t.of) >= maxMessages {
			clear(t.of)
		}
		each = &tally{began: now}
		t.of[message] = each
	}
	if now.Sub(each.began) >= window {
		dropped = each.dropped
		*each = tally{began: now}
	}
	if each.lines == maxLines {
		each.dropped++
		return -1, 0
	}
	each.lines++
	return maxLines - each.lines, dropped
}

// WithAttrs implements [slog.Handler].
func (l limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{Handler: l.Handler.WithAttrs(attrs), tallies: l.tallies}
}

// WithGroup implements [slog.Handler].
func (l limited) WithGroup(name string) slog.Handler {
	return limited{Handler: l.Handler.WithGroup(name), tallies: l.tallies}
}
