package rival

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBesideBlackbox probes servers of every kind with both. CI must run it.
func TestBesideBlackbox(t *testing.T) {
	s := newSite(t)
	proxy := s.httpProxy("")
	cases := slices.Concat(s.answers(), s.bodies(), s.requests(), s.credentials(), s.redirects(), s.transport(), s.proxies(proxy), s.failures())
	cases = slices.Concat(of("http", cases), s.names(), s.pings(), s.streams(), s.health())
	if len(cases) < 250 {
		t.Errorf("%d cases, want 250", len(cases))
	}
	compare(t, []string{"HTTP_PROXY=http://" + proxy, "HTTPS_PROXY=http://" + proxy, "NO_PROXY=127.0.0.9"}, cases)
}

// ip4 begins a module whose targets are names.
const ip4 = "preferred_ip_protocol: ip4, "

func named(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) }

func (s *site) answers() []contest {
	plain, secure := s.web(body("hello")), s.secure(body("hello"))
	insecure := ", tls_config: {insecure_skip_verify: true}}"
	cases := []contest{
		{name: "plain", target: plain},
		{name: "no scheme", target: strings.TrimPrefix(plain, "http://")},
		{name: "name", module: "{preferred_ip_protocol: ip4}", target: named(plain)},
		{name: "path and query", target: plain + "/a/b%2fc?d=e&f=g"},
		{name: "statuses", module: "{valid_status_codes: [404, 418]}", target: s.web(status(418))},
		{name: "statuses, another", module: "{valid_status_codes: [404]}", target: plain},
		{name: "version", module: "{valid_http_versions: [HTTP/1.1]}", target: plain},
		{name: "version, another", module: "{valid_http_versions: [HTTP/2.0, HTTP/1.0]}", target: plain},
		{name: "version 2", module: "{valid_http_versions: [HTTP/2.0]" + insecure, target: secure},
		{name: "version 2, not wanted", module: "{enable_http2: false, valid_http_versions: [HTTP/1.1]" + insecure, target: secure},
		{name: "version 1.0", target: s.raw("HTTP/1.0 200 OK\r\n\r\nhello")},
		{name: "TLS must not be", module: "{fail_if_ssl: true" + insecure, target: secure},
		{name: "TLS must not be, and is not", module: "{fail_if_ssl: true}", target: plain},
		{name: "TLS must be", module: "{fail_if_not_ssl: true}", target: plain},
		{name: "TLS must be, and is", module: "{fail_if_not_ssl: true" + insecure, target: secure},
		{name: "modified", target: s.web(withHeader("Last-Modified", "Tue, 01 Jul 2025 00:00:00 GMT"))},
		{name: "modified at no time", target: s.web(withHeader("Last-Modified", "yesterday"))},
	}
	for _, code := range []int{200, 204, 206, 299, 300, 304, 400, 401, 404, 407, 500, 503} {
		cases = append(cases, contest{name: fmt.Sprint("status ", code), target: s.web(status(code))})
	}
	header := s.web(withHeader("X-Way", "up"))
	for name, rule := range map[string]string{
		"matches":         "fail_if_header_matches: [{header: x-way, regexp: up}]",
		"does not match":  "fail_if_header_matches: [{header: X-Way, regexp: down}]",
		"is missing":      "fail_if_header_matches: [{header: X-Other, regexp: up}]",
		"may be missing":  "fail_if_header_matches: [{header: X-Other, regexp: up, allow_missing: true}]",
		"needs a match":   "fail_if_header_not_matches: [{header: X-Way, regexp: up}]",
		"lacks a match":   "fail_if_header_not_matches: [{header: X-Way, regexp: down}]",
		"must be there":   "fail_if_header_not_matches: [{header: X-Other, regexp: up}]",
		"need not be":     "fail_if_header_not_matches: [{header: X-Other, regexp: up, allow_missing: true}]",
		"with a body too": "fail_if_header_not_matches: [{header: X-Way, regexp: up}], fail_if_body_matches_regexp: [x]",
	} {
		cases = append(cases, contest{name: "header that " + name, module: "{" + rule + "}", target: header})
	}
	return cases
}

