package probe

import (
	"cmp"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
)

// PanicError says that a prober panicked. That is a fault of the exporter, and
// says nothing of the target.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the prober panicked: %v", e.Value) }

// asPanic returns what recover returned as an error, nil for nil. One that a
// goroutine of a crew brought keeps its stack.
func asPanic(recovered any) error {
	if recovered == nil {
		return nil
	}
	if e, ok := recovered.(*PanicError); ok {
		return e
	}
	return &PanicError{recovered, debug.Stack()}
}

// guard runs a prober, and makes a result of its panic.
func guard(run func() Result) (r Result) {
	defer func() {
		if err := asPanic(recover()); err != nil {
			r = Result{Outcome: Unknown, Origin: OriginLocal, Err: err}
		}
	}()
	return run()
}

// Guarded runs what probes, and returns its panic as an error.
func Guarded(run func()) (err error) {
	defer func() { err = asPanic(recover()) }()
	run()
	return nil
}

// Crew is a [sync.WaitGroup] whose goroutines' panics come out of Wait, where
// whoever started them can recover.
type Crew struct {
	sync.WaitGroup
	mu  sync.Mutex
	err error // the first panic
}

// Go runs f in a goroutine of the crew.
func (c *Crew) Go(f func()) {
	c.WaitGroup.Go(func() {
		defer func() {
			if err := asPanic(recover()); err != nil {
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
	if first, ok := errors.AsType[*PanicError](c.err); ok {
		panic(first)
	}
}
