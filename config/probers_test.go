package config

import (
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	blackboxconfig "github.com/prometheus/blackbox_exporter/config"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// everyKey has each key of our own probers, with a value that is not its default.
const everyKey = `
modules:
  tcp:
    prober: tcp
    timeout: 7s
    expect_outcome: mismatch
    tcp:
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
      source_address: 192.0.2.1
      close: rst
      all_ips: true
      tls: true
      tls_config: {server_name: tcp.test, insecure_skip_verify: true}
      query_response:
        - expect: "^220 (.*)$"
          labels: [{name: greeting, value: "${1}"}]
          send: "EHLO ${1}"
        - expect_bytes: ok
          send_bytes: "hex:00 ff"
        - starttls: true
        - send: QUIT
  source:
    prober: tcp
    tcp: {source_ip_address: 192.0.2.2}
  unix:
    prober: unix
    unix:
      tls: true
      tls_config: {server_name: unix.test}
      query_response:
        - expect: "^a"
          labels: [{name: b, value: c}]
          send: d
        - {expect_bytes: e, send_bytes: "hex:66"}
        - starttls: true
  grpc:
    prober: grpc
    grpc:
      service: orders
      tls: true
      tls_config: {server_name: grpc.test}
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
      metadata: {authorization: [a, b]}
  udp:
    prober: udp
    udp:
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
      source_address: 192.0.2.3
      payload: "hex:c0ffee"
      expect: "^r"
      expect_bytes: "hex:72"
      all_ips: true
    expect_outcome: no_reply
  stun:
    prober: stun
    stun: {preferred_ip_protocol: ip4, ip_protocol_fallback: false, source_address: 192.0.2.4}
`

// wantProbers is what everyKey says.
func wantProbers(t *testing.T) map[string]probe.Prober {
	t.Helper()
	payload, err := payload.Parse("hex:c0ffee")
	if err != nil {
		t.Fatal(err)
	}
	ip4 := dial.Resolution{Prefer: dial.IP4, NoFallback: true}
	tlsOf := func(name string, insecure bool) blackbox.TLS {
		return blackbox.TLS{ServerName: name, InsecureSkipVerify: insecure}
	}
	return map[string]probe.Prober{
		"tcp": &prober.TCP{
			Resolution: ip4, SourceAddress: netip.MustParseAddr("192.0.2.1"), CloseReset: true, Breadth: prober.Breadth{AllIPs: true, ExpectOutcome: probe.Mismatch},
			Conversation: prober.Conversation{TLS: true, TLSConfig: blackbox.TLSConfig(tlsOf("tcp.test", true), files.NewReader()), Exchange: []prober.Step{
				{Expect: regexp.MustCompile("^220 (.*)$"), Labels: []probe.Label{{Name: "greeting", Value: "${1}"}}, Send: "EHLO ${1}"},
				{ExpectBytes: []byte("ok"), SendBytes: []byte{0, 0xff}},
				{StartTLS: true},
				{Send: "QUIT"},
			}},
		},
		"source": &prober.TCP{SourceAddress: netip.MustParseAddr("192.0.2.2"), Conversation: prober.Conversation{TLSConfig: blackbox.TLSConfig(blackbox.TLS{}, files.NewReader())}},
		"unix": &prober.Unix{Conversation: prober.Conversation{TLS: true, TLSConfig: blackbox.TLSConfig(tlsOf("unix.test", false), files.NewReader()), Exchange: []prober.Step{
			{Expect: regexp.MustCompile("^a"), Labels: []probe.Label{{Name: "b", Value: "c"}}, Send: "d"},
			{ExpectBytes: []byte("e"), SendBytes: []byte("f")},
			{StartTLS: true},
		}}},
		"grpc": &prober.GRPC{
			Resolution: ip4, Service: "orders", TLS: true, TLSConfig: blackbox.TLSConfig(tlsOf("grpc.test", false), files.NewReader()),
			Metadata: map[string][]string{"authorization": {"a", "b"}},
		},
		"udp": &prober.UDP{
			Resolution: ip4, SourceAddress: netip.MustParseAddr("192.0.2.3"), Payload: payload,
			Expect: regexp.MustCompile("^r"), ExpectBytes: []byte("r"), Breadth: prober.Breadth{AllIPs: true, ExpectOutcome: probe.NoReply},
		},
		"stun": &prober.STUN{Resolution: ip4, SourceAddress: netip.MustParseAddr("192.0.2.4")},
	}
}

// asSaid compares probers: functions by the TLS that they come to, expressions by
// their text.
func asSaid(t *testing.T) cmp.Options {
	t.Helper()
	type tlsConfigFunc = func(string) (*tls.Config, error)
	type tlsSettings struct {
		Name     string
		Insecure bool
	}
	return cmp.Options{
		cmp.Transformer("text", func(re *regexp.Regexp) string {
			if re == nil {
				return ""
			}
			return re.String()
		}),
		cmp.Transformer("tls", func(f tlsConfigFunc) tlsSettings {
			if f == nil {
				return tlsSettings{}
			}
			c, err := f("target.test")
			if err != nil {
				t.Fatal(err)
			}
			return tlsSettings{c.ServerName, c.InsecureSkipVerify}
		}),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b payload.Payload) bool { return reflect.DeepEqual(a, b) }),
	}
}

