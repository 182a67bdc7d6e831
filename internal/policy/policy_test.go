package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// listener returns a TCP listener on ip:port.
func listener(at string, owner socket.Owner) socket.Owned {
	addr := netip.MustParseAddrPort(at)
	var l socket.Owned
	l.Address, l.Port, l.Scope, l.Owner = addr.Addr(), addr.Port(), socket.ScopeOf(addr.Addr()), owner
	l.Ephemeral = l.Port >= 32768 && l.Port <= 60999
	return l
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func ports(pairs ...uint16) []socket.PortRange {
	var out []socket.PortRange
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, socket.PortRange{First: pairs[i], Last: pairs[i+1]})
	}
	return out
}

func TestRuleMatches(t *testing.T) {
	sshd := socket.Owner{Process: "sshd", Executable: "/usr/sbin/sshd", User: "root", Unit: "ssh.service", Container: "docker-0123456789ab"}
	udp := listener("0.0.0.0:22", sshd)
	udp.Protocol = socket.UDP
	named := listener("0.0.0.0:22", sshd)
	named.Netns, named.Interface = "blue", "eth0"
	zoned := listener("[fe80::1%eth0]:22", sshd)
	mapped := listener("[::ffff:10.0.0.1]:22", sshd)
	ssh, unknown := listener("0.0.0.0:22", sshd), listener("0.0.0.0:22", socket.Owner{})
	dual := listener("[::]:22", sshd)
	dual.DualStack = true

	for _, tt := range []struct {
		what     string
		rule     Rule
		listener socket.Owned
		want     match
	}{
		{"another protocol", Rule{Protocols: []socket.Protocol{socket.UDP, socket.UDPLite}}, ssh, no},
		{"another port", Rule{Ports: ports(21, 21, 23, 30)}, ssh, no},
		{"ephemeral only", Rule{Ephemeral: true}, ssh, no},
		{"a number only", Rule{Ports: ports(22, 22)}, listener("0.0.0.0:40000", sshd), no},
		{"network without the wildcard", Rule{Addresses: prefixes("10.0.0.0/8")}, ssh, no},
		{"all of IPv4 without the wildcard", Rule{Addresses: prefixes("0.0.0.0/0")}, ssh, no},
		{"all of IPv6 without the wildcard", Rule{Addresses: prefixes("::/0")}, dual, no},
		{"dual-stack is not 0.0.0.0", Rule{Addresses: prefixes("0.0.0.0/32")}, dual, no},
		{"0.0.0.0 is not ::", Rule{Addresses: prefixes("::/128")}, ssh, no},
		{"another network", Rule{Addresses: prefixes("10.0.0.0/8")}, listener("11.0.0.1:22", sshd), no},
		{"no prefix at all", Rule{Addresses: make([]netip.Prefix, 1)}, ssh, no},
		{"another scope", Rule{Scopes: []socket.Scope{socket.ScopeLoopback, socket.ScopePrivate}}, ssh, no},
		{"another interface", Rule{Interfaces: []string{"wg*"}}, named, no},
		{"bound to no device", Rule{Interfaces: []string{""}}, named, no},
		{"any device", Rule{Interfaces: []string{"?*"}}, ssh, no},
		{"the host's own namespace", Rule{Netns: []string{""}}, named, no},
		{"another namespace", Rule{Netns: []string{"red"}}, named, no},
		{"another process", Rule{Processes: []string{"nginx"}}, ssh, no},
		{"executable deeper down", Rule{Executables: []string{"/usr/*"}}, ssh, no},
		{"another user", Rule{Users: []string{"www-*"}}, ssh, no},
		{"another unit", Rule{Units: []string{"ssh"}}, ssh, no},
		{"another container", Rule{Containers: []string{"podman-*"}}, ssh, no},
		{"process not known", Rule{Processes: []string{"*"}}, unknown, maybe},
		{"process not known, empty pattern", Rule{Processes: []string{""}}, unknown, maybe},
		{"executable not known", Rule{Executables: []string{"**"}}, unknown, maybe},
		{"user not known", Rule{Users: []string{"*"}}, unknown, maybe},
		{"unit not known", Rule{Units: []string{"*"}}, unknown, maybe},
		{"container not known", Rule{Containers: []string{"*"}}, unknown, maybe},
		{"all but one", Rule{Ports: ports(22, 22), Processes: []string{"sshd"}, Users: []string{"nobody"}}, ssh, no},

		{"another port, process not known", Rule{Ports: ports(21, 21), Processes: []string{"sshd"}}, unknown, no},
		{"another unit made the socket", Rule{Units: []string{"ssh.service"}, Processes: []string{"sshd"}}, listener("0.0.0.0:22", socket.Owner{Unit: "evil.service"}), no},
		{"systemd made the socket", Rule{Units: []string{"ssh.service"}}, listener("0.0.0.0:22", socket.Owner{Unit: "ssh.socket", User: "root"}), maybe},
		{"init made the socket", Rule{Units: []string{"ssh.service"}}, listener("0.0.0.0:22", socket.Owner{Unit: "init.scope", User: "root"}), maybe},
		{"the number", Rule{Users: []string{"33"}}, listener("0.0.0.0:80", socket.Owner{Process: "nginx", User: "www-data", UserID: "33"}), yes},
		{"the name", Rule{Users: []string{"root"}}, listener("0.0.0.0:80", socket.Owner{Process: "nginx", User: "root", UserID: "0"}), yes},
		{"the number of another user", Rule{Users: []string{"0"}}, listener("0.0.0.0:80", socket.Owner{Process: "nginx", User: "www-data", UserID: "33"}), no},
		{"a number without a name", Rule{Users: []string{"www-data"}}, listener("0.0.0.0:80", socket.Owner{Process: "nginx", User: "33", UserID: "33"}), no},
		{"a number whose name could not be read", Rule{Users: []string{"www-data"}}, listener("0.0.0.0:80", socket.Owner{User: "33", UserID: "33"}), maybe},
		{"a user that the kernel made up", Rule{Users: []string{"www-data"}}, listener("0.0.0.0:80", socket.Owner{Process: "nginx"}), maybe},
		{"root made the socket", Rule{Users: []string{"bind"}}, listener("0.0.0.0:53", socket.Owner{User: "root"}), maybe},
		{"root without a name made the socket", Rule{Users: []string{"bind"}}, listener("0.0.0.0:53", socket.Owner{User: "0"}), maybe},
		{"another user made the socket", Rule{Users: []string{"bind"}, Processes: []string{"named"}}, listener("0.0.0.0:53", socket.Owner{User: "mallory"}), no},
		{"the user made the socket", Rule{Users: []string{"bind"}}, listener("0.0.0.0:53", socket.Owner{User: "bind"}), yes},
		{"made in no container", Rule{Containers: []string{"*"}}, listener("0.0.0.0:53", socket.Owner{Unit: "ssh.service"}), no},
		{"the name of the user is not there yet", Rule{Users: []string{"bind"}}, listener("0.0.0.0:53", socket.Owner{Process: "named", Pending: true}), maybe},
		{"runs in no unit", Rule{Units: []string{"*"}}, listener("0.0.0.0:53", socket.Owner{Process: "named"}), no},
		{"executable alone not known", Rule{Processes: []string{"sshd"}, Executables: []string{"/usr/sbin/*"}}, listener("0.0.0.0:22", socket.Owner{Process: "sshd", User: "root"}), maybe},
		{"the kernel has no executable", Rule{Executables: []string{"**"}}, listener("0.0.0.0:2049", socket.Owner{Process: socket.Kernel}), no},

		{"nothing asked", Rule{}, unknown, yes},
		{"the protocol", Rule{Protocols: []socket.Protocol{socket.TCP, socket.UDP}}, udp, yes},
		{"first of a range", Rule{Ports: ports(22, 30)}, ssh, yes},
		{"last of a range", Rule{Ports: ports(1, 1, 10, 22)}, ssh, yes},
		{"ephemeral", Rule{Ports: ports(1, 1), Ephemeral: true}, listener("0.0.0.0:40000", sshd), yes},
		{"number beside ephemeral", Rule{Ports: ports(22, 22), Ephemeral: true}, ssh, yes},
		{"the wildcard itself", Rule{Addresses: prefixes("10.0.0.0/8", "0.0.0.0/32")}, ssh, yes},
		{"the other wildcard itself", Rule{Addresses: prefixes("::/128")}, dual, yes},
		{"in the network", Rule{Addresses: prefixes("10.0.0.0/8")}, listener("10.1.2.3:22", sshd), yes},
		{"with a zone", Rule{Addresses: prefixes("fe80::/10")}, zoned, yes},
		{"mapped", Rule{Addresses: prefixes("10.0.0.1/32")}, mapped, yes},
		{"the scope", Rule{Scopes: []socket.Scope{socket.ScopeAny}}, ssh, yes},
		{"the interface", Rule{Interfaces: []string{"eth?"}, Netns: []string{"blue"}}, named, yes},
		{"no device", Rule{Interfaces: []string{""}}, ssh, yes},
		{"the namespace", Rule{Netns: []string{"red", "blue"}}, named, yes},
		{"any namespace", Rule{Netns: []string{"*"}}, ssh, yes},
		{"the host's own namespace when none is asked for", Rule{}, named, no},
		{"the owner", Rule{
			Processes: []string{"sshd"}, Executables: []string{"/usr/sbin/*"}, Users: []string{"root"},
			Units: []string{"ssh.service"}, Containers: []string{"docker-*"},
		}, ssh, yes},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got := tt.rule.matches(&tt.listener); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestEvaluate(t *testing.T) {
	nginx, sshd := socket.Owner{Process: "nginx"}, socket.Owner{Process: "sshd"}
	listeners := []socket.Owned{
		listener("0.0.0.0:22", sshd),
		listener("[::]:22", sshd),
		listener("0.0.0.0:80", nginx),
		listener("0.0.0.0:80", sshd), // shares the port
		listener("0.0.0.0:81", socket.Owner{}),
	}
	rules := []Rule{
		{Name: "ssh", Ports: ports(22, 22), Processes: []string{"sshd"}, Required: true},
		{Name: "gone", Ports: ports(25, 25), Required: true},
		{Name: "web", Ports: ports(80, 81), Processes: []string{"*"}},
		{Name: "stale", Ports: ports(443, 443)},
		{Name: "shadowed", Ports: ports(80, 80), Required: true},
	}
	want := Findings{
		Verdicts:   []Verdict{{Expected, 0}, {Expected, 0}, {Expected, 2}, {Expected, 2}, {Unverified, 2}},
		Matches:    []int{2, 0, 1, 0, 0},
		Unverified: []int{0, 0, 1, 0, 0},
		Missing:    []int{1, 4},
	}
	if diff := cmp.Diff(want, Evaluate(rules, listeners, today)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnverified holds what becomes of a listener whose owner could not be read: it
// is unverified where the owner makes a difference, and nowhere else.
func TestUnverified(t *testing.T) {
	unread := listener("0.0.0.0:22", socket.Owner{User: "root"})
	sshd := Rule{Name: "ssh", Ports: ports(22, 22), Processes: []string{"sshd"}, Required: true}
	port := Rule{Name: "port", Ports: ports(22, 22)}
	noNetcat := Rule{Name: "no nc", Processes: []string{"nc"}, Forbid: true}
	noPort := Rule{Name: "no port", Ports: ports(22, 22), Forbid: true}
	web := Rule{Name: "web", Ports: ports(80, 80), Processes: []string{"nginx"}}
	for _, tt := range []struct {
		what    string
		rules   []Rule
		want    Verdict
		missing []int
	}{
		{"no rules", nil, Verdict{Unexpected, -1}, nil},
		{"another port", []Rule{web}, Verdict{Unexpected, -1}, nil},
		{"a rule asks for the process", []Rule{web, sshd}, Verdict{Unverified, 1}, nil},
		{"a later rule expects it whoever it is", []Rule{sshd, port}, Verdict{Expected, 1}, nil},
		{"an earlier rule expects it whoever it is", []Rule{port, {Name: "late", Ports: ports(22, 22), Users: []string{"www"}, Required: true}}, Verdict{Expected, 0}, []int{1}},
		{"it may be forbidden, and is not expected", []Rule{noNetcat}, Verdict{Unexpected, -1}, nil},
		{"it may be forbidden, and is expected else", []Rule{noNetcat, port}, Verdict{Unverified, 0}, nil},
		{"it may be expected, and is forbidden else", []Rule{sshd, noPort}, Verdict{Unverified, 0}, nil},
		{"it may be forbidden, and is forbidden anyhow", []Rule{noNetcat, noPort}, Verdict{Forbidden, 1}, nil},
	} {
		t.Run(tt.what, func(t *testing.T) {
			got := Evaluate(tt.rules, []socket.Owned{unread}, today)
			if got.Verdicts[0] != tt.want {
				t.Errorf("verdict %v, want %v", got.Verdicts[0], tt.want)
			}
			if diff := cmp.Diff(tt.missing, got.Missing); diff != "" {
				t.Errorf("missing (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOwnersThatMayBeKnownLater has owners that did not come in time: what is
// empty, or a number in place of a name, is in doubt.
func TestOwnersThatMayBeKnownLater(t *testing.T) {
	rules := []Rule{{Processes: []string{"slapd"}, Users: []string{"ldap"}, Required: true}}
	for _, tt := range []struct {
		owner socket.Owner
		want  Kind
	}{
		{socket.Owner{User: "ldap", Pending: true}, Unverified},
		{socket.Owner{User: "76", Pending: true}, Unverified},
		{socket.Owner{Process: "slapd", User: "76", Pending: true}, Unverified},
		{socket.Owner{Process: "slapd", User: "ldap", Pending: true}, Expected},
		{socket.Owner{Process: "nc", User: "76", Pending: true}, Unexpected},
		{socket.Owner{Process: "slapd", User: "76"}, Unexpected},
	} {
		found := Evaluate(rules, []socket.Owned{listener("0.0.0.0:389", tt.owner)}, today)
		if got := found.Verdicts[0].Kind; got != tt.want || (len(found.Missing) > 0) != (tt.want == Unexpected) {
			t.Errorf("%+v is %v, and missing is %v; want %v", tt.owner, got, found.Missing, tt.want)
		}
	}
}

// TestKernel makes sure that a rule for the kernel matches no process.
func TestKernel(t *testing.T) {
	rule := Rule{Processes: []string{socket.Kernel}}
	for name, want := range map[string]match{socket.Kernel: yes, socket.Kernel + "?": no, "k": no, "": maybe} {
		l := listener("0.0.0.0:4789", socket.Owner{Process: name, User: "root"})
		if got := rule.matches(&l); got != want {
			t.Errorf("process %q: %v, want %v", name, got, want)
		}
	}
}

func TestForbid(t *testing.T) {
	rules := []Rule{
		{Name: "but this", Ports: ports(23, 23), Scopes: []socket.Scope{socket.ScopeLoopback}},
		{Name: "no telnet", Ports: ports(23, 23), Forbid: true},
		{Name: "all"},
	}
	listeners := []socket.Owned{listener("127.0.0.1:23", socket.Owner{}), listener("0.0.0.0:23", socket.Owner{}), listener("0.0.0.0:22", socket.Owner{})}
	want := Findings{
		Verdicts: []Verdict{{Expected, 0}, {Forbidden, 1}, {Expected, 2}},
		Matches:  []int{1, 1, 1}, Unverified: []int{0, 0, 0},
	}
	if diff := cmp.Diff(want, Evaluate(rules, listeners, today)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if again := Merge(rules[:2], listeners[:2], Options{Now: today}); len(again) > 0 {
		t.Errorf("a rule is added that could never match: %+v", again)
	}
}

// TestUntil holds that a rule holds through its last day, and no longer.
func TestUntil(t *testing.T) {
	day := time.Date(2026, 12, 24, 0, 0, 0, 0, time.UTC)
	rules := []Rule{
		{Name: "test", Ports: ports(8080, 8080), Until: day, Required: true},
		{Name: "no test", Ports: ports(8080, 8080), Until: day.AddDate(0, 0, 2), Forbid: true},
	}
	l := []socket.Owned{listener("0.0.0.0:8080", socket.Owner{})}
	for at, want := range map[time.Time]Verdict{
		day.Add(24*time.Hour - 1):  {Expected, 0},
		day.Add(24 * time.Hour):    {Forbidden, 1},
		day.Add(72*time.Hour - 1):  {Forbidden, 1},
		day.Add(72 * time.Hour):    {Unexpected, -1},
		day.AddDate(1, 0, 0):       {Unexpected, -1},
		day.Add(-time.Hour * 1000): {Expected, 0},
	} {
		if got := Evaluate(rules, l, at).Verdicts[0]; got != want {
			t.Errorf("%v: %v, want %v", at, got, want)
		}
	}
	if missing := Evaluate(rules, nil, day.AddDate(0, 0, 1)).Missing; len(missing) > 0 {
		t.Errorf("a rule that ended is missing: %v", missing)
	}
	if missing := Evaluate(rules, nil, day).Missing; len(missing) != 1 {
		t.Errorf("missing: %v", missing)
	}
}

func TestVerdictNames(t *testing.T) {
	var got []string
	for _, k := range append(Kinds(), Expected+1) {
		got = append(got, k.String())
	}
	for _, s := range append(Severities(), SeverityInfo+1) {
		got = append(got, s.String())
	}
	want := []string{"unexpected", "forbidden", "unverified", "undecided", "expected", "unknown", "critical", "warning", "info", "unknown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEvaluateWithoutRules(t *testing.T) {
	want := Findings{Verdicts: []Verdict{{Unexpected, -1}}, Matches: []int{}, Unverified: []int{}}
	if diff := cmp.Diff(want, Evaluate(nil, []socket.Owned{listener("0.0.0.0:22", socket.Owner{})}, today)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestNamed(t *testing.T) {
	is := Named([]Rule{
		{Ports: ports(51820, 51820, 40000, 50000), Ephemeral: true},
		{Ports: ports(5353, 5353), Protocols: []socket.Protocol{socket.UDP}},
	})
	for _, tt := range []struct {
		protocol socket.Protocol
		port     uint16
		want     bool
	}{
		{socket.UDP, 40000, false},
		{socket.UDP, 45000, false},
		{socket.TCP, 5353, false},
		{socket.UDPLite, 5353, false},
		{socket.UDP, 5353, true},
		{socket.UDP, 51820, true},
		{socket.UDPLite, 51820, true},
	} {
		s := socket.Socket{Protocol: tt.protocol, Local: netip.AddrPortFrom(netip.IPv4Unspecified(), tt.port)}
		if got := is(&s); got != tt.want {
			t.Errorf("%s/%d: got %t", tt.protocol, tt.port, got)
		}
	}
}

func TestWithNames(t *testing.T) {
	tcp, udp := []socket.Protocol{socket.TCP}, []socket.Protocol{socket.UDP}
	for want, r := range map[string]Rule{
		"everything":                   {},
		"sshd":                         {Processes: []string{"sshd"}, Users: []string{"root"}},
		"/usr/sbin/*":                  {Executables: []string{"/usr/sbin/*"}, Units: []string{"a.service"}},
		"a.service":                    {Units: []string{"a.service"}, Users: []string{"root"}},
		"root":                         {Users: []string{"root"}},
		"tcp":                          {Protocols: tcp},
		"22":                           {Ports: ports(22, 22)},
		"sshd tcp/22 any":              {Protocols: tcp, Ports: ports(22, 22), Addresses: prefixes("0.0.0.0/32", "::/128"), Processes: []string{"sshd"}},
		"docker-* udp/53,1000-2000":    {Protocols: udp, Ports: ports(53, 53, 1000, 2000), Containers: []string{"docker-*"}},
		"udp/ephemeral loopback":       {Protocols: udp, Ephemeral: true, Scopes: []socket.Scope{socket.ScopeLoopback}},
		"1,2,3,+2 loopback,10.0.0.1":   {Ports: ports(1, 1, 2, 2, 3, 3, 4, 4), Ephemeral: true, Addresses: prefixes("127.0.0.0/8", "::1/128", "10.0.0.1/32")},
		"tcp 0.0.0.0/0 eth0 blue":      {Protocols: tcp, Addresses: prefixes("0.0.0.0/0"), Interfaces: []string{"eth0"}, Netns: []string{"blue"}},
		"no telnetd tcp/23":            {Protocols: tcp, Ports: ports(23, 23), Processes: []string{"telnetd"}, Forbid: true},
		"my own":                       {Name: "my own", Ports: ports(22, 22)},
		"10.0.0.0/8,192.0.2.0/24 blue": {Addresses: prefixes("10.0.0.0/8", "192.0.2.0/24"), Netns: []string{"blue"}},
	} {
		if got := WithNames([]Rule{r})[0].Name; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestWithNamesMakesThemUnique(t *testing.T) {
	rules := []Rule{{}, {Name: "x"}, {}, {Name: "everything #2"}, {Name: "x"}}
	var got []string
	for _, r := range WithNames(rules) {
		got = append(got, r.Name)
	}
	want := []string{"everything", "x", "everything #3", "everything #2", "x"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if rules[0].Name != "" {
		t.Error("the argument was changed")
	}
}

// BenchmarkEvaluate judges 300 listeners by 150 rules: what one scrape of a
// large host costs.
func BenchmarkEvaluate(b *testing.B) {
	c := newChaos(1)
	var rules []Rule
	for i := range uint16(150) {
		rules = append(rules, Rule{Ports: ports(i, i), Processes: []string{"nginx*"}, Units: []string{"*.service"}})
	}
	listeners := make([]socket.Owned, 300)
	for i := range listeners {
		listeners[i] = c.listener()
		listeners[i].Port = uint16(i)
	}
	for b.Loop() {
		Evaluate(rules, listeners, today)
	}
}
