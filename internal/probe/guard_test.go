package probe

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

func rule(networks string, ports []PortRange, modules ...string) AccessRule {
	r := AccessRule{Ports: ports, Modules: modules}
	for n := range strings.FieldsSeq(networks) {
		r.Networks = append(r.Networks, netip.MustParsePrefix(n))
	}
	return r
}

// byNumber asks for a probe on request of an address that the client wrote.
func byNumber(a *Access, m *Module, to string) error {
	at := netip.MustParseAddrPort(to)
	p := &permit{access: a, module: m, callee: newCallee(at.Addr().String(), "")}
	return p.allow(at)
}

func TestAccessToAddresses(t *testing.T) {
	none := Access{}
	any := Access{Any: true}
	net10 := Access{Rules: []AccessRule{rule("10.0.0.0/8 2001:db8::/32", nil)}}
	everything := Access{Rules: []AccessRule{rule("0.0.0.0/0 ::/0", nil)}}
	anyPort80 := Access{Rules: []AccessRule{rule("", []PortRange{{80, 88}})}}
	metadata := Access{Any: true, Rules: []AccessRule{rule("169.254.169.254/32 fe80::/10", nil)}}
	uniqueLocal := Access{Rules: []AccessRule{rule("fd00::/16 fd12::/16", nil)}}
	module := Access{Rules: []AccessRule{rule("10.0.0.0/8", nil, "other"), rule("10.0.1.0/24", nil, "other", "tcp")}}
	for _, tt := range []struct {
		name    string
		access  Access
		to      string
		allowed bool
	}{
		{"nothing is configured", none, "192.0.2.1:80", false},
		{"loopback", none, "127.0.0.1:80", false},
		{"outside the network", net10, "192.0.2.1:80", false},
		{"outside the ports", anyPort80, "192.0.2.1:79", false},
		{"beyond the ports", anyPort80, "192.0.2.1:89", false},
		{"no port, and ports are named", anyPort80, "192.0.2.1:0", false},
		{"another module's rule", module, "10.0.0.1:80", false},
		{"metadata", any, "169.254.169.254:80", false},
		{"metadata, in the clothes of IPv6", any, "[::ffff:169.254.169.254]:80", false},
		{"metadata, through NAT64", any, "[64:ff9b::a9fe:a9fe]:80", false},
		{"metadata of EC2 over IPv6", any, "[fd00:ec2::254]:80", false},
		{"metadata of Alibaba", any, "100.100.100.200:80", false},
		{"metadata of Alibaba over IPv6", any, "[fd00:100::100:200]:80", false},
		{"metadata of Oracle over IPv6", any, "[fd00:c1::a9fe:a9fe]:80", false},
		{"metadata of Akamai over IPv6", any, "[fd00:a9fe:a9fe::1]:80", false},
		{"unique local, as the next metadata service is", any, "[fd12:3456::1]:80", false},
		{"unique local, the other half", any, "[fc00::1]:80", false},
		{"site-local", any, "[fec0::1]:80", false},
		{"a default route lists nothing unique local", everything, "[fd12:3456::1]:80", false},
		{"a rule without networks lists nothing unique local", anyPort80, "[fd12:3456::1]:80", false},
		{"another network of unique local addresses", uniqueLocal, "[fd13::1]:80", false},
		{"metadata within a network that is listed", uniqueLocal, "[fd00:c1::a9fe:a9fe]:80", false},
		{"link-local", any, "[fe80::1]:80", false},
		{"link-local with a zone", any, "[fe80::1%eth0]:80", false},
		{"a default route lists no metadata", everything, "169.254.169.254:80", false},
		{"a default route lists no metadata of IPv6", everything, "[fe80::1%eth0]:80", false},
		{"a rule without networks lists no metadata", anyPort80, "169.254.169.254:80", false},
		{"link-local, where another is listed", metadata, "169.254.1.1:80", false},
		{"unspecified, which is loopback to the kernel", any, "0.0.0.0:80", false},
		{"unspecified, mapped", any, "[::ffff:0.0.0.0]:80", false},
		{"unspecified, through NAT64", any, "[64:ff9b::]:80", false},
		{"unspecified of IPv6", any, "[::]:80", false},
		{"a default route lists nothing unspecified", everything, "0.0.0.0:80", false},
		{"broadcast", any, "255.255.255.255:9", false},
		{"class E", any, "240.0.0.1:80", false},
		{"multicast", any, "224.0.0.1:1900", false},
		{"multicast of IPv6", any, "[ff02::1]:80", false},
		{"metadata, through a NAT64 of ones own, /48", any, "[64:ff9b:1:a9fe:a9:fe00::]:80", false},
		{"metadata, through a NAT64 of ones own, /56", any, "[64:ff9b:1:a9:fe:a9fe::]:80", false},
		{"metadata, through a NAT64 of ones own, /64", any, "[64:ff9b:1:0:a9:fea9:fe00:0]:80", false},
		{"metadata, through a NAT64 of ones own, /96", any, "[64:ff9b:1::a9fe:a9fe]:80", false},
		{"metadata, through 6to4", any, "[2002:a9fe:a9fe::1]:80", false},
		{"metadata, compatible", any, "[::169.254.169.254]:80", false},
		{"metadata, translated", any, "[::ffff:0:169.254.169.254]:80", false},
		{"unspecified, through 6to4", any, "[2002::1]:80", false},
		{"unspecified, through a NAT64 of ones own", any, "[64:ff9b:1::]:80", false},
		{"unspecified, translated", any, "[::ffff:0:0.0.0.0]:80", false},
		{"multicast, through 6to4", any, "[2002:e000:1::1]:80", false},
		{"broadcast, through a NAT64 of ones own", any, "[64:ff9b:1::ffff:ffff]:80", false},
		{"a rule for IPv4 is none for what may lead elsewhere", net10, "[2002:a01:203::1]:80", false},

		{"inside the network", net10, "10.1.2.3:80", true},
		{"inside the network, mapped", net10, "[::ffff:10.1.2.3]:80", true},
		{"inside the network of IPv6", net10, "[2001:db8::1]:80", true},
		{"inside the ports", anyPort80, "192.0.2.1:88", true},
		{"no port and none named", net10, "10.0.0.1:0", true},
		{"its module's rule", module, "10.0.1.1:80", true},
		{"any", any, "192.0.2.1:80", true},
		{"unique local that is listed", uniqueLocal, "[fd12::1]:80", true},
		{"unique local beside metadata", uniqueLocal, "[fd00:c1::1]:80", true},
		{"any, through a NAT64 of ones own", any, "[64:ff9b:1::c000:201]:80", true},
		{"any, through 6to4", any, "[2002:c000:201::1]:80", true},
		{"any, loopback of IPv6", any, "[::1]:80", true},
		{"inside the network, through NAT64", net10, "[64:ff9b::a01:203]:80", true},
		{"any, loopback", any, "127.0.0.1:80", true},
		{"everything", everything, "[2001:db9::1]:80", true},
		{"metadata that is listed", metadata, "169.254.169.254:80", true},
		{"metadata that is listed, mapped", metadata, "[::ffff:169.254.169.254]:80", true},
		{"multicast that is listed", Access{Rules: []AccessRule{rule("239.1.2.3/32", nil)}}, "239.1.2.3:80", true},
		{"link-local that is listed, with a zone", metadata, "[fe80::1%eth0]:80", true},
	} {
		err := byNumber(&tt.access, &Module{Name: "tcp", Kind: KindTCP}, tt.to)
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %s: %v", tt.name, tt.to, err)
		}
		if denied, ok := AsDenied(err); err != nil && (!ok || denied.Hint == "") {
			t.Errorf("%s: no hint: %v", tt.name, err)
		}
	}
}

