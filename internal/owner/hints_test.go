package owner

import (
	"strings"
	"testing"
)

// TestHints has a hint for each cause, which names what mends it.
func TestHints(t *testing.T) {
	for _, tt := range []struct {
		missing []string
		want    []string // in the hints, in this order
	}{
		{nil, nil},
		{[]string{CapSysPtrace}, []string{"with CAP_SYS_PTRACE"}},
		{[]string{CapSysPtrace, CapDacReadSearch}, []string{"with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"}},
		{[]string{CapSysPtrace, PIDNamespace}, []string{"--pid host", "CAP_SYS_PTRACE"}},
		{[]string{CapSysPtrace, CapDacReadSearch, UserNamespace}, []string{"--userns host"}},
		{[]string{CapNetAdmin}, []string{"with CAP_NET_ADMIN"}},
		{[]string{CapSysPtrace, CapDacReadSearch, CapNetAdmin}, []string{"with CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_NET_ADMIN"}},
		{[]string{UserNamespace, CapNetAdmin}, []string{"--userns host"}},
		{[]string{SecurityModule}, []string{"apparmor=unconfined"}},
	} {
		got := Hints(tt.missing)
		if len(got) != len(tt.want) {
			t.Errorf("%v: %q", tt.missing, got)
			continue
		}
		for i, part := range tt.want {
			if !strings.Contains(got[i], part) {
				t.Errorf("%v: %q does not name %s", tt.missing, got[i], part)
			}
		}
	}
	for _, privilege := range Privileges() {
		if len(Hints([]string{privilege})) != 1 && privilege != UserNamespace {
			t.Errorf("%s has no hint", privilege)
		}
	}
}
