package cli

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if v, err := withinLimit(t.Context(), "read", func(context.Context) (int, error) { return 7, errors.New("odd") }); v != 7 || err == nil || err.Error() != "odd" {
			t.Errorf("what returns: %d, %v", v, err)
		}
		start := time.Now()
		release := make(chan struct{})
		_, err := withinLimit(t.Context(), "read", func(context.Context) (int, error) { <-release; return 7, nil })
		close(release)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "\nhint: ") || time.Since(start) != limit {
			t.Errorf("what does not: %v after %v", err, time.Since(start))
		}
	})
}
