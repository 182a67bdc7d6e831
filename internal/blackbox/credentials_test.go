package blackbox_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// recorder is a server that remembers the header of the last request.
type recorder struct {
	url  string
	mu   sync.Mutex
	last http.Header
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	r.url = web(t, r.record)
	return r
}

func (r *recorder) record(_ http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = req.Header.Clone()
}

func (r *recorder) header() http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// byHost is a URL of a server on loopback by another of its names.
func byHost(url, host string) string { return strings.Replace(url, "127.0.0.1", host, 1) }

// within is a server that redirects its root to /end, where it does what another
// handler does.
func within(t *testing.T, code int, end http.HandlerFunc) string {
	t.Helper()
	return web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			end(w, r)
			return
		}
		w.Header().Set("Location", "/end")
		w.WriteHeader(code)
	})
}

// TestCredentialsStayWithTheirHost redirects within the target's own host and away
// from it: only hosts that the configuration names get what proves who we are.
func TestCredentialsStayWithTheirHost(t *testing.T) {
	tokens := web(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token": "secret", "token_type": "Bearer", "expires_in": 60}`)
	})
	for name, settings := range map[string]string{
		"Authorization": "{basic_auth: {username: u, password: secret}}",
		"authorization": "{authorization: {credentials: secret}}",
		"AUTHORIZATION": "{bearer_token: secret}",
		"autHorization": "{oauth2: {client_id: a, client_secret: b, token_url: '" + tokens + "'}}",
		"X-Api-Key":     "{headers: {X-Api-Key: secret}}",
		"Cookie":        "{headers: {Cookie: a=secret}}",
		"X-Token":       "{http_headers: {X-Token: {secrets: [secret]}}}",
		"X-Value":       "{http_headers: {X-Value: {values: [secret]}}}",
	} {
		t.Run(settings, func(t *testing.T) {
			end := newRecorder(t)
			m := parseModule(t, probe.KindHTTP, settings)
			m.HTTP.IPProtocol = "ip4"
			m.HTTP.Headers = map[string]string{"Accept-Language": "de"}
			maps.Copy(m.HTTP.Headers, parseModule(t, probe.KindHTTP, settings).HTTP.Headers)
			run := func(target string) http.Header {
				if r := probeWith(t, m, probe.Request{Address: target}); r.Outcome != probe.Open {
					t.Fatalf("%s: %v", described(r), r.Err)
				}
				if got := end.header().Get("Accept-Language"); got != "de" {
					t.Errorf("Accept-Language, which is no secret, is %q", got)
				}
				return end.header()
			}
			if got := run(byHost(within(t, http.StatusFound, end.record), "localhost")); got.Get(name) == "" {
				t.Errorf("redirected within the host: %v lacks %s", got, name)
			}
			port := byHost(web(t, redirecting(byHost(end.url, "localhost"))), "localhost")
			if got := run(port); strings.Contains(fmt.Sprint(got), "secret") || got.Get(name) != "" {
				t.Errorf("redirected to another port: %v", got)
			}
			away := byHost(web(t, redirecting(end.url)), "localhost")
			if got := run(away); strings.Contains(fmt.Sprint(got), "secret") || got.Get(name) != "" {
				t.Errorf("redirected to another host: %v", got)
			}
			back := web(t, redirecting(byHost(end.url, "localhost")))
			if got := run(byHost(web(t, redirecting(back)), "localhost")); got.Get(name) != "" {
				t.Errorf("redirected away and back, as the other host wants it: %v", got)
			}
		})
	}
	settle(t)
}

// TestCredentialsOfNamedHosts has the header Host and the configured hostname name
// hosts as well as the target does.
func TestCredentialsOfNamedHosts(t *testing.T) {
	end := newRecorder(t)
	target := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/end" {
			end.record(w, r)
			return
		}
		_, port, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		http.Redirect(w, r, "http://localhost:"+port+"/end", http.StatusFound)
	})
	for _, tt := range []struct {
		headers, hostname string
		asked, want       bool
	}{
		{"", "", false, false},
		{"", "localhost", false, true},
		{"Host: localhost", "", false, true},
		{"", "localhost", true, false}, // a client's
	} {
		m := parseModule(t, probe.KindHTTP, "{basic_auth: {username: u, password: p}, headers: {"+tt.headers+"}}")
		r := probe.Request{Address: target, Hostname: tt.hostname}
		if tt.asked {
			r.AllowHost = func(string) error { return nil }
		}
		if got := probeWith(t, m, r); got.Outcome != probe.Open {
			t.Fatalf("%+v: %s: %v", tt, described(got), got.Err)
		}
		if got := end.header().Get("Authorization") != ""; got != tt.want {
			t.Errorf("%+v: credentials sent: %t", tt, got)
		}
	}
}

