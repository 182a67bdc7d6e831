package config

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

func TestProbeErrorsNameTheirPlace(t *testing.T) {
	const (
		target  = "targets:\n  - name: a\n    "           // the next key is in line 3
		tcp     = "modules:\n  m:\n    prober: tcp\n    " // line 4
		udp     = "modules:\n  m:\n    prober: udp\n    "
		http    = "modules:\n  m:\n    prober: http\n    http:\n      " // line 5
		modules = "modules:\n  tls: {prober: tcp, tcp: {tls: true}}\n  ping: {prober: icmp}\n  names: {prober: dns, dns: {query_name: a}}\n" +
			"  ntp: {prober: udp}\n  nat: {prober: stun}\n  sock: {prober: unix}\n  web: {prober: http, http: {headers: {host: one.test}}}\n" +
			"  banner: {prober: tcp, tcp: {query_response: [{expect: '^(.*)$', labels: [{name: banner, value: '${1}'}]}]}}\n" // eight lines
	)
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		// Modules.
		{"modules are a list", "modules: [a]\n", []string{"line 1: modules: a list where a name for each module is expected"}},
		{"a module is a text", "modules:\n  m: tcp\n", []string{`line 2: modules.m: "tcp" where keys are expected`, "hint: the keys are prober"}},
		{"unknown key", tcp + "tcpp: {}\n", []string{"line 4: modules.m.tcpp: unknown key", `did you mean "tcp"?`}},
		{"unknown key of the prober", tcp + "tcp:\n      tsl: true\n", []string{"line 5: modules.m.tcp.tsl: unknown key", `did you mean "tls"?`}},
		{"unknown key far below", http + "tls_config:\n        ca_flie: x\n", []string{"line 6: modules.m.http.tls_config.ca_flie: unknown key", `did you mean "ca_file"?`}},
		{"unknown key in a list", tcp + "tcp:\n      query_response:\n        - send: a\n        - sned: b\n", []string{"line 7: modules.m.tcp.query_response[1].sned: unknown key", `did you mean "send"?`}},
		{"key of ours beside theirs", tcp + "tcp:\n      clsoe: rst\n", []string{"line 5: modules.m.tcp.clsoe: unknown key", `did you mean "close"?`}},
		{"none of the keys of a section", tcp + "tcp:\n      xyzzy: 1\n", []string{"the keys here are all_ips, close, ip_protocol_fallback", "query_response, source_address, source_ip_address, tls, tls_config"}},
		{"key of ours of a module", tcp + "expectoutcome: open\n", []string{"modules.m.expectoutcome: unknown key", `did you mean "expect_outcome"?`}},
		{"key of ours in a step", tcp + "tcp:\n      query_response:\n        - send_byte: \"hex:00\"\n", []string{"modules.m.tcp.query_response[0].send_byte: unknown key", `did you mean "send_bytes"?`}},
		{"unknown key of ours", udp + "udp:\n      paylaod: dns\n", []string{"line 5: modules.m.udp.paylaod: unknown key", `did you mean "payload"?`}},
		{"a key twice", tcp + "timeout: 5s\n    timeout: 6s\n", []string{"line 5: modules.m.timeout: stands twice", "in line 4"}},
		{"a module twice", "modules:\n  m: {prober: tcp}\n  m: {prober: udp}\n", []string{"line 3: modules.m: stands twice"}},
		{"no duration", tcp + "timeout: soon\n", []string{`line 4: modules.m.timeout: "soon" is not a duration`, "hint: write a number with its unit"}},
		{"timeout without a unit", tcp + "timeout: 5\n", []string{`line 4: modules.m.timeout: "5" is not a duration`, "hint: write a number with its unit"}},
		{"timeout is 0", tcp + "timeout: 0\n", []string{`line 4: modules.m.timeout: "0" is not a duration`}},
		{"no bool", tcp + "tcp:\n      tls: maybe\n", []string{"line 5: modules.m.tcp.tls: a single value where true or false is expected"}},
		{"no number", http + "valid_status_codes: [200, ok]\n", []string{"line 5: modules.m.http.valid_status_codes[1]: a single value where a whole number is expected"}},
		{"a value for a section", tcp + "tcp: true\n", []string{"line 4: modules.m.tcp: a single value where keys are expected"}},
		{"no CEL", http + "fail_if_body_json_matches_cel: '('\n", []string{"line 5: modules.m.http.fail_if_body_json_matches_cel: "}},
		{"negative timeout", tcp + "timeout: -5s\n", []string{"line 2: modules.m: timeout: -5s is negative"}},
		{"what blackbox refuses", "modules:\n  m:\n    prober: dns\n    dns: {query_type: A}\n", []string{"line 2: modules.m: query name must be set for DNS module"}},
		{"no regexp", tcp + "tcp: {query_response: [{expect: '('}]}\n", []string{"line 4: modules.m.tcp.query_response[0].expect: error parsing regexp: missing closing )", "hint: the syntax is that of RE2"}},
		{"no regexp, http", http + "fail_if_body_matches_regexp:\n        - ok\n        - '(?=x)'\n", []string{"line 7: modules.m.http.fail_if_body_matches_regexp[1]: error parsing regexp", "hint: the syntax is that of RE2"}},
		{"no regexp of a header", http + "fail_if_header_matches: [{header: a, regexp: '['}]\n", []string{"line 5: modules.m.http.fail_if_header_matches[0].regexp: error parsing regexp"}},
		{"send_bytes", tcp + "tcp:\n      query_response:\n        - send: a\n        - send_bytes: ff\n", []string{"line 7: modules.m.tcp.query_response[1].send_bytes: these are no bytes", "hint: write them as hex:c0ffee"}},
		{"send_bytes of unix", "modules:\n  m:\n    prober: unix\n    unix: {query_response: [{send_bytes: 'hex:0'}]}\n", []string{"line 4: modules.m.unix.query_response[0].send_bytes: these are no bytes"}},
		{"send_bytes of another prober", "modules:\n  m: {prober: unix, tcp: {query_response: [{send_bytes: 'hex:00'}]}}\n", []string{"modules.m.tcp: only the prober tcp reads this"}},
		{"send_bytes twice", tcp + "tcp: {query_response: [{send_bytes: 'hex:00', send_bytes: 'hex:01'}]}\n", []string{"modules.m.tcp.query_response[0].send_bytes: stands twice"}},
		{"expect_outcome", tcp + "expect_outcome: refuse\n", []string{`line 4: modules.m.expect_outcome: "refuse" is not known`, `did you mean "refused"?`}},
		{"expect_outcome that is never", tcp + "expect_outcome: not_run\n", []string{"line 4: modules.m.expect_outcome", "not tried"}},
		{"close", tcp + "tcp: {close: reset}\n", []string{`line 4: modules.m.tcp.close: "reset" is not a way`, "hint: rst leaves no TIME_WAIT"}},
		{"source_address", tcp + "tcp: {source_address: eth0}\n", []string{`line 4: modules.m.tcp.source_address: "eth0" is not an IP address`, "hint:"}},
		{"source_ip_address", tcp + "tcp: {source_ip_address: eth0}\n", []string{`line 2: modules.m: tcp.source_ip_address: "eth0" is not an IP address`}},
		{"both sources", tcp + "tcp: {source_ip_address: 127.0.0.1, source_address: 127.0.0.1}\n", []string{"modules.m: tcp.source_address: there is a source_ip_address too"}},
		{"source of icmp", "modules:\n  m: {prober: icmp, icmp: {source_ip_address: x}}\n", []string{"line 2: modules.m: icmp.source_ip_address"}},
		{"source of dns", "modules:\n  m: {prober: dns, dns: {query_name: a, source_ip_address: x}}\n", []string{"line 2: modules.m: dns.source_ip_address"}},
		{"payload", udp + "udp: {payload: dsn}\n", []string{"line 4: modules.m.udp.payload: this is no payload", "hint: it is one of dns, ntp, quic"}},
		{"payload in hex", udp + "udp: {payload: 'hex:0'}\n", []string{"line 4: modules.m.udp.payload: this is no payload"}},
		{"expect of udp", udp + "udp: {expect: '('}\n", []string{"line 4: modules.m.udp.expect: error parsing regexp", "hint: the syntax"}},
		{"expect_bytes", udp + "udp: {expect_bytes: ff}\n", []string{"line 4: modules.m.udp.expect_bytes: these are no bytes", "hint: write them as hex:c0ffee"}},
		{"version of IP", udp + "udp: {preferred_ip_protocol: ipv4}\n", []string{`line 4: modules.m.udp.preferred_ip_protocol: "ipv4" is not known`, `did you mean "ip4"?`}},
		{"keys of another prober", tcp + "udp: {payload: dns}\n", []string{"line 4: modules.m.udp: only the prober udp reads this", "hint: prober: udp"}},
		{"trace of another prober", "modules:\n  m:\n    prober: dns\n    trace: true\n    dns: {query_name: a.test}\n", []string{"line 4: modules.m.trace: only the probers tcp and udp read this", "hint: remove it"}},
		{"trace is no bool", tcp + "trace: often\n", []string{"line 4: modules.m.trace: "}},
		{"our keys of tcp elsewhere", "modules:\n  m: {prober: unix, tcp: {close: rst}}\n", []string{"modules.m.tcp: only the prober tcp reads this"}},
		{"key of websocket", "modules:\n  m:\n    prober: websocket\n    websocket: {http_confg: {}}\n", []string{"line 4: modules.m.websocket.http_confg: unknown key", `did you mean "http_config"?`}},
		{"key of http_config", "modules:\n  m:\n    prober: websocket\n    websocket: {http_config: {basic_atuh: {}}}\n", []string{"line 4: modules.m.websocket.http_config.basic_atuh: unknown key"}},
		{"credentials twice", "modules:\n  m:\n    prober: websocket\n    websocket: {http_config: {bearer_token: hunter2, basic_auth: {username: a}}}\n", []string{"line 2: modules.m.websocket: at most one of"}},
		{"expect of websocket", "modules:\n  m:\n    prober: websocket\n    websocket: {query_response: [{expect: '('}]}\n", []string{"line 4: modules.m.websocket.query_response[0].expect: error parsing regexp"}},
		{"websocket in the wrong place", "modules:\n  m: {prober: websocket, webscket: {}}\n", []string{`did you mean "websocket"?`}},
		{"no such file", "blackbox_config: /nonexistent/blackbox.yml\n", []string{"blackbox_config:", "/nonexistent/blackbox.yml", "hint: the path is relative"}},
		{"aliases without end", "modules: &a {m: *a}\n", []string{"line 1: with what aliases repeat, the file has more than 1000000 values"}},

		// Targets.
		{"targets are a mapping", "targets: {address: a}\n", []string{"line 1: targets: a mapping where a list is expected"}},
		{"unknown key of a target", target + "adresss: a\n", []string{"line 3: targets[0].adresss: unknown key", `did you mean "address"?`}},
		{"no address", target + "module: icmp\n", []string{"line 2: targets[0].address: it is missing"}},
		{"no port and no module", target + "address: a.test\n", []string{`line 3: targets[0].address: "a.test" has no port, and there is no module`, "module: icmp"}},
		{"hostname in two lines", target + "address: http://a/\n    hostname: \"b\\r\\nX: c\"\n", []string{`line 4: targets[0].hostname: "b\r\nX: c" is not a host`}},
		{"hostname with a space", target + "address: a:1\n    hostname: b c\n", []string{`line 4: targets[0].hostname: "b c" is not a host`}},
		{"unknown module", target + "address: a:1\n    module: icpm\n", []string{`line 4: targets[0].module: there is no module "icpm"`, `did you mean "icmp"?`}},
		{"default module that is gone", "modules:\n  http_2xx: {prober: nonsense}\n" + "targets: [{address: 'http://a/'}]\n", []string{`line 3: targets[0].module: the module "http_2xx" is left out`, "the probers are http, websocket, tcp"}},
		{"port 0", target + "address: a:0\n", []string{`line 3: targets[0].address: "0" is not a port`, "hint: write a port from 1 to 65535"}},
		{"port missing", target + "address: 'a:'\n", []string{`"a:" has no port`}},
		{"port too large", target + "address: a:65536\n", []string{`"65536" is not a port`}},
		{"port missing, by module", target + "address: a\n    module: tcp_connect\n", []string{`"a" has no port`, "hint: write it as host:port"}},
		{"IPv6 without brackets", target + "address: '2001:db8::1:443'\n", []string{"has no port", "[2001:db8::1]:443 for IPv6"}},
		{"host missing", target + "address: ':80'\n", []string{"the host is missing"}},
		{"no host", target + "address: 'a b:80'\n", []string{`"a b" is not a host`}},
		{"wildcard", target + "address: 0.0.0.0:80\n", []string{"0.0.0.0 is every address and none", "hint: this host is 127.0.0.1"}},
		{"wildcard, IPv6", target + "address: '[::]:80'\n", []string{":: is every address and none"}},
		{"broadcast", target + "address: 255.255.255.255:80\n", []string{"255.255.255.255 is the broadcast address"}},
		{"multicast", target + "address: 224.0.0.1:80\n", []string{"224.0.0.1 is a multicast address"}},
		{"multicast, IPv6", target + "address: '[ff02::1]:80'\n", []string{"ff02::1 is a multicast address"}},
		{"multicast, IPv4 in IPv6", target + "address: '[::ffff:224.0.0.1]:80'\n", []string{"224.0.0.1 is a multicast address"}},
		{"class E", target + "address: 240.0.0.1:80\n", []string{"240.0.0.1 is of class E"}},
		{"multicast of udp", modules + "targets: [{address: '239.0.0.1:123', module: ntp}]\n", []string{"line 10: targets[0].address: 239.0.0.1 is a multicast address"}},
		{"a URL for tcp", target + "address: http://a/\n    module: tcp_connect\n", []string{`"http://a/" is a URL`, "hint: module: http_2xx"}},
		{"another scheme", target + "address: ftp://a/\n    module: http_2xx\n", []string{`the scheme is "ftp"`}},
		{"URL without a host", target + "address: http:///path\n", []string{"the host is missing"}},
		{"URL with port 0", target + "address: http://a:0/\n", []string{`"0" is not a port`}},
		{"websocket by http", target + "address: http://a/\n    module: websocket\n", []string{"line 3: targets[0].address: this is not the URL of a websocket", "hint: write it as wss://"}},
		{"websocket of the wildcard", target + "address: ws://0.0.0.0/\n", []string{"every address and none"}},
		{"websocket of port 0", target + "address: ws://a:0/\n", []string{`"0" is not a port`}},
		{"URL of the wildcard", target + "address: http://0.0.0.0/\n", []string{"every address and none"}},
		{"URL with a password", target + "address: http://user:hunter2@a/\n", []string{"there is a password in it", "hint: basic_auth"}},
		{"ICMP with a port", modules + "targets: [{address: 'a:1', module: ping}]\n", []string{`"a:1" has a port, and icmp takes a host`}},
		{"ICMP of a URL", modules + "targets: [{address: 'a/b', module: ping}]\n", []string{`"a/b" is not a host`}},
		{"DNS of port 0", modules + "targets: [{address: 'a:0', module: names}]\n", []string{`"0" is not a port`}},
		{"a relative path", modules + "targets: [{address: run/sock, module: sock}]\n", []string{`"run/sock" is not an absolute path`, "hint: /run/service.sock"}},
		{"hostname with a port that is none", target + "address: http://a/\n    hostname: 'a:evil.test'\n", []string{`line 4: targets[0].hostname: "a:evil.test" is not a host`}},
		{"hostname with a user", target + "address: a:1\n    hostname: 'a:80@evil.test'\n", []string{`line 4: targets[0].hostname: "a:80@evil.test" is not a host`}},
		{"hostname of icmp", modules + "targets: [{address: a, module: ping, hostname: b}]\n", []string{"line 10: targets[0].hostname: the prober icmp takes none"}},
		{"hostname of udp", modules + "targets: [{address: 'a:1', module: ntp, hostname: b}]\n", []string{"the prober udp takes none"}},
		{"hostname of stun", modules + "targets: [{address: 'a:1', module: nat, hostname: b}]\n", []string{"the prober stun takes none"}},
		{"hostname of dns", modules + "targets: [{address: 'a:1', module: names, hostname: b}]\n", []string{"the prober dns takes none"}},
		{"two hosts", modules + "targets: [{address: 'http://a/', module: web, hostname: two.test}]\n", []string{"Host: one.test", "two.test", "hint: remove one of them"}},
		{"label name", target + "address: a:1\n    labels: {a-b: c}\n", []string{`line 4: targets[0].labels: "a-b" is not the name of a label`}},
		{"label of each target", target + "address: a:1\n    labels: {module: c}\n", []string{`"module" is a label of the metrics of probes`}},
		{"label of a metric", target + "address: a:1\n    labels: {serialnumber: c}\n", []string{`"serialnumber" is a label`}},
		{"label of the module", modules + "targets: [{address: 'a:1', module: banner, labels: {banner: c}}]\n", []string{`"banner" is a label`}},
		{"reserved label", target + "address: a:1\n    labels: {__name__: c}\n", []string{`"__name__" is a label`}},
		{"labels are a list", target + "address: a:1\n    labels: [a]\n", []string{"line 4: targets[0].labels: a list is not a mapping of names to texts"}},
		{"interval", target + "address: a:1\n    interval: 500ms\n", []string{"line 4: targets[0].interval: 500ms is too short", "hint: it must be 1s at least"}},
		{"negative interval", target + "address: a:1\n    interval: -1s\n", []string{"interval: -1s is too short"}},
		{"interval without a unit", target + "address: a:1\n    interval: 30\n", []string{`line 4: targets[0].interval: "30" is not a duration`}},
		{"twice", "targets:\n  - address: a:1\n  - address: a:1\n    name: b\n", []string{"line 3: targets[1].address: this target stands twice", "targets[0] in line 2"}},
		{"not to be told apart", "targets:\n  - address: a:1\n  - address: a:1\n    hostname: b\n", []string{"line 3: targets[1].address: its metrics would be identical", "hint: give each a name"}},
		{"all faults at once", "targets:\n  - address: a:0\n  - address: b:0\n", []string{"line 2", "line 3"}},

		// What may be probed.
		{"too many", "probes: {max_in_flight: 0}\n", []string{"probes.max_in_flight: 0 is out of range"}},
		{"allow", "probes:\n  allow: all\n", []string{`line 2: probes.allow: "all" says not what is allowed`, "hint: it is configured, any"}},
		{"no rules", "probes:\n  allow: {rules: []}\n", []string{"line 2: probes.allow: there are no rules"}},
		{"unknown key of a rule", "probes:\n  allow:\n    rules:\n      - network: 10.0.0.0/8\n", []string{"line 4: probes.allow.rules[0].network: unknown key", `did you mean "networks"?`}},
		{"no network", "probes: {allow: {rules: [{networks: 10.0.0.1/8}]}}\n", []string{"is neither an address nor a network"}},
		{"no ports", "probes: {allow: {rules: [{ports: ephemeral}]}}\n", []string{`"ephemeral" is not a port here`}},
		{"empty list", "probes: {allow: {rules: [{ports: []}]}}\n", []string{"the list is empty"}},
		{"module of a rule that is gone", "modules:\n  icmp: {prober: nonsense}\nprobes:\n  allow:\n    rules:\n      - modules: icmp\n", []string{`line 6: probes.allow.rules[0].modules: the module "icmp" is left out`}},
		{"host that is an address", "probes:\n  allow:\n    rules:\n      - hosts: [a.example, 192.0.2.1]\n", []string{`line 4: probes.allow.rules[0].hosts[1]: "192.0.2.1" is an address`, "hint: list it in networks"}},
		{"host that is a number", "probes: {allow: {rules: [{hosts: '2852039166'}]}}\n", []string{`"2852039166" is not a host`}},
		{"host with a star within", "probes: {allow: {rules: [{hosts: '*example.org'}]}}\n", []string{`"*example.org" is not a host`, `"*.example.org" for all names below it`}},
		{"host with a port", "probes: {allow: {rules: [{hosts: 'a.example:80'}]}}\n", []string{`"a.example:80" is not a host`}},
		{"unknown module of a rule", "probes:\n  allow:\n    rules:\n      - modules: http_2x\n", []string{`line 4: probes.allow.rules[0].modules: there is no module "http_2x"`, `did you mean "http_2xx"?`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q has a password", err)
			}
		})
	}
}

