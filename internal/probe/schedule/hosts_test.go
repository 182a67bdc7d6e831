package schedule

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// hostRule is a rule with hosts.
func ruleFor(networks string, modules ...string) access.Rule {
	r := access.Rule{Modules: modules}
	for n := range strings.FieldsSeq(networks) {
		r.Networks = append(r.Networks, netip.MustParsePrefix(n))
	}
	return r
}

func hostRule(hosts, networks string, modules ...string) access.Rule {
	r := ruleFor(networks, modules...)
	r.Hosts = strings.Fields(hosts)
	return r
}

// TestAccessToNames has what a client may call by a name, and where the name may
// lead.
func TestAccessToNames(t *testing.T) {
	inside := access.Control{Rules: []access.Rule{hostRule("*.example.org", "10.0.0.0/8")}}
	anywhere := access.Control{Rules: []access.Rule{hostRule("db.example.org", "")}}
	everyName := access.Control{Rules: []access.Rule{hostRule("*", "10.0.0.0/8")}}
	for _, tt := range []struct {
		name     string
		access   access.Control
		target   string
		hostname string
		to       string // empty where it is denied before it is resolved
		allowed  bool
	}{
		{"no rule has hosts", access.Control{Rules: []access.Rule{ruleFor("10.0.0.0/8")}}, "a.example.org:80", "", "", false},
		{"a rule without any list", access.Control{Rules: []access.Rule{{}}}, "a.example.org:80", "", "", false},
		{"another domain", inside, "a.example.com:80", "", "", false},
		{"the domain itself", inside, "example.org:80", "", "", false},
		{"a domain that ends alike", inside, "evilexample.org:80", "", "", false},
		{"a label too many in front", anywhere, "x.db.example.org:80", "", "", false},
		{"a domain behind", inside, "a.example.org.evil.example:80", "", "", false},
		{"an address, where names are allowed", inside, "10.0.0.1:80", "", "", false},
		{"an address that is called by a name which leads elsewhere", anywhere, "192.0.2.1:80", "db.example.org", "", false},
		{"an address that is called by another name", inside, "10.0.0.1:80", "a.example.com", "", false},
		{"an address outside, called by a name", inside, "192.0.2.1:80", "a.example.org", "", false},
		{"a name that is called by another", inside, "a.example.org:80", "a.example.com", "", false},
		{"a name that leads outside", inside, "a.example.org:80", "", "192.0.2.1:80", false},
		{"a name that leads to loopback", anywhere, "db.example.org:80", "", "127.0.0.1:80", false},
		{"a name that leads to loopback, mapped", anywhere, "db.example.org:80", "", "[::ffff:127.0.0.1]:80", false},
		{"a name that leads to metadata", anywhere, "db.example.org:80", "", "169.254.169.254:80", false},
		{"a name that leads to the unspecified address", anywhere, "db.example.org:80", "", "0.0.0.0:80", false},
		{"a name that leads to a unique local address", anywhere, "db.example.org:80", "", "[fd00::1]:80", false},
		{"a number, where every name is allowed", everyName, "10.1:80", "", "", false},
		{"a hostname that is a number", access.Control{Any: true}, "192.0.2.1:80", "2852039166", "", false},
		{"a hostname that is a metadata address", access.Control{Any: true}, "192.0.2.1:80", "169.254.169.254", "", false},
		{"a hostname that is one, in brackets", access.Control{Any: true}, "192.0.2.1:80", "[fe80::1]", "", false},
		{"a hostname that is an address outside", everyName, "10.0.0.1:80", "192.0.2.1", "", false},

		{"a name of the domain", inside, "a.example.org:80", "", "10.0.0.1:80", true},
		{"a name below", inside, "a.b.example.org:80", "", "10.0.0.1:80", true},
		{"in other letters, with the root's dot", inside, "A.Example.ORG.:80", "", "10.0.0.1:80", true},
		{"in Unicode", access.Control{Rules: []access.Rule{hostRule("xn--mnchen-3ya.example", "")}}, "München.example:80", "", "192.0.2.1:80", true},
		{"a name that may lead anywhere", anywhere, "db.example.org:80", "", "192.0.2.1:80", true},
		{"a name that may lead to loopback", access.Control{Rules: []access.Rule{hostRule("localhost", "127.0.0.0/8")}}, "localhost:80", "", "127.0.0.1:80", true},
		{"an address that is called by a name", inside, "10.0.0.1:80", "a.example.org", "10.0.0.1:80", true},
		{"a name that is called by another of the rule", inside, "a.example.org:80", "b.example.org", "10.0.0.1:80", true},
		{"every name", everyName, "anything.example:80", "", "10.0.0.1:80", true},
		{"every name and an address", everyName, "10.0.0.1:80", "", "10.0.0.1:80", true},
		{"every name and an address that is called by one", everyName, "10.0.0.1:80", "a.example", "10.0.0.1:80", true},
		{"a hostname that is an address", everyName, "10.0.0.1:80", "10.0.0.2", "10.0.0.1:80", true},
		{"any", access.Control{Any: true}, "anything.example:80", "other.example", "192.0.2.1:80", true},
	} {
		m := &probe.Module{Name: "m", Kind: probe.KindTCP}
		p, err := tt.access.Permit(m, tt.target, access.HostnameOf(m.Kind, tt.target, tt.hostname))
		if denied, ok := probe.AsDenied(err); err != nil && (!ok || denied.Hint == "") {
			t.Errorf("%s: no hint: %v", tt.name, err)
		}
		if tt.to == "" && err == nil {
			t.Errorf("%s: not denied before it is resolved", tt.name)
		}
		if tt.to == "" || err != nil {
			if tt.allowed {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err := p.Allow(netip.MustParseAddrPort(tt.to)); (err == nil) != tt.allowed {
			t.Errorf("%s: %s: %v", tt.name, tt.to, err)
		}
	}
}

// TestRedirectsOfRequests has the hosts that a redirect leads to.
func TestRedirectsOfRequests(t *testing.T) {
	allowed := access.Control{Rules: []access.Rule{hostRule("a.example b.example", "10.0.0.0/8"), hostRule("c.example", "192.0.2.0/24"), ruleFor("198.51.100.0/24")}}
	for _, tt := range []struct {
		name, then, to string
		allowed        bool
	}{
		{"to a name that no rule has", "evil.example", "", false},
		{"to a number in decimal", "2852039166", "", false},
		{"to a name of another rule, where the first may lead", "c.example", "10.0.0.1:80", false},
		{"to an address where the name may lead", "10.0.0.1", "10.0.0.1:80", false},

		{"to a name of the same rule", "b.example", "10.0.0.1:80", true},
		{"to a name of another rule", "c.example", "192.0.2.1:80", true},
		{"to an address of another rule", "198.51.100.1", "198.51.100.1:80", true},
		{"back to itself", "A.example.", "10.0.0.1:80", true},
	} {
		p, err := allowed.Permit(&probe.Module{Name: "m", Kind: probe.KindHTTP}, "http://a.example/", "b.example")
		if err != nil {
			t.Fatal(err)
		}
		err = p.AllowHost(tt.then)
		if err == nil && tt.to != "" {
			err = p.Allow(netip.MustParseAddrPort(tt.to))
		}
		if (err == nil) != tt.allowed {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestHostnameOfAClient has the parameter hostname with every kind of prober:
// another one than is configured is the client's word, and never goes with
// credentials.
func TestHostnameOfAClient(t *testing.T) {
	addresses := map[string]string{
		probe.KindHTTP: "https://10.0.0.1/", probe.KindTCP: "10.0.0.1:443", probe.KindGRPC: "10.0.0.1:443", probe.KindUnix: "/run/a.sock",
		probe.KindDNS: "10.0.0.1", probe.KindICMP: "10.0.0.1", probe.KindUDP: "10.0.0.1:53", probe.KindSTUN: "10.0.0.1:3478",
	}
	open := access.Control{Any: true, Rules: []access.Rule{hostRule("*", "10.0.0.0/8", "m")}}
	for kind, address := range addresses {
		for _, tt := range []struct {
			name        string
			access      access.Control
			credentials bool
			hostname    string
			allowed     bool // where the prober shows the target a hostname
		}{
			{"another one", access.Control{}, false, "evil.example", false},
			{"another one, with credentials", access.Control{}, true, "evil.example", false},
			{"another one, with credentials, where everything is allowed", open, true, "evil.example", false},
			{"none", access.Control{}, true, "", true},
			{"the configured one", access.Control{}, true, "own.example", true},
			{"another one, allowed", open, false, "other.example", kind != probe.KindUnix},
		} {
			var saw string
			m := &probe.Module{Name: "m", Kind: kind, Credentials: tt.credentials, Prober: proberFunc(func(_ context.Context, r probe.Request) probe.Result {
				saw = r.Hostname
				return probe.Result{}
			})}
			plan := &Plan{Targets: []probe.Target{{Address: address, Module: m, Hostname: "own.example"}}, Access: tt.access, Modules: map[string]*probe.Module{"m": m}}
			r := NewRunner(t.Context(), 0)
			r.Use(plan)
			_, err := r.Once(t.Context(), plan, Ask{Target: address, Module: m, Hostname: tt.hostname})
			r.Stop()
			want := tt.hostname
			if want == "" || !access.TakesHostname(kind) {
				want = "own.example"
			}
			switch denied, _ := probe.AsDenied(err); {
			case (err == nil) != (tt.allowed || !access.TakesHostname(kind)):
				t.Errorf("%s: %s: %v", kind, tt.name, err)
			case err == nil && saw != want:
				t.Errorf("%s: %s: the prober has the hostname %q, want %q", kind, tt.name, saw, want)
			case err != nil && (denied == nil || denied.Hint == "" || saw != ""):
				t.Errorf("%s: %s: denied with %v, the prober has the hostname %q", kind, tt.name, err, saw)
			}
		}
	}
}

// TestHostnameThatIsNone has a client write the target's own host, and behind it what
// is no port: the text would go to the target, with the credentials.
func TestHostnameThatIsNone(t *testing.T) {
	addresses := map[string]string{
		probe.KindHTTP: "http://127.0.0.1/", probe.KindTCP: "127.0.0.1:443", probe.KindGRPC: "127.0.0.1:443",
	}
	hostnames := map[string]bool{
		"127.0.0.1": true, "127.0.0.1:80": true, "127.0.0.1:65535": true,
		"127.0.0.1:evil.test": false, "127.0.0.1:80@evil.test": false, "127.0.0.1:": false, "127.0.0.1:0": false, "127.0.0.1:65536": false,
		"127.0.0.1:+80": false, "127.0.0.1:http": false, "127.0.0.1/x": false, "127.0.0.1:80/x": false, "u@127.0.0.1": false,
		"127.0.0.1?x": false, "127.0.0.1#x": false, "127.0.0.1 ": false, "127.0.0.1:80\r\nX: y": false, "127.0.0.1\x00": false, "[127.0.0.1": false,
	}
	for kind, address := range addresses {
		for hostname, allowed := range hostnames {
			for _, configured := range []bool{true, false} {
				saw := false
				m := &probe.Module{Name: "m", Kind: kind, Credentials: configured, Prober: proberFunc(func(context.Context, probe.Request) probe.Result {
					saw = true
					return probe.Result{}
				})}
				plan := &Plan{Access: access.Control{Any: true, Rules: []access.Rule{hostRule("*", "127.0.0.0/8", "m")}}, Modules: map[string]*probe.Module{"m": m}}
				if configured {
					plan.Targets = []probe.Target{{Address: address, Module: m}}
				}
				r := NewRunner(t.Context(), 0)
				r.Use(plan)
				_, err := r.Once(t.Context(), plan, Ask{Target: address, Module: m, Hostname: hostname})
				r.Stop()
				if denied, _ := probe.AsDenied(err); saw != allowed || !allowed && (denied == nil || denied.Hint == "") {
					t.Errorf("%s, configured %t, hostname %q: probed: %t: %v", kind, configured, hostname, saw, err)
				}
			}
		}
	}
}

// TestTargetsThatShareAnAddress has several configured hostnames on one address.
func TestTargetsThatShareAnAddress(t *testing.T) {
	m := &probe.Module{Name: "m", Kind: probe.KindTCP}
	plan := &Plan{Targets: []probe.Target{
		{Name: "first", Address: "10.0.0.1:443", Module: m, Hostname: "a.example"},
		{Name: "second", Address: "10.0.0.1:443", Module: m, Hostname: "b.example"},
		{Name: "plain", Address: "10.0.0.1:443", Module: m},
		{Name: "alone", Address: "10.0.0.2:443", Module: m, Hostname: "c.example"},
	}}
	plan.prepare()
	for _, tt := range []struct{ target, hostname, want string }{
		{"10.0.0.1:443", "", "plain"},
		{"10.0.0.1:443", "a.example", "first"},
		{"10.0.0.1:443", "b.example", "second"},
		{"10.0.0.1:443", "10.0.0.1", "plain"},
		{"10.0.0.1:443", "c.example", ""},
		{"10.0.0.2:443", "", "alone"},
		{"10.0.0.2:443", "c.example", "alone"},
		{"10.0.0.2:443", "10.0.0.2", ""},
	} {
		got := ""
		if at, ok := plan.find(Ask{Target: tt.target, Module: m, Hostname: tt.hostname}); ok {
			got = plan.Targets[at].Name
		}
		if got != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.target, tt.hostname, got, tt.want)
		}
	}
}

// TestDeniedIsSilent has a prober that learned much before it was denied.
func TestDeniedIsSilent(t *testing.T) {
	learned := probe.NewSamples()
	learned.Address(netip.MustParseAddr("10.9.0.77"))
	learned.Set(probe.DNSLookupTime, 0.25)
	m := &probe.Module{Prober: proberFunc(func(context.Context, probe.Request) probe.Result {
		return probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Peer: netip.MustParseAddrPort("10.9.0.77:80"), Err: errors.New("no"), Samples: learned}
	})}
	got := m.Probe(t.Context(), probe.Request{})
	if got.Samples != nil || got.Peer.IsValid() || got.Duration != 0 || got.Outcome != probe.Denied || got.Err == nil {
		t.Errorf("a denied probe reports %+v", got)
	}
}