func (s *site) bodies() []contest {
	text, number := s.web(body("all is well")), s.web(body(`{"ok": true, "n": 3}`))
	cases := []contest{
		{name: "body matches", module: "{fail_if_body_matches_regexp: [well]}", target: text},
		{name: "body does not match", module: "{fail_if_body_matches_regexp: [ill, bad]}", target: text},
		{name: "body must match", module: "{fail_if_body_not_matches_regexp: [well]}", target: text},
		{name: "body lacks a match", module: "{fail_if_body_not_matches_regexp: [well, ill]}", target: text},
		{name: "body of a wrong status", module: "{fail_if_body_not_matches_regexp: [ill]}", target: s.web(status(500))},
		{name: "JSON holds", module: `{fail_if_body_json_matches_cel: "body.ok == true"}`, target: number},
		{name: "JSON does not hold", module: `{fail_if_body_json_matches_cel: "body.n > 5"}`, target: number},
		{name: "JSON must hold", module: `{fail_if_body_json_not_matches_cel: "body.n == 3"}`, target: number},
		{name: "JSON must hold, and does not", module: `{fail_if_body_json_not_matches_cel: "body.ok == false"}`, target: number},
		{name: "JSON without the field", module: `{fail_if_body_json_not_matches_cel: "body.other == 1"}`, target: number},
		{name: "JSON that gives no bool", module: `{fail_if_body_json_not_matches_cel: "body.n"}`, target: number},
		{name: "no JSON", module: `{fail_if_body_json_not_matches_cel: "body.n == 3"}`, target: text},
		{name: "limit of the body", module: "{body_size_limit: 5B}", target: text},
		{name: "limit that fits", module: "{body_size_limit: 11B}", target: text},
		{name: "limit with a match", module: "{body_size_limit: 5B, fail_if_body_not_matches_regexp: [well]}", target: text},
		{name: "chunks", target: s.web(func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			io.WriteString(w, "b")
		})},
		{name: "cut body", target: s.raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")},
		{name: "cut body to match", module: "{fail_if_body_not_matches_regexp: [half]}", target: s.raw("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")},
		{name: "cut chunk", target: s.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal")},
		{name: "bad chunk", target: s.raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")},
	}
	for _, c := range []struct{ name, compression, body string }{
		{"gzip", "gzip", gzipped("all is well")}, {"deflate", "deflate", deflated("all is well")}, {"brotli", "br", brotlied("all is well")},
		{"identity", "identity", "all is well"}, {"text for gzip", "gzip", "all is well, and this is no gzip"},
		{"text for deflate", "deflate", "all is well"}, {"text for brotli", "br", "all is well"},
		{"gzip that is cut", "gzip", gzipped("all is well")[:20]}, {"gzip in upper case", "GZIP", gzipped("all is well")},
		{"short text for gzip", "gzip", "ok"},
	} {
		cases = append(cases, contest{name: c.name, module: "{compression: " + c.compression + "}", target: s.web(body(c.body))})
	}
	return append(cases,
		contest{name: "gzip that matches", module: "{compression: gzip, fail_if_body_not_matches_regexp: [well]}", target: s.web(body(gzipped("all is well")))},
		contest{name: "gzip beyond the limit", module: "{compression: gzip, body_size_limit: 10B}", target: s.web(body(gzipped(strings.Repeat("a", 1000))))},
		contest{name: "asked for gzip", module: "{compression: gzip, headers: {Accept-Encoding: gzip}}", target: s.web(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") == "gzip" {
				w.Header().Set("Content-Encoding", "gzip")
				io.WriteString(w, gzipped("all is well"))
			}
		})},
	)
}

