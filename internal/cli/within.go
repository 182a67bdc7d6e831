package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
)

// limit is how long a command may take to read the host: a file or a service that
// does not answer ends it with an error.
const limit = 30 * time.Second

// withinLimit returns what f returns, or an error when that takes longer than a command
// may wait. Then f is left behind.
func withinLimit[T any](ctx context.Context, what string, f func(context.Context) (T, error)) (T, error) {
	return within(ctx, limit, what, f)
}

func within[T any](ctx context.Context, limit time.Duration, what string, f func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	value, err := beside.Once(ctx, func() (T, error) { return f(ctx) })
	if errors.Is(err, beside.ErrLate) {
		err = fmt.Errorf("%s: %w", what, err)
	}
	return value, err
}