// TestBodiesStayWithTheirHost redirects a request that has a body, which may hold a
// password, within the host and away from it. Redirects that drop the body are
// followed.
func TestBodiesStayWithTheirHost(t *testing.T) {
	var mu sync.Mutex
	var bodies []string
	note := func(_ http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		bodies = append(bodies, r.Method+" "+string(text))
	}
	end := web(t, note)
	redirect := func(to string, code int) string {
		return web(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, code) })
	}
	back := redirect(byHost(end, "localhost"), http.StatusPermanentRedirect)
	for _, tt := range []struct {
		name, to  string
		code      int
		want, got string
	}{
		{"307 within the host", "", 307, "open none none", "POST password"},
		{"308 within the host", "", 308, "open none none", "POST password"},
		{"302 within the host", "", 302, "open none none", "GET "},
		{"307 to another port", byHost(end, "localhost"), 307, "status exchange target", ""},
		{"308 to another port", byHost(end, "localhost"), 308, "status exchange target", ""},
		{"303 away", end, 303, "open none none", "GET "},
		{"307 away", end, 307, "status exchange target", ""},
		{"308 away", end, 308, "status exchange target", ""},
		{"308 away and back", back, 308, "status exchange target", ""},
	} {
		bodies = nil
		m := parseModule(t, probe.KindHTTP, "{preferred_ip_protocol: ip4, method: POST, body: password}")
		target := redirect(tt.to, tt.code)
		if tt.to == "" {
			target = within(t, tt.code, note)
		}
		r := probeWith(t, m, probe.Request{Address: byHost(target, "localhost")})
		if described(r) != tt.want || strings.Join(bodies, ";") != tt.got {
			t.Errorf("%s: %s: %v; the end got %q, want %q", tt.name, described(r), r.Err, bodies, tt.got)
		}
		if tt.got == "" && !strings.Contains(fmt.Sprint(r.Err), "hint: probe the URL that the redirect leads to") {
			t.Errorf("%s: %v", tt.name, r.Err)
		}
	}
	settle(t)
}

// TestReferer has no query, user or fragment of an earlier URL, and no path towards
// another host.
func TestReferer(t *testing.T) {
	end := newRecorder(t)
	start := web(t, redirecting(byHost(end.url, "localhost")))
	secret := strings.Replace(start, "http://", "http://u:pass@", 1) + "/path?token=secret#part"
	m := parseModule(t, probe.KindHTTP, "{preferred_ip_protocol: ip4}")
	for target, want := range map[string]string{
		secret:                        start + "/",
		byHost(secret, "localhost"):   byHost(start, "localhost") + "/", // another port
		"http://u@" + hostOf(start):   start + "/",
		web(t, moved("/x?a=b", "/y")): "",
	} {
		if r := probeWith(t, m, probe.Request{Address: target}); r.Outcome != probe.Open {
			t.Fatalf("%s: %v", described(r), r.Err)
		}
		if want == "" {
			continue
		}
		if got := end.header().Get("Referer"); got != want {
			t.Errorf("%s: Referer %q, want %q", target, got, want)
		}
	}
}

// moved redirects one path to another on the same server, and fails where the
// Referer shows the query.
func moved(from, to string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/", "":
			http.Redirect(w, r, from, http.StatusFound)
		case to:
			if strings.Contains(r.Referer(), "?") || !strings.HasSuffix(r.Referer(), "/x") {
				w.WriteHeader(http.StatusTeapot)
			}
		default:
			http.Redirect(w, r, to, http.StatusFound)
		}
	}
}

