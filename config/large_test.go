package config

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLargeConfigurations has files that take no time that matters, and such that
// are refused for their size. The bound is generous: it stands for "seconds, not
// minutes".
func TestLargeConfigurations(t *testing.T) {
	repeat := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line, i)
		}
		return b.String()
	}
	ports := func(n int, line string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, line, i%65000+1)
		}
		return b.String()
	}
	const rules = "policy:\n  rules:\n"
	for _, tt := range []struct{ name, text, want string }{
		{"20,000 targets", "targets:\n" + repeat(20_000, "  - address: host%d.example:80\n    labels: {site: a}\n"), ""},
		{"too many targets", "targets:\n" + repeat(50_001, "  - address: h%d:80\n"), "line 50002: targets[50000]: it is one more than 50000"},
		{"10,000 rules of a port", rules + ports(10_000, "    - ports: %d\n"), ""},
		{"10,000 rules that say the same", rules + ports(10_000, "    - {process: a, unit: '*'} # %d\n"), ""},
		{"10,000 rules of long patterns", rules + repeat(10_000, "    - {process: '"+strings.Repeat("*a", 50)+"%d'}\n"), ""},
		{"97,000 rules", rules + ports(97_000, "    - ports: %d\n"), "line 10003: policy.rules[10000]: it is one more than 10000"},
		{"20,000 ports in a rule", rules + "    - ports: [" + ports(20_000, "%d,") + "]\n", "line 3: policy.rules[0].ports: 20000 elements are more than 4096"},
		{"2,000 rules with 20,000 ports by an anchor", rules + "    - ports: &p [" + ports(20_000, "%d,") + "]\n" + ports(2000, "    - {process: p%d, ports: *p}\n"), "with what aliases repeat"},
		{"200 rules with 4,000 ports by an anchor", rules + "    - ports: &p [" + ports(4000, "%d,") + "]\n" + repeat(200, "    - {process: p%d, ports: *p}\n"), ""},
		{"10,000 rules with faults", rules + repeat(10_000, "    - {port: %d}\n"), "and 9950 faults more"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			began := time.Now()
			c, err := Parse([]byte(tt.text))
			took := time.Since(began)
			t.Logf("%d bytes, %v", len(tt.text), took)
			if took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Fatalf("%.2000v, want %q", err, tt.want)
			}
			text := fmt.Sprint(err)
			if c != nil {
				text = strings.Join(c.Warnings, "\n")
			}
			if len(text) > 32<<10 {
				t.Errorf("%d bytes of message", len(text))
			}
		})
	}
}
