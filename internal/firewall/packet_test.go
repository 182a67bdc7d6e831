package firewall

import "testing"

func TestIsKnown(t *testing.T) {
	for known, want := range map[string]bool{"": true, "\xff\xff": true, "\xff\xf0": false, "\x0f": false, "\x00": false} {
		if got := partly(known, known).isKnown(); got != want {
			t.Errorf("bits %x: %t, want %t", known, got, want)
		}
	}
}
