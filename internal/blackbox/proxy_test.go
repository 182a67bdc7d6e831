package blackbox_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// forward is a proxy that remembers what it was asked for.
type forward struct {
	address string
	mu      sync.Mutex
	asked   []string
}

func (f *forward) note(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, text)
}

// took returns what it was asked for since the last time.
func (f *forward) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	for i, head := range asked { // the order of the header has no meaning
		first, rest, isHead := strings.Cut(head, "\r\n")
		if isHead {
			lines := strings.Split(rest, "\r\n")
			slices.Sort(lines)
			asked[i] = first + "\r\n" + strings.Join(lines, "\r\n")
		}
	}
	return asked
}

// httpProxy takes requests and CONNECT, over TLS where there is a configuration.
// What it is asked for goes to the one place that is known to be there.
func httpProxy(t *testing.T, place string, secure *tls.Config) *forward {
	t.Helper()
	f := &forward{}
	f.address = accept(t, func(c *net.TCPConn) {
		var near net.Conn = c
		if secure != nil {
			near = tls.Server(c, secure)
		}
		r := bufio.NewReader(near)
		head, connect := "", false
		for n := 0; ; n++ {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			connect = connect || n == 0 && strings.HasPrefix(line, http.MethodConnect)
			head += line
			if line == "\r\n" {
				break
			}
		}
		f.note(head)
		far, err := net.Dial("tcp", place)
		if err != nil {
			return
		}
		defer far.Close()
		if connect {
			io.WriteString(near, "HTTP/1.1 200 Connection established\r\n\r\n")
		} else {
			io.WriteString(far, head)
		}
		go io.Copy(far, r)
		io.Copy(near, far)
	})
	return f
}

// socksProxy speaks SOCKS5 with a password: RFC 1928 and RFC 1929.
func socksProxy(t *testing.T, place string) *forward {
	t.Helper()
	f := &forward{}
	f.address = accept(t, func(c *net.TCPConn) {
		read := func(n int) []byte {
			b := make([]byte, n)
			io.ReadFull(c, b)
			return b
		}
		read(int(read(2)[1]))
		c.Write([]byte{5, 2})
		user := read(int(read(2)[1]))
		password := read(int(read(1)[0]))
		c.Write([]byte{1, 0})
		host := ""
		switch read(4)[3] {
		case 1:
			host = netip.AddrFrom4([4]byte(read(4))).String()
		case 3:
			host = string(read(int(read(1)[0])))
		}
		f.note(fmt.Sprintf("%s:%s %s:%d", user, password, host, binary.BigEndian.Uint16(read(2))))
		far, err := net.Dial("tcp", place)
		if err != nil {
			return
		}
		defer far.Close()
		c.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		go io.Copy(far, c)
		io.Copy(c, far)
	})
	return f
}

func hostOf(url string) string { return url[strings.Index(url, "//")+2:] }

