package blackbox_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// failure is a target that cannot be reached as its module wants it.
type failure struct {
	name    string
	module  string // YAML below the prober's key
	target  func(t *testing.T, s *site) string
	deny    string        // addresses that begin like this are not allowed
	host    string        // the hostname asked for
	want    string        // outcome, phase, origin
	timeout time.Duration // 0 is what waits returns
}

// waits returns how long the probe may take: not long where it ends in silence,
// and longer than the slowest machine needs where it does not.
func (f *failure) waits() time.Duration {
	outcome, _, _ := strings.Cut(f.want, " ")
	switch {
	case f.timeout > 0:
		return f.timeout
	case strings.HasSuffix(outcome, "timeout") || outcome == "no_reply":
		return 1500 * time.Millisecond
	default:
		return 10 * time.Second
	}
}

// site is what the cases have in common.
type site struct {
	*authority
	valid tls.Certificate
}

func newSite(t testing.TB) *site {
	a := newAuthority(t)
	return &site{authority: a, valid: a.Issue(t)}
}

func at(target string) func(*testing.T, *site) string {
	return func(*testing.T, *site) string { return target }
}

// listening makes a target of a server that serves each connection.
func listening(scheme string, serve func(*net.TCPConn)) func(*testing.T, *site) string {
	return func(t *testing.T, _ *site) string { return scheme + accept(t, serve) }
}

func serving(handler http.HandlerFunc) func(*testing.T, *site) string {
	return func(t *testing.T, _ *site) string { return web(t, handler) }
}

// presenting makes a target of a server with a certificate.
func presenting(change ...func(*x509.Certificate)) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string { return secureWeb(t, withCertificate(s.Issue(t, change...))) }
}

func secure(change func(*tls.Config)) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string {
		c := withCertificate(s.valid)
		change(c)
		return secureWeb(t, c)
	}
}

