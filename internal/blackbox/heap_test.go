package blackbox_test

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

// watchHeap collects garbage again and again until stop is called, and returns
// what was in use at most.
func watchHeap(t *testing.T) (most *uint64, stop func()) {
	t.Helper()
	before := debug.SetGCPercent(20)
	t.Cleanup(func() { debug.SetGCPercent(before) })
	most = new(uint64)
	over := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(20 * time.Millisecond):
			}
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			*most = max(*most, stats.HeapAlloc)
		}
	})
	return most, func() { close(over); watching.Wait() }
}
