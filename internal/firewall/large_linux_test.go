package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// lines writes a line for each number, with an address of its own.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", fmt.Sprintf("10.%d.%d.7", i>>8&255, i&255), 1000+i)
	}
	return b.String()
}

// TestLargeRulesInNamespace has rules and sets of thousands, which split connections into
// ever more parts: an answer comes soon, or it is that there are too many.
func TestLargeRulesInNamespace(t *testing.T) {
	const chain = "\nchain input { type filter hook input priority 0; policy drop;\n"
	for _, tt := range []struct {
		name, rules string
		want        Verdict
	}{
		{"an address each, one port", "table inet t {" + chain + lines(6000, "ip saddr %s tcp dport 443 meta mark != %d accept") + "}\n}\n", Unknown},
		{"a port each", "table inet t {" + chain + lines(3000, "ip saddr %s tcp dport %d accept") + "}\n}\n", Drop},
		{"a concatenation", "table inet t {\nset s { type ipv4_addr . inet_service; flags timeout; elements = {" + lines(6000, "%s . 443 timeout %dh,") + "}\n}" + chain + "ip saddr . tcp dport @s accept\n}\n}\n", Unknown},
		{"a set", "table inet t {\nset s { type ipv4_addr; flags timeout; elements = {" + lines(30000, "%s timeout %dh,") + "}\n}" + chain + "ip saddr @s accept\n}\n}\n", Limited},
	} {
		t.Run(tt.name, func(t *testing.T) {
			porttest.Namespace(t)
			porttest.NFT(t, tt.rules)
			began := time.Now()
			if in := read(t).Input(Arrival{Protocol: TCP, To: netip.MustParseAddr("10.9.9.1"), Port: 443}); in.Verdict != tt.want {
				t.Errorf("%v, want %v", in, tt.want)
			}
			if took := time.Since(began); took > 30*time.Second { // two minutes without a limit
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestLateRulesInNamespace has rules that took too long to read: they are not read again
// soon, unless there are others.
func TestLateRulesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.NFT(t, "table inet t {\nset s { type ipv4_addr; elements = {"+strings.TrimSuffix(lines(1000, "%s timeout %dh,"), ",\n")+"}\nflags timeout\n}\nchain input { type filter hook input priority 0; ip saddr @s drop\n}\n}\n")
	r := NewReader("/proc")
	soon, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if _, err := r.Read(soon); err == nil {
		t.Error("it is read after the deadline")
	}
	if _, err := r.Read(t.Context()); err != nil || r.kept == nil {
		t.Fatalf("a caller in a hurry holds up others: %v", err)
	}
	r.kept, r.late = nil, late{r.generation, time.Now()}
	if _, err := r.Read(t.Context()); !errors.Is(err, ErrLate) {
		t.Errorf("it is read again: %v", err)
	}
	porttest.NFT(t, "add table inet other\n")
	if _, err := r.Read(t.Context()); err != nil {
		t.Errorf("other rules are not read: %v", err)
	}
}
