package owner

import (
	"context"
	"sync"
	"time"
)

// calls makes calls that may never return: a file of /proc, a network file system
// or a directory service may not answer. A call that takes longer than patience
// is given up. It goes on in its goroutine; until it returns, no other call of
// its name is made, and its name counts towards limit.
type calls struct {
	patience time.Duration
	limit    int

	mu      sync.Mutex
	running map[string]*call
}

type call struct {
	began time.Time
	done  chan struct{}
}

func newCalls(patience time.Duration, limit int) *calls {
	return &calls{patience: patience, limit: limit, running: map[string]*call{}}
}

// attempt returns what f returns, and true; or false when it does not return in
// time, when another call of that name does not, or when too many others do not.
// What f uses must not be used by others until it has returned.
func attempt[T any](ctx context.Context, c *calls, name string, f func() T) (result T, ok bool) {
	own := c.enter(ctx, name)
	if own == nil {
		return result, false
	}
	answer := make(chan T, 1)
	go func() {
		v := f()
		answer <- v
		c.leave(name, own)
	}()
	if !own.wait(ctx, c.patience) {
		return result, false
	}
	return <-answer, true
}

// enter registers a call. It waits for one of the same name as long as that is
// not overdue; nil means that there is no room.
func (c *calls) enter(ctx context.Context, name string) *call {
	for {
		c.mu.Lock()
		other := c.running[name]
		if other == nil {
			defer c.mu.Unlock()
			if len(c.running) >= c.limit {
				return nil
			}
			own := &call{began: time.Now(), done: make(chan struct{})}
			c.running[name] = own
			return own
		}
		c.mu.Unlock()
		if !other.wait(ctx, c.patience) {
			return nil
		}
	}
}

func (c *calls) leave(name string, own *call) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, name)
	close(own.done)
}

// wait waits until the call has returned. False means that it takes longer than
// patience from its beginning, or that ctx has ended.
func (c *call) wait(ctx context.Context, patience time.Duration) bool {
	timer := time.NewTimer(patience - time.Since(c.began))
	defer timer.Stop()
	select {
	case <-c.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	select { // that it has returned counts, however late it is
	case <-c.done:
		return true
	default:
		return false
	}
}
