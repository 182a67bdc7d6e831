package owner

import (
	"context"

	"github.com/port-exporter/port_exporter/internal/beside"
)

// attempt returns what f returns, and true; or false when that does not come in
// time, is not waited for, or panics: then it is not known.
func attempt[T any](ctx context.Context, c *beside.Calls, key beside.Key, f func() T) (T, bool) {
	result, err := beside.Do(ctx, c, key, func() (T, error) { return f(), nil })
	return result, err == nil
}
