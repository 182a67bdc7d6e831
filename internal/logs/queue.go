package logs

import (
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How much of the log waits for a slow reader: some 8 MB at worst.
const (
	maxLogLines  = 512
	maxLogLine   = 16 << 10
	FlushTimeout = time.Second
)

// Queue is a log whose reader may be slow, stuck or gone. Whoever logs never
// waits for it: lines for which there is no room are dropped and counted.
type Queue struct {
	to      io.Writer
	dropped atomic.Uint64
	ended   chan struct{}

	mu     sync.Mutex
	lines  chan []byte
	closed bool
}

// NewQueue returns a log that is written to w until it is closed.
func NewQueue(w io.Writer) *Queue {
	q := &Queue{to: w, lines: make(chan []byte, maxLogLines), ended: make(chan struct{})}
	go q.write()
	return q
}

// Write implements [io.Writer]. It takes one line, as slog's handlers give it, and
// never fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		q.dropped.Add(1)
		return len(line), nil
	}
	kept := slices.Clone(line[:min(len(line), maxLogLine)])
	if len(kept) < len(line) {
		kept[len(kept)-1] = '\n'
	}
	select {
	case q.lines <- kept:
	default:
		q.dropped.Add(1)
	}
	return len(line), nil
}

func (q *Queue) write() {
	defer close(q.ended)
	for line := range q.lines {
		if _, err := q.to.Write(line); err != nil {
			q.dropped.Add(1)
		}
	}
}

// Dropped returns how many lines were dropped.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// Close waits a moment for the lines that still wait.
func (q *Queue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.lines)
	}
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(FlushTimeout):
	}
}