// TestProxiesAreAskedAsByBlackbox has the prober alone and in here ask each kind
// of proxy: it is asked for the same, and the samples are the same.
func TestProxiesAreAskedAsByBlackbox(t *testing.T) {
	s := newSite(t)
	plain, secure := web(t, withBody("hello")), secureWeb(t, withCertificate(s.valid))
	for _, tt := range []struct {
		name, target, module string
		proxy                func() *forward
	}{
		{"http", plain, "{proxy_url: 'http://PROXY'}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
		{"http with a password", plain, "{proxy_url: 'http://u:p@PROXY'}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
		{"http with a path and a header", plain + "/a%2fb?c=d", "{proxy_url: 'http://PROXY', headers: {X-One: two, Host: other.test}}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
		{"http with a body", plain, "{proxy_url: 'http://PROXY', method: POST, body: text}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
		{"http by name", "http://web.test:81/x", "{proxy_url: 'http://PROXY', skip_resolve_phase_with_proxy: true}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
		{"https", secure, "{proxy_url: 'http://PROXY'}", func() *forward { return httpProxy(t, hostOf(secure), nil) }},
		{"https with a password and a header", secure, "{proxy_url: 'http://u:p@PROXY', proxy_connect_header: {X-One: [two]}}", func() *forward { return httpProxy(t, hostOf(secure), nil) }},
		{"over TLS", plain, "{proxy_url: 'https://PROXY'}", func() *forward { return httpProxy(t, hostOf(plain), withCertificate(s.valid)) }},
		{"https over TLS", secure, "{proxy_url: 'https://PROXY'}", func() *forward { return httpProxy(t, hostOf(secure), withCertificate(s.valid)) }},
		{"socks5", plain, "{proxy_url: 'socks5://u:p@PROXY'}", func() *forward { return socksProxy(t, hostOf(plain)) }},
		{"socks5, https", secure, "{proxy_url: 'socks5://u:p@PROXY'}", func() *forward { return socksProxy(t, hostOf(secure)) }},
		{"socks5 by name", "http://web.test:81/x", "{proxy_url: 'socks5h://u:p@PROXY', skip_resolve_phase_with_proxy: true}", func() *forward { return socksProxy(t, hostOf(plain)) }},
		{"none for this target", plain, "{proxy_url: 'http://PROXY', no_proxy: 127.0.0.1}", func() *forward { return httpProxy(t, hostOf(plain), nil) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := tt.proxy()
			m := parseModule(t, probe.KindHTTP, strings.ReplaceAll(tt.module, "PROXY", proxy.address))
			m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
			registry := prometheus.NewRegistry()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if !prober.ProbeHTTP(ctx, tt.target, m, registry, slog.New(slog.DiscardHandler)) {
				t.Fatal("the prober alone fails")
			}
			want := proxy.took()
			if (len(want) == 0) != strings.Contains(tt.module, "no_proxy") {
				t.Fatalf("it asked the proxy for %q", want)
			}
			for _, allow := range []func(netip.AddrPort) error{nil, func(netip.AddrPort) error { return nil }} {
				r := probeWith(t, m, probe.Request{Address: tt.target, Allow: allow})
				if r.Outcome != probe.Open {
					t.Errorf("%v: %v", described(r), r.Err)
				}
				if diff := cmp.Diff(want, proxy.took()); diff != "" {
					t.Errorf("what the proxy is asked for (-blackbox +ours):\n%s", diff)
				}
				if tt.name == "over TLS" { // the prober takes the proxy's certificate for the target's, which has none
					continue
				}
				if diff := cmp.Diff(described2(t, registry), describedSamples(r)); diff != "" {
					t.Errorf("samples (-blackbox +ours):\n%s", diff)
				}
			}
		})
	}
	settle(t)
}

// asked probes a target that is none of a configuration, as /probe does.
func asked(t *testing.T, m blackbox.Module, rules, target, hostname string) probe.Result {
	t.Helper()
	runner := schedule.NewRunner(t.Context(), 0)
	t.Cleanup(runner.Stop)
	module := &probe.Module{Name: "m", Kind: probe.KindHTTP, Prober: newProber(t, m), Timeout: 2 * time.Second}
	plan := &schedule.Plan{Access: access.Control{Rules: []access.Rule{{
		Hosts: []string{"localhost", "*.test"}, Networks: []netip.Prefix{netip.MustParsePrefix(rules)},
	}, {
		Networks: []netip.Prefix{netip.MustParsePrefix(rules)},
	}}}}
	runner.Use(plan)
	entry, err := runner.Once(t.Context(), plan, schedule.Ask{Target: target, Module: module, Hostname: hostname})
	if denied, ok := probe.AsDenied(err); ok { // before it is tried
		return probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Err: denied}
	}
	if err != nil {
		t.Fatal(err)
	}
	return entry.Result
}

// configured probes a target as a scrape does.
func configured(t *testing.T, m blackbox.Module, target string) probe.Result {
	t.Helper()
	runner := schedule.NewRunner(t.Context(), 0)
	t.Cleanup(runner.Stop)
	module := &probe.Module{Name: "m", Kind: probe.KindHTTP, Prober: newProber(t, m), Timeout: 2 * time.Second}
	plan := &schedule.Plan{Targets: []probe.Target{{Address: target, Module: module}}}
	runner.Use(plan)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	reports, err := runner.Results(ctx, plan)
	if err != nil {
		t.Fatal(err)
	}
	return reports[0].Result
}

// TestGuardWithProxies checks what is allowed for modules with proxies, when
// the proxy is not used and when it is.
func TestGuardWithProxies(t *testing.T) {
	s := newSite(t)
	away := web(t, redirecting("http://169.254.169.254/latest/"))
	inward := web(t, redirecting(web(t, withStatus(200))))
	secure := secureWeb(t, withCertificate(s.valid))
	for _, tt := range []struct {
		name, module, target, hostname string
		asked                          bool
		place                          string // of the proxy
		want                           string
		toProxy                        []string // first lines
	}{
		{"redirect, and no proxy in the environment", "{proxy_from_environment: true}", away, "", false, "", "denied connect local", nil},
		{"redirect, and no_proxy for it", "{proxy_url: 'http://PROXY', no_proxy: '127.0.0.1,169.254.169.254'}", away, "", false, "", "denied connect local", nil},
		{"redirect through the proxy", "{proxy_url: 'http://PROXY'}", away, "", false, hostOf(away), "denied connect local", []string{"GET " + away + "/ HTTP/1.1"}},
		{"redirect through the proxy, SOCKS", "{proxy_url: 'socks5://u:p@PROXY'}", away, "", false, hostOf(away), "denied connect local", nil},
		{"redirect of a name inwards, past the proxy", "{proxy_url: 'http://PROXY', no_proxy: localhost, skip_resolve_phase_with_proxy: true}", "http://inward.test/", "", false, hostOf(inward), "denied connect local", []string{"GET http://inward.test/ HTTP/1.1"}},
		{"redirect on request", "{proxy_url: 'http://PROXY'}", away, "", true, hostOf(away), "denied connect local", []string{"GET " + away + "/ HTTP/1.1"}},
		{"a name, for an HTTP proxy to look up", "{proxy_url: 'http://PROXY'}", "http://localhost:80/", "", true, "", "denied connect local", nil},
		{"a name by hostname", "{proxy_url: 'http://PROXY'}", "http://127.0.0.1:80/", "internal.test", true, "", "denied connect local", nil},
		{"an address by hostname", "{proxy_url: 'http://PROXY'}", "http://127.0.0.1:80/", "10.9.9.9", true, "", "denied connect local", nil},
		{"a name, not looked up by the prober", "{proxy_url: 'http://PROXY', skip_resolve_phase_with_proxy: true}", "http://localhost:80/", "", true, "", "denied connect local", nil},

		{"https by name", "{proxy_url: 'http://PROXY', preferred_ip_protocol: ip4}", "https://localhost:443/", "server.test", true, hostOf(secure), "open none none", []string{"CONNECT 127.0.0.1:443 HTTP/1.1"}},
		{"an address", "{proxy_url: 'http://PROXY', valid_status_codes: [302], follow_redirects: false}", away, "", true, hostOf(away), "open none none", []string{"GET " + away + "/ HTTP/1.1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxy := httpProxy(t, tt.place, nil)
			if strings.Contains(tt.module, "socks5") {
				proxy = socksProxy(t, tt.place)
			}
			m := parseModule(t, probe.KindHTTP, strings.ReplaceAll(tt.module, "PROXY", proxy.address))
			m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
			run := func() probe.Result { return configured(t, m, tt.target) }
			if tt.asked {
				run = func() probe.Result { return asked(t, m, "127.0.0.0/8", tt.target, tt.hostname) }
			}
			r := run()
			if got := described(r); got != tt.want {
				t.Errorf("got %s, want %s\n%v", got, tt.want, r.Err)
			}
			var lines []string
			for _, head := range proxy.took() {
				line, _, isHead := strings.Cut(head, "\r\n")
				if isHead {
					lines = append(lines, line)
				}
			}
			if !slices.Equal(lines, tt.toProxy) {
				t.Errorf("the proxy was asked for %q, want %q", lines, tt.toProxy)
			}
		})
	}
	settle(t)
}