func (s *site) requests() []contest {
	file := filepath.Join(s.t.TempDir(), "body")
	if err := os.WriteFile(file, []byte("from a file"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	posted := func(want string) string {
		return s.web(only(func(r *http.Request) bool {
			text, _ := io.ReadAll(r.Body)
			return string(text) == want
		}))
	}
	var cases []contest
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		cases = append(cases, contest{name: "method " + method, module: "{method: " + method + "}",
			target: s.web(only(func(r *http.Request) bool { return r.Method == method }))})
	}
	return append(cases,
		contest{name: "method that is none", module: "{method: 'A B'}", target: s.web(status(200))},
		contest{name: "posted body", module: "{method: POST, body: 'a text'}", target: posted("a text")},
		contest{name: "posted file", module: "{method: POST, body_file: " + file + "}", target: posted("from a file")},
		contest{name: "posted file that is missing", module: "{method: POST, body_file: " + s.gone + "}", target: posted(""), vanishes: s.gone},
		contest{name: "headers", module: "{headers: {X-One: two, Accept: text/html}}", target: s.web(only(func(r *http.Request) bool {
			return r.Header.Get("X-One") == "two" && r.Header.Get("Accept") == "text/html"
		}))},
		contest{name: "header Host", module: "{headers: {Host: shop.example}}", target: s.web(only(func(r *http.Request) bool { return r.Host == "shop.example" }))},
		contest{name: "user agent", module: "{headers: {User-Agent: mine}}", target: s.web(sent("User-Agent", "mine"))},
		contest{name: "user agent by itself", target: s.web(only(func(r *http.Request) bool { return strings.HasPrefix(r.UserAgent(), "Blackbox-Exporter/") }))},
		contest{name: "hostname", hostname: "shop.example", target: s.web(only(func(r *http.Request) bool { return r.Host == "shop.example" }))},
		contest{name: "hostname and TLS", hostname: "server.test", module: "{tls_config: {ca_file: " + s.ca + "}}",
			target: s.secure(only(func(r *http.Request) bool { return r.Host == "server.test" && r.TLS.ServerName == "server.test" }))},
		contest{name: "header Host and TLS", module: "{headers: {Host: server.test}, tls_config: {ca_file: " + s.ca + "}}",
			target: s.secure(only(func(r *http.Request) bool { return r.TLS.ServerName == "server.test" }))},
		contest{name: "http_headers", module: "{http_headers: {X-A: {values: [a]}, X-B: {secrets: [b]}, X-C: {files: [" + file + "]}}}", target: s.web(only(func(r *http.Request) bool {
			return r.Header.Get("X-A")+r.Header.Get("X-B")+r.Header.Get("X-C") == "abfrom a file"
		}))},
	)
}

func (s *site) credentials() []contest {
	token := filepath.Join(s.t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("t0ken\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	basic := s.web(sent("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:p"))))
	bearer := s.web(sent("Authorization", "Bearer t0ken"))
	tokens := s.web(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": "t0ken", "token_type": "Bearer", "expires_in": 60}`)
	})
	return []contest{
		{name: "basic auth", module: "{basic_auth: {username: u, password: p}}", target: basic},
		{name: "basic auth by files", module: "{basic_auth: {username: u, password_file: " + token + "}}",
			target: s.web(sent("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:t0ken"))))},
		{name: "basic auth that is wrong", module: "{basic_auth: {username: u, password: q}}", target: basic},
		{name: "password in the URL", target: strings.Replace(basic, "http://", "http://u:p@", 1), stranger: true},
		{name: "bearer", module: "{bearer_token: t0ken}", target: bearer},
		{name: "bearer by a file", module: "{bearer_token_file: " + token + "}", target: bearer},
		{name: "bearer by a file that is missing", module: "{bearer_token_file: " + s.gone + "}", target: bearer},
		{name: "authorization", module: "{authorization: {type: Digest, credentials: x}}", target: s.web(sent("Authorization", "Digest x"))},
		{name: "authorization by a file", module: "{authorization: {credentials_file: " + token + "}}", target: bearer},
		{name: "oauth2", module: "{oauth2: {client_id: a, client_secret: b, token_url: '" + tokens + "', scopes: [c], endpoint_params: {d: e}}}", target: bearer},
		{name: "oauth2 that redirects", module: "{oauth2: {client_id: a, client_secret: b, token_url: '" + s.web(redirect(tokens, 307)) + "'}}", target: bearer},
		{name: "oauth2 without a server", module: "{oauth2: {client_id: a, client_secret: b, token_url: 'http://127.0.0.1:1/'}}", target: bearer},
	}
}