func TestTargets(t *testing.T) {
	c, err := Parse([]byte(`
modules:
  closed: {prober: tcp, expect_outcome: refused, timeout: 4s, tcp: {close: rst, all_ips: true, source_address: 127.0.0.1, preferred_ip_protocol: ip4}}
  ask: {prober: udp, udp: {payload: 'hex: c0 ff ee', expect: '^a', expect_bytes: 'hex:61', preferred_ip_protocol: ip4, ip_protocol_fallback: false}}
targets:
  - address: 192.0.2.1:23
    module: closed
    name: telnet
    labels: {team: net, area: 1}
    interval: 1m
    hostname: old.test
  - address: https://example.org/
  - address: "[2001:db8::1]:443"
  - address: /run/a.sock
  - {address: 192.0.2.1, module: icmp}
  - {address: "192.0.2.1:123", module: ask}
probes:
  max_in_flight: 3
  debug_from_anywhere: true
  allow:
    rules:
      - {hosts: ["*.Example.org", münchen.example], networks: [10.0.0.0/8, "::ffff:192.0.2.0/120"], ports: [22, 8000-8100], modules: [tcp_connect]}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, target := range c.Targets {
		got = append(got, fmt.Sprintf("%s %s %s %s %v %v %v", target.Address, target.Module.Name, target.Name, target.Hostname, target.Labels, target.Interval, target.Module.Expect))
	}
	want := []string{
		"192.0.2.1:23 closed telnet old.test [{area 1} {team net}] 1m0s refused",
		"https://example.org/ http_2xx   [] 0s open",
		"[2001:db8::1]:443 tcp_connect   [] 0s open",
		"/run/a.sock unix_connect   [] 0s open",
		"192.0.2.1 icmp   [] 0s open",
		"192.0.2.1:123 ask   [] 0s open",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("targets (-want +got):\n%s", diff)
	}
	closed := c.Modules["closed"].Prober.(*prober.TCP)
	if !closed.CloseReset || !closed.AllIPs || closed.Prefer != dial.IP4 || closed.NoFallback || closed.ExpectOutcome != probe.Refused ||
		closed.SourceAddress != netip.MustParseAddr("127.0.0.1") || c.Modules["closed"].Timeout != 4*time.Second {
		t.Errorf("%+v", closed)
	}
	ask := c.Modules["ask"].Prober.(*prober.UDP)
	if ask.Payload.String() != "hex" || ask.Expect.String() != "^a" || string(ask.ExpectBytes) != "a" || ask.Prefer != dial.IP4 || !ask.NoFallback {
		t.Errorf("%+v", ask)
	}
	if diff := cmp.Diff([]string{"ask", "closed", "http_2xx", "icmp", "tcp_connect", "unix_connect"}, sortedKeys(c.Modules)); diff != "" {
		t.Errorf("modules (-want +got):\n%s", diff)
	}
	access := access.Control{DebugAnywhere: true, Rules: []access.Rule{{
		Hosts:    []string{"*.example.org", "xn--mnchen-3ya.example"},
		Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")},
		Ports:    []netaddr.PortRange{{First: 22, Last: 22}, {First: 8000, Last: 8100}}, Modules: []string{"tcp_connect"},
	}}}
	if !reflect.DeepEqual(access, c.Access) || c.MaxProbes != 3 || c.Warnings != nil {
		t.Errorf("%+v, %d, %q", c.Access, c.MaxProbes, c.Warnings)
	}
}

func TestBuiltinModules(t *testing.T) {
	c := Default()
	want := []string{"dns_tcp", "dns_udp", "grpc", "grpc_plain", "http_2xx", "http_post_2xx", "icmp", "ssh_banner", "stun", "tcp_connect", "tls_connect", "udp_ntp", "unix_connect", "websocket"}
	if diff := cmp.Diff(want, sortedKeys(c.Modules)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range want {
		if !strings.Contains(string(reference(t)), name) {
			t.Errorf("the reference does not name %s", name)
		}
	}
	if c.Access.Any || c.Access.Rules != nil || c.MaxProbes != 128 {
		t.Errorf("%+v, %d", c.Access, c.MaxProbes)
	}
	c, err := Parse([]byte("modules: {mine: {prober: tcp}}\n"))
	if err != nil || len(c.Modules) != 1 {
		t.Errorf("%v, %v", sortedKeys(c.Modules), err)
	}
}

func TestProbeWarnings(t *testing.T) {
	var many strings.Builder
	many.WriteString("targets:\n")
	for i := range 10_000 {
		fmt.Fprintf(&many, "  - address: 10.0.%d.%d:80\n", i/256, i%256)
	}
	web := func(n int, module string) string {
		text := "modules:\n  secure: {prober: tcp, tcp: {query_response: [{starttls: true}]}}\ntargets:\n"
		for i := range n {
			text += fmt.Sprintf("  - {address: '10.0.0.%d:443', module: %s}\n", i+1, module)
		}
		return text
	}
	for _, tt := range []struct {
		name, text string
		want       []string // none is no warning
	}{
		{"64 targets of http", web(64, "http_2xx"), nil},
		{"71 targets of http", web(71, "http_2xx"), []string{"the 71 that", "http, grpc or with TLS", "32 in flight", "take 11 s", "interval: 30s"}},
		{"71 targets of grpc", web(71, "grpc_plain"), []string{"32 in flight", "take 11 s"}},
		{"71 targets with TLS", web(71, "secure"), []string{"32 in flight", "take 11 s"}},
		{"71 targets without", web(71, "tcp_connect"), nil},
		{"three slots", web(3, "http_2xx") + "probes: {max_in_flight: 3}\n", []string{"1 in flight", "take 15 s"}},
		{"nothing", "{}", nil},
		{"fifty targets", "targets: [{address: 'a:1'}]", nil},
		{"10,000 filtered targets", many.String(), []string{"10000", "5s", "128", "390 s", "10s", "interval: 30s"}},
		{"10,000 in the background", strings.ReplaceAll(many.String(), ":80\n", ":80\n    interval: 30s\n"), nil},
		{"more slots", many.String() + "probes: {max_in_flight: 5000}\n", nil},
		{"one slow module", "modules: {m: {prober: tcp, timeout: 30s}}\ntargets: [{address: 'a:1', module: m}]\n", []string{"30 s"}},
		{"a short timeout", "modules:\n  m: {prober: tcp, timeout: 3s}\n", []string{"line 2: modules.m: timeout: in 3s", "3.06 s", "hint: 5s"}},
		{"dns with an unknown transport", "modules:\n  m: {prober: dns, dns: {query_name: a.test, transport_protocol: tls}}\n", []string{"line 2: modules.m: dns: every probe fails: transport_protocol", "hint: it is udp or tcp"}},
		{"dns over TLS over UDP", "modules: {m: {prober: dns, dns: {query_name: a.test, dns_over_tls: true}}}", []string{"dns_over_tls", "hint: transport_protocol: tcp"}},
		{"dns with a code that is none", "modules: {m: {prober: dns, dns: {query_name: a.test, valid_rcodes: [NOERROR, 3]}}}", []string{`valid_rcodes[1]: "3"`}},
		{"ping with too much data", "modules: {m: {prober: icmp, icmp: {payload_size: 70000}}}", []string{"icmp: every probe fails: payload_size", "hint: it may have 65507"}},
		{"a prober of a later blackbox_exporter", "modules:\n  m: {prober: carrier, carrier: {query_response: [{send: a}]}}\n  n: {prober: tcp}\n", []string{`line 2: modules.m: prober: there is no prober "carrier", so the module is left out`}},
		{"a section of another prober", "modules:\n  m: {prober: tcp, websocket: {query_response: [{send: a}]}}\n", nil},
		{"STARTTLS of a websocket", "modules:\n  m: {prober: websocket, websocket: {query_response: [{starttls: true}]}}\n", []string{"line 2: modules.m: websocket.query_response[0]: the prober websocket uses neither starttls nor expect_bytes"}},
		{"proxy of a websocket without a scheme", "modules: {m: {prober: websocket, websocket: {http_config: {proxy_url: 'localhost:3206'}}}}", []string{"websocket.http_config.proxy_url: the scheme of the proxy is missing"}},
		{"ip version", "modules:\n  m: {prober: tcp, tcp: {preferred_ip_protocol: ipv6}}\n", []string{`line 2: modules.m: tcp.preferred_ip_protocol: "ipv6" means ip4`, `did you mean "ip6"?`}},
		{"ip version, in capitals", "modules: {m: {prober: http, http: {preferred_ip_protocol: IP6}}}", []string{`http.preferred_ip_protocol: "IP6" means ip4`}},
		{"version that no answer has", "modules: {m: {prober: http, http: {valid_http_versions: [HTTP/1.1, HTTP/2]}}}", []string{`http.valid_http_versions: no answer has the version "HTTP/2"`, "HTTP/2.0"}},
		{"versions that answers have", "modules: {m: {prober: http, http: {valid_http_versions: [HTTP/1.0, HTTP/1.1, HTTP/2.0]}}}", nil},
		{"TLS versions reversed", "modules: {m: {prober: tcp, tcp: {tls: true, tls_config: {min_version: TLS13, max_version: TLS12}}}}", []string{"tcp.tls_config.min_version: TLS13 is above max_version TLS12"}},
		{"TLS versions of http reversed", "modules: {m: {prober: http, http: {tls_config: {min_version: TLS13, max_version: TLS12}}}}", []string{"http.tls_config.min_version"}},
		{"TLS twice", "modules: {m: {prober: tcp, tcp: {tls: true, query_response: [{expect: '^220'}, {starttls: true}]}}}", []string{"tcp.tls: it makes TLS before the first step", "hint: leave tls out"}},
		{"TLS later", "modules: {m: {prober: tcp, tcp: {query_response: [{expect: '^220'}, {starttls: true}]}}}", nil},
		{"a repeated ^", "modules: {m: {prober: tcp, tcp: {query_response: [{expect: '^+OK'}]}}}", []string{"tcp.query_response[0].expect: the + behind ^", "hint: write ^[+]"}},
		{"a repeated ^ in a list", "modules: {m: {prober: http, http: {fail_if_body_matches_regexp: [a, '^+OK']}}}", []string{"http.fail_if_body_matches_regexp: the + behind ^"}},
		{"proxy without a scheme", "modules: {m: {prober: http, http: {proxy_url: 'localhost:3206'}}}", []string{"http.proxy_url: the scheme of the proxy is missing", "hint: put http:// in front"}},
		{"proxy of another scheme", "modules: {m: {prober: http, http: {proxy_url: 'socks4://localhost:3206'}}}", []string{"http.proxy_url: every probe fails: the proxy localhost:3206: its scheme must be"}},
		{"SOCKS password too long", "modules: {m: {prober: http, http: {proxy_url: 'socks5://u:" + strings.Repeat("p", 256) + "@localhost:1080'}}}", []string{"http.proxy_url: every probe fails: the proxy localhost:1080: its user or password has more than 255 bytes"}},
		{"SOCKS password of the greatest length", "modules: {m: {prober: http, http: {proxy_url: 'socks5://u:" + strings.Repeat("p", 255) + "@localhost:1080'}}}", nil},
		{"a short timeout of a socket", "modules: {m: {prober: unix, timeout: 1s}}", nil},
		{"a prober that is not there", "modules:\n  m: {prober: grcp}\n", []string{`line 2: modules.m: prober: there is no prober "grcp"`}},
		{"any", "probes: {allow: any}", []string{"probes.allow: any", "hint: rules"}},
		{"every address", "probes:\n  allow:\n    rules:\n      - ports: 80\n", []string{"line 4: probes.allow.rules[0]: it allows every address"}},
		{"0.0.0.0/0", "probes: {allow: {rules: [{networks: 0.0.0.0/0}]}}", []string{"it allows every address"}},
		{"every name", "probes:\n  allow:\n    rules:\n      - {hosts: '*', networks: 10.0.0.0/8}\n", []string{"line 4: probes.allow.rules[0].hosts: * has the exporter resolve any name"}},
		{"a network", "probes: {allow: {rules: [{networks: 10.0.0.0/8}]}}", nil},
		{"names", "probes: {allow: {rules: [{hosts: ['*.Example.org', münchen.example., db]}]}}", nil},
		{"credentials named by a rule", "modules: {tok: {prober: http, http: {bearer_token: a}}}\nprobes: {allow: {rules: [{networks: 10.0.0.0/8}, {networks: 10.1.0.0/16, modules: tok}]}}", nil},
		{"credentials and a rule that names no module", "modules: {tok: {prober: http, http: {bearer_token: a}}, b: {prober: tcp}}\nprobes:\n  allow:\n    rules:\n      - networks: 10.0.0.0/8\n",
			[]string{"line 5: probes.allow.rules[0]: modules that hold credentials", "names none: tok;", "hint: modules: [tok]"}},
		{"unix by a rule", "probes: {allow: {rules: [{networks: 10.0.0.0/8, modules: unix_connect}]}}", []string{"configured targets only"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if (len(c.Warnings) > 0) != (tt.want != nil) || len(c.Warnings) > 1 {
				t.Fatalf("warnings: %q", c.Warnings)
			}
			for _, want := range tt.want {
				if !strings.Contains(c.Warnings[0], want) {
					t.Errorf("%q lacks %q", c.Warnings[0], want)
				}
			}
		})
	}
}

// blackboxFolder is where blackbox_exporter's source is.
func blackboxFolder(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/blackbox_exporter").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// TestBlackboxConfigurations loads the configurations of blackbox_exporter, both
// as a file of ours and through blackbox_config, and refuses those that its own
// tests call invalid.
func TestBlackboxConfigurations(t *testing.T) {
	folder := blackboxFolder(t)
	through := filepath.Join(t.TempDir(), "port_exporter.yml")
	load := func(t *testing.T, file string) (*Config, *Config, error) {
		t.Helper()
		if err := os.WriteFile(through, []byte("blackbox_config: "+file+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		included, errIncluded := Load(t.Context(), through, files.Rules{})
		direct, errDirect := Load(t.Context(), file, files.Rules{})
		if (errIncluded == nil) != (errDirect == nil) {
			t.Fatalf("included: %v\ndirect: %v", errIncluded, errDirect)
		}
		return direct, included, errDirect
	}
	for file, want := range map[string]int{"blackbox.yml": 13, "example.yml": 25, "config/testdata/blackbox-good.yml": 11} {
		t.Run(file, func(t *testing.T) {
			direct, included, err := load(t, filepath.Join(folder, file))
			if err != nil {
				t.Fatal(err)
			}
			leftOut := len(slices.DeleteFunc(slices.Clone(direct.Warnings), func(w string) bool { return !strings.Contains(w, "left out") }))
			if len(direct.Modules)+leftOut != want {
				t.Errorf("%d modules and %d left out, want %d: %q", len(direct.Modules), leftOut, want, direct.Warnings)
			}
			if file != "config/testdata/blackbox-good.yml" && leftOut > 0 {
				t.Errorf("%q", direct.Warnings)
			}
			if diff := cmp.Diff(sortedKeys(direct.Modules), sortedKeys(included.Modules)); diff != "" {
				t.Errorf("(-direct +included):\n%s", diff)
			}
			text, err := included.YAML()
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "mysecret") || strings.Contains(string(text), "Bearer token") {
				t.Errorf("there is a secret in\n%s", text)
			}
			if _, err := Parse(text); err != nil {
				t.Errorf("what /config shows cannot be read: %v\n%s", err, text)
			}
		})
	}
	invalid, err := filepath.Glob(filepath.Join(folder, "config/testdata/*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	invalid = slices.DeleteFunc(invalid, func(file string) bool { return strings.HasSuffix(file, "-good.yml") })
	if len(invalid) < 21 {
		t.Fatalf("only %d invalid configurations: %q", len(invalid), invalid)
	}
	for _, file := range invalid {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, _, err := load(t, file)
			if err == nil || !strings.Contains(err.Error(), "line ") || !strings.Contains(err.Error(), "modules.") {
				t.Errorf("%v", err)
			}
			t.Log(err)
		})
	}
}

func TestBlackboxConfigBesideModules(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("blackbox.yml", "modules:\n  a: {prober: tcp}\n  b: {prober: http}\n")
	c, err := Load(t.Context(), write("c.yml", "blackbox_config: blackbox.yml\nmodules: {c: {prober: udp}}\ntargets: [{address: 'http://a/', module: b}]\n"), files.Rules{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, sortedKeys(c.Modules)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if _, err := Load(t.Context(), write("c.yml", "blackbox_config: blackbox.yml\nmodules:\n  a: {prober: udp}\n"), files.Rules{}); err == nil ||
		!strings.Contains(err.Error(), "line 3: modules.a: blackbox.yml has a module of that name") {
		t.Errorf("a name twice: %v", err)
	}
	write("blackbox.yml", "modules:\n  a: {probre: tcp}\n")
	if _, err := Load(t.Context(), write("c.yml", "blackbox_config: blackbox.yml\n"), files.Rules{}); err == nil ||
		!strings.Contains(err.Error(), filepath.Join(dir, "blackbox.yml")+": line 2: modules.a.probre: unknown key") {
		t.Errorf("a fault in it: %v", err)
	}
	write("blackbox.yml", "")
	if c, err := Load(t.Context(), write("c.yml", "blackbox_config: blackbox.yml\n"), files.Rules{}); err != nil || len(c.Modules) == 0 {
		t.Errorf("an empty one: %v", err)
	}
}

// TestAliases has YAML's own ways of writing less work in modules.
func TestAliases(t *testing.T) {
	c, err := Parse([]byte(`
modules:
  base: &base
    prober: http
    timeout: 4s
    http: &http {method: HEAD, fail_if_ssl: true}
  other:
    <<: *base
    timeout: 6s
    http:
      <<: *http
      method: GET
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.Modules["base"].Timeout != 4*time.Second || c.Modules["other"].Timeout != 6*time.Second || c.Modules["other"].Kind != "http" {
		t.Errorf("%+v", c.Modules)
	}
	text, err := c.YAML()
	if err != nil || !strings.Contains(string(text), "method: GET") || strings.Contains(string(text), "*base") {
		t.Errorf("%v\n%s", err, text)
	}
}

const secrets = `
modules:
  web:
    prober: http
    http:
      basic_auth: {username: shown1, password: hidden01}
      headers: {Authorization: hidden02, X-Api-Key: hidden03, Cookie: hidden04, accept-language: shown2}
      http_headers:
        X-Token: {values: [hidden05], secrets: [hidden06]}
        Cache-Control: {values: [shown3], secrets: [hidden07]}
      body: hidden08
      proxy_url: http://hidden09:hidden10@proxy.test:3128/?token=hidden11
      proxy_connect_header: {Proxy-Authorization: [hidden12]}
      tls_config: {key: hidden13, cert: shown4}
  token:
    prober: http
    http: {bearer_token: hidden14}
  credentials:
    prober: http
    http: {authorization: {credentials: hidden15}}
  oauth:
    prober: http
    http:
      oauth2: {client_id: shown5, client_secret: hidden16, token_url: 'https://shown6.test/?k=hidden17', endpoint_params: {password: hidden18}}
  redis:
    prober: tcp
    tcp: {query_response: [{send: AUTH hidden19}, {expect: shown7, send: !!binary aGlkZGVuMjA=}, {send_bytes: 'hex:68696464656e'}]}
  socket:
    prober: unix
    unix: {query_response: [{send: hidden21}]}
  snmp:
    prober: udp
    udp: {payload: 'base64:aGlkZGVuMjI='}
  health:
    prober: grpc
    grpc: {service: shown8, metadata: {authorization: [Bearer hidden23]}}
`

func TestSecretsAreHidden(t *testing.T) {
	c, err := Parse([]byte(secrets))
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"hidden", "aGlkZGVu", "68696464656e"} {
		if strings.Contains(string(text), word) {
			t.Errorf("%s is in\n%s", word, text)
		}
	}
	for i := range 8 {
		if want := fmt.Sprintf("shown%d", i+1); !strings.Contains(string(text), want) {
			t.Errorf("%s is not in\n%s", want, text)
		}
	}
	if reread, err := Parse(bytesWithoutLiteral(text)); err != nil || len(reread.Modules) != len(c.Modules) {
		t.Errorf("what is shown cannot be read: %v\n%s", err, text)
	}
}

// TestCredentials says which modules prove to a target who we are.
func TestCredentials(t *testing.T) {
	const key = "tls_config: {cert_file: a, key_file: b}"
	for settings, want := range map[string]bool{
		"prober: http": false,
		"prober: http, http: {headers: {Host: a, accept: b, User-Agent: c}}":                                  false,
		"prober: http, http: {http_headers: {Accept: {values: [a]}}}":                                         false,
		"prober: http, http: {proxy_url: 'http://a:b@c:1', proxy_connect_header: {Proxy-Authorization: [d]}}": false,
		"prober: http, http: {tls_config: {ca_file: a, insecure_skip_verify: true}}":                          false,
		"prober: http, http: {method: POST, body: '{}'}":                                                      false,
		"prober: tcp, tcp: {query_response: [{send: QUIT}]}":                                                  false,
		"prober: tcp, tcp: {tls: true, tls_config: {server_name: a}}":                                         false,
		"prober: grpc":                      false,
		"prober: icmp":                      false,
		"prober: udp":                       false,
		"prober: stun":                      false,
		"prober: dns, dns: {query_name: a}": false,

		"prober: http, http: {basic_auth: {username: a, password_file: b}}":                           true,
		"prober: http, http: {authorization: {credentials: a}}":                                       true,
		"prober: http, http: {authorization: {credentials_file: a}}":                                  true,
		"prober: http, http: {bearer_token: a}":                                                       true,
		"prober: http, http: {bearer_token_file: a}":                                                  true,
		"prober: http, http: {oauth2: {client_id: a, client_secret: b, token_url: 'http://c/'}}":      true,
		"prober: http, http: {headers: {x-api-key: a}}":                                               true,
		"prober: http, http: {headers: {Cookie: a}}":                                                  true,
		"prober: http, http: {http_headers: {X-Token: {values: [a]}}}":                                true,
		"prober: http, http: {http_headers: {Accept: {secrets: [a]}}}":                                true,
		"prober: http, http: {http_headers: {Accept: {files: [a]}}}":                                  true,
		"prober: http, http: {" + key + "}":                                                           true,
		"prober: tcp, tcp: {tls: true, " + key + "}":                                                  true,
		"prober: unix, unix: {tls: true, " + key + "}":                                                true,
		"prober: grpc, grpc: {metadata: {authorization: [a]}}":                                        true,
		"prober: grpc, grpc: {" + key + "}":                                                           true,
		"prober: dns, dns: {query_name: a, dns_over_tls: true, transport_protocol: tcp, " + key + "}": true,
	} {
		c, err := Parse([]byte("modules: {m: {" + settings + "}}\n"))
		if err != nil {
			t.Errorf("%s: %v", settings, err)
		} else if got := c.Modules["m"].Credentials; got != want {
			t.Errorf("%s: %t", settings, got)
		}
	}
	for name, m := range Default().Modules {
		if m.Credentials {
			t.Errorf("the built-in module %s", name)
		}
	}
}

func bytesWithoutLiteral(text []byte) []byte {
	return []byte(strings.NewReplacer("base64:<secret>", "dns", "hex:<secret>", "hex:00").Replace(string(text)))
}

// TestLibrarySecretsAreHidden finds each field that the library calls a secret,
// and has its key among those that are hidden.
func TestLibrarySecretsAreHidden(t *testing.T) {
	var walk func(at reflect.Type, place []string)
	found := 0
	walk = func(at reflect.Type, place []string) {
		switch {
		case at == reflect.TypeFor[blackbox.Secret]():
			found++
			if !slices.ContainsFunc(place, isSecretKey) {
				t.Errorf("%s is shown", strings.Join(place, "."))
			}
		case at.Kind() == reflect.Pointer, at.Kind() == reflect.Slice, at.Kind() == reflect.Map:
			walk(at.Elem(), place)
		case at.Kind() == reflect.Struct:
			known, rest := yamldoc.FieldTypes(at)
			for key, field := range known {
				walk(field, append(slices.Clone(place), key))
			}
			if rest != nil {
				walk(rest, append(slices.Clone(place), "*"))
			}
		}
	}
	walk(reflect.TypeFor[blackbox.Module](), nil)
	if found < 10 {
		t.Errorf("only %d secrets were found", found)
	}
}

// TestErrorsHideSecrets has faults in places where secrets are.
func TestErrorsHideSecrets(t *testing.T) {
	for _, settings := range []string{
		"basic_auth: hunter2",
		"basic_auth: {password: [hunter2]}",
		"authorization: hunter2",
		"headers: hunter2",
		"headers: {Authorization: {a: hunter2}}",
		"proxy_url: 'http://user:hunter2 x@proxy.test'",
		"proxy_url: 'http://user:hunter2#x@proxy.test'",
		"oauth2: {token_url: a, client_secret: {hunter: hunter2}}",
		"bearer_token: {a: hunter2}",
		"tls_config: hunter2",
		"fail_if_ssl: hunter2",
		"valid_status_codes: [hunter2`hunter2]",
	} {
		_, err := Parse([]byte("modules:\n  m:\n    prober: http\n    http: {" + settings + "}\n"))
		if err == nil {
			t.Errorf("%s: it was accepted", settings)
		} else if strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "modules.m") {
			t.Errorf("%s: %v", settings, err)
		}
	}
}

