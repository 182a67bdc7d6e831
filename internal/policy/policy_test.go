package policy

import (
	"net/netip"
	"testing"

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
		want     bool
	}{
		{"another protocol", Rule{Protocols: []socket.Protocol{socket.UDP, socket.UDPLite}}, ssh, false},
		{"another port", Rule{Ports: ports(21, 21, 23, 30)}, ssh, false},
		{"ephemeral only", Rule{Ephemeral: true}, ssh, false},
		{"a number only", Rule{Ports: ports(22, 22)}, listener("0.0.0.0:40000", sshd), false},
		{"network without the wildcard", Rule{Addresses: prefixes("10.0.0.0/8")}, ssh, false},
		{"all of IPv4 without the wildcard", Rule{Addresses: prefixes("0.0.0.0/0")}, ssh, false},
		{"all of IPv6 without the wildcard", Rule{Addresses: prefixes("::/0")}, dual, false},
		{"dual-stack is not 0.0.0.0", Rule{Addresses: prefixes("0.0.0.0/32")}, dual, false},
		{"0.0.0.0 is not ::", Rule{Addresses: prefixes("::/128")}, ssh, false},
		{"another network", Rule{Addresses: prefixes("10.0.0.0/8")}, listener("11.0.0.1:22", sshd), false},
		{"no prefix at all", Rule{Addresses: make([]netip.Prefix, 1)}, ssh, false},
		{"another scope", Rule{Scopes: []socket.Scope{socket.ScopeLoopback, socket.ScopePrivate}}, ssh, false},
		{"another interface", Rule{Interfaces: []string{"wg*"}}, named, false},
		{"bound to no device", Rule{Interfaces: []string{""}}, named, false},
		{"any device", Rule{Interfaces: []string{"?*"}}, ssh, false},
		{"the host's own namespace", Rule{Netns: []string{""}}, named, false},
		{"another namespace", Rule{Netns: []string{"red"}}, named, false},
		{"another process", Rule{Processes: []string{"nginx"}}, ssh, false},
		{"executable deeper down", Rule{Executables: []string{"/usr/*"}}, ssh, false},
		{"another user", Rule{Users: []string{"www-*"}}, ssh, false},
		{"another unit", Rule{Units: []string{"ssh"}}, ssh, false},
		{"another container", Rule{Containers: []string{"podman-*"}}, ssh, false},
		{"process not known", Rule{Processes: []string{"*"}}, unknown, false},
		{"process not known, empty pattern", Rule{Processes: []string{""}}, unknown, false},
		{"executable not known", Rule{Executables: []string{"**"}}, unknown, false},
		{"user not known", Rule{Users: []string{"*"}}, unknown, false},
		{"unit not known", Rule{Units: []string{"*"}}, unknown, false},
		{"container not known", Rule{Containers: []string{"*"}}, unknown, false},
		{"all but one", Rule{Ports: ports(22, 22), Processes: []string{"sshd"}, Users: []string{"nobody"}}, ssh, false},

		{"nothing asked", Rule{}, unknown, true},
		{"the protocol", Rule{Protocols: []socket.Protocol{socket.TCP, socket.UDP}}, udp, true},
		{"first of a range", Rule{Ports: ports(22, 30)}, ssh, true},
		{"last of a range", Rule{Ports: ports(1, 1, 10, 22)}, ssh, true},
		{"ephemeral", Rule{Ports: ports(1, 1), Ephemeral: true}, listener("0.0.0.0:40000", sshd), true},
		{"number beside ephemeral", Rule{Ports: ports(22, 22), Ephemeral: true}, ssh, true},
		{"the wildcard itself", Rule{Addresses: prefixes("10.0.0.0/8", "0.0.0.0/32")}, ssh, true},
		{"the other wildcard itself", Rule{Addresses: prefixes("::/128")}, dual, true},
		{"in the network", Rule{Addresses: prefixes("10.0.0.0/8")}, listener("10.1.2.3:22", sshd), true},
		{"with a zone", Rule{Addresses: prefixes("fe80::/10")}, zoned, true},
		{"mapped", Rule{Addresses: prefixes("10.0.0.1/32")}, mapped, true},
		{"the scope", Rule{Scopes: []socket.Scope{socket.ScopeAny}}, ssh, true},
		{"the interface", Rule{Interfaces: []string{"eth?"}}, named, true},
		{"no device", Rule{Interfaces: []string{""}}, ssh, true},
		{"the namespace", Rule{Netns: []string{"red", "blue"}}, named, true},
		{"any namespace", Rule{Netns: []string{"*"}}, ssh, true},
		{"any namespace when none is asked for", Rule{}, named, true},
		{"the owner", Rule{
			Processes: []string{"sshd"}, Executables: []string{"/usr/sbin/*"}, Users: []string{"root"},
			Units: []string{"ssh.service"}, Containers: []string{"docker-*"},
		}, ssh, true},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if got := tt.rule.matches(&tt.listener); got != tt.want {
				t.Errorf("got %t", got)
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
		Verdicts: []Verdict{0, 0, 2, 2, Unexpected},
		Matches:  []int{2, 0, 1, 0, 0},
		Missing:  []int{1, 4},
	}
	if diff := cmp.Diff(want, Evaluate(rules, listeners)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if Unexpected.Expected() || !Verdict(0).Expected() {
		t.Error("a verdict does not know itself")
	}
}

func TestEvaluateWithoutRules(t *testing.T) {
	want := Findings{Verdicts: []Verdict{Unexpected}, Matches: []int{}}
	if diff := cmp.Diff(want, Evaluate(nil, []socket.Owned{listener("0.0.0.0:22", socket.Owner{})})); diff != "" {
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
		Evaluate(rules, listeners)
	}
}
