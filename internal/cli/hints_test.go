package cli

import (
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/owner"
)

// TestHints has a hint for each cause, which names what mends it.
func TestHints(t *testing.T) {
	for _, tt := range []struct {
		missing []string
		want    []string // in the hints, in this order
	}{
		{nil, nil},
		{[]string{owner.CapSysPtrace}, []string{"with CAP_SYS_PTRACE"}},
		{[]string{owner.CapSysPtrace, owner.CapDacReadSearch}, []string{"with CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"}},
		{[]string{owner.CapSysPtrace, owner.PIDNamespace}, []string{"--pid host", "CAP_SYS_PTRACE"}},
		{[]string{owner.CapSysPtrace, owner.CapDacReadSearch, owner.UserNamespace}, []string{"--userns host"}},
		{[]string{owner.CapNetAdmin}, []string{"with CAP_NET_ADMIN"}},
		{[]string{owner.CapSysPtrace, owner.CapDacReadSearch, owner.CapNetAdmin}, []string{"with CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH and CAP_NET_ADMIN"}},
		{[]string{owner.UserNamespace, owner.CapNetAdmin}, []string{"--userns host"}},
		{[]string{owner.SecurityModule}, []string{"apparmor=unconfined"}},
	} {
		got := hints(tt.missing)
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
	for _, privilege := range owner.Privileges() {
		if len(hints([]string{privilege})) != 1 && privilege != owner.UserNamespace {
			t.Errorf("%s has no hint", privilege)
		}
	}
}
