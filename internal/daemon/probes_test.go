package daemon

import "testing"

func TestMostProbes(t *testing.T) {
	for descriptors, want := range map[uint64]int{0: 0, 1: 1, 64: 1, 67: 1, 256: 32, 1024: 176, 1 << 40: 1 << 20} {
		if got := mostProbes(descriptors); got != want {
			t.Errorf("%d descriptors: %d probes, want %d", descriptors, got, want)
		}
	}
}