func (s *site) redirects() []contest {
	end := s.web(body("the end"))
	auth := s.web(sent("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:p"))))
	const basic = "basic_auth: {username: u, password: p}"
	cases := []contest{
		{name: "redirect", target: s.web(redirect(end, 302))},
		{name: "redirect to another host", module: "{preferred_ip_protocol: ip4}", target: named(s.web(redirect(end, 301)))},
		{name: "redirect by path", target: s.web(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/end" {
				http.Redirect(w, r, "/end", http.StatusFound)
			}
		})},
		{name: "redirects within the host, with credentials", module: "{" + ip4 + basic + "}", target: named(s.web(redirect(named(auth), 302)))},
		{name: "redirects within the address, with credentials", module: "{" + basic + "}", target: s.web(redirect(auth, 302))},
		{name: "redirect away, with credentials", module: "{" + ip4 + basic + "}", target: named(s.web(redirect(auth, 302)))},
		{name: "redirect away, with a secret header", module: "{" + ip4 + "headers: {X-Api-Key: k}}", target: named(s.web(redirect(s.web(sent("X-Api-Key", "k")), 302)))},
		{name: "redirect away, with a plain header", module: "{" + ip4 + "headers: {Accept-Language: de}}", target: named(s.web(redirect(s.web(sent("Accept-Language", "de")), 302)))},
		{name: "redirect to TLS", module: "{tls_config: {ca_file: " + s.ca + "}}", target: s.web(redirect(s.secure(body("x")), 302))},
		{name: "redirect to TLS, for the address", module: "{tls_config: {ca_file: " + s.ca + ", server_name: other.test}}", target: s.web(redirect(s.secure(body("x")), 302))},
		{name: "redirect with Host", module: "{headers: {Host: shop.example}}", target: s.web(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/end" {
				http.Redirect(w, r, "/end", http.StatusFound)
			} else if r.Host != "shop.example" {
				w.WriteHeader(http.StatusTeapot)
			}
		})},
		{name: "not followed", module: "{follow_redirects: false}", target: s.web(redirect(end, 302))},
		{name: "not followed, by the old key", module: "{no_follow_redirects: true, valid_status_codes: [302]}", target: s.web(redirect(end, 302))},
		{name: "not followed, with a body", module: "{follow_redirects: false, valid_status_codes: [302], fail_if_body_not_matches_regexp: [x]}", target: s.web(redirect(end, 302))},
		{name: "loop", target: s.web(redirect("/", 302))},
		{name: "without a place", target: s.raw("HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n")},
		{name: "to a closed port", target: s.web(redirect("http://127.0.0.1:1/", 302))},
		{name: "to no URL", target: s.raw("HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n")},
		{name: "to another scheme", target: s.web(redirect("ftp://127.0.0.1/", 302))},
		{name: "cookie", target: s.web(func(w http.ResponseWriter, r *http.Request) {
			if c, err := r.Cookie("way"); err == nil && c.Value == "up" {
				return
			}
			if r.URL.Path == "/end" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			http.SetCookie(w, &http.Cookie{Name: "way", Value: "up", Path: "/"})
			http.Redirect(w, r, "/end", http.StatusFound)
		})},
	}
	for _, code := range []int{301, 303, 307, 308} {
		cases = append(cases, contest{name: fmt.Sprintf("posted, and %d", code), module: "{method: POST, body: text}", target: s.web(redirect(s.web(only(func(r *http.Request) bool {
			text, _ := io.ReadAll(r.Body)
			return (r.Method == http.MethodPost && string(text) == "text") == (code >= 307)
		})), code))})
	}
	cases = append(cases, contest{name: "posted away, and 307", module: "{" + ip4 + "method: POST, body: text}", target: named(s.web(redirect(s.web(only(func(r *http.Request) bool {
		text, _ := io.ReadAll(r.Body)
		return string(text) == "text"
	})), 307)))})
	return cases
}

