package config

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// comparePrefixes lets cmp compare what it cannot look into.
var comparePrefixes = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func TestPolicyErrorsNameTheirPlace(t *testing.T) {
	const rule = "policy:\n  rules:\n    - name: a\n      " // the next key is in line 4
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"a text for the policy", "policy: none\n", []string{`line 1: policy: "none" where keys are expected`, "hint: the keys are rules"}},
		{"unknown key", "policy:\n  rule: []\n", []string{"line 2: policy.rule: unknown key", `did you mean "rules"?`}},
		{"a mapping for the list", "policy:\n  rules:\n    name: a\n", []string{"line 3: policy.rules: a mapping where a list is expected", "hint: each element of a list begins with a dash"}},
		{"a text for the list", "policy:\n  rules: a\n", []string{`line 2: policy.rules: "a" where a list is expected`}},
		{"a text for a rule", "policy:\n  rules:\n    - a\n", []string{`line 3: policy.rules[0]: "a" where keys are expected`}},
		{"an empty rule", "policy:\n  rules:\n    - name: a\n    -\n", []string{"line 4: policy.rules[1]: the element is empty"}},
		{"key of a rule", rule + "port: 22\n", []string{"line 4: policy.rules[0].port: unknown key", `did you mean "ports"?`}},
		{"key that resembles none", rule + "xyzzy: 22\n", []string{"the keys here are name, comment, protocol, ports", "required"}},
		{"key twice", rule + "user: a\n      user: b\n", []string{"line 5: policy.rules[0].user: stands twice"}},
		{"a list for a text", rule + "comment: [a]\n", []string{"line 4: policy.rules[0].comment: a list is not a text"}},
		{"required", rule + "required: perhaps\n", []string{`line 4: policy.rules[0].required: "perhaps" is not true or false`}},
		{"no day", rule + "until: 31.01.2027\n", []string{`line 4: policy.rules[0].until: "31.01.2027" is not a day`, "hint: write the last day on which the rule holds, as 2027-01-31"}},
		{"no such day", rule + "until: 2027-02-30\n", []string{`"2027-02-30" is not a day`}},
		{"severity", rule + "severity: crit\n", []string{`line 4: policy.rules[0].severity: "crit" is not known`, "the severities are critical, warning, info"}},
		{"forbidden and required", rule + "ports: 1\n      forbid: true\n      required: true\n", []string{`policy.rules[0] "a": it forbids what it requires`}},
		{"a filter of ports", rule + "ports: 22\n      filter: true\n", []string{`policy.rules[0] "a": filter is for packet sockets only`, "hint: add protocol: packet, or leave out filter"}},
		{"filter", rule + "filter: none\n", []string{`line 4: policy.rules[0].filter: "none" is not true or false`}},
		{"protocol", rule + "protocol: TCP\n", []string{`line 4: policy.rules[0].protocol: "TCP" is not known`, `did you mean "tcp"?`}},
		{"protocol that resembles none", rule + "protocol: [tcp, quicksilver]\n", []string{`policy.rules[0].protocol[1]: "quicksilver" is not known`, "the protocols are tcp, udp, udplite"}},
		{"scope", rule + "scope: link-local\n", []string{`policy.rules[0].scope: "link-local" is not known`, `did you mean "link_local"?`}},
		{"scope that resembles none", rule + "scope: everywhere\n", []string{"the scopes are any, public, private"}},
		{"port too large", rule + "ports: [22, 70000]\n", []string{`line 4: policy.rules[0].ports[1]: "70000" is not a port`, "hint: write a port from 1 to 65535"}},
		{"port in another line", rule + "ports:\n        - 22\n        - x\n", []string{`line 6: policy.rules[0].ports[1]: "x" is not a port`}},
		{"port zero", rule + "ports: 0\n", []string{`policy.rules[0].ports: "0" is not a port`}},
		{"negative port", rule + "ports: -1\n", []string{`"-1" is not a port`}},
		{"end of a range", rule + "ports: 8000-\n", []string{`"8000-" is not a port`}},
		{"range too large", rule + "ports: 8000-80000\n", []string{`"8000-80000" is not a port`}},
		{"reversed range", rule + "ports: 90-80\n", []string{`"90-80" is an empty range`, "hint: the smaller port comes first: 80-90"}},
		{"ports with a comma", rule + "ports: 80,443\n", []string{`"80,443" is not a port`, "hint: several ports are a list: [22, 80]"}},
		{"misspelt ephemeral", rule + "ports: Ephermeral\n", []string{`did you mean "ephemeral"?`}},
		{"a list in the list", rule + "ports: [[22]]\n", []string{"policy.rules[0].ports[0]: a list where a single value is expected"}},
		{"a mapping", rule + "process: {a: b}\n", []string{"policy.rules[0].process: a mapping where a list is expected"}},
		{"not an address", rule + "address: localhost\n", []string{`policy.rules[0].address: "localhost" is not an address`, `hint: write an address as 192.0.2.1 or "::1", or a network as 10.0.0.0/8`}},
		{"address and port", rule + "address: 10.0.0.1:80\n", []string{`"10.0.0.1:80" is not an address`}},
		{"bits beyond the length", rule + "address: [10.0.0.1/8]\n", []string{`policy.rules[0].address[0]: "10.0.0.1/8" is neither an address nor a network`, "hint: write 10.0.0.1, or 10.0.0.0/8"}},
		{"zone", rule + "address: fe80::1%eth0\n", []string{`"fe80::1%eth0" has a zone`, `hint: interface: eth0 beside address: "fe80::1" says the same`}},
		{"the wildcard without quotes", rule + "address: ::\n", []string{`hint: in YAML the address :: stands in quotes: "::"`}},
		{"the wildcard without quotes in a list", rule + "address: [0.0.0.0, ::]\n", []string{`hint: in YAML the address :: stands in quotes: "::"`}},
		{"empty process", rule + "process: ''\n", []string{"policy.rules[0].process: an empty text matches nothing", "hint: leave the key out"}},
		{"empty element", rule + "user: [root, ~]\n", []string{"policy.rules[0].user[1]: the element is empty"}},
		{"empty list", rule + "unit: []\n", []string{"line 4: policy.rules[0].unit: the list is empty", "hint: leave the key out"}},
		{"same name", rule + "ports: 1\n    - name: a\n      ports: 2\n", []string{`line 5: policy.rules[1] "a": rules[0] has the same name`, "hint: the name is a label value"}},
		{"required, but covered", rule + "ports: 1-9\n    - ports: 5\n      required: true\n", []string{`line 5: policy.rules[1] "5": required rule can never match: rules[0] "a" comes first and covers it`}},
		{"all faults at once", rule + "ports: x\n      scope: y\n    - user: ''\nlimits: {listeners: z}\n", []string{"line 4", "line 5", "line 6", "line 7"}},
		{"values and the policy at once", rule + "ports: 1\n    - name: a\nlimits: {listeners: 0}\n", []string{"limits.listeners: 0", "policy.rules[1]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatalf("it was accepted: %+v", c.Policy)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	const text = `
policy:
  rules:
    - name: ssh
      comment: admins come in here
      protocol: tcp
      ports: [22, 8000-8100, ephemeral, 1 - 2]
      address: 10.0.0.0/8
      scope: private
      interface: eth0
      process: sshd
      executable: /usr/sbin/*
      user: 1000
      unit: ssh.service
      container: docker-*
      netns: ""
      required: no
    - protocol: [tcp, udp]
      ports: 53
      address: ["::", 0.0.0.0, "::ffff:10.0.0.1", "::ffff:10.0.0.0/104", "::ffff:0.0.0.0/96", fd00::/8]
      scope: [any, link_local]
      process: &names [a, b]
      user: *names
      netns: ["", blue]
    - ports: ephemeral
      user: [true, 007]
      required: true
      severity: warning
    - ports: 23
      forbid: true
      until: 2999-12-31
    - ports: 24
      until: 2020-02-29
`
	got, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []policy.Rule{
		{
			Name: "ssh", Comment: "admins come in here", Protocols: []socket.Protocol{socket.TCP},
			Ports: []socket.PortRange{{First: 22, Last: 22}, {First: 8000, Last: 8100}, {First: 1, Last: 2}}, Ephemeral: true,
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Scopes: []socket.Scope{socket.ScopePrivate},
			Interfaces: []string{"eth0"}, Processes: []string{"sshd"}, Executables: []string{"/usr/sbin/*"}, Users: []string{"1000"},
			Units: []string{"ssh.service"}, Containers: []string{"docker-*"}, Netns: []string{""},
		},
		{
			Name: "a,b tcp,udp/53 any,10.0.0.1,10.0.0.0/8,+2 blue", Protocols: []socket.Protocol{socket.TCP, socket.UDP}, Ports: []socket.PortRange{{First: 53, Last: 53}},
			Addresses: []netip.Prefix{netip.MustParsePrefix("::/128"), netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("fd00::/8")},
			Scopes:    []socket.Scope{socket.ScopeAny, socket.ScopeLinkLocal}, Processes: []string{"a", "b"}, Users: []string{"a", "b"}, Netns: []string{"", "blue"},
		},
		{Name: "true,007 ephemeral", Ephemeral: true, Users: []string{"true", "007"}, Required: true, Severity: policy.SeverityWarning},
		{Name: "no 23", Ports: []socket.PortRange{{First: 23, Last: 23}}, Forbid: true, Until: time.Date(2999, 12, 31, 0, 0, 0, 0, time.UTC)},
		{Name: "24", Ports: []socket.PortRange{{First: 24, Last: 24}}, Until: time.Date(2020, 2, 29, 0, 0, 0, 0, time.UTC)},
	}
	if diff := cmp.Diff(want, got.Policy, comparePrefixes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	warnings := []string{
		`line 25: policy.rules[2] "true,007 ephemeral": required rule that any ephemeral port satisfies; hint: write a separate rule for each required service`,
		`line 32: policy.rules[4] "24": it ended with 2020-02-29 and matches nothing any more; hint: remove the rule, or set a later day in until`,
	}
	if diff := cmp.Diff(warnings, got.Warnings); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
	checkYAML(t, got)
}

// checkYAML holds that the configuration in force can be written and read.
func checkYAML(t *testing.T, c *Config) {
	t.Helper()
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if diff := cmp.Diff(c.Policy, again.Policy, comparePrefixes); diff != "" {
		t.Errorf("written and read (-want +got):\n%s", diff)
	}
}

func TestWhetherThereIsAPolicy(t *testing.T) {
	for text, want := range map[string]bool{
		"":                                  false,
		"limits: {}\n":                      false,
		"policy:\n":                         false,
		"policy:\n  # rules:\n":             false,
		"policy: {}\n":                      true,
		"policy:\n  rules:\n    # - name\n": true,
		"policy:\n  rules: []\n":            true,
	} {
		got, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got.HasPolicy != want || (got.Policy != nil) != want || len(got.Policy) > 0 {
			t.Errorf("%q: %+v", text, got)
		}
		checkYAML(t, got)
	}
	if Default().HasPolicy {
		t.Error("the default has a policy")
	}
}

// aHost returns random listeners, some with names that are hard to write.
func aHost(seed uint64) []socket.Owned {
	c := rand.New(rand.NewPCG(seed, 3))
	pick := func(from ...string) string { return from[c.IntN(len(from))] }
	out := make([]socket.Owned, c.IntN(12))
	for i := range out {
		l := &out[i]
		l.Protocol = socket.Protocols()[c.IntN(3)]
		l.Address = netip.MustParseAddr(pick("0.0.0.0", "::", "127.0.0.1", "fe80::1", "10.0.0.1", "192.0.2.1", "224.0.0.1"))
		l.Scope = socket.ScopeOf(l.Address)
		l.Port = []uint16{22, 80, 81, 82, 443, 40000}[c.IntN(6)]
		l.Ephemeral = l.Port == 40000
		l.Interface = pick("", "", "eth0")
		l.Netns = pick("", "", "blue")
		l.Owner = socket.Owner{
			Process:    pick("", "sshd", "java", "- a", "a: b", "# c", "'", `"`, "\xff", "new\nline", "\r", "é", "*", "&a", "~", "null", "true", "1.5", " space ", "\u2028", "👻", "%", "@", "`", "[a]", "{}"),
			Executable: pick("", "/usr/bin/java"),
			Deleted:    c.IntN(3) == 0,
			User:       pick("", "root", "0", "1e3"),
			Unit:       pick("", "ssh.service"),
			Container:  pick("", "docker-0123456789ab"),
		}
	}
	return out
}

func TestWritePolicy(t *testing.T) {
	for seed := range uint64(300) {
		rules := policy.Baseline(aHost(seed), policy.Options{})
		text, err := WritePolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(rules, got.Policy, comparePrefixes, cmpopts.EquateEmpty()); diff != "" || !got.HasPolicy {
			t.Fatalf("(-want +got):\n%s\n%s", diff, text)
		}
		if strings.ContainsFunc(string(text), func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Errorf("control characters in:\n%q", text)
		}
		checkYAML(t, got)
	}
}

// someRules are as people would have them, but for the last.
func someRules() []policy.Rule {
	return []policy.Rule{
		{Name: "sshd tcp/22 any", Protocols: []socket.Protocol{socket.TCP}, Ports: []socket.PortRange{{First: 22, Last: 22}},
			Addresses: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32"), netip.MustParsePrefix("::/128")}, Processes: []string{"sshd"}},
		{Name: "b", Comment: "two\n\nlines", Ephemeral: true, Ports: []socket.PortRange{{First: 8000, Last: 8100}}, Scopes: []socket.Scope{socket.ScopeLoopback}, Netns: []string{""}, Required: true},
	}
}

func TestWrittenEmpty(t *testing.T) {
	text, err := WritePolicy(nil)
	if want := policyHeader + "policy:\n  # Nothing listened that needs a rule when this was written.\n  rules: []\n"; err != nil || string(text) != want {
		t.Errorf("%v, wrote\n%s", err, text)
	}
}

// TestFilterIsRead holds that both values of the key come back as they are written.
func TestFilterIsRead(t *testing.T) {
	packets := []socket.Protocol{socket.Packet}
	rules := []policy.Rule{
		{Name: "with", Protocols: packets, Filters: []socket.Filter{socket.HasFilter}},
		{Name: "without", Protocols: packets, Filters: []socket.Filter{socket.NoFilter}},
		{Name: "any", Protocols: packets},
	}
	text, err := WritePolicy(rules)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if diff := cmp.Diff(rules, c.Policy); diff != "" {
		t.Errorf("(-written +read):\n%s", diff)
	}
	if !strings.Contains(string(text), "filter: true\n") || !strings.Contains(string(text), "filter: false\n") {
		t.Errorf("written:\n%s", text)
	}
	checkYAML(t, c)
}

func TestWrittenText(t *testing.T) {
	text, err := WritePolicy(someRules())
	if err != nil {
		t.Fatal(err)
	}
	want := policyHeader + `policy:
  rules:
    # Reachable on every address of the host.
    - name: sshd tcp/22 any
      protocol: tcp
      ports: 22
      address: [0.0.0.0, '::']
      process: sshd

    # Reachable on this host only. Any port that the kernel gives to clients.
    - name: b
      comment: "two\n\nlines"
      ports: [8000-8100, ephemeral]
      scope: loopback
      netns: ""
      required: true
`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRemark(t *testing.T) {
	for _, s := range socket.Scopes() {
		if got := remark(policy.Rule{Scopes: []socket.Scope{s, socket.ScopeMulticast}}); !strings.HasPrefix(got, "Reachable ") {
			t.Errorf("%v: %q", s, got)
		}
	}
	never := policy.Rule{Scopes: []socket.Scope{socket.ScopeAny}, Addresses: []netip.Prefix{netip.MustParsePrefix("::1/128")}}
	if got := remark(never); got != "Matches no listener." {
		t.Errorf("%q", got)
	}
}

func TestMergePolicyRefuses(t *testing.T) {
	const hint = "hint: write policy.rules as lines with a dash for each rule, or empty"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"what does not parse", "policy: 1\n", []string{"line 1: policy:"}},
		{"braces", "{limits: {}}\n", []string{"line 1: the file is written in braces", hint}},
		{"a policy in braces", "limits: {}\npolicy: {rules: []}\n", []string{"line 2: the policy is written in braces, or elsewhere", hint}},
		{"a policy without rules in braces", "policy: {}\n", []string{"line 1: the policy is written in braces", hint}},
		{"null in words", "policy: null\n", []string{"line 1: the policy is written in braces, or elsewhere", hint}},
		{"rules in brackets", "policy:\n  rules: [{name: a, ports: 1}]\n", []string{"line 2: the rules are written in brackets, or elsewhere", hint}},
		{"rules are null in words", "policy:\n  rules: ~\n", []string{"line 2: the rules are written in brackets, or elsewhere", hint}},
		{"an empty list over two lines", "policy:\n  rules: [\n  ]\n", []string{"line 2: the list of rules is empty, but not plainly", hint}},
		{"an empty list below", "policy:\n  rules:\n    []\n", []string{"line 3: the list of rules is empty, but not plainly", hint}},
		{"the end of the document", "limits: {}\n...\n", []string{"the file cannot be read with the rules in it"}},
		{"a name that is there", "policy:\n  rules:\n    - name: b\n      ports: 1\n", []string{"the file cannot be read with the rules in it", "rules[0] has the same name"}},
		{"blank lines that count", "policy:\n  rules:\n    - name: a\n      ports: 1\n      comment: |+\n        a\n\n\n", []string{"no rules can be added to the policy as it is written", hint}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := MergePolicy("", []byte(tt.text), someRules())
			if err == nil {
				t.Fatalf("it was accepted:\n%s", got)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
		})
	}
}

func TestMergePolicy(t *testing.T) {
	list := func(indent string) string {
		text := "# Reachable on every address of the host.\n- name: new\n  ports: 9\n  address: 0.0.0.0\n"
		return indent + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n"+indent) + "\n"
	}
	added := []policy.Rule{{Name: "new", Ports: []socket.PortRange{{First: 9, Last: 9}}, Addresses: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}}}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "policy:\n  rules:\n" + list("    ")},
		{"comments", "# mine\n", "# mine\n\npolicy:\n  rules:\n" + list("    ")},
		{"no end of line", "# mine", "# mine\n\npolicy:\n  rules:\n" + list("    ")},
		{"no policy", "limits:\n  listeners: 5 # five\n\n", "limits:\n  listeners: 5 # five\n\npolicy:\n  rules:\n" + list("    ")},
		{"no policy, indented", "  limits: {}\n", "  limits: {}\n\n  policy:\n    rules:\n" + list("      ")},
		{"a policy of comments", "policy: # mine\n  # rules:\nlimits: {}\n", "policy: # mine\n  rules:\n" + list("    ") + "  # rules:\nlimits: {}\n"},
		{"a policy of nothing at the end", "policy:", "policy:\n  rules:\n" + list("    ")},
		{"no rules", "policy:\n    rules: # mine\nlimits: {}\n", "policy:\n    rules: # mine\n" + list("      ") + "limits: {}\n"},
		{"an empty list", "policy:\n  rules: [ ]   # mine\nlimits: {}\n", "policy:\n  rules:   # mine\n" + list("    ") + "limits: {}\n"},
		{"an empty list at the end", "policy:\n  rules: []", "policy:\n  rules:\n" + list("    ")},
		{"a list", "policy:\n  rules:\n    - name: a\n      ports: [ 1,2 ] # two\n", "policy:\n  rules:\n    - name: a\n      ports: [ 1,2 ] # two\n\n" + list("    ")},
		{"a list without an end of line", "policy:\n  rules:\n  - ports: 1", "policy:\n  rules:\n  - ports: 1\n\n" + list("  ")},
		{"what follows stays behind", "policy:\n  rules:\n  -\n    ports: 1\n  # - name: later\n\n     # deep\n\n# top\nlimits: {}\n", "policy:\n  rules:\n  -\n    ports: 1\n  # - name: later\n\n     # deep\n\n" + list("  ") + "\n# top\nlimits: {}\n"},
		{"values over several lines", "policy:\n  rules:\n  - ports: [\n      1,\n      2\n      ]\n    comment: >\n      # no comment\n\n      two\n", "policy:\n  rules:\n  - ports: [\n      1,\n      2\n      ]\n    comment: >\n      # no comment\n\n      two\n\n" + list("  ")},
		{"Windows", "policy:\r\n  rules:\r\n    - ports: 1\r\n", "policy:\r\n  rules:\r\n    - ports: 1\r\n\r\n" + strings.ReplaceAll(list("    "), "\n", "\r\n")},
		{"Windows, an empty list", "policy:\r\n  rules: []\r\n", "policy:\r\n  rules:\r\n" + strings.ReplaceAll(list("    "), "\n", "\r\n")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := MergePolicy("", []byte(tt.text), added)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMergeOfNothing(t *testing.T) {
	const text = "policy: {rules: []} # as it is"
	got, err := MergePolicy("", []byte(text), nil)
	if err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
}

// TestMergeOverTime merges one host after the other into a file.
func TestMergeOverTime(t *testing.T) {
	for seed := range uint64(50) {
		text := slices.Concat(reference(t), []byte("policy:\n  # mine\n  rules: # mine too\n"))
		for step := range uint64(5) {
			listeners := aHost(seed*10 + step)
			c, err := Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			merged, err := MergePolicy("", text, policy.Merge(c.Policy, listeners, policy.Options{}))
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			if !bytes.HasPrefix(merged, text) {
				t.Fatalf("the text has changed:\n%s", cmp.Diff(string(text), string(merged)))
			}
			if c, err = Parse(merged); err != nil {
				t.Fatal(err)
			}
			if verdicts := policy.Evaluate(c.Policy, listeners, time.Now()).Verdicts; slices.ContainsFunc(verdicts, policy.Verdict.Broken) {
				t.Errorf("something is unexpected in:\n%s", merged)
			}
			text = merged
		}
	}
}

func FuzzWritePolicy(f *testing.F) {
	f.Add("sshd", "/usr/sbin/sshd", "root", "x.service", "docker-1", "", uint16(22))
	f.Add("- a: b\r\n\u0085", "'\"", "~", "!!int 1", "|+\n\n", "\u202e", uint16(40000))
	f.Fuzz(func(t *testing.T, process, executable, user, unit, container, netns string, port uint16) {
		var l socket.Owned
		l.Address, l.Port, l.Netns, l.Interface = netip.IPv6Unspecified(), max(port, 1), netns, container
		l.Ephemeral = port > 32767
		l.Owner = socket.Owner{Process: process, Executable: executable, User: user, Unit: unit, Container: container}
		rules := policy.Baseline([]socket.Owned{l}, policy.Options{})
		rules[0].Comment, rules[0].Users = user, []string{"?" + user}
		text, err := WritePolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if diff := cmp.Diff(rules, got.Policy, comparePrefixes); diff != "" {
			t.Errorf("(-want +got):\n%s\n%s", diff, text)
		}
		checkMerged(t, text)
	})
}

func FuzzMergePolicy(f *testing.F) {
	f.Add(slices.Concat(reference(f), []byte("policy:\n  rules:\n  # one\n  - ports: [22,\n    23]\n    # two\n\n  # three\n # four\n#five\n")))
	f.Add([]byte("policy:\r\n  rules: []"))
	f.Add([]byte("? policy\n: rules:\n  - name: |+\n      a\n\n\nlimits: {}"))
	f.Add([]byte("a: &a []\npolicy: {rules: *a}"))
	f.Fuzz(checkMerged)
}

// checkMerged holds that a merge that is done keeps the text.
func checkMerged(t *testing.T, text []byte) {
	added := []policy.Rule{{Name: "new\n", Ports: []socket.PortRange{{First: 9, Last: 9}}, Processes: []string{"new"}}}
	before, err := Parse(text)
	if err != nil {
		return
	}
	merged, err := MergePolicy("", text, added)
	if err != nil {
		return
	}
	after, err := Parse(merged)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(slices.Concat(before.Policy, added), after.Policy, comparePrefixes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if before.Limits != after.Limits {
		t.Errorf("%+v became %+v", before.Limits, after.Limits)
	}
	if !isInsertion(text, merged) && !isInsertion(withoutBrackets(text), merged) {
		t.Errorf("the text has changed:\n%s", cmp.Diff(string(text), string(merged)))
	}
}

// isInsertion reports whether the longer text is the other with one piece more.
func isInsertion(text, longer []byte) bool {
	same := 0
	for same < len(text) && text[same] == longer[same] {
		same++
	}
	return bytes.HasSuffix(longer, text[same:])
}

func withoutBrackets(text []byte) []byte {
	at := bytes.LastIndexByte(text, '[')
	end := bytes.IndexByte(text[at+1:], ']')
	if at < 0 || end < 0 {
		return text
	}
	return slices.Concat(bytes.TrimRight(text[:at], " "), text[at+end+2:])
}

func ExampleWritePolicy() {
	var l socket.Owned
	l.Address, l.Port = netip.MustParseAddr("0.0.0.0"), 22
	l.Owner = socket.Owner{Process: "sshd", User: "root", Unit: "ssh.service"}
	text, err := WritePolicy(policy.Baseline([]socket.Owned{l}, policy.Options{}))
	fmt.Print(string(text), err)
	// Output:
	// # A policy for port_exporter, written from what listens on a host. Read each rule
	// # before you trust it: from now on what it matches is expected. The first rule
	// # that matches a listener wins; a listener that no rule matches is unexpected.
	// policy:
	//   rules:
	//     # Reachable on every address of the host.
	//     - name: sshd tcp/22 any
	//       protocol: tcp
	//       ports: 22
	//       address: 0.0.0.0
	//       process: sshd
	//       user: root
	//       unit: ssh.service
	// <nil>
}
