package policy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// lint returns the problems in a line each.
func lint(rules []Rule) []string {
	levels := map[Level]string{Warning: "warning", Error: "error"}
	var out []string
	for _, p := range Lint(rules, today) {
		out = append(out, fmt.Sprintf("%d %s: %s", p.Rule, levels[p.Level], p.Message))
	}
	return out
}

// day is a day of November 2026, of which the 30th is today.
func day(n int) time.Time { return time.Date(2026, 11, n, 0, 0, 0, 0, time.UTC) }

func TestLint(t *testing.T) {
	tcp := []socket.Protocol{socket.TCP}
	loopback := []socket.Scope{socket.ScopeLoopback}
	for _, tt := range []struct {
		what  string
		rules []Rule
		want  []string
	}{
		{"same name", []Rule{{Name: "a", Ports: ports(1, 1)}, {Name: "b", Ports: ports(2, 2)}, {Name: "a", Ports: ports(3, 3)}},
			[]string{"2 error: rules[0] has the same name"}},
		{"required without a port", []Rule{{Protocols: []socket.Protocol{socket.Vsock}, Required: true}}, nil},
		{"empty range", []Rule{{Ports: ports(1, 1, 9, 8)}}, []string{"0 error: the port range 9-8 is empty"}},
		{"duplicate", []Rule{{Name: "a", Ports: ports(1, 1, 2, 2)}, {Name: "b", Ports: ports(1, 2)}},
			[]string{`1 warning: rule can never match: rules[0] "a" expects the same`}},
		{"covered", []Rule{{Name: "a", Ports: ports(1, 1)}, {Name: "b", Ports: ports(2, 9)}, {Name: "c", Ports: ports(5, 5)}},
			[]string{`2 warning: rule can never match: rules[1] "b" comes first and covers it`}},
		{"covered and required", []Rule{{Name: "a", Ports: ports(1, 2)}, {Name: "b", Ports: ports(1, 1), Required: true}},
			[]string{`1 error: required rule can never match: rules[0] "a" comes first and covers it`}},
		{"address in no scope", []Rule{{Ports: ports(1, 1), Addresses: prefixes("10.0.0.0/8", "127.0.0.1/32"), Scopes: []socket.Scope{socket.ScopePublic, socket.ScopeAny}}},
			[]string{"0 warning: rule can never match: none of its addresses is in one of its scopes"}},
		{"network in no scope, required", []Rule{{Ports: ports(1, 1), Addresses: prefixes("8.8.0.0/16"), Scopes: loopback, Required: true}},
			[]string{"0 error: required rule can never match: none of its addresses is in one of its scopes"}},
		{"everything", []Rule{{}}, []string{"0 warning: it matches every listener, so nothing is unexpected"}},
		{"everything in other words", []Rule{{Protocols: socket.Protocols(), Scopes: socket.Scopes(), Netns: []string{"*"}, Ports: ports(1, 30000, 30001, 65535)}},
			[]string{"0 warning: it matches every listener, so nothing is unexpected"}},
		{"any program on any ephemeral port", []Rule{{Protocols: tcp, Ephemeral: true}},
			[]string{"0 warning: it expects every program on every ephemeral port, a backdoor too"}},
		{"any program on any port of the wildcard", []Rule{{Addresses: prefixes("0.0.0.0/32")}},
			[]string{"0 warning: it expects every program on every ephemeral port, a backdoor too"}},
		{"all of IPv4", []Rule{{Ports: ports(1, 1), Addresses: prefixes("0.0.0.0/0", "::/0", "::/128")}},
			[]string{"0 warning: 0.0.0.0/0 has every address in it but 0.0.0.0 itself"}},
		{"required without port", []Rule{{Processes: []string{"a"}, Required: true}},
			[]string{"0 warning: required rule without a port: any listener that matches the rest satisfies it"}},
		{"required, ephemeral", []Rule{{Processes: []string{"a"}, Ephemeral: true, Required: true}},
			[]string{"0 warning: required rule that any ephemeral port satisfies"}},
		{"required, range", []Rule{{Ports: ports(1, 2), Required: true}}, []string{"0 warning: required rule that one of its 2 ports satisfies"}},
		{"required, list", []Rule{{Ports: ports(1, 1, 9, 9, 1, 1), Required: true}}, []string{"0 warning: required rule that one of its 2 ports satisfies"}},
		{"required, protocols", []Rule{{Ports: ports(1, 1), Protocols: []socket.Protocol{socket.TCP, socket.UDP}, Required: true}},
			[]string{"0 warning: required rule that one of its protocols satisfies"}},

		{"required and forbidden", []Rule{{Ports: ports(1, 1), Required: true, Forbid: true}}, []string{"0 error: it forbids what it requires"}},
		{"ended", []Rule{{Ports: ports(1, 1), Until: day(29)}}, []string{"0 warning: it ended with 2026-11-29 and matches nothing any more"}},
		{"an idle severity", []Rule{{Ports: ports(1, 1), Severity: SeverityInfo}}, []string{"0 warning: its severity has no effect"}},
		{"forbidden before", []Rule{{Name: "a", Ports: ports(1, 9), Forbid: true}, {Name: "b", Ports: ports(2, 2)}},
			[]string{`1 warning: rule can never match: rules[0] "a" comes first and forbids it`}},
		{"forbidden twice", []Rule{{Name: "a", Ports: ports(1, 1), Forbid: true}, {Name: "b", Ports: ports(1, 1), Forbid: true}},
			[]string{`1 warning: rule can never match: rules[0] "a" forbids the same`}},
		{"expected before", []Rule{{Name: "a", Ports: ports(1, 1)}, {Name: "b", Ports: ports(1, 1), Forbid: true}},
			[]string{`1 warning: rule can never match: rules[0] "a" comes first and covers it`}},
		{"covered until the end", []Rule{{Name: "a", Ports: ports(1, 1), Until: day(30)}, {Name: "b", Ports: ports(1, 1), Until: day(30)}},
			[]string{`1 warning: rule can never match: rules[0] "a" expects the same`}},

		{"nothing", nil, nil},
		{"its last day", []Rule{{Ports: ports(1, 1), Until: day(30)}}, nil},
		{"after an exception", []Rule{{Name: "a", Ports: ports(1, 1), Until: day(30)}, {Name: "b", Ports: ports(1, 1)}}, nil},
		{"nothing is expected", []Rule{{Forbid: true, Severity: SeverityWarning}}, nil},
		{"sound", []Rule{
			{Name: "ssh", Ports: ports(22, 22), Required: true},
			{Name: "smtp", Ports: ports(25, 25), Protocols: tcp, Required: true},
			{Name: "dns", Ports: ports(53, 53, 53, 53), Addresses: prefixes("127.0.0.0/8", "0.0.0.0/32"), Required: true},
			{Name: "local", Scopes: loopback},
			{Name: "local too", Addresses: prefixes("10.0.0.0/8")},
			{Name: "public only", Ports: ports(80, 80), Addresses: prefixes("0.0.0.0/0"), Scopes: []socket.Scope{socket.ScopePublic}},
			{Name: "rpc", Ephemeral: true, Processes: []string{"rpc.*"}},
			{Processes: []string{"a"}},
			{Processes: []string{"b"}},
		}, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, lint(tt.rules)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryProblemHasAHint(t *testing.T) {
	c := newChaos(7)
	for range 500 {
		for _, p := range Lint(c.rules(), today) {
			if p.Message == "" || p.Hint == "" {
				t.Errorf("%+v", p)
			}
		}
	}
}

func TestCovers(t *testing.T) {
	any80 := Rule{Ports: ports(80, 80)}
	for _, tt := range []struct {
		what         string
		wide, narrow Rule
		want         bool
	}{
		{"protocol", Rule{Protocols: []socket.Protocol{socket.TCP}}, Rule{}, false},
		{"ports", any80, Rule{}, false},
		{"more ports", any80, Rule{Ports: ports(80, 81)}, false},
		{"ephemeral is not known", Rule{Ports: ports(32768, 60999)}, Rule{Ephemeral: true}, false},
		{"a number may be ephemeral or not", Rule{Ephemeral: true}, Rule{Ports: ports(40000, 40000)}, false},
		{"number beside ephemeral", Rule{Ephemeral: true}, Rule{Ephemeral: true, Ports: ports(1, 1)}, false},
		{"any port", Rule{Ports: ports(1, 65534)}, Rule{}, false},
		{"address", Rule{Addresses: prefixes("10.0.0.0/8")}, Rule{}, false},
		{"wider network", Rule{Addresses: prefixes("10.0.0.0/9")}, Rule{Addresses: prefixes("10.0.0.0/8")}, false},
		{"wildcard in no network", Rule{Addresses: prefixes("0.0.0.0/0")}, Rule{Addresses: prefixes("0.0.0.0/32")}, false},
		{"network in no wildcard", Rule{Addresses: prefixes("0.0.0.0/32")}, Rule{Addresses: prefixes("0.0.0.0/8")}, false},
		{"no prefix", Rule{Addresses: prefixes("::/0")}, Rule{Addresses: make([]netip.Prefix, 1)}, false},
		{"scope", Rule{Scopes: []socket.Scope{socket.ScopeAny}}, Rule{}, false},
		{"network across scopes", Rule{Scopes: []socket.Scope{socket.ScopePrivate}}, Rule{Addresses: prefixes("10.0.0.0/7")}, false},
		{"network around loopback", Rule{Scopes: []socket.Scope{socket.ScopePublic}}, Rule{Addresses: prefixes("::/127")}, false},
		{"interface", Rule{Interfaces: []string{"?*"}}, Rule{}, false},
		{"namespace", Rule{Netns: []string{""}}, Rule{}, true},
		{"another namespace", Rule{Netns: []string{"*"}}, Rule{Pods: []string{"a"}}, true},
		{"no port", Rule{Protocols: []socket.Protocol{socket.Unix}, Ports: ports(1, 65535)}, Rule{Protocols: []socket.Protocol{socket.Unix}}, false},
		{"only pods", Rule{Pods: []string{"*"}}, Rule{Netns: []string{"blue"}}, false},
		{"pods", Rule{Pods: []string{"shop/*"}}, Rule{Pods: []string{"shop/web-*"}}, true},
		{"no owner", Rule{Processes: []string{"*"}}, Rule{}, false},
		{"no executable", Rule{Executables: []string{"**"}}, Rule{}, false},
		{"user", Rule{Users: []string{"root"}}, Rule{Users: []string{"root", "www"}}, false},
		{"unit", Rule{Units: []string{"a*"}}, Rule{Units: []string{"*"}}, false},
		{"container", Rule{Containers: []string{"docker-*"}}, Rule{Containers: []string{"*"}}, false},

		{"nothing asked", Rule{}, any80, true},
		{"protocols", Rule{Protocols: socket.Protocols()}, Rule{}, true},
		{"ranges together", Rule{Ports: ports(90, 99, 80, 89)}, Rule{Ports: ports(85, 95)}, true},
		{"ranges inside others", Rule{Ports: ports(1, 99, 2, 3)}, Rule{Ports: ports(50, 60)}, true},
		{"all ports", Rule{Ports: ports(1, 65535)}, Rule{Ephemeral: true}, true},
		{"ephemeral", Rule{Ephemeral: true, Ports: ports(1, 1)}, Rule{Ephemeral: true}, true},
		{"network in network", Rule{Addresses: prefixes("10.0.0.0/8")}, Rule{Addresses: prefixes("10.0.0.0/9", "10.1.1.1/32")}, true},
		{"wildcard", Rule{Addresses: prefixes("::/128", "0.0.0.0/32")}, Rule{Addresses: prefixes("0.0.0.0/32")}, true},
		{"address in scope", Rule{Scopes: []socket.Scope{socket.ScopeLoopback, socket.ScopeAny}}, Rule{Addresses: prefixes("::1/128", "127.8.0.0/16", "::/128")}, true},
		{"network in scope", Rule{Scopes: []socket.Scope{socket.ScopePublic}}, Rule{Addresses: prefixes("2001:db8::/32", "8.0.0.0/8")}, true},
		{"part of the scopes", Rule{Scopes: []socket.Scope{socket.ScopePrivate}}, Rule{Scopes: []socket.Scope{socket.ScopePrivate, socket.ScopeAny}, Addresses: prefixes("10.0.0.0/8")}, true},
		{"any interface", Rule{Interfaces: []string{"*"}, Netns: []string{"*"}}, Rule{}, true},
		{"owner", Rule{Processes: []string{"*"}}, Rule{Processes: []string{"a", "b*"}, Users: []string{"root"}}, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got := tt.wide.covers(&tt.narrow); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// TestLintIsSound checks that no listener ever meets a rule that is said to
// never match.
func TestLintIsSound(t *testing.T) {
	claims := 0
	for seed := range uint64(400) {
		c := newChaos(seed)
		rules := c.rules()
		never := map[int]bool{}
		for _, p := range Lint(rules, today) {
			if strings.Contains(p.Message, "can never match") {
				never[p.Rule] = true
				claims++
			}
		}
		for range 300 {
			l := c.listener()
			if v := Evaluate(rules, []socket.Owned{l}, today).Verdicts[0]; v.Kind != Unverified && never[v.Rule] {
				t.Fatalf("seed %d: rule %d of %+v matches %+v", seed, v, rules, l)
			}
		}
		for _, i := range []int{c.IntN(12), c.IntN(12)} {
			if i < len(rules) && !rules[i].covers(&rules[i]) {
				t.Errorf("%+v does not cover itself", rules[i])
			}
		}
	}
	if claims < 100 {
		t.Errorf("only %d claims were put to the test", claims)
	}
}

func TestScopeOfPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"0.0.0.0/32": "any", "::/128": "any", "10.0.0.0/8": "private", "10.0.0.0/7": "", "100.64.0.0/10": "private", "100.64.0.0/9": "",
		"172.16.0.0/12": "private", "192.168.1.0/24": "private", "169.254.0.0/16": "link_local", "127.0.0.0/8": "loopback", "224.0.0.0/4": "multicast",
		"240.0.0.0/4": "public", "1.0.0.0/8": "public", "::1/128": "loopback", "::/127": "", "::/0": "", "0.0.0.0/0": "", "0.0.0.0/8": "public",
		"fc00::/7": "private", "fd00::/8": "private", "fe80::/10": "link_local", "ff02::/16": "multicast", "2000::/3": "public",
	} {
		got := ""
		if scope, ok := scopeOf(netip.MustParsePrefix(text)); ok {
			got = scope.String()
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

func TestScopeOfNoPrefix(t *testing.T) {
	if scope, ok := scopeOf(netip.Prefix{}); ok {
		t.Errorf("it has the scope %v", scope)
	}
}

func TestReach(t *testing.T) {
	for _, tt := range []struct {
		rule Rule
		want []socket.Scope
	}{
		{Rule{}, socket.Scopes()},
		{Rule{Scopes: []socket.Scope{socket.ScopeLoopback, socket.ScopeAny, socket.ScopeAny}}, []socket.Scope{socket.ScopeAny, socket.ScopeLoopback}},
		{Rule{Addresses: prefixes("::1/128", "10.0.0.0/8")}, []socket.Scope{socket.ScopePrivate, socket.ScopeLoopback}},
		{Rule{Addresses: prefixes("::/0")}, socket.Scopes()},
	} {
		if diff := cmp.Diff(tt.want, tt.rule.Reach()); diff != "" {
			t.Errorf("%+v (-want +got):\n%s", tt.rule, diff)
		}
	}
}