func TestKnownBeforehand(t *testing.T) {
	rules := Access{Rules: []AccessRule{rule("10.0.0.0/8", []PortRange{{80, 80}, {443, 443}}, "web"), rule("10.0.0.0/8", nil, "icmp", "dns")}}
	for _, tt := range []struct {
		name, kind, module, address string
		access                      Access
		allowed                     bool
	}{
		{"nothing is configured", KindTCP, "tcp", "name.example:80", Access{}, false},
		{"a unix socket", KindUnix, "unix", "/run/docker.sock", Access{Any: true}, false},
		{"no rule for the module", KindTCP, "tcp", "name.example:80", rules, false},
		{"literal", KindTCP, "web", "192.0.2.1:80", rules, false},
		{"literal of IPv6", KindTCP, "web", "[2001:db8::1]:80", rules, false},
		{"port", KindTCP, "web", "10.0.0.1:81", rules, false},
		{"URL", KindHTTP, "web", "http://192.0.2.1/x", rules, false},
		{"port of a URL", KindHTTP, "web", "http://10.0.0.1:8080/x", rules, false},
		{"literal for icmp", KindICMP, "icmp", "192.0.2.1", rules, false},
		{"literal of IPv6 for icmp", KindICMP, "icmp", "fe80::1%eth0", Access{Any: true}, false},
		{"metadata by URL", KindHTTP, "web", "http://169.254.169.254/latest", Access{Any: true}, false},
		{"metadata by URL without a scheme", KindHTTP, "web", "169.254.169.254/latest", Access{Any: true}, false},
		{"a name, where no rule has hosts", KindTCP, "web", "name.example:80", rules, false},
		{"URL with a name, where no rule has hosts", KindHTTP, "web", "https://name.example/x", rules, false},
		{"decimal", KindTCP, "tcp", "2852039166:80", Access{Any: true}, false},
		{"hexadecimal", KindHTTP, "web", "http://0xa9fea9fe/", Access{Any: true}, false},
		{"octal", KindHTTP, "web", "http://0251.0376.0251.0376/", Access{Any: true}, false},
		{"short", KindTCP, "tcp", "127.1:80", Access{Any: true}, false},
		{"digits that IDNA maps", KindTCP, "tcp", "１２７.１:80", Access{Any: true}, false},

		{"literal in a rule", KindTCP, "web", "10.0.0.1:80", rules, true},
		{"URL in a rule", KindHTTP, "web", "http://10.0.0.1/x", rules, true},
		{"https URL in a rule", KindHTTP, "web", "https://10.0.0.1/x", rules, true},
		{"icmp in a rule", KindICMP, "icmp", "10.0.0.1", rules, true},
		{"dns in a rule", KindDNS, "dns", "10.0.0.1", rules, true},
		{"any", KindTCP, "tcp", "name.example:80", Access{Any: true}, true},
	} {
		_, err := tt.access.mayRequest(&Module{Name: tt.module, Kind: tt.kind}, tt.address, "")
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %s: %v", tt.name, tt.address, err)
		}
	}
}