var httpFailures = []failure{
	// Connecting.
	{name: "nothing listens", target: at(closedPort), want: "refused connect target"},
	{name: "no address of that version", module: "{preferred_ip_protocol: ip6, ip_protocol_fallback: false}", target: at("127.0.0.1"), want: "dns_not_found resolve none"},
	{name: "denied", target: serving(withStatus(200)), deny: "127.", want: "denied connect local"},

	// TLS.
	{name: "silent in the handshake", target: listening("https://", silent), want: "timeout tls none"},
	{name: "reset in the handshake", target: listening("https://", reset), want: "reset tls target"},
	{name: "closed in the handshake", target: listening("https://", closing), want: "closed tls target"},
	{name: "no TLS", target: func(t *testing.T, _ *site) string {
		return "https" + strings.TrimPrefix(web(t, withStatus(200)), "http")
	}, want: "tls_handshake tls target"},
	{name: "another protocol", target: listening("https://", func(c *net.TCPConn) { io.WriteString(c, "SSH-2.0-OpenSSH_9\r\n"); silent(c) }), want: "tls_handshake tls target"},
	{name: "certificate expired", target: presenting(expired), want: "tls_certificate tls target"},
	{name: "certificate not valid yet", target: presenting(notYetValid), want: "tls_certificate tls target"},
	{name: "certificate for another name", target: presenting(wrongName), want: "tls_certificate tls target"},
	{name: "certificate not for servers", target: presenting(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), want: "tls_certificate tls target"},
	{name: "certificate self-signed", target: func(t *testing.T, _ *site) string {
		return secureWeb(t, withCertificate(porttest.SelfSigned(t)))
	}, want: "tls_certificate tls target"},
	{name: "certificate of an unknown authority", target: func(t *testing.T, _ *site) string {
		return secureWeb(t, withCertificate(newAuthority(t).Issue(t)))
	}, want: "tls_certificate tls target"},
	{name: "certificate not for the hostname asked for", target: presenting(), host: "third.test", want: "tls_certificate tls target"},
	{name: "a client certificate is wanted", target: secure(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert }), want: "tls_handshake tls target"},
	{name: "a client certificate is wanted, TLS 1.2", target: secure(func(c *tls.Config) { c.ClientAuth, c.MaxVersion = tls.RequireAnyClientCert, tls.VersionTLS12 }), want: "tls_handshake tls target"},
	{name: "only TLS 1.0", target: secure(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }), want: "tls_handshake tls target"},
	{name: "not before TLS 1.3", module: "{tls_config: {max_version: TLS12}}", target: secure(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }), want: "tls_handshake tls target"},

	// The exchange.
	{name: "silent", target: listening("", silent), want: "timeout exchange none"},
	{name: "reset", target: listening("", reset), want: "reset exchange target"},
	{name: "closed", target: listening("", closing), want: "closed exchange target"},
	{name: "closed before it is asked", target: listening("", func(*net.TCPConn) {}),
		want: "closed exchange target or reset exchange target"}, // as the request or the FIN is there first
	{name: "drips its header", target: listening("", func(c *net.TCPConn) { request(c); io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); dripping(c) }), want: "timeout exchange none"},
	{name: "drips its body", target: listening("", answering(raw("200 OK", "Connection: close"), dripping)), want: "timeout exchange none"},
	{name: "sends 10 GB", timeout: 20 * time.Second, target: listening("", answering(raw("200 OK", "Connection: close"), flooding)), want: "mismatch exchange target"},
	{name: "sends 10 GB to match", module: "{fail_if_body_matches_regexp: [y]}", target: listening("", answering(raw("200 OK", "Connection: close"), flooding)), want: "mismatch exchange target"},
	{name: "sends 10 GB of header", timeout: 20 * time.Second, target: listening("", answering("HTTP/1.1 200 OK\r\nX: ", flooding)), want: "protocol exchange target"},
	{name: "closed in the header", target: listening("", answering("HTTP/1.1 200 OK\r\nX: ", nil)), want: "closed exchange target"},
	{name: "closed in the body", target: listening("", answering(raw("200 OK", "Content-Length: 100")+"x", nil)), want: "closed exchange target"},
	{name: "closed in the body to match", module: "{fail_if_body_not_matches_regexp: [x]}", target: listening("", answering(raw("200 OK", "Content-Length: 100")+"x", nil)), want: "closed exchange target"},
	{name: "reset in the body", target: listening("", answering(raw("200 OK", "Content-Length: 100")+"x", func(c *net.TCPConn) { time.Sleep(50 * time.Millisecond); c.SetLinger(0) })), want: "reset exchange target"},
	{name: "no HTTP", target: listening("", func(c *net.TCPConn) { io.WriteString(c, "220 mail.test ESMTP\r\n"); silent(c) }), want: "protocol exchange target"},
	{name: "malformed status", target: listening("", answering("HTTP/1.1 fine\r\n\r\n", silent)), want: "protocol exchange target"},
	{name: "malformed header", target: listening("", answering("HTTP/1.1 200 OK\r\nno colon\r\n\r\n", silent)), want: "protocol exchange target"},
	{name: "two lengths", target: listening("", answering(raw("200 OK", "Content-Length: 1", "Content-Length: 2"), silent)), want: "protocol exchange target"},
	{name: "malformed chunk", target: listening("", answering(raw("200 OK", "Transfer-Encoding: chunked")+"zz\r\n", silent)), want: "protocol exchange target"},
	{name: "GOAWAY", target: func(t *testing.T, s *site) string { url, _ := http2Server(t, s.valid, goAway); return url }, want: "closed exchange target"},
	{name: "HTTP/2 stream reset", target: func(t *testing.T, s *site) string { url, _ := http2Server(t, s.valid, resetStream); return url }, want: "reset exchange target"},
	{name: "HTTP/3 on a closed port", module: "{enable_http3: true, enable_http2: false}", target: at("https://" + closedPort), want: "refused connect target"},

	// What is answered.
	{name: "404", target: serving(withStatus(404)), want: "status exchange target"},
	{name: "500", target: serving(withStatus(500)), want: "status exchange target"},
	{name: "503 with a wrong body", module: "{fail_if_body_not_matches_regexp: [x]}", target: serving(withStatus(503)), want: "status exchange target"},
	{name: "TLS wanted", target: func(t *testing.T, s *site) string {
		return "http" + strings.TrimPrefix(secureWeb(t, withCertificate(s.valid)), "https")
	}, want: "status exchange target"},
	{name: "not the status that is wanted", module: "{valid_status_codes: [204]}", target: serving(withStatus(200)), want: "status exchange target"},
	{name: "a redirect that is not to be followed", module: "{follow_redirects: false}", target: serving(redirecting("/")), want: "status exchange target"},
	{name: "redirects without end", target: serving(redirecting("/")), want: "status exchange target"},
	{name: "a redirect to a closed port", target: serving(redirecting("http://127.0.0.1:1/")), want: "refused connect target"},
	{name: "a redirect to a bad certificate", target: func(t *testing.T, s *site) string { return web(t, redirecting(presenting(expired)(t, s))) }, want: "tls_certificate tls target"},
	{name: "a redirect that is denied", target: serving(redirecting("http://169.254.169.254/latest/meta-data/")), deny: "169.254.", want: "denied connect local"},
	{name: "a redirect that is denied, IPv4 in IPv6", target: serving(redirecting("http://[::ffff:169.254.169.254]/")), deny: "169.254.", want: "denied connect local"},
	{name: "a redirect to no URL", target: serving(redirecting("http://[::1/")), want: "protocol exchange target"},
	{name: "a redirect to another scheme", target: serving(redirecting("gopher://127.0.0.1/")), want: "protocol exchange target"},
	{name: "body that must not be", module: "{fail_if_body_matches_regexp: [down]}", target: serving(withBody("down")), want: "mismatch exchange target"},
	{name: "body that must be", module: "{fail_if_body_not_matches_regexp: [up]}", target: serving(withBody("down")), want: "mismatch exchange target"},
	{name: "header that must not be", module: "{fail_if_header_matches: [{header: Server, regexp: x, allow_missing: true}]}", target: serving(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Server", "x") }), want: "mismatch exchange target"},
	{name: "header that is missing", module: "{fail_if_header_not_matches: [{header: Server, regexp: x}]}", target: serving(withStatus(200)), want: "mismatch exchange target"},
	{name: "version of HTTP", module: "{valid_http_versions: [HTTP/2.0]}", target: serving(withStatus(200)), want: "mismatch exchange target"},
	{name: "TLS that must not be", module: "{fail_if_ssl: true}", target: presenting(), want: "mismatch exchange target"},
	{name: "TLS that must be", module: "{fail_if_not_ssl: true}", target: serving(withStatus(200)), want: "mismatch exchange target"},
	{name: "JSON that must not be", module: `{fail_if_body_json_matches_cel: "body.ok == false"}`, target: serving(withBody(`{"ok":false}`)), want: "mismatch exchange target"},
	{name: "JSON that must be", module: `{fail_if_body_json_not_matches_cel: "body.ok == true"}`, target: serving(withBody(`{"ok":false}`)), want: "mismatch exchange target"},
	{name: "no JSON", module: `{fail_if_body_json_not_matches_cel: "body.ok == true"}`, target: serving(withBody(`<html>`)), want: "mismatch exchange target"},
	{name: "not compressed", module: "{compression: gzip}", target: serving(withBody("plain text that is long enough")), want: "mismatch exchange target"},
	{name: "corrupt gzip", module: "{compression: gzip}", target: serving(withBody(gzipped("text")[:14] + "rubbish rubbish rubbish")), want: "protocol exchange target"},
	{name: "corrupt deflate", module: "{compression: deflate}", target: serving(withEncoding("deflate", "rubbish rubbish")), want: "protocol exchange target"},
	{name: "corrupt brotli", module: "{compression: br}", target: serving(withEncoding("br", "rubbish rubbish")), want: "protocol exchange target"},
	{name: "larger than the limit", module: "{body_size_limit: 10B}", target: serving(withBody("more than ten bytes")), want: "mismatch exchange target"},

	// Our own fault.
	{name: "no body file", module: "{body_file: /nonexistent/body}", target: serving(withStatus(200)), want: "local_error none local"},
	{name: "no authority file", module: "{tls_config: {ca_file: /nonexistent/ca}}", target: serving(withStatus(200)), want: "local_error none local"},
	{name: "no token file", module: "{bearer_token_file: /nonexistent/token}", target: serving(withStatus(200)), want: "local_error none local"},
	{name: "two hostnames", module: "{headers: {host: one.test}}", target: serving(withStatus(200)), host: "other.test", want: "local_error none local"},

	// Proxies.
	{name: "a proxy that is down", module: "{proxy_url: 'http://127.0.0.1:1'}", target: at("http://127.0.0.1:2/"), want: "refused connect proxy"},
	{name: "a proxy that refuses", module: "{proxy_url: 'PROXY'}", target: at("https://127.0.0.1:2/"), want: "status connect proxy"},
	{name: "a proxy that is down, and http", module: "{proxy_url: 'socks5://127.0.0.1:1'}", target: at("http://127.0.0.1:2/"), want: "refused connect proxy"},
	{name: "a proxy that is silent", module: "{proxy_url: 'http://SILENT'}", target: at("https://127.0.0.1:2/"), want: "timeout connect proxy"},
	{name: "a proxy that is silent, SOCKS", module: "{proxy_url: 'socks5://SILENT'}", target: at("http://127.0.0.1:2/"), want: "timeout connect proxy"},
	{name: "a proxy that is silent, TLS", module: "{proxy_url: 'https://SILENT'}", target: at("http://127.0.0.1:2/"), want: "timeout connect proxy"},
	{name: "a proxy that does not get an answer", module: "{proxy_url: 'http://SILENT'}", target: at("http://127.0.0.1:2/"), want: "timeout exchange none"},
	{name: "a proxy that is no SOCKS proxy", module: "{proxy_url: 'SOCKSPROXY'}", target: at("http://127.0.0.1:2/"), want: "protocol connect proxy"},
	{name: "a proxy with a certificate that is not to be trusted", module: "{proxy_url: 'UNTRUSTED'}", target: at("http://127.0.0.1:2/"), want: "tls_certificate tls proxy"},
	{name: "a proxy of an unknown kind", module: "{proxy_url: 'gopher://127.0.0.1:PORT'}", target: at("http://127.0.0.1:2/"), want: "local_error connect local"},
	{name: "a SOCKS proxy with a long password", module: "{proxy_url: 'socks5://u:" + strings.Repeat("p", 256) + "@127.0.0.1:1'}", target: at("http://127.0.0.1:2/"), want: "local_error connect local"},
	{name: "a SOCKS proxy with a password that just fits", module: "{proxy_url: 'socks5://u:" + strings.Repeat("p", 255) + "@127.0.0.1:1'}", target: at("http://127.0.0.1:2/"), want: "refused connect proxy"},
	{name: "a target that is silent behind a proxy", module: "{proxy_url: 'TUNNEL'}", target: at("https://127.0.0.1:2/"), want: "timeout tls none"},
	{name: "a target that is denied behind a proxy", module: "{proxy_url: 'PROXY'}", target: at("http://169.254.169.254/"), deny: "169.254.", want: "denied connect local"},
}

func (f *failure) run(t *testing.T, kind string, s *site) probe.Result {
	t.Helper()
	module := f.module
	module = withProxies(t, module)
	m := parseModule(t, kind, module)
	if !strings.Contains(module, "ca_file") {
		m.HTTP.HTTPClientConfig.TLSConfig.CAFile, m.DNS.TLSConfig.CAFile = s.file, s.file
	}
	r := probe.Request{Address: f.target(t, s), Hostname: f.host}
	if f.deny != "" {
		r.Allow = func(a netip.AddrPort) error {
			if strings.HasPrefix(a.String(), f.deny) {
				return errDenied
			}
			return nil
		}
	}
	timeout := f.waits()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	start := time.Now()
	result := newProber(t, m).Probe(ctx, r)
	if took := time.Since(start); took > timeout+time.Second {
		t.Errorf("it took %v with a timeout of %v", took, timeout)
	}
	return result
}

// withProxies starts the proxies that a module names.
func withProxies(t *testing.T, module string) string {
	t.Helper()
	for name, start := range map[string]func() string{
		"'PROXY'": func() string { return web(t, withStatus(http.StatusForbidden)) },
		"'SOCKSPROXY'": func() string {
			return "socks5://" + accept(t, func(c *net.TCPConn) { c.Read(make([]byte, 4)); io.WriteString(c, raw("400 Bad Request")); silent(c) })
		},
		"'UNTRUSTED'": func() string { return secureWeb(t, withCertificate(porttest.SelfSigned(t))) },
		"'TUNNEL'":    func() string { return "http://" + httpProxy(t, accept(t, silent), nil).address },
		"PORT":        func() string { _, port, _ := net.SplitHostPort(accept(t, silent)); return port },
		"SILENT":      func() string { return accept(t, silent) },
	} {
		if strings.Contains(module, name) {
			module = strings.ReplaceAll(module, name, start())
		}
	}
	return module
}

var errDenied = errors.New("not on the list")

func parseModule(t testing.TB, kind, settings string) blackbox.Module {
	t.Helper()
	text := "prober: " + kind + "\n"
	if settings != "" {
		text += kind + ": " + settings + "\n"
	}
	var m blackbox.Module
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func newProber(t testing.TB, m blackbox.Module) probe.Prober {
	t.Helper()
	p, err := blackbox.New(m, files.NewReader())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func described(r probe.Result) string {
	phase := r.Phase.String()
	if phase == "" {
		phase = "none"
	}
	return fmt.Sprintf("%s %s %s", r.Outcome, phase, r.Origin)
}

func TestHTTPFailures(t *testing.T) {
	runFailures(t, probe.KindHTTP, httpFailures)
}

func runFailures(t *testing.T, kind string, failures []failure) {
	t.Helper()
	s := newSite(t)
	t.Run("all", func(t *testing.T) {
		for _, f := range failures {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				result := f.run(t, kind, s)
				if got := described(result); !slices.Contains(strings.Split(f.want, " or "), got) {
					t.Errorf("got %s, want %s\n%v", got, f.want, result.Err)
				}
				if result.Err == nil {
					t.Error("there is no error for people")
				}
			})
		}
	})
	settle(t)
}

// settle waits until no goroutine of a probe is left.
func settle(t *testing.T) {
	t.Helper()
	var stacks string
	for range 100 {
		buffer := make([]byte, 1<<20)
		stacks = string(buffer[:runtime.Stack(buffer, true)])
		if !strings.Contains(stacks, "blackbox.(*") && !strings.Contains(stacks, "probe.(*") && !strings.Contains(stacks, "net/http.(*Transport)") && !strings.Contains(stacks, "net/http.(*persistConn)") &&
			!strings.Contains(stacks, "quic-go") {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("goroutines are left:\n%s", stacks)
}