// TestModulesBecomeProbers checks that each key of our own probers reaches its prober.
func TestModulesBecomeProbers(t *testing.T) {
	c, err := Parse([]byte(everyKey))
	if err != nil {
		t.Fatal(err)
	}
	want := wantProbers(t)
	got := map[string]probe.Prober{}
	for name, m := range c.Modules {
		got[name] = m.Prober
	}
	if diff := cmp.Diff(want, got, asSaid(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	m := c.Modules["tcp"]
	if m.Name != "tcp" || m.Kind != probe.KindTCP || m.Timeout != 7*time.Second || m.Expect != probe.Mismatch {
		t.Errorf("%+v", m)
	}
	for name, p := range want {
		if name != "source" {
			wantNothingLeft(t, name, reflect.ValueOf(p).Elem())
		}
	}
	wantEveryKey(t)
}

// TestGRPCFallsBack has the default of the manual for a module without settings.
func TestGRPCFallsBack(t *testing.T) {
	c, err := Parse([]byte(`
modules:
  bare: {prober: grpc}
  nothing:
    prober: grpc
    grpc:
  empty: {prober: grpc, grpc: {}}
  not: {prober: grpc, grpc: {ip_protocol_fallback: false}}
`))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range c.Modules {
		if p := m.Prober.(*prober.GRPC); p.NoFallback != (name == "not") {
			t.Errorf("%s: NoFallback is %t", name, p.NoFallback)
		}
	}
}

// TestNothingBetweenBraces reads a section that is left empty as blackbox_exporter
// does, in the style of YAML that has braces too.
func TestNothingBetweenBraces(t *testing.T) {
	c, err := Parse([]byte("modules: {m: {prober: tcp, tcp: {tls_config: , query_response: [{send: , expect: a}]}, http: }}"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(text); err != nil {
		t.Errorf("what is shown cannot be read: %v\n%s", err, text)
	}
}

// wantNothingLeft wants each field of a prober to be set: the test is to know of
// a new one.
func wantNothingLeft(t *testing.T, place string, prober reflect.Value) {
	t.Helper()
	elsewhere := map[string]bool{"grpc.SourceAddress": true} // has no key
	for field, value := range prober.Fields() {
		switch at := place + "." + field.Name; {
		case field.Name == "Resolver", elsewhere[at]:
		case field.Anonymous:
			wantNothingLeft(t, place, value)
		case value.IsZero():
			t.Errorf("the test does not set %s", at)
		}
	}
}

// wantEveryKey wants each key that there is in everyKey.
func wantEveryKey(t *testing.T) {
	t.Helper()
	var doc struct {
		Modules map[string]yaml.Node `yaml:"modules"`
	}
	if err := yaml.Unmarshal([]byte(everyKey), &doc); err != nil {
		t.Fatal(err)
	}
	for section, shapes := range map[string][]reflect.Type{
		probe.KindTCP:  {reflect.TypeFor[ownTCPKeys](), reflect.TypeOf(blackbox.Module{}.TCP)},
		probe.KindUnix: {reflect.TypeFor[ownDialog](), reflect.TypeOf(blackbox.Module{}.Unix)},
		probe.KindGRPC: {reflect.TypeOf(blackbox.Module{}.GRPC)},
		probe.KindUDP:  {reflect.TypeFor[rawUDP]()},
		probe.KindSTUN: {reflect.TypeFor[rawSTUN]()},
	} {
		module := doc.Modules[section]
		_, settings := yamldoc.Child(&module, section)
		for _, shape := range shapes {
			for _, key := range yamldoc.KeysOf(shape) {
				if found, _ := yamldoc.Child(settings, key); found == nil && key != "source_ip_address" { // of the module source
					t.Errorf("the test does not set %s.%s", section, key)
				}
			}
		}
	}
}

// TestModulesOfBlackboxBecomeProbers has each module of blackbox_exporter's own
// example: http, dns and icmp are handed to its probers as its decoder read
// them, tcp is ours.
func TestModulesOfBlackboxBecomeProbers(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(blackboxFolder(t), "example.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var theirs struct {
		Modules map[string]blackbox.Module `yaml:"modules"`
	}
	if err := yaml.Unmarshal(text, &theirs); err != nil {
		t.Fatal(err)
	}
	c, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for name, module := range theirs.Modules {
		m := c.Modules[name]
		if m == nil || m.Kind != module.Prober || m.Timeout != module.Timeout || m.Expect != probe.Open {
			t.Errorf("%s: %+v", name, m)
			continue
		}
		kinds[m.Kind]++
		wantProber(t, name, &module, m.Prober)
	}
	for _, kind := range []string{probe.KindHTTP, probe.KindDNS, probe.KindICMP, probe.KindTCP} {
		if kinds[kind] == 0 {
			t.Errorf("no module of the prober %s", kind)
		}
	}
}

func wantProber(t *testing.T, name string, module *blackbox.Module, got probe.Prober) {
	t.Helper()
	switch p := got.(type) {
	case *prober.DNS, *prober.ICMP:
		want, err := blackbox.New(*module, files.NewReader())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, inside(), cmp.Transformer("expression", (*regexp.Regexp).String)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	case *prober.TCP:
		wantSteps(t, name, module.TCP.QueryResponse, p.Exchange)
		if p.TLS != module.TCP.TLS || p.Prefer != blackbox.Resolution(module.TCP.IPProtocol, true).Prefer || p.NoFallback == module.TCP.IPProtocolFallback {
			t.Errorf("%s: %+v", name, p)
		}
	case *prober.HTTP:
		wantHTTP(t, name, &module.HTTP, p)
	case *prober.Unix:
		wantSteps(t, name, module.Unix.QueryResponse, p.Exchange)
	default:
		t.Errorf("%s: the prober is %T", name, got)
	}
}

// wantHTTP compares a prober with settings, key by key.
func wantHTTP(t *testing.T, name string, want *blackboxconfig.HTTPProbe, got *prober.HTTP) {
	t.Helper()
	c := &want.HTTPClientConfig
	answer := &got.Answer
	for key, equal := range map[string]bool{
		"method":                          got.Method == want.Method,
		"body":                            got.Body == want.Body && (got.BodyFile != nil) == (want.BodyFile != ""),
		"follow_redirects":                got.FollowRedirects == c.FollowRedirects,
		"enable_http2":                    got.HTTP2 == c.EnableHTTP2 && got.HTTP3 == want.UseHTTP3,
		"proxy_url":                       (got.Proxy != nil) == (c.ProxyURL.URL != nil),
		"proxy_connect_header":            len(got.ProxyHeader) == len(c.ProxyConnectHeader),
		"skip_resolve_phase_with_proxy":   got.ProxyResolves == want.SkipResolvePhaseWithProxy,
		"credentials":                     (got.Credentials != nil) == (authenticates(c) || slices.ContainsFunc(sortedKeys(want.Headers), isSecretHeader)),
		"valid_status_codes":              cmp.Equal(answer.Statuses, want.ValidStatusCodes),
		"valid_http_versions":             cmp.Equal(answer.Versions, want.ValidHTTPVersions),
		"fail_if_ssl":                     answer.RejectTLS == want.FailIfSSL && answer.RequireTLS == want.FailIfNotSSL,
		"fail_if_body_matches_regexp":     len(answer.RejectBody) == len(want.FailIfBodyMatchesRegexp),
		"fail_if_body_not_matches_regexp": len(answer.RequireBody) == len(want.FailIfBodyNotMatchesRegexp),
		"fail_if_header_matches":          len(answer.RejectHeaders) == len(want.FailIfHeaderMatchesRegexp),
		"fail_if_header_not_matches":      len(answer.RequireHeaders) == len(want.FailIfHeaderNotMatchesRegexp),
		"cel":                             (answer.RejectJSON != nil) == (want.FailIfBodyJsonMatchesCEL != nil) && (answer.RequireJSON != nil) == (want.FailIfBodyJsonNotMatchesCEL != nil),
		"compression":                     answer.Compression == want.Compression && answer.BodyLimit == int64(want.BodySizeLimit),
		"preferred_ip_protocol":           got.Resolution == blackbox.Resolution(want.IPProtocol, want.IPProtocolFallback),
	} {
		if !equal {
			t.Errorf("%s: %s is not that of the module", name, key)
		}
	}
	for key, value := range want.Headers {
		if key != "Host" && got.Header.Get(key) != value {
			t.Errorf("%s: the header %s is %q", name, key, got.Header.Get(key))
		}
	}
}

// TestWebSocketModule reads the section that v0.28.0's decoder does not know, with its
// defaults, and hides its secrets.
func TestWebSocketModule(t *testing.T) {
	c, err := Parse([]byte(`
modules:
  plain: {prober: websocket}
  steps:
    prober: websocket
    timeout: 7s
    websocket:
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
      http_config: {basic_auth: {username: u, password: hunter2}}
      headers:
        Origin: {values: [https://example.org]}
        Host: {values: [example.org]}
        X-Token: {secrets: [hunter2]}
      query_response:
        - expect: "^hello (.*)"
          labels: [{name: greeting, value: "${1}"}]
          send: "login hunter2"
targets:
  - address: wss://example.org/a
    hostname: example.org
`))
	if err != nil {
		t.Fatal(err)
	}
	plain := c.Module("plain").Prober.(*prober.WebSocket)
	if plain.Prefer != dial.IP6 || plain.NoFallback || len(plain.Exchange) > 0 || plain.Credentials != nil || c.Module("plain").Credentials {
		t.Errorf("without a section: %+v", plain)
	}
	m := c.Module("steps")
	p := m.Prober.(*prober.WebSocket)
	if p.Prefer != dial.IP4 || !p.NoFallback || p.Host != "example.org" || p.Header.Get("Origin") == "" || p.Header.Get("X-Token") != "" ||
		p.Credentials == nil || !m.Credentials || m.Timeout != 7*time.Second || len(p.Exchange) != 1 || p.Exchange[0].Send != "login hunter2" {
		t.Errorf("%+v", p)
	}
	if got := c.Targets[0].Module; got.Name != "websocket" || got.Kind != probe.KindWebSocket || !got.Heavy() {
		t.Errorf("the module of wss:// is %+v", got)
	}
	shown, err := c.YAML()
	if err != nil || strings.Contains(string(shown), "hunter2") || !strings.Contains(string(shown), "https://example.org") {
		t.Errorf("%v: it is shown as\n%s", err, shown)
	}
}

func wantSteps(t *testing.T, name string, want []blackbox.Step, got []prober.Step) {
	t.Helper()
	if len(want) != len(got) {
		t.Fatalf("%s: %d steps, want %d", name, len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Expect != w.Expect.Regexp && g.Expect.String() != w.Expect.String() ||
			g.Send != w.Send || g.StartTLS != w.StartTLS || string(g.ExpectBytes) != w.ExpectBytes || len(g.Labels) != len(w.Labels) || g.SendBytes != nil {
			t.Errorf("%s, step %d: %+v, want %+v", name, i, g, w)
		}
	}
}

// inside compares what probers of blackbox_exporter were made of.
func inside() cmp.Options {
	return cmp.Options{
		cmp.Exporter(func(reflect.Type) bool { return true }),
		cmp.Transformer("text", func(r blackbox.Regexp) string {
			if r.Regexp == nil {
				return ""
			}
			return r.String()
		}),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().Type().Kind() == reflect.Func }, cmp.Ignore()),
		cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Program" }, cmp.Ignore()), // a compiled expression
	}
}
