package blackbox_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// start runs a server until the test is over, and waits until it listens.
func start(t *testing.T, address, program string, args ...string) {
	t.Helper()
	porttest.Start(t, exec.Command(porttest.Program(t, "SKIP-SERVERS", program, "/usr/sbin/"+program), args...))
	porttest.AwaitListening(t, address)
}

// host is where the servers of others listen. No test but these has an address
// there.
const host = "127.8.0.1"

// taken counts the ports that freePort gave away.
var taken atomic.Int32

// freePort returns a port that nobody has and, since it is none that the kernel
// gives away, that nobody gets before the server does; no two calls return the
// same.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := 20000 + (os.Getpid()*16+int(taken.Add(1)))%10000
		address := net.JoinHostPort(host, strconv.Itoa(port))
		l, err := net.Listen("tcp4", address)
		if err != nil {
			continue
		}
		_ = l.Close()
		return address
	}
	t.Fatal("no port from 20000 to 29999 is free")
	return ""
}

func TestNginx(t *testing.T) {
	s, dir := newSite(t), t.TempDir()
	ports := map[string]string{}
	listen := func(name string) string {
		ports[name] = freePort(t)
		return ports[name]
	}
	certified := func(name string, c tls.Certificate) string {
		name = listen(name)
		pem := porttest.WritePEM(t, filepath.Join(dir, name), c)
		return fmt.Sprintf("server { listen %s ssl http2; ssl_certificate %[2]s; ssl_certificate_key %[2]s; location / { return 200 ok; } }\n", name, pem)
	}
	porttest.Nginx(t, dir, fmt.Sprintf("server { listen %s; location / { return 200 ok; } location /away { return 302 /; } location /loop { return 302 /loop; }\n"+
		"location /missing { return 404; } location /broken { return 500; } location /drop { return 444; } }\n", listen("plain"))+
		certified("valid", s.valid)+certified("expired", s.Issue(t, expired))+certified("name", s.Issue(t, wrongName))+
		certified("self", porttest.SelfSigned(t)))
	porttest.AwaitListening(t, ports["plain"])
	for _, tt := range []struct{ name, target, module, want string }{
		{"plain", "http://" + ports["plain"], "", "open none none"},
		{"without a scheme", ports["plain"], "", "open none none"},
		{"redirected", "http://" + ports["plain"] + "/away", "", "open none none"},
		{"redirected without end", "http://" + ports["plain"] + "/loop", "", "status exchange target"},
		{"missing", "http://" + ports["plain"] + "/missing", "", "status exchange target"},
		{"missing as wanted", "http://" + ports["plain"] + "/missing", "{valid_status_codes: [404]}", "open none none"},
		{"broken", "http://" + ports["plain"] + "/broken", "", "status exchange target"},
		{"dropped", "http://" + ports["plain"] + "/drop", "", "closed exchange target"},
		{"body", "http://" + ports["plain"], "{fail_if_body_not_matches_regexp: [ok]}", "open none none"},
		{"valid", "https://" + ports["valid"], "", "open none none"},
		{"HTTP/2", "https://" + ports["valid"], "{valid_http_versions: [HTTP/2.0]}", "open none none"},
		{"expired", "https://" + ports["expired"], "", "tls_certificate tls target"},
		{"wrong name", "https://" + ports["name"], "", "tls_certificate tls target"},
		{"self-signed", "https://" + ports["self"], "", "tls_certificate tls target"},
		{"not verified", "https://" + ports["self"], "{tls_config: {insecure_skip_verify: true}}", "open none none"},
		{"no TLS", "https://" + ports["plain"], "", "tls_handshake tls target"},
		{"TLS", "http://" + ports["valid"], "", "status exchange target"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := parseModule(t, probe.KindHTTP, tt.module)
			m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			r := newProber(t, m).Probe(ctx, probe.Request{Address: tt.target})
			if got := described(r); got != tt.want {
				t.Errorf("got %s, want %s\n%v", got, tt.want, r.Err)
			}
			if strings.HasPrefix(tt.target, "https") && tt.name != "no TLS" {
				checkExpiry(t, tt.name, byName(r)["probe_ssl_earliest_cert_expiry"])
			}
		})
	}
	settle(t)
}

