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

// Stream is where the kernel's messages come from. One goroutine may wait while others
// take.
type Stream interface {
	// Wait waits until there are messages. The error is os.ErrClosed after Close.
	Wait() error
	// Take calls add with the connections of a batch of messages, if there are any. It
	// returns how many messages it took, and how many of them could not be parsed.
	Take(add func(*socket.Closed)) (taken, malformed int, err error)
	// Room returns how many messages may wait. Those that find no room are lost.
	Room() int
	// Lost returns how many messages found no room.
	Lost() (uint64, error)
	Close() error
}

// fastest is how many messages a CPU of the kernel builds in a second, at most: in the
// pauses of the recorder, not even so many exceed the room for them.
const fastest = 250_000

// errEnded says that the goroutine that records has ended.
var errEnded = errors.New("no longer receives closed connections")

// Recorder writes a stream into a book until it is closed.
type Recorder struct {
	book   *Book
	stream Stream
	pause  time.Duration         // in which messages gather: waking up for each costs several times as much
	ended  atomic.Pointer[error] // why it records no more
}

// Start begins to record. What ends it before Close is logged, and the error of each
// scrape from then on.
func Start(ctx context.Context, stream Stream, book *Book, logger *slog.Logger) *Recorder {
	r := &Recorder{book: book, stream: stream, pause: time.Duration(stream.Room()) * time.Second / fastest}
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
		if err := r.stream.Wait(); err != nil {
			return err
		}
		for {
			taken, err := r.drain(ctx)
			if err != nil {
				return err
			}
			if taken == 0 {
				break
			}
			if taken < r.stream.Room()/2 {
				time.Sleep(r.pause)
			}
		}
	}
}

// drain records the messages that are there, but no more than there may be at a time.
func (r *Recorder) drain(ctx context.Context) (taken int, err error) {
	for taken < max(r.stream.Room(), 1) {
		n, err := r.book.batch(ctx, r.stream)
		if err != nil {
			return taken, err
		}
		if n == 0 {
			break
		}
		taken += n
	}
	return taken, nil
}

// Walk begins to count open connections by the listeners of a table. It is nil while
// another one is under way, and when nothing is recorded any more.
func (r *Recorder) Walk(table *socket.Table) *Walk {
	if r.ended.Load() != nil {
		return nil
	}
	return r.book.begin(table)
}

// Scrape calls show with what was counted so far, the messages that wait included. It
// puts the listeners of a table and limits in force.
func (r *Recorder) Scrape(ctx context.Context, table *socket.Table, limits Limits, watched []socket.Watched, show func(*Report)) error {
	if err := r.ended.Load(); err != nil {
		return fmt.Errorf("%w: %w", errEnded, *err)
	}
	if _, err := r.drain(ctx); err != nil {
		return err
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