// TestClientCertificateStays is not shown to a host that a redirect leads to.
func TestClientCertificateStays(t *testing.T) {
	s := newSite(t)
	var shown []int
	var mu sync.Mutex
	server := func(next string) string {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			shown = append(shown, len(r.TLS.PeerCertificates))
			mu.Unlock()
			if next != "" {
				http.Redirect(w, r, next, http.StatusFound)
			}
		}))
		srv.TLS = withCertificate(s.valid)
		srv.TLS.ClientAuth = tls.RequestClientCert
		srv.StartTLS()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	pem := porttest.WritePEM(t, filepath.Join(t.TempDir(), "client"), s.valid)
	m := parseModule(t, probe.KindHTTP, fmt.Sprintf("{preferred_ip_protocol: ip4, tls_config: {insecure_skip_verify: true, cert_file: %[1]s, key_file: %[1]s}}", pem))
	if r := probeWith(t, m, probe.Request{Address: server(byHost(server(""), "localhost"))}); r.Outcome != probe.Open {
		t.Fatalf("%s: %v", described(r), r.Err)
	}
	if fmt.Sprint(shown) != "[1 0]" {
		t.Errorf("certificates shown: %v, want [1 0]", shown)
	}
}

// TestHostnameOfAClientAndAProxy: the host that an HTTP proxy is asked for is the
// target's, whoever allows the hostname.
func TestHostnameOfAClientAndAProxy(t *testing.T) {
	plain := web(t, withBody("ok"))
	proxy := httpProxy(t, hostOf(plain), nil)
	m := parseModule(t, probe.KindHTTP, "{proxy_url: 'http://"+proxy.address+"'}")
	for _, hostname := range []string{"evil.example", "10.9.9.9", "2852039166", "127.1", "evil.example:80"} {
		r := probeWith(t, m, probe.Request{
			Address: plain, Hostname: hostname, AllowHost: func(string) error { return nil },
		})
		if r.Outcome != probe.Denied || len(proxy.took()) != 0 {
			t.Errorf("%s: %s: %v", hostname, described(r), r.Err)
		}
	}
	r := probeWith(t, m, probe.Request{Address: plain, Hostname: "shop.example"}) // the configuration's
	if asked := proxy.took(); r.Outcome != probe.Open || len(asked) != 1 || !strings.HasPrefix(asked[0], "GET http://shop.example/ ") {
		t.Errorf("the configured hostname: %s: %v: %q", described(r), r.Err, asked)
	}
}

// TestBodiesShareTheirMemory matches many endless bodies at a time.
func TestBodiesShareTheirMemory(t *testing.T) {
	target := accept(t, answering(raw("200 OK", "Connection: close"), flooding))
	p := newProber(t, parseModule(t, probe.KindHTTP, "{fail_if_body_matches_regexp: [nothing]}"))
	runner := schedule.NewRunner(t.Context(), 0)
	t.Cleanup(runner.Stop)
	module := &probe.Module{Name: "m", Kind: probe.KindHTTP, Prober: p, Timeout: time.Minute}
	plan := &schedule.Plan{MaxProbes: 160}
	for i := range 40 {
		plan.Targets = append(plan.Targets, probe.Target{Name: fmt.Sprint(i), Address: "http://" + target, Module: module})
	}
	runner.Use(plan)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	most, stop := watchHeap(t)
	reports, err := runner.Results(ctx, plan)
	stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		if r.Result.Outcome != probe.Mismatch {
			t.Errorf("%s: %s: %v", r.Target.Name, described(r.Result), r.Result.Err)
		}
	}
	t.Logf("at most %d MiB in use", *most>>20)
	if *most > 200<<20 { // 40 bodies of 16 MiB each take 640 MiB
		t.Errorf("%d MiB in use at once", *most>>20)
	}
}

// TestCredentialsAreNotSentInTheClear has a redirect from https to http, on one host.
func TestCredentialsAreNotSentInTheClear(t *testing.T) {
	end := newRecorder(t)
	secure := httptest.NewTLSServer(redirecting(end.url))
	t.Cleanup(secure.Close)
	m := parseModule(t, probe.KindHTTP, "{basic_auth: {username: u, password: secret}, tls_config: {insecure_skip_verify: true}}")
	if r := probeWith(t, m, probe.Request{Address: secure.URL}); r.Outcome != probe.Open {
		t.Fatalf("%s: %v", described(r), r.Err)
	}
	if got := end.header().Get("Authorization"); got != "" {
		t.Errorf("sent %q over http", got)
	}
}
