package access

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

func ruleFor(networks string, ports []netaddr.PortRange, modules ...string) Rule {
	r := Rule{Ports: ports, Modules: modules}
	for n := range strings.FieldsSeq(networks) {
		r.Networks = append(r.Networks, netip.MustParsePrefix(n))
	}
	return r
}

// byNumber asks for a probe on request of an address that the client wrote.
func byNumber(a *Control, m *probe.Module, to string) error {
	at := netip.MustParseAddrPort(to)
	p := &Permit{access: a, module: m, callee: newCallee(at.Addr().String(), "")}
	return p.Allow(at)
}

func TestAccessToAddresses(t *testing.T) {
	none := Control{}
	any := Control{Any: true}
	net10 := Control{Rules: []Rule{ruleFor("10.0.0.0/8 2001:db8::/32", nil)}}
	everything := Control{Rules: []Rule{ruleFor("0.0.0.0/0 ::/0", nil)}}
	anyPort80 := Control{Rules: []Rule{ruleFor("", []netaddr.PortRange{{First: 80, Last: 88}})}}
	metadata := Control{Any: true, Rules: []Rule{ruleFor("169.254.169.254/32 fe80::/10", nil)}}
	uniqueLocal := Control{Rules: []Rule{ruleFor("fd00::/16 fd12::/16", nil)}}
	module := Control{Rules: []Rule{ruleFor("10.0.0.0/8", nil, "other"), ruleFor("10.0.1.0/24", nil, "other", "tcp")}}
	for _, tt := range []struct {
		name    string
		access  Control
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
		{"multicast that is listed", Control{Rules: []Rule{ruleFor("239.1.2.3/32", nil)}}, "239.1.2.3:80", true},
		{"link-local that is listed, with a zone", metadata, "[fe80::1%eth0]:80", true},
	} {
		err := byNumber(&tt.access, &probe.Module{Name: "tcp", Kind: probe.KindTCP}, tt.to)
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %s: %v", tt.name, tt.to, err)
		}
		if denied, ok := probe.AsDenied(err); err != nil && (!ok || denied.Hint == "") {
			t.Errorf("%s: no hint: %v", tt.name, err)
		}
	}
}

func TestKnownBeforehand(t *testing.T) {
	rules := Control{Rules: []Rule{ruleFor("10.0.0.0/8", []netaddr.PortRange{{First: 80, Last: 80}, {First: 443, Last: 443}}, "web"), ruleFor("10.0.0.0/8", nil, "icmp", "dns")}}
	for _, tt := range []struct {
		name, kind, module, address string
		access                      Control
		allowed                     bool
	}{
		{"nothing is configured", probe.KindTCP, "tcp", "name.example:80", Control{}, false},
		{"a unix socket", probe.KindUnix, "unix", "/run/docker.sock", Control{Any: true}, false},
		{"no rule for the module", probe.KindTCP, "tcp", "name.example:80", rules, false},
		{"literal", probe.KindTCP, "web", "192.0.2.1:80", rules, false},
		{"literal of IPv6", probe.KindTCP, "web", "[2001:db8::1]:80", rules, false},
		{"port", probe.KindTCP, "web", "10.0.0.1:81", rules, false},
		{"URL", probe.KindHTTP, "web", "http://192.0.2.1/x", rules, false},
		{"port of a URL", probe.KindHTTP, "web", "http://10.0.0.1:8080/x", rules, false},
		{"literal for icmp", probe.KindICMP, "icmp", "192.0.2.1", rules, false},
		{"literal of IPv6 for icmp", probe.KindICMP, "icmp", "fe80::1%eth0", Control{Any: true}, false},
		{"metadata by URL", probe.KindHTTP, "web", "http://169.254.169.254/latest", Control{Any: true}, false},
		{"metadata by URL without a scheme", probe.KindHTTP, "web", "169.254.169.254/latest", Control{Any: true}, false},
		{"a name, where no rule has hosts", probe.KindTCP, "web", "name.example:80", rules, false},
		{"URL with a name, where no rule has hosts", probe.KindHTTP, "web", "https://name.example/x", rules, false},
		{"decimal", probe.KindTCP, "tcp", "2852039166:80", Control{Any: true}, false},
		{"hexadecimal", probe.KindHTTP, "web", "http://0xa9fea9fe/", Control{Any: true}, false},
		{"octal", probe.KindHTTP, "web", "http://0251.0376.0251.0376/", Control{Any: true}, false},
		{"short", probe.KindTCP, "tcp", "127.1:80", Control{Any: true}, false},
		{"digits that IDNA maps", probe.KindTCP, "tcp", "１２７.１:80", Control{Any: true}, false},

		{"literal in a rule", probe.KindTCP, "web", "10.0.0.1:80", rules, true},
		{"URL in a rule", probe.KindHTTP, "web", "http://10.0.0.1/x", rules, true},
		{"https URL in a rule", probe.KindHTTP, "web", "https://10.0.0.1/x", rules, true},
		{"icmp in a rule", probe.KindICMP, "icmp", "10.0.0.1", rules, true},
		{"dns in a rule", probe.KindDNS, "dns", "10.0.0.1", rules, true},
		{"any", probe.KindTCP, "tcp", "name.example:80", Control{Any: true}, true},
	} {
		_, err := tt.access.Permit(&probe.Module{Name: tt.module, Kind: tt.kind}, tt.address, "")
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %s: %v", tt.name, tt.address, err)
		}
	}
}