func (s *site) transport() []contest {
	insecure := "{tls_config: {insecure_skip_verify: true}}"
	trusting := "{tls_config: {ca_file: " + s.ca + "}}"
	certified := func(change ...func(*x509.Certificate)) string {
		return s.secure(body("x"), func(c *tls.Config) { c.Certificates = []tls.Certificate{s.Issue(s.t, change...)} })
	}
	ours := s.file(s.Issue(s.t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }))
	wants := func(version uint16) func(*tls.Config) {
		return func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, version }
	}
	ca, err := os.ReadFile(s.ca)
	if err != nil {
		s.t.Fatal(err)
	}
	cases := []contest{
		{name: "TLS", module: trusting, target: s.secure(body("x"))},
		{name: "TLS, authority in the module", module: fmt.Sprintf("{tls_config: {ca: %q}}", ca), target: s.secure(body("x"))},
		{name: "TLS, not verified", module: insecure, target: s.secure(body("x"))},
		{name: "TLS, unknown authority", target: s.secure(body("x"))},
		{name: "TLS, expired", module: trusting, target: certified(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })},
		{name: "TLS, another name", module: trusting, target: certified(func(c *x509.Certificate) { c.IPAddresses = nil })},
		{name: "TLS, server_name", module: "{tls_config: {server_name: server.test, ca_file: " + s.ca + "}}", target: certified(func(c *x509.Certificate) { c.IPAddresses = nil })},
		{name: "TLS, authority that is missing", module: "{tls_config: {ca_file: " + s.gone + "}}", target: s.secure(body("x"))},
		{name: "TLS for plain", module: trusting, target: strings.Replace(s.web(body("x")), "http", "https", 1)},
		{name: "plain for TLS", target: strings.Replace(s.secure(body("x")), "https", "http", 1)},
		{name: "min version above the server's", module: "{tls_config: {insecure_skip_verify: true, min_version: TLS13}}", target: s.secure(body("x"), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })},
		{name: "max version below the server's", module: "{tls_config: {insecure_skip_verify: true, max_version: TLS12}}", target: s.secure(body("x"), func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })},
		{name: "client certificate", module: "{tls_config: {insecure_skip_verify: true, cert_file: " + ours + ", key_file: " + ours + "}}", target: s.secure(body("x"), wants(tls.VersionTLS13))},
		{name: "client certificate, TLS 1.2", module: "{tls_config: {insecure_skip_verify: true, cert_file: " + ours + ", key_file: " + ours + "}}", target: s.secure(body("x"), wants(tls.VersionTLS12))},
		{name: "no client certificate", module: insecure, target: s.secure(body("x"), wants(tls.VersionTLS13))},
		{name: "no client certificate, TLS 1.2", module: insecure, target: s.secure(body("x"), wants(tls.VersionTLS12))},
		{name: "HTTP/3", module: "{enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/3.0], tls_config: {ca_file: " + s.ca + "}}", target: s.quic(body("three"))},
		{name: "HTTP/3, unknown authority", module: "{enable_http3: true, enable_http2: false, valid_http_versions: [HTTP/3.0]}", target: s.quic(body("three"))},
		{name: "HTTP/3 with credentials", module: "{enable_http3: true, enable_http2: false, basic_auth: {username: u, password: p}, tls_config: {ca_file: " + s.ca + "}}",
			target: s.quic(only(func(r *http.Request) bool { return r.Header.Get("Authorization") != "" }))},
	}
	for name, version := range map[string]uint16{"TLS10": tls.VersionTLS10, "TLS11": tls.VersionTLS11, "TLS12": tls.VersionTLS12, "TLS13": tls.VersionTLS13} {
		target := s.secure(body("x"), func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		cases = append(cases,
			contest{name: name + " as it is", module: "{enable_http2: false, tls_config: {insecure_skip_verify: true}}", target: target},
			contest{name: name + " allowed", module: "{enable_http2: false, tls_config: {insecure_skip_verify: true, min_version: TLS10, max_version: " + name + "}}", target: target})
	}
	return cases
}