// TestMergeKeepsProbes has rules added above and below what is about probes.
func TestMergeKeepsProbes(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "blackbox.yml"), []byte("modules: {a: {prober: tcp}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	rules := []policy.Rule{{Name: "ssh", Ports: []socket.PortRange{{First: 22, Last: 22}}}}
	const probes = "blackbox_config: blackbox.yml\ntargets:\n  - {address: 'a:1', module: a}\nprobes:\n  allow:\n    rules:\n      - {networks: 10.0.0.0/8}\n"
	for name, text := range map[string]string{
		"the policy first": "policy:\n  rules: []\n" + secrets[1:] + probes,
		"the policy last":  secrets[1:] + probes + "policy:\n  rules:\n    - name: web\n      ports: 80\n",
		"no policy":        probes,
	} {
		merged, err := MergePolicy(dir, []byte(text), rules)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c, err := ParseIn(dir, merged)
		if err != nil || len(c.Targets) != 1 || c.Policy[len(c.Policy)-1].Name != "ssh" {
			t.Errorf("%s: %v\n%s", name, err, merged)
		}
		if !strings.Contains(string(merged), strings.TrimPrefix(probes, "\n")) {
			t.Errorf("%s: what is about probes was changed:\n%s", name, merged)
		}
	}
	if a, b := parsed(t, dir, probes), parsed(t, dir, strings.Replace(probes, "'a:1'", "'a:2'", 1)); a.raw.isSame(b.raw) {
		t.Error("another target is the same")
	}
	if a, b := parsed(t, dir, secrets), parsed(t, dir, strings.Replace(secrets, "hidden01", "hidden99", 1)); a.raw.isSame(b.raw) {
		t.Error("another password is the same")
	}
}

func parsed(t *testing.T, dir, text string) *Config {
	t.Helper()
	c, err := ParseIn(dir, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
