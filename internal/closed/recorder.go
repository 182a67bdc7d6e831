package closed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Stream is where the kernel's messages come from.
type Stream interface {
	// Receive waits for messages and takes those that are there, up to a batch; full
	// says that it was one. The error is os.ErrClosed after Close.
	Receive() (full bool, err error)
	// Each calls add with each connection of the batch, and returns how many messages
	// could not be parsed.
	Each(add func(*socket.Closed)) (malformed int)
	// Lost returns how many messages found no room.
	Lost() (uint64, error)
	Close() error
}

// gather is how long messages are left to gather before they are taken: to wake up for
// each of them costs several times as much.
const gather = 2 * time.Millisecond

// errEnded says that the goroutine that records has ended.
var errEnded = errors.New("no longer receives closed connections")

// Recorder writes a stream into a book until it is closed.
type Recorder struct {
	book   *Book
	stream Stream
	ended  atomic.Pointer[error] // why it records no more
}

// Start begins to record. What ends it before Close is logged, and the error of each
// scrape from then on.
func Start(ctx context.Context, stream Stream, book *Book, logger *slog.Logger) *Recorder {
	r := &Recorder{book: book, stream: stream}
	go func() {
		err := r.record(ctx, logger)
		r.ended.Store(&err)
		if !errors.Is(err, os.ErrClosed) {
			logger.Error("cannot receive closed connections any more", "err", err)
		}
	}()
	return r
}

// Close ends the recording.
func (r *Recorder) Close() error { return r.stream.Close() }

func (r *Recorder) record(ctx context.Context, logger *slog.Logger) (err error) {
	defer func() {
		if panicked := panics.Recovered(recover()); panicked != nil {
			panics.Log(logger, "closed connections", panicked)
			err = panicked
		}
	}()
	for {
		full, err := r.stream.Receive()
		if err != nil {
			return err
		}
		r.book.batch(ctx, r.stream)
		if !full {
			time.Sleep(gather)
		}
	}
}

// Scrape calls show with what was counted so far. It puts the listeners of a table and
// limits in force.
func (r *Recorder) Scrape(table *socket.Table, limits Limits, watched []socket.Watched, show func(*Report)) error {
	if err := r.ended.Load(); err != nil {
		return fmt.Errorf("%w: %w", errEnded, *err)
	}
	lost, err := r.stream.Lost()
	if err != nil {
		return err
	}
	r.book.scrape(table, limits, watched, func(report *Report) {
		report.Lost = lost
		show(report)
	})
	return nil
}