func (s *site) proxies(proxy string) []contest {
	plain, secure := s.web(body("hello")), s.secure(body("hello"))
	locked := s.httpProxy(base64.StdEncoding.EncodeToString([]byte("u:p")))
	socks := s.socksProxy()
	trusting := ", tls_config: {ca_file: " + s.ca + "}}"
	return []contest{
		{name: "proxy", module: "{proxy_url: 'http://" + proxy + "'}", target: plain},
		{name: "proxy and TLS", module: "{proxy_url: 'http://" + proxy + "'" + trusting, target: secure},
		{name: "proxy, name", module: "{" + ip4 + "proxy_url: 'http://" + proxy + "'}", target: named(plain)},
		{name: "proxy that resolves", module: "{skip_resolve_phase_with_proxy: true, proxy_url: 'http://" + proxy + "'}", target: named(plain)},
		{name: "proxy with a password", module: "{proxy_url: 'http://u:p@" + locked + "'}", target: plain},
		{name: "proxy with a password, TLS", module: "{proxy_url: 'http://u:p@" + locked + "'" + trusting, target: secure},
		{name: "proxy without the password", module: "{proxy_url: 'http://" + locked + "'}", target: plain},
		{name: "proxy without the password, TLS", module: "{proxy_url: 'http://" + locked + "'" + trusting, target: secure},
		{name: "proxy with a header", module: "{proxy_url: 'http://" + locked + "', proxy_connect_header: {Proxy-Authorization: ['Basic dTpw']}" + trusting, target: secure},
		{name: "proxy that is down", module: "{proxy_url: 'http://127.0.0.1:1'}", target: plain},
		{name: "proxy to a closed port", module: "{proxy_url: 'http://" + proxy + "'}", target: "http://127.0.0.1:1/"},
		{name: "proxy to a closed port, TLS", module: "{proxy_url: 'http://" + proxy + "'" + trusting, target: "https://127.0.0.1:1/"},
		{name: "proxy and a redirect", module: "{proxy_url: 'http://" + proxy + "'}", target: s.web(redirect(plain, 302))},
		{name: "no_proxy", module: "{proxy_url: 'http://127.0.0.1:1', no_proxy: 127.0.0.1}", target: plain},
		{name: "proxy of the environment", module: "{proxy_from_environment: true}", target: plain},
		{name: "SOCKS", module: "{proxy_url: 'socks5://" + socks + "'}", target: plain},
		{name: "SOCKS and TLS", module: "{proxy_url: 'socks5://" + socks + "'" + trusting, target: secure},
		{name: "SOCKS that resolves", module: "{skip_resolve_phase_with_proxy: true, proxy_url: 'socks5h://" + socks + "'}", target: named(plain)},
		{name: "SOCKS to a closed port", module: "{proxy_url: 'socks5://" + socks + "'}", target: "http://127.0.0.1:1/"},
	}
}

func (s *site) failures() []contest {
	plain := s.web(body("hello"))
	cases := []contest{
		{name: "closed port", target: "http://127.0.0.1:1/"},
		{name: "closed before the answer", target: "http://" + s.accept(func(c net.Conn) { head(c) })},
		{name: "closed at once", target: "http://" + s.accept(func(net.Conn) {})},
		{name: "silent", timeout: "1s", target: "http://" + s.accept(func(c net.Conn) { io.Copy(io.Discard, c) })},
		{name: "silent in TLS", timeout: "1s", target: "https://" + s.accept(func(c net.Conn) { io.Copy(io.Discard, c) })},
		{name: "no HTTP", target: "http://" + s.accept(func(c net.Conn) { io.WriteString(c, "220 mail.test ESMTP\r\n"); head(c) })},
		{name: "malformed status", target: s.raw("HTTP/1.1 fine\r\n\r\n")},
		{name: "malformed header", target: s.raw("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")},
		{name: "two lengths", target: s.raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx")},
		{name: "no such name", target: "http://nothing.invalid/"},
		{name: "no IPv6", module: "{preferred_ip_protocol: ip6, ip_protocol_fallback: false}", target: plain},
		{name: "no IPv6, and another will do", module: "{preferred_ip_protocol: ip6, ip_protocol_fallback: true}", target: plain},
		{name: "no IPv4", module: "{preferred_ip_protocol: ip4, ip_protocol_fallback: false}", target: "http://[::1]:1/"},
		{name: "no port", target: "http://127.0.0.1:70000/", stranger: true},
		{name: "no host", target: "http://", stranger: true},
		{name: "another scheme", target: "ftp://127.0.0.1/", stranger: true},
	}
	if six := s.web6(body("six")); six != "" {
		bare := strings.NewReplacer("[", "", "]", "").Replace(six)
		cases = append(cases,
			contest{name: "IPv6", target: six},
			contest{name: "IPv6 without brackets", target: bare + "/", stranger: true},
			contest{name: "IPv6 where IPv4 is preferred", module: "{preferred_ip_protocol: ip4}", target: six})
	}
	return cases
}
