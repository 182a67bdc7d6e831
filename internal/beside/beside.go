// Package beside makes calls that may never return beside their callers: a file of
// /proc, a file system or a directory service that does not answer keeps whoever
// asks it, for ever and past every signal.
package beside

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
)

// Limits bound calls that have not returned. Each of those holds a thread.
type Limits struct {
	// All is how many calls may be under way.
	All int
	// Each is how many of them may be on behalf of one; zero is All.
	Each int
	// Retry is when one more is made on behalf of one that has Each: this long after the
	// latest, then twice as long, up to an hour. So what is put right is found, and what
	// hangs takes ever more slowly. Zero is never.
	Retry time.Duration
	// Patience is how long the caller waits for a call; zero is until its context
	// ends. Each call on behalf of the same one that has not returned halves it, so
	// that all of them together hold a caller for twice of it at most.
	Patience time.Duration
}

// Calls makes calls within limits. It is safe for concurrent use.
type Calls struct {
	limits   Limits
	panicked func(*panics.Error)

	mu      sync.Mutex
	running int
	named   map[string]*call
	of      map[string]int       // calls that are under way, by Key.Of
	latest  map[string]time.Time // when the latest of those began
}

// New returns calls of which none is under way. A panic of one is reported to
// panicked, if that is not nil, even when its caller does not wait any more.
func New(limits Limits, panicked func(*panics.Error)) *Calls {
	return &Calls{limits: limits, panicked: panicked, named: map[string]*call{}, of: map[string]int{}, latest: map[string]time.Time{}}
}

// Key says which call one is.
type Key struct {
	// Name of what is called: until a call of a name has returned, no other of that
	// name is made. Calls without a name are all different.
	Name string
	// Of is on whose behalf it is; see [Limits.Each].
	Of string
}

// ErrFull is the error of a call that was not made.
var ErrFull = errors.New("earlier attempts are still waiting for their files\nhint: a file system such as NFS may not respond")

// ErrLate is in the error of a call that was left behind, beside the cause.
var ErrLate = errors.New("timeout")

// Do returns what f returns. It leaves f behind when that does not return in time,
// or ctx ends: what f uses must not be used by others until it has returned. The
// error is [ErrFull], a [*panics.Error], that of f, or an [ErrLate].
func Do[T any](ctx context.Context, c *Calls, key Key, f func() (T, error)) (value T, err error) {
	own, err := c.enter(ctx, key)
	if err != nil {
		return value, err
	}
	type answer struct {
		value T
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		var a answer
		a.value, a.err = guarded(c, f)
		done <- a
		c.leave(key, own)
	}()
	if err := own.wait(ctx); err != nil {
		return value, err
	}
	a := <-done
	return a.value, a.err
}

// Once is Do of a call of its own: only ctx bounds it.
func Once[T any](ctx context.Context, f func() (T, error)) (T, error) {
	return Do(ctx, New(Limits{All: 1}, nil), Key{}, f)
}

// guarded calls f, and makes its panic an error.
func guarded[T any](c *Calls, f func() (T, error)) (value T, err error) {
	defer func() {
		if panicked := panics.Recovered(recover()); panicked != nil {
			err = panicked
			if c.panicked != nil {
				c.panicked(panicked)
			}
		}
	}()
	return f()
}

// enter registers a call. It waits for one of the same name as long as that is not
// overdue.
func (c *Calls) enter(ctx context.Context, key Key) (*call, error) {
	for {
		own, other := c.register(key)
		switch {
		case own != nil:
			return own, nil
		case other == nil:
			return nil, ErrFull
		}
		if err := other.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// register returns the call if there is room, else the other one of its name, if
// that is why.
func (c *Calls) register(key Key) (own, other *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.named[key.Name]; other != nil {
		return nil, other
	}
	before := c.of[key.Of]
	if c.running >= c.limits.All || c.limits.Each > 0 && before >= c.limits.Each && !c.mayRetry(key.Of, before) {
		return nil, nil
	}
	own = &call{done: make(chan struct{})}
	if c.limits.Patience > 0 {
		own.due = time.Now().Add(c.limits.Patience >> before)
	}
	c.running++
	c.of[key.Of]++
	c.latest[key.Of] = time.Now()
	if key.Name != "" {
		c.named[key.Name] = own
	}
	return own, nil
}

// longestRetry bounds what Limits.Retry grows to.
const longestRetry = time.Hour

// mayRetry reports whether one that has Limits.Each calls under way may have one more.
func (c *Calls) mayRetry(of string, underWay int) bool {
	wait := c.limits.Retry
	for range underWay - c.limits.Each {
		wait = min(2*wait, longestRetry)
	}
	return wait > 0 && time.Since(c.latest[of]) >= wait
}

func (c *Calls) leave(key Key, own *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	if c.of[key.Of]--; c.of[key.Of] == 0 {
		delete(c.of, key.Of)
		delete(c.latest, key.Of)
	}
	delete(c.named, key.Name)
	close(own.done)
}

// call is one that is under way.
type call struct {
	due  time.Time // zero: it may take any time
	done chan struct{}
}

// wait waits until the call has returned. That it has counts, however late it is.
func (c *call) wait(ctx context.Context) error {
	if !c.due.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.due)
		defer cancel()
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-c.done:
		return nil
	default:
		return fmt.Errorf("%w: %w\nhint: a file system or process of this host may hang", ErrLate, context.Cause(ctx))
	}
}