// checkExpiry wants the time at which the certificates of the tests expire.
func checkExpiry(t *testing.T, name string, got float64) {
	t.Helper()
	want := time.Now().Add(12 * time.Hour)
	if name == "expired" {
		want = time.Now().Add(-time.Minute)
	}
	if math.Abs(got-float64(want.Unix())) > 60 {
		t.Errorf("probe_ssl_earliest_cert_expiry is %v, want about %v", got, want.Unix())
	}
}

// TestTinyproxy and TestMicrosocks go through proxies that others wrote.
func TestTinyproxy(t *testing.T) {
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "tinyproxy.conf")
	text := fmt.Sprintf("Port %s\nListen %s\nTimeout 5\nMaxClients 10\nLogLevel Critical\nBasicAuth u p\n", port, host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, address, "tinyproxy", "-d", "-c", conf)
	throughProxy(t, "http://u:p@"+address, "http://u:wrong@"+address)
}

func TestMicrosocks(t *testing.T) {
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	start(t, address, "microsocks", "-i", host, "-p", port, "-u", "u", "-P", "p")
	throughProxy(t, "socks5://u:p@"+address, "socks5://u:wrong@"+address)
}

// throughProxy reaches servers through a proxy, and none with a wrong password.
func throughProxy(t *testing.T, proxy, wrong string) {
	t.Helper()
	s := newSite(t)
	plain, secure := web(t, withBody("ok")), secureWeb(t, withCertificate(s.valid))
	away := web(t, redirecting(plain))
	probing := func(proxy, target string) probe.Result {
		m := parseModule(t, probe.KindHTTP, fmt.Sprintf("{proxy_url: '%s'}", proxy))
		m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
		return configured(t, m, target)
	}
	for _, target := range []string{plain, secure, away} {
		if r := probing(proxy, target); r.Outcome != probe.Open {
			t.Errorf("%s: %s: %v", target, described(r), r.Err)
		}
		if r := probing(wrong, target); r.Outcome != probe.Status {
			t.Errorf("%s with a wrong password: %s: %v", target, described(r), r.Err)
		}
	}
	// An HTTP proxy has a status for it, and a SOCKS proxy a code of its own.
	if r := probing(proxy, "https://"+closedPort); r.Origin != probe.OriginProxy || r.Phase != probe.PhaseConnect {
		t.Errorf("a closed port: %s: %v", described(r), r.Err)
	}
	settle(t)
}

func TestUnbound(t *testing.T) {
	address := freePort(t)
	_, port, _ := net.SplitHostPort(address)
	conf := filepath.Join(t.TempDir(), "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: %s
  port: %s
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  use-syslog: no
  access-control: 127.0.0.0/8 allow
  local-zone: "test." static
  local-data: "www.test. IN A 192.0.2.1"
  local-zone: "refused.test." always_refuse
remote-control:
  control-enable: no
`, host, port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, address, "unbound", "-d", "-p", "-c", conf)
	for _, tt := range []struct{ name, module, want string }{
		{"an address", query(", validate_answer_rrs: {fail_if_not_matches_regexp: ['192\\.0\\.2\\.1']}"), "open none none"},
		{"another address", query(", validate_answer_rrs: {fail_if_not_matches_regexp: ['192\\.0\\.2\\.9']}"), "mismatch exchange target"},
		{"no such name", "{query_name: nx.test, query_type: A}", "status exchange target"},
		{"no such name, as wanted", "{query_name: nx.test, query_type: A, valid_rcodes: [NXDOMAIN]}", "open none none"},
		{"refused", "{query_name: refused.test, query_type: A}", "status exchange target"},
	} {
		for _, transport := range []string{"udp", "tcp"} {
			t.Run(tt.name+", "+transport, func(t *testing.T) {
				m := parseModule(t, probe.KindDNS, tt.module)
				m.DNS.TransportProtocol = transport
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				r := newProber(t, m).Probe(ctx, probe.Request{Address: address})
				if got := described(r); got != tt.want {
					t.Errorf("got %s, want %s\n%v", got, tt.want, r.Err)
				}
			})
		}
	}
}
