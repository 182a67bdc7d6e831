package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func udp(l socket.Owned) socket.Owned {
	l.Protocol = socket.UDP
	return l
}

func in(netns, device string, l socket.Owned) socket.Owned {
	l.Netns, l.Interface = netns, device
	return l
}

func rulesDiff(want, got []Rule) string {
	prefix := cmp.Comparer(func(a, b Rule) bool { return a.Name == b.Name && a.Comment == b.Comment && a.key() == b.key() })
	return cmp.Diff(want, got, prefix, cmpopts.EquateEmpty())
}

// today is when the rules of these tests are to hold.
var today = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

const meant = "is this meant? it is on a port that the kernel gives to clients"

const filtered = "is this meant? a packet socket with a filter is how a backdoor listens without a port"

func packet(device string, filter socket.Filter, o socket.Owner) (l socket.Owned) {
	l.Protocol, l.Port, l.Interface, l.Filter, l.Owner = socket.Packet, 3, device, filter, o
	return l
}

func vsock(cid, port uint32, o socket.Owner) (l socket.Owned) {
	l.SetVsock(socket.VsockAddr{CID: cid, Port: port})
	l.Owner = o
	return l
}

func TestBaseline(t *testing.T) {
	with, without := []socket.Filter{socket.HasFilter}, []socket.Filter{socket.NoFilter}
	tcp, both := []socket.Protocol{socket.TCP}, []socket.Protocol{socket.TCP, socket.UDP}
	list := func(s ...string) []string { return s }
	nginx := socket.Owner{Process: "nginx", Executable: "/usr/sbin/nginx", User: "root", Unit: "nginx.service", PID: 7}
	inDocker := socket.Owner{Process: "redis-server", User: "999", Unit: "docker-0123456789abcdef0123.scope", Container: "docker-0123456789ab"}
	inOther := inDocker
	inOther.Unit, inOther.Container, inOther.PID = "docker-fedcba9876543210fedc.scope", "docker-ba9876543210", 8
	gone := nginx
	gone.Deleted = true

	for _, tt := range []struct {
		what      string
		listeners []socket.Owned
		want      []Rule
		ephemeral bool
	}{
		{what: "nothing listens"},
		{"owner not known", []socket.Owned{listener("127.0.0.1:631", socket.Owner{}), listener("[::1]:631", socket.Owner{}), listener("[::1]:632", socket.Owner{})}, []Rule{
			{Name: "tcp/631 loopback", Protocols: tcp, Ports: ports(631, 631), Addresses: prefixes("127.0.0.1/32", "::1/128"), Comment: "its process could not be read when this rule was written"},
			{Name: "tcp/632 loopback", Protocols: tcp, Ports: ports(632, 632), Addresses: prefixes("::1/128"), Comment: "its process could not be read when this rule was written"},
		}, false},
		{"ephemeral port, owner not known", []socket.Owned{listener("0.0.0.0:40000", socket.Owner{User: "root"})}, []Rule{
			{Name: "tcp/40000 any", Protocols: tcp, Ports: ports(40000, 40000), Addresses: prefixes("0.0.0.0/32"), Comment: meant + "; its process could not be read when this rule was written"},
		}, false},
		{"the kernel's", []socket.Owned{listener("0.0.0.0:41999", socket.Owner{Process: socket.Kernel, User: "root"}), listener("0.0.0.0:2049", socket.Owner{Process: socket.Kernel, User: "root"})}, []Rule{
			{Name: "[kernel] tcp/2049 any", Protocols: tcp, Ports: ports(2049, 2049), Addresses: prefixes("0.0.0.0/32"), Processes: list("[kernel]"), Users: list("root")},
			{Name: "[kernel] tcp/ephemeral any", Protocols: tcp, Ephemeral: true, Scopes: []socket.Scope{socket.ScopeAny}, Processes: list("[kernel]"), Users: list("root")},
		}, false},
		{"packet sockets", []socket.Owned{packet("eth0", socket.HasFilter, nginx), packet("eth0", socket.NoFilter, nginx), packet("", socket.NoFilter, nginx), packet("lo", socket.FilterUnknown, nginx)}, []Rule{
			{Name: "nginx packet eth0", Protocols: []socket.Protocol{socket.Packet}, Interfaces: list("eth0"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Filters: without},
			{Name: "nginx packet filter eth0", Protocols: []socket.Protocol{socket.Packet}, Interfaces: list("eth0"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Filters: with, Comment: filtered},
			{Name: "nginx packet lo", Protocols: []socket.Protocol{socket.Packet}, Interfaces: list("lo"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Comment: filtered},
			{Name: "nginx packet", Protocols: []socket.Protocol{socket.Packet}, Filters: without, Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"vsock", []socket.Owned{vsock(3, 22, nginx), vsock(3, 70000, nginx)}, []Rule{
			{Name: "nginx vsock/22 any", Protocols: []socket.Protocol{socket.Vsock}, Ports: ports(22, 22), Scopes: []socket.Scope{socket.ScopeAny}, Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx vsock", Protocols: []socket.Protocol{socket.Vsock}, Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Comment: "is this meant? its vsock port is above 65535, so it is expected on any"},
		}, false},
		{"a web server", []socket.Owned{
			listener("0.0.0.0:443", nginx), listener("[::]:443", nginx), listener("[::]:80", nginx), listener("0.0.0.0:80", nginx),
			listener("127.0.0.1:8080", nginx), udp(listener("[::]:443", nginx)), udp(listener("0.0.0.0:443", nginx)), udp(listener("[::]:80", nginx)), udp(listener("0.0.0.0:80", gone)),
		}, []Rule{
			{Name: "nginx tcp,udp/80,443 any", Protocols: both, Ports: ports(80, 80, 443, 443), Addresses: prefixes("0.0.0.0/32", "::/128"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Comment: "its executable was deleted or replaced on disk when this rule was written"},
			{Name: "nginx tcp/8080 loopback", Protocols: tcp, Ports: ports(8080, 8080), Addresses: prefixes("127.0.0.1/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"not every combination is there", []socket.Owned{
			listener("0.0.0.0:443", nginx), listener("[::]:443", nginx), listener("0.0.0.0:80", nginx), udp(listener("0.0.0.0:443", nginx)),
		}, []Rule{
			{Name: "nginx tcp/80 any", Protocols: tcp, Ports: ports(80, 80), Addresses: prefixes("0.0.0.0/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx tcp/443 any", Protocols: tcp, Ports: ports(443, 443), Addresses: prefixes("0.0.0.0/32", "::/128"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx udp/443 any", Protocols: both[1:], Ports: ports(443, 443), Addresses: prefixes("0.0.0.0/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"runs of ports", []socket.Owned{
			listener("10.0.0.1:1", nginx), listener("10.0.0.1:2", nginx), listener("10.0.0.1:4", nginx), listener("10.0.0.1:5", nginx), listener("10.0.0.1:6", nginx), listener("10.0.0.1:4", nginx),
		}, []Rule{
			{Name: "nginx tcp/1,2,4-6 10.0.0.1", Protocols: tcp, Ports: ports(1, 1, 2, 2, 4, 6), Addresses: prefixes("10.0.0.1/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"ephemeral ports on request", []socket.Owned{
			listener("127.0.0.1:40001", nginx), listener("0.0.0.0:40002", nginx), listener("[::]:40003", nginx),
		}, []Rule{
			{Name: "nginx tcp/ephemeral any,loopback", Protocols: tcp, Ephemeral: true, Scopes: []socket.Scope{socket.ScopeAny, socket.ScopeLoopback}, Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, true},
		{"ephemeral ports", []socket.Owned{
			listener("127.0.0.1:40001", nginx), listener("0.0.0.0:40002", nginx), listener("[::]:40002", nginx), listener("10.0.0.1:40003", nginx),
			in("", "lo", listener("0.0.0.0:40004", nginx)), listener("0.0.0.0:80", nginx), listener("[::]:80", nginx),
		}, []Rule{
			{Name: "nginx tcp/80 any", Protocols: tcp, Ports: ports(80, 80), Addresses: prefixes("0.0.0.0/32", "::/128"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx tcp/40002 any", Protocols: tcp, Ports: ports(40002, 40002), Addresses: prefixes("0.0.0.0/32", "::/128"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Comment: meant},
			{Name: "nginx tcp/ephemeral any lo", Protocols: tcp, Ephemeral: true, Scopes: []socket.Scope{socket.ScopeAny}, Interfaces: list("lo"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx tcp/40003 10.0.0.1", Protocols: tcp, Ports: ports(40003, 40003), Addresses: prefixes("10.0.0.1/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service"), Comment: meant},
			{Name: "nginx tcp/ephemeral loopback", Protocols: tcp, Ephemeral: true, Scopes: []socket.Scope{socket.ScopeLoopback}, Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"containers", []socket.Owned{listener("0.0.0.0:6379", inDocker), listener("0.0.0.0:6379", inOther)}, []Rule{
			{Name: "redis-server tcp/6379 any", Protocols: tcp, Ports: ports(6379, 6379), Addresses: prefixes("0.0.0.0/32"), Processes: list("redis-server"), Users: list("999"), Units: list("docker-*.scope"), Containers: list("docker-*")},
		}, false},
		{"namespaces and devices", []socket.Owned{in("docker-0123456789ab", "eth0", listener("0.0.0.0:22", nginx)), in("", "", listener("0.0.0.0:22", nginx))}, []Rule{
			{Name: "nginx tcp/22 any eth0 docker-*", Protocols: tcp, Ports: ports(22, 22), Addresses: prefixes("0.0.0.0/32"), Interfaces: list("eth0"), Netns: list("docker-*"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "nginx tcp/22 any", Protocols: tcp, Ports: ports(22, 22), Addresses: prefixes("0.0.0.0/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
		}, false},
		{"the narrow rule first of all", []socket.Owned{listener("10.0.0.1:1", socket.Owner{Process: "\xff\xfe"}), listener("10.0.0.1:1", socket.Owner{Process: "ab"})}, []Rule{
			{Name: "ab tcp/1 10.0.0.1", Protocols: tcp, Ports: ports(1, 1), Addresses: prefixes("10.0.0.1/32"), Processes: list("ab")},
			{Name: "?? tcp/1 10.0.0.1", Protocols: tcp, Ports: ports(1, 1), Addresses: prefixes("10.0.0.1/32"), Processes: list("??")},
		}, false},
		{"users without a name", []socket.Owned{
			listener("127.0.0.1:1", socket.Owner{Process: "a", User: "62955", UserID: "62955", Unit: "a.service"}),
			listener("127.0.0.1:2", socket.Owner{Process: "b", User: "62955", UserID: "62955"}),
			listener("127.0.0.1:3", socket.Owner{Process: "c", User: "1001", UserID: "1001", Unit: "c.service"}),
		}, []Rule{
			{Name: "a tcp/1 loopback", Protocols: tcp, Ports: ports(1, 1), Addresses: prefixes("127.0.0.1/32"), Processes: list("a"), Units: list("a.service")}, // DynamicUser=
			{Name: "b tcp/2 loopback", Protocols: tcp, Ports: ports(2, 2), Addresses: prefixes("127.0.0.1/32"), Processes: list("b"), Users: list("62955")},
			{Name: "c tcp/3 loopback", Protocols: tcp, Ports: ports(3, 3), Addresses: prefixes("127.0.0.1/32"), Processes: list("c"), Users: list("1001"), Units: list("c.service")},
		}, false},
		{"the path of an interpreter", []socket.Owned{listener("127.0.0.1:1", socket.Owner{Process: "python3", Executable: "/usr/bin/python3.12"}), listener("127.0.0.1:2", socket.Owner{Process: "salt-master", Executable: "/usr/bin/python3.12"})}, []Rule{
			{Name: "python3 tcp/1 loopback", Protocols: tcp, Ports: ports(1, 1), Addresses: prefixes("127.0.0.1/32"), Processes: list("python3"), Executables: list("/usr/bin/python3.12")},
			{Name: "salt-master tcp/2 loopback", Protocols: tcp, Ports: ports(2, 2), Addresses: prefixes("127.0.0.1/32"), Processes: list("salt-master"), Executables: list("/usr/bin/python3.12")},
		}, false},
		{"the narrow rule first", []socket.Owned{listener("0.0.0.0:22", nginx), listener("0.0.0.0:22", socket.Owner{}), listener("0.0.0.0:21", socket.Owner{})}, []Rule{
			{Name: "nginx tcp/22 any", Protocols: tcp, Ports: ports(22, 22), Addresses: prefixes("0.0.0.0/32"), Processes: list("nginx"), Users: list("root"), Units: list("nginx.service")},
			{Name: "tcp/21 any", Protocols: tcp, Ports: ports(21, 21), Addresses: prefixes("0.0.0.0/32"), Comment: "its process could not be read when this rule was written"},
			{Name: "tcp/22 any", Protocols: tcp, Ports: ports(22, 22), Addresses: prefixes("0.0.0.0/32"), Comment: "its process could not be read when this rule was written"},
		}, false},
	} {
		t.Run(tt.what, func(t *testing.T) {
			if diff := rulesDiff(tt.want, Baseline(tt.listeners, Options{Now: today, Ephemeral: tt.ephemeral})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestFoldedNames(t *testing.T) {
	for in, want := range map[string]string{
		"docker-0123456789ab":                             "docker-*",
		"pod0f2c-11/containerd-0123456789a":               "pod*/containerd-0123456789a", // too short for an id
		"pod3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa":         "pod*",
		"podb5d7c2e1f0a94c3d8e6f7a8b9c0d1e2f":             "pod*",
		"pod3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa/lxc-web": "pod*/lxc-web",
		"nomad-web-3a0f8c1e7c2b":                          "nomad-web-*",
		"qemu-3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa":       "qemu-*",
		"podman-web":                   "podman-web",
		"pod0f2c-11/crio-0123456789ab": "pod*/crio-*",
		"docker-xyz":                   "docker-xyz",
		"podman-0123456789ab":          "podman-*",
		"":                             "",
	} {
		if got := foldContainer(in); got != want {
			t.Errorf("container %q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"ssh.service":                                           "ssh.service",
		"session-12.scope":                                      "session-*.scope",
		"session-12.service":                                    "session-12.service",
		"run-u34.service":                                       "run-*.service",
		"run-p12-i34.service":                                   "run-*.service",
		"run-r0123456789ab.scope":                               "run-*.scope",
		"run-parts.service":                                     "run-parts.service",
		"ssh@12-10.0.0.1:22-10.0.0.2:4711.service":              "ssh@*.service",
		"sshd@5-10.0.0.1:22-10.0.0.2:51234.service":             "sshd@*.service",
		"sshd@5-2001:db8::1:22-2001:db8::2:51.service":          "sshd@*.service",
		"postgresql@16-main.service":                            "postgresql@16-main.service",
		"x@1-234-1000.service":                                  "x@*.service",
		"user@1000.service":                                     "user@1000.service",
		"app-firefox-4711.scope":                                "app-firefox-*.scope",
		"libpod-0123456789abcdef.scope":                         "libpod-*.scope",
		"cups.socket":                                           "cups.socket",
		"session-c2.scope":                                      "session-*.scope",
		"user@1000.service/run-u7.service":                      "user@1000.service/run-*.service",
		"tmux-spawn-3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa.scope": "tmux-spawn-*.scope",
		"user@1000.service/vte-spawn-3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa.scope":         "user@1000.service/vte-spawn-*.scope",
		"snap.code.code-3A0F8C1E-7C2B-4F6E-9D53-0C8A52D1B7AA.scope":                      "snap.code.code-*.scope",
		"3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa.web.scope":                                 "*.web.scope",
		`dev-disk-by\\x2duuid-3a0f8c1e\\x2d7c2b\\x2d4f6e\\x2d9d53\\x2d0c8a52d1b7aa.swap`: `dev-disk-by\\x2duuid-*.swap`,
		`a\\x2d0123456789abcdef.service`:                                                 "a" + `\\x2d*.service`,
		"app-firefox@0123456789abcdef0123456789abcdef.service":                           "app-firefox@*.service",
		"dbus-:1.23-org.example@0.service":                                               "dbus-:*-org.example@*.service",
		"feedbackservices.service":                                                       "feedbackservices.service", // no id: a word goes on
	} {
		if got := foldUnit(in); got != want {
			t.Errorf("unit %q: got %q, want %q", in, got, want)
		}
	}
}

func TestFoldedIDs(t *testing.T) {
	for in, want := range map[string]string{
		"":                                     "",
		"nginx":                                "nginx",
		"0123456789abcdef":                     "0123456789abcdef", // not *, which is every name
		"3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa": "3a0f8c1e-7c2b-4f6e-9d53-0c8a52d1b7aa",
		"worker-0123456789abcdef":              "worker-*",
		"é0123456789abcdef":                    "é0123456789abcdef",
		"/srv/0123456789abcdef0123456789abcdef01234567/bin/node": "/srv/*/bin/node",
	} {
		if got := foldIDs(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestFilters holds that a packet socket which was expected without a filter is
// unexpected once it has one, and that filters which cannot be seen change nothing.
func TestFilters(t *testing.T) {
	tcpdump := socket.Owner{Process: "tcpdump", User: "root"}
	baseline := Baseline([]socket.Owned{packet("eth0", socket.NoFilter, tcpdump)}, Options{Now: today})
	forbids := []Rule{{Protocols: []socket.Protocol{socket.Packet}, Filters: []socket.Filter{socket.HasFilter}, Forbid: true}, {Protocols: []socket.Protocol{socket.Packet}}}
	for _, tt := range []struct {
		rules  []Rule
		filter socket.Filter
		want   Kind
	}{
		{baseline, socket.NoFilter, Expected},
		{baseline, socket.HasFilter, Unexpected},
		{baseline, socket.FilterUnknown, Expected},
		{forbids, socket.NoFilter, Expected},
		{forbids, socket.HasFilter, Forbidden},
		{forbids, socket.FilterUnknown, Unverified},
	} {
		if got := Evaluate(tt.rules, []socket.Owned{packet("eth0", tt.filter, tcpdump)}, today).Verdicts[0].Kind; got != tt.want {
			t.Errorf("%v by %+v: %v, want %v", tt.filter, tt.rules, got, tt.want)
		}
	}
}

// TestLintOfFilters holds that the key is for packet sockets only, and that a rule
// with it leaves something for the next.
func TestLintOfFilters(t *testing.T) {
	with, packets := []socket.Filter{socket.HasFilter}, []socket.Protocol{socket.Packet}
	for _, tt := range []struct {
		rules []Rule
		want  int
	}{
		{[]Rule{{Protocols: packets, Filters: with}, {Protocols: packets, Filters: []socket.Filter{socket.NoFilter}}, {Protocols: packets}}, 0},
		{[]Rule{{Protocols: packets}, {Protocols: packets, Filters: with}}, 1},
		{[]Rule{{Protocols: packets, Filters: with}, {Protocols: packets, Filters: with}}, 1},
		{[]Rule{{Ports: ports(22, 22), Filters: with}}, 1},
		{[]Rule{{Protocols: []socket.Protocol{socket.Packet, socket.Raw}, Filters: with}}, 1},
	} {
		if got := Lint(WithNames(tt.rules), today); len(got) != tt.want {
			t.Errorf("%+v: %+v", tt.rules, got)
		}
	}
}

// TestBaselineOfWhatIsHidden holds that a baseline which knows only who made a socket
// accuses no one when it is judged by who sees the process: root gives up its rights
// after bind(2), and systemd makes sockets for services.
func TestBaselineOfWhatIsHidden(t *testing.T) {
	for _, tt := range []struct{ hidden, seen socket.Owner }{
		{socket.Owner{User: "root", UserID: "0"}, socket.Owner{Process: "python3", User: "www-data", UserID: "33"}},
		{socket.Owner{User: "0", UserID: "0", Unit: "web.service"}, socket.Owner{Process: "python3", User: "33", UserID: "33", Unit: "web.service"}},
		{socket.Owner{User: "root", UserID: "0", Unit: "ssh.socket"}, socket.Owner{Process: "sshd", User: "root", UserID: "0", Unit: "ssh.service"}},
		{socket.Owner{User: "root", UserID: "0", Unit: "init.scope"}, socket.Owner{Process: "sshd", User: "root", UserID: "0", Unit: "ssh.service"}},
		{socket.Owner{User: "alice", UserID: "1000"}, socket.Owner{Process: "node", User: "alice", UserID: "1000"}},
	} {
		rules := Baseline([]socket.Owned{listener("0.0.0.0:80", tt.hidden)}, Options{Now: today})
		v := Evaluate(rules, []socket.Owned{listener("0.0.0.0:80", tt.seen)}, today).Verdicts[0]
		if !v.Expected() {
			t.Errorf("made by %+v: %v of %+v by %+v", tt.hidden, v.Kind, tt.seen, rules)
		}
	}
	rules := Baseline([]socket.Owned{listener("0.0.0.0:80", socket.Owner{User: "alice", UserID: "1000"})}, Options{Now: today})
	if diff := cmp.Diff([]string{"alice"}, rules[0].Users); diff != "" {
		t.Errorf("a user that stays (-want +got):\n%s", diff)
	}
}

// checkBaseline holds what a baseline promises.
func checkBaseline(t *testing.T, c chaos, listeners []socket.Owned) {
	t.Helper()
	rules := Baseline(listeners, Options{Now: today})
	for i, v := range Evaluate(rules, listeners, today).Verdicts {
		if !v.Expected() {
			t.Errorf("unexpected: %+v", listeners[i])
		}
	}
	if problems := Lint(rules, today); problems != nil {
		t.Errorf("problems: %+v", problems)
	}
	other := slices.Clone(listeners)
	c.Shuffle(len(other), func(i, j int) { other[i], other[j] = other[j], other[i] })
	for i := range other {
		other[i].Owner.PID = c.Int32()
	}
	if diff := rulesDiff(rules, Baseline(other, Options{Now: today})); diff != "" {
		t.Errorf("the order and the pids of the listeners show (-want +got):\n%s", diff)
	}
	if again := Merge(rules, listeners, Options{Now: today}); len(again) > 0 {
		t.Errorf("to merge the same once more adds %+v", again)
	}
}

// checkMerge holds what a merge promises.
func checkMerge(t *testing.T, old []Rule, listeners []socket.Owned) {
	t.Helper()
	added := Merge(old, listeners, Options{Now: today})
	all := slices.Concat(old, added)
	for i, v := range Evaluate(all, listeners, today).Verdicts {
		if v.Kind == Unexpected {
			t.Errorf("unexpected: %+v", listeners[i])
		}
	}
	before, after := Lint(old, today), Lint(all, today)
	if diff := cmp.Diff(before, after, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("problems (-before +after):\n%s", diff)
	}
}

func TestBaselineOfRandomHosts(t *testing.T) {
	for seed := range uint64(150) {
		c := newChaos(seed)
		checkBaseline(t, c, c.listeners())
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestMergeOfRandomHosts(t *testing.T) {
	for seed := range uint64(150) {
		c := newChaos(seed)
		checkMerge(t, WithNames(c.rules()), c.listeners())
		checkMerge(t, Baseline(c.listeners(), Options{Now: today}), c.listeners())
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzBaseline(f *testing.F) {
	f.Add("sshd", "/usr/sbin/sshd", "root", "ssh.service", "docker-0123456789ab", "blue", uint16(22), uint64(1))
	f.Add(`a\*?`, "\xff", "*", "ssh@3-\\.service", "pod\\/x-0123456789ab", "run-u1.", uint16(40000), uint64(2))
	f.Fuzz(func(t *testing.T, process, executable, user, unit, container, netns string, port uint16, seed uint64) {
		c := chaos{rand.New(rand.NewPCG(seed, 2))}
		listeners := make([]socket.Owned, 4)
		for i := range listeners {
			listeners[i] = c.listener()
		}
		l := &listeners[0]
		l.Owner = socket.Owner{Process: process, Executable: executable, User: user, Unit: unit, Container: container}
		l.Netns, l.Port, l.Ephemeral = netns, max(port, 1), port >= 32768 && port <= 60999
		listeners[1].Owner, listeners[2].Netns = l.Owner, netns
		checkBaseline(t, c, listeners)
		checkMerge(t, WithNames(c.rules()), listeners)
	})
}

func BenchmarkBaseline(b *testing.B) {
	c := newChaos(1)
	listeners := make([]socket.Owned, 4096)
	for i := range listeners {
		listeners[i] = c.listener()
		listeners[i].Port = uint16(i + 1)
	}
	for b.Loop() {
		Baseline(listeners, Options{Now: today})
	}
}