// TestAccessWithCredentials keeps a module's credentials from a server of a
// client's choice: who lets a client choose has to name the module.
func TestAccessWithCredentials(t *testing.T) {
	networks := Rule{Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	named := Rule{Networks: networks.Networks, Modules: []string{"tok"}}
	for _, tt := range []struct {
		name    string
		access  Control
		allowed bool
		hint    string
	}{
		{"any", Control{Any: true}, false, "name the module tok in a rule of probes.allow"},
		{"a rule that names no module", Control{Rules: []Rule{networks}}, false, "probes.allow.rules[0] names no module"},
		{"the second rule names none", Control{Rules: []Rule{ruleFor("", nil, "other"), networks}}, false, "probes.allow.rules[1] names no module"},
		{"nothing is configured", Control{}, false, "add it to targets"},
		{"a rule that names it", Control{Rules: []Rule{networks, named}}, true, ""},
		{"any, and a rule that names it", Control{Any: true, Rules: []Rule{named}}, true, ""},
	} {
		m := &probe.Module{Name: "tok", Kind: probe.KindHTTP, Credentials: true}
		for _, address := range []string{"http://10.0.0.1/", "http://10.0.0.1:8080/x"} {
			_, err := tt.access.Permit(m, address, "")
			if denied, _ := probe.AsDenied(err); (err == nil) != tt.allowed || err != nil && !strings.Contains(denied.Hint, tt.hint) {
				t.Errorf("%s: %s: %v", tt.name, address, err)
			}
		}
		if err := byNumber(&tt.access, m, "10.0.0.1:80"); (err == nil) != tt.allowed {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, err := tt.access.Permit(&probe.Module{Name: "other", Kind: probe.KindHTTP}, "http://10.0.0.1/", ""); (tt.name != "nothing is configured") != (err == nil) {
			t.Errorf("%s: a module without: %v", tt.name, err)
		}
	}
	access := Control{Any: true, Rules: []Rule{named}}
	if err := byNumber(&access, &probe.Module{Name: "tok", Credentials: true}, "192.0.2.1:80"); err == nil {
		t.Error("any allows what the rule that names the module does not")
	}
}

func TestAccessOfConfiguredTargets(t *testing.T) {
	listed := Control{Rules: []Rule{ruleFor("169.254.169.254/32 127.0.0.0/8", nil)}}
	for _, tt := range []struct {
		name, kind, address string
		access              Control
		first, then         string
		allowed             bool
	}{
		{"redirect to the metadata service", probe.KindHTTP, "http://www.example/", Control{}, "192.0.2.1:80", "169.254.169.254:80", false},
		{"the same with any", probe.KindHTTP, "http://www.example/", Control{Any: true}, "192.0.2.1:80", "169.254.169.254:80", false},
		{"redirect to loopback", probe.KindHTTP, "http://www.example/", Control{Any: true}, "192.0.2.1:80", "[::ffff:127.0.0.1]:9090", false},
		{"redirect to the unspecified address", probe.KindHTTP, "http://192.0.2.1/", Control{Any: true}, "192.0.2.1:80", "0.0.0.0:9999", false},
		{"the same, mapped", probe.KindHTTP, "http://192.0.2.1/", Control{}, "192.0.2.1:80", "[::ffff:0.0.0.0]:9999", false},
		{"the same of IPv6", probe.KindHTTP, "http://192.0.2.1/", Control{}, "192.0.2.1:80", "[::]:9999", false},
		{"redirect to loopback, compatible", probe.KindHTTP, "http://192.0.2.1/", Control{}, "192.0.2.1:80", "[::127.0.0.1]:9999", false},
		{"redirect to loopback, through a NAT64 of ones own", probe.KindHTTP, "http://192.0.2.1/", Control{}, "192.0.2.1:80", "[64:ff9b:1::7f00:1]:9999", false},
		{"redirect to link-local", probe.KindHTTP, "http://192.0.2.1/", Control{}, "192.0.2.1:80", "[fe80::1%eth0]:80", false},
		{"from one link-local target to another", probe.KindHTTP, "http://169.254.1.1/", Control{}, "169.254.1.1:80", "169.254.169.254:80", false},

		{"its own address", probe.KindTCP, "192.0.2.1:80", Control{}, "192.0.2.1:80", "192.0.2.1:80", true},
		{"redirect to another host", probe.KindHTTP, "http://www.example/", Control{}, "192.0.2.1:80", "198.51.100.1:443", true},
		{"metadata, configured", probe.KindHTTP, "http://169.254.169.254/", Control{}, "169.254.169.254:80", "169.254.169.254:80", true},
		{"link-local, configured with a zone", probe.KindTCP, "[fe80::1%eth0]:80", Control{}, "[fe80::1%eth0]:80", "[fe80::1%eth0]:80", true},
		{"a name behind a NAT64 of ones own", probe.KindTCP, "name.example:80", Control{}, "[64:ff9b:1::c000:201]:80", "[64:ff9b:1::c000:201]:80", true},
		{"loopback by name", probe.KindTCP, "localhost:80", Control{}, "[::1]:80", "127.0.0.1:80", true},
		{"metadata by name, listed", probe.KindHTTP, "http://metadata/", listed, "169.254.169.254:80", "169.254.169.254:80", true},
		{"redirect to loopback, listed", probe.KindHTTP, "http://www.example/", listed, "192.0.2.1:80", "127.0.0.1:80", true},
	} {
		allow := tt.access.Configured(&probe.Module{Name: "m", Kind: tt.kind}, tt.address)
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
	access := Control{}
	for _, to := range []string{"0.0.0.0:80", "[::]:80", "224.0.0.1:80", "255.255.255.255:80"} {
		if access.Configured(&probe.Module{Kind: probe.KindTCP}, "name.example:80")(netip.MustParseAddrPort(to)) == nil {
			t.Errorf("%s may be probed", to)
		}
	}
}

// TestConfiguredWithoutAddress has a target of which no address can be asked for.
func TestConfiguredWithoutAddress(t *testing.T) {
	access := Control{}
	if access.Configured(&probe.Module{Kind: probe.KindUnix}, "/run/a.sock") != nil {
		t.Error("an address is asked for")
	}
	if access.Configured(&probe.Module{Kind: probe.KindHTTP, Prober: nil}, "http://name.example/") == nil {
		t.Error("a target with an address may lead everywhere")
	}
}

// TestNamesForProxies gives a proxy a name, of which it is unknown here what
// it leads to.
func TestNamesForProxies(t *testing.T) {
	access := Control{Any: true, Rules: []Rule{{}}}
	if denied, ok := probe.AsDenied((&Permit{access: &access, module: &probe.Module{Name: "m"}}).Allow(netip.AddrPort{})); !ok || denied.Hint == "" {
		t.Errorf("on request: %v", denied)
	}
	access = Control{}
	allow := access.Configured(&probe.Module{Name: "m", Kind: probe.KindHTTP}, "http://www.example/")
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
		f.Add(probe.KindHTTP, target)
		f.Add(probe.KindTCP, target)
	}
	any := Control{Any: true}
	f.Fuzz(func(t *testing.T, kind, target string) {
		_, err := any.Permit(&probe.Module{Name: "m", Kind: kind}, target, "")
		to, _ := probe.ParseAddress(kind, target)
		if addr, _ := netip.ParseAddr(to.Host); addr.IsValid() && netaddr.IsListedOnly(netaddr.Plain(addr)) && err == nil {
			t.Errorf("%q may be probed", target)
		}
	})
}
