package system

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/netns"
)

// TestBPFIsTriedAgain after a machine was too busy, and not where it cannot be used.
func TestBPFIsTriedAgain(t *testing.T) {
	busy := fmt.Errorf("bpf: %w", context.DeadlineExceeded)
	answers := []error{busy, errors.ErrUnsupported, nil}
	now, tries := time.Now(), 0
	o := &otherNamespaces{now: func() time.Time { return now }, choose: func() (*netns.Reader, error) {
		tries++
		return netns.NewReader(netns.Options{Procfs: "/proc"}), answers[tries-1]
	}}
	for i, tt := range []struct {
		after time.Duration
		want  error
		tries int
	}{
		{0, busy, 1},
		{time.Minute, busy, 1},
		{time.Hour, errors.ErrUnsupported, 2},
		{time.Hour, errors.ErrUnsupported, 2},
	} {
		now = now.Add(tt.after)
		if reader, err := o.chosen(); reader == nil || err != tt.want || tries != tt.tries { //nolint:errorlint // the very one
			t.Errorf("call %d: %v after %d tries, want %v after %d", i, err, tries, tt.want, tt.tries)
		}
	}
}
