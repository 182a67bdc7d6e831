package schedule

import (
	"context"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// shared is work for which several may wait. It lives as long as one of them
// does. Its waiters are of the runner's mu.
type shared struct {
	span                    // of who began it
	ctx     context.Context // ends when the work must
	cancel  context.CancelCauseFunc
	waiters int
	done    chan struct{} // closed when it is done
}

// newShared returns work that one waits for, to be started.
func newShared(s span) shared { return shared{span: s, waiters: 1, done: make(chan struct{})} }

// start begins work that ends with a span, and calls over, with mu held, when it
// is done. The caller holds mu.
func (r *Runner) start(s *shared, within span, run, over func()) error {
	if err := context.Cause(r.ctx); err != nil { // no task may start after Stop
		return err
	}
	bounded, stop := within.bound(r.ctx)
	s.ctx, s.cancel = context.WithCancelCause(bounded)
	r.tasks.Go(func() {
		defer stop()
		defer s.cancel(nil)
		if err := probe.Guarded(run); err != nil {
			r.logPanic(err, "")
		}
		close(s.done)
		r.mu.Lock()
		defer r.mu.Unlock()
		over()
	})
	return nil
}

// take adds one who has some time, unless the work is over or does not suit. The
// caller holds the runner's mu.
func (s *shared) take(wanted span) bool {
	if s.waiters == 0 || s.ctx.Err() != nil || !s.serves(wanted) {
		return false
	}
	s.waiters++
	return true
}

// leave takes a waiter away. Without any the work ends.
func (r *Runner) leave(s *shared) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.waiters--
	if s.waiters == 0 {
		s.cancel(errAbandoned)
	}
}

// span is the time that probes have. It has no end where nothing bounds it.
type span struct{ began, ends time.Time }

// spanOf returns the time from now to the deadline of ctx.
func spanOf(ctx context.Context) span {
	deadline, _ := ctx.Deadline()
	return span{time.Now(), deadline}
}

// bound returns a context that ends with the span.
func (s span) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if s.ends.IsZero() {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, s.ends)
}

// aside is the part of one's time that what one shares may have begun and may end
// earlier: then no result that it gets is much older, or had much less time,
// than what one would have found.
const aside = 4

// serves reports whether probes with this span will do for who comes with
// another. They must not end later, but for what the probes of a scrape leave it
// for telling: of two that come at once, the one whose time ends first may be
// here last.
func (s span) serves(other span) bool {
	if s.ends.IsZero() || other.ends.IsZero() {
		return s.ends.Equal(other.ends)
	}
	length := other.ends.Sub(other.began)
	early := other.ends.Sub(s.ends)
	return early >= -margin(length, 0)/2 && early <= length/aside && other.began.Sub(s.began).Abs() <= length/aside
}
