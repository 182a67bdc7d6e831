package files

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

// Beside runs what reads files beside its callers, because a file system that
// does not answer holds whoever reads, for ever and past every signal.
type Beside struct{ slots chan struct{} }

// maxStuck is how many that do not come back are left behind. Each holds a
// thread; the next ones are refused until one of them is back.
const maxStuck = 3

// NewBeside returns one that has left nothing behind.
func NewBeside() *Beside { return &Beside{slots: make(chan struct{}, maxStuck)} }

var errStuck = errors.New("earlier attempts still wait for their files\nhint: is a file system that does not answer among them, such as NFS?")

// Run returns what read does, or, once ctx has ended, its cause: then it leaves
// read behind.
func Run[T any](ctx context.Context, b *Beside, read func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	select {
	case b.slots <- struct{}{}:
	default:
		return none, errStuck
	}
	done := make(chan answer, 1)
	go func() {
		defer func() { <-b.slots }()
		var a answer
		a.value, a.err = guarded(ctx, read)
		done <- a
	}()
	select {
	case a := <-done:
		return a.value, a.err
	case <-ctx.Done():
		return none, fmt.Errorf("the files cannot be read in time: %w", context.Cause(ctx))
	}
}

// guarded turns a panic into an error: one that a file brings about must not end
// what serves.
func guarded[T any](ctx context.Context, read func(context.Context) (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return read(ctx)
}