// TestAccessWithCredentials keeps a module's credentials from a server of a
// client's choice: who lets a client choose has to name the module.
func TestAccessWithCredentials(t *testing.T) {
	networks := AccessRule{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	named := AccessRule{Networks: networks.Networks, Modules: []string{"tok"}}
	for _, tt := range []struct {
		name    string
		access  Access
		allowed bool
		hint    string
	}{
		{"any", Access{Any: true}, false, "name the module tok in a rule of probes.allow"},
		{"a rule that names no module", Access{Rules: []AccessRule{networks}}, false, "probes.allow.rules[0] names no module"},
		{"the second rule names none", Access{Rules: []AccessRule{rule("", nil, "other"), networks}}, false, "probes.allow.rules[1] names no module"},
		{"nothing is configured", Access{}, false, "add it to targets"},
		{"a rule that names it", Access{Rules: []AccessRule{networks, named}}, true, ""},
		{"any, and a rule that names it", Access{Any: true, Rules: []AccessRule{named}}, true, ""},
	} {
		m := &Module{Name: "tok", Kind: KindHTTP, Credentials: true}
		for _, address := range []string{"http://10.0.0.1/", "http://10.0.0.1:8080/x"} {
			_, err := tt.access.mayRequest(m, address, "")
			if denied, _ := AsDenied(err); (err == nil) != tt.allowed || err != nil && !strings.Contains(denied.Hint, tt.hint) {
				t.Errorf("%s: %s: %v", tt.name, address, err)
			}
		}
		if err := byNumber(&tt.access, m, "10.0.0.1:80"); (err == nil) != tt.allowed {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, err := tt.access.mayRequest(&Module{Name: "other", Kind: KindHTTP}, "http://10.0.0.1/", ""); (tt.name != "nothing is configured") != (err == nil) {
			t.Errorf("%s: a module without: %v", tt.name, err)
		}
	}
	access := Access{Any: true, Rules: []AccessRule{named}}
	if err := byNumber(&access, &Module{Name: "tok", Credentials: true}, "192.0.2.1:80"); err == nil {
		t.Error("any allows what the rule that names the module does not")
	}
}

func TestAccessOfConfiguredTargets(t *testing.T) {
	listed := Access{Rules: []AccessRule{rule("169.254.169.254/32 127.0.0.0/8", nil)}}
	for _, tt := range []struct {
		name, kind, address string
		access              Access
		first, then         string
		allowed             bool
	}{
		{"redirect to the metadata service", KindHTTP, "http://www.example/", Access{}, "192.0.2.1:80", "169.254.169.254:80", false},
		{"the same with any", KindHTTP, "http://www.example/", Access{Any: true}, "192.0.2.1:80", "169.254.169.254:80", false},
		{"redirect to loopback", KindHTTP, "http://www.example/", Access{Any: true}, "192.0.2.1:80", "[::ffff:127.0.0.1]:9090", false},
		{"redirect to the unspecified address", KindHTTP, "http://192.0.2.1/", Access{Any: true}, "192.0.2.1:80", "0.0.0.0:9999", false},
		{"the same, mapped", KindHTTP, "http://192.0.2.1/", Access{}, "192.0.2.1:80", "[::ffff:0.0.0.0]:9999", false},
		{"the same of IPv6", KindHTTP, "http://192.0.2.1/", Access{}, "192.0.2.1:80", "[::]:9999", false},
		{"redirect to loopback, compatible", KindHTTP, "http://192.0.2.1/", Access{}, "192.0.2.1:80", "[::127.0.0.1]:9999", false},
		{"redirect to loopback, through a NAT64 of ones own", KindHTTP, "http://192.0.2.1/", Access{}, "192.0.2.1:80", "[64:ff9b:1::7f00:1]:9999", false},
		{"redirect to link-local", KindHTTP, "http://192.0.2.1/", Access{}, "192.0.2.1:80", "[fe80::1%eth0]:80", false},
		{"from one link-local target to another", KindHTTP, "http://169.254.1.1/", Access{}, "169.254.1.1:80", "169.254.169.254:80", false},

		{"its own address", KindTCP, "192.0.2.1:80", Access{}, "192.0.2.1:80", "192.0.2.1:80", true},
		{"redirect to another host", KindHTTP, "http://www.example/", Access{}, "192.0.2.1:80", "198.51.100.1:443", true},
		{"metadata, configured", KindHTTP, "http://169.254.169.254/", Access{}, "169.254.169.254:80", "169.254.169.254:80", true},
		{"link-local, configured with a zone", KindTCP, "[fe80::1%eth0]:80", Access{}, "[fe80::1%eth0]:80", "[fe80::1%eth0]:80", true},
		{"a name behind a NAT64 of ones own", KindTCP, "name.example:80", Access{}, "[64:ff9b:1::c000:201]:80", "[64:ff9b:1::c000:201]:80", true},
		{"loopback by name", KindTCP, "localhost:80", Access{}, "[::1]:80", "127.0.0.1:80", true},
		{"metadata by name, listed", KindHTTP, "http://metadata/", listed, "169.254.169.254:80", "169.254.169.254:80", true},
		{"redirect to loopback, listed", KindHTTP, "http://www.example/", listed, "192.0.2.1:80", "127.0.0.1:80", true},
	} {
		allow := tt.access.allowConfigured(&Module{Name: "m", Kind: tt.kind}, tt.address)
		if err := allow(netip.MustParseAddrPort(tt.first)); err != nil {
			t.Errorf("%s: first: %v", tt.name, err)
		}
		if err := allow(netip.MustParseAddrPort(tt.then)); (err == nil) != tt.allowed {
			t.Errorf("%s: then: %v", tt.name, err)
		}
	}
}

// TestNameOfNobody has a configured name that a filter of DNS answers with
// 0.0.0.0: to probe it is to probe this host.
func TestNameOfNobody(t *testing.T) {
	access := Access{}
	for _, to := range []string{"0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80"} {
		if access.allowConfigured(&Module{Kind: KindTCP}, "name.example:80")(netip.MustParseAddrPort(to)) == nil {
			t.Errorf("%s may be probed", to)
		}
	}
}

// TestConfiguredWithoutAddress has a target of which no address can be asked for.
func TestConfiguredWithoutAddress(t *testing.T) {
	access := Access{}
	if access.allowConfigured(&Module{Kind: KindUnix}, "/run/a.sock") != nil {
		t.Error("an address is asked for")
	}
	if access.allowConfigured(&Module{Kind: KindHTTP, Prober: nil}, "http://name.example/") == nil {
		t.Error("a target with an address may lead everywhere")
	}
}

// TestNamesForProxies has a proxy be told a name, of which nobody here knows what
// it leads to.
func TestNamesForProxies(t *testing.T) {
	access := Access{Any: true, Rules: []AccessRule{{}}}
	if denied, ok := AsDenied((&permit{access: &access, module: &Module{Name: "m"}}).allow(netip.AddrPort{})); !ok || denied.Hint == "" {
		t.Errorf("on request: %v", denied)
	}
	access = Access{}
	allow := access.allowConfigured(&Module{Name: "m", Kind: KindHTTP}, "http://www.example/")
	for _, tt := range []struct {
		to      netip.AddrPort
		allowed bool
	}{
		{netip.AddrPort{}, true},
		{netip.MustParseAddrPort("127.0.0.1:80"), false}, // where a redirect from there leads
		{netip.MustParseAddrPort("169.254.169.254:80"), false},
		{netip.MustParseAddrPort("192.0.2.1:80"), true},
	} {
		if err := allow(tt.to); (err == nil) != tt.allowed {
			t.Errorf("configured: %v: %v", tt.to, err)
		}
	}
}

// FuzzTarget asks for whatever a client may write: nothing may panic, and no
// number of a special address may pass.
func FuzzTarget(f *testing.F) {
	for _, target := range []string{
		"192.0.2.1:80", "[fe80::1%25eth0]:80", "http://169.254.169.254/", "http://[::ffff:169.254.169.254]:80/", "169.254.169.254", "//169.254.169.254", "http://a:b@169.254.169.254:99999/",
	} {
		f.Add(KindHTTP, target)
		f.Add(KindTCP, target)
	}
	any := Access{Any: true}
	f.Fuzz(func(t *testing.T, kind, target string) {
		_, err := any.mayRequest(&Module{Name: "m", Kind: kind}, target, "")
		host, _ := destination(kind, target)
		if addr, _ := netip.ParseAddr(host); addr.IsValid() && netaddr.IsListedOnly(netaddr.Plain(addr)) && err == nil {
			t.Errorf("%q may be probed", target)
		}
		_ = (&Result{Outcome: Timeout}).Sentence(target)
	})
}
