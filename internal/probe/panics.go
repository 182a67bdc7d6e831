package probe

import (
	"cmp"
	"sync"

	"github.com/port-exporter/port_exporter/internal/panics"
)

// guard runs a prober, and makes a result of its panic, which says nothing of the
// target.
func guard(run func() Result) (r Result) {
	defer func() {
		if err := panics.Recovered(recover()); err != nil {
			r = Result{Outcome: Unknown, Origin: OriginLocal, Err: err}
		}
	}()
	return run()
}

// Guarded runs what probes, and returns its panic as an error.
func Guarded(run func()) (err error) {
	defer func() {
		if panicked := panics.Recovered(recover()); panicked != nil {
			err = panicked
		}
	}()
	run()
	return nil
}

// Crew is a [sync.WaitGroup] whose goroutines' panics come out of Wait, where
// whoever started them can recover.
type Crew struct {
	sync.WaitGroup
	mu  sync.Mutex
	err *panics.Error // the first
}

// Go runs f in a goroutine of the crew.
func (c *Crew) Go(f func()) {
	c.WaitGroup.Go(func() {
		defer func() {
			if err := panics.Recovered(recover()); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.err = cmp.Or(c.err, err)
			}
		}()
		f()
	})
}

// Wait returns when all are done, and panics as the first of them did.
func (c *Crew) Wait() {
	c.WaitGroup.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		panic(c.err)
	}
}
