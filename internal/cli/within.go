package cli

import (
	"context"
	"fmt"
	"time"
)

// limit is how long a command may take to read the host: a file or a service that
// does not answer ends it with an error.
const limit = 30 * time.Second

// Within returns what f returns, or an error when that takes longer than a command
// may wait. Then f is left behind.
func Within[T any](ctx context.Context, what string, f func(context.Context) (T, error)) (T, error) {
	return within(ctx, limit, what, f)
}

func within[T any](ctx context.Context, limit time.Duration, what string, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := ctx.Err(); err != nil {
		var none T
		return none, err
	}
	done := make(chan result, 1)
	go func() {
		value, err := f(ctx)
		done <- result{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%s: no answer: %w\nhint: a file system or a process of this host may hang", what, context.Cause(ctx))
	}
}
