package probetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// heard is what clients sent to a server that only listens.
type heard struct {
	connections atomic.Int32
	first       atomic.Pointer[string] // what the first one sent
}

// hear serves a plain protocol.
func hear(t *testing.T, address string) *heard {
	t.Helper()
	h := &heard{}
	porttest.Serve(t, listenTCP(t, address), func(c net.Conn) {
		h.connections.Add(1)
		bytes := make([]byte, 16<<10)
		n, _ := c.Read(bytes)
		text := string(bytes[:n])
		h.first.CompareAndSwap(nil, &text)
		_, _ = io.WriteString(c, "what?\r\n")
	})
	return h
}

func listenTCP(t *testing.T, address string) net.Listener {
	t.Helper()
	reuse := func(_, _ string, c syscall.RawConn) error { // several addresses of a port, the wildcard among them
		return c.Control(func(fd uintptr) {
			_ = porttest.ReusePort(int(fd))
			if strings.HasSuffix(address, ":6443") {
				_ = porttest.BindToDevice("eth8")(int(fd))
			}
		})
	}
	network := "tcp4" // of tcp, 0.0.0.0 is ::
	if strings.HasPrefix(address, "[") {
		network = "tcp"
	}
	l, err := (&net.ListenConfig{Control: reuse}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serveTLS serves TLS with a certificate for a name, until it is closed.
func serveTLS(t *testing.T, address, name string, change ...func(*tls.Config)) net.Listener {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{porttest.SelfSigned(t, func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.NotAfter = time.Now().Add(30 * 24 * time.Hour)
		if name == "expired" {
			c.NotAfter = time.Now().Add(-24 * time.Hour)
		}
	})}}
	for _, f := range change {
		f(config)
	}
	l := listenTCP(t, address)
	porttest.Serve(t, l, func(c net.Conn) {
		server := tls.Server(c, config)
		if server.Handshake() == nil {
			_, _ = io.Copy(io.Discard, server)
		}
	})
	return l
}

// subjects returns the subject of the certificate of each listener.
func subjects(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for series := range porttest.Scrape(t, "port_listener_tls_info{") {
		found[label(series, "address")+" "+label(series, "port")] = label(series, "subject") + " " + label(series, "version")
	}
	return found
}

func label(series, name string) string {
	_, rest, _ := strings.Cut(series, name+`="`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// TestCertificatesInNamespace has the daemon read the certificates of real servers,
// and send nothing to any other.
func TestCertificatesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24", "192.0.2.2/24")
	porttest.Address(t, "eth7", "2001:db8::1/64", "fe80::7/64")
	porttest.AddVeth(t, "eth8", "198.51.100.1/24")
	shutDown := serveTLS(t, "127.0.0.1:993", "gone soon")
	for address, name := range map[string]string{
		"0.0.0.0:443":       "every address",
		"127.0.0.1:443":     "loopback",
		"192.0.2.1:8443":    "one",
		"192.0.2.2:8443":    "the other",
		"[2001:db8::1]:853": "IPv6",
		"[::]:636":          "dual stack",
		"127.0.0.1:995":     "expired",
	} {
		serveTLS(t, address, name)
	}
	serveTLS(t, "127.0.0.1:8883", "mutual", func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	old := func(c *tls.Config) { c.MaxVersion = tls.VersionTLS10; c.MinVersion = tls.VersionTLS10 }
	serveTLS(t, "127.0.0.1:5671", "old", old)
	plain, unlisted, alsoUnlisted := hear(t, "127.0.0.1:9443"), hear(t, "127.0.0.1:9100"), hear(t, "192.0.2.1:80")
	porttest.Listen(t, "127.0.0.1:10257", 1) // says nothing
	serveTLS(t, "0.0.0.0:6443", "bound to a device")
	serveTLS(t, "[fe80::7%eth7]:6697", "link-local")
	porttest.Listen(t, "203.0.113.1:6514", 1, porttest.FreeBind)
	dir := porttest.OpenDir(t)
	porttest.WritePEM(t, filepath.Join(dir, "c.pem"), porttest.SelfSigned(t, func(c *x509.Certificate) { c.Subject.CommonName = "nginx" }))
	porttest.Nginx(t, dir, "server { listen 127.0.0.1:10250 ssl; ssl_certificate c.pem; ssl_certificate_key c.pem; return 204; }\n")
	config := write(t, "listener_tls: {ports: well-known}\n")
	porttest.StartDaemon(t, "port_exporter", "--config.file="+config, "--web.enable-lifecycle")

	want := map[string]string{
		"0.0.0.0 443": "CN=every address TLS 1.3", "127.0.0.1 443": "CN=loopback TLS 1.3", "192.0.2.1 8443": "CN=one TLS 1.3",
		"192.0.2.2 8443": "CN=the other TLS 1.3", "2001:db8::1 853": "CN=IPv6 TLS 1.3", ":: 636": "CN=dual stack TLS 1.3",
		"127.0.0.1 995": "CN=expired TLS 1.3", "127.0.0.1 993": "CN=gone soon TLS 1.3", "127.0.0.1 8883": "CN=mutual TLS 1.3",
		"0.0.0.0 6443": "CN=bound to a device TLS 1.3", "fe80::7 6697": "CN=link-local TLS 1.3", "127.0.0.1 5671": "CN=old TLS 1.0", "127.0.0.1 10250": "CN=nginx TLS 1.2",
	}
	awaitSubjects(t, want)
	outcomes := map[string]string{}
	porttest.Await(t, "all outcomes", func() bool {
		for series := range porttest.Scrape(t, "port_listener_tls_outcome_info{") {
			outcomes[label(series, "port")] = label(series, "outcome")
		}
		return len(outcomes) == 14
	})
	for port, outcome := range map[string]string{"443": "open", "995": "open", "8883": "tls_handshake", "9443": "tls_handshake", "10257": "timeout", "6514": "local_error"} {
		if outcomes[port] != outcome {
			t.Errorf("port %s: %q, want %q", port, outcomes[port], outcome)
		}
	}
	for series, expiry := range porttest.Scrape(t, "port_listener_tls_certificate_expiry_timestamp_seconds{") {
		if left := time.Until(time.Unix(int64(expiry), 0)); (left < 0) != (label(series, "port") == "995") {
			t.Errorf("%s expires in %v", series, left)
		}
	}
	if first := plain.first.Load(); plain.connections.Load() != 1 || first == nil || !strings.HasPrefix(*first, "\x16\x03") {
		t.Errorf("a plain server on a listed port: %d connections, sent %v", plain.connections.Load(), first)
	}
	if a, b := unlisted.connections.Load(), alsoUnlisted.connections.Load(); a+b > 0 {
		t.Errorf("%d connections to ports that are not listed", a+b)
	}

	_ = shutDown.Close()
	delete(want, "127.0.0.1 993")
	awaitSubjects(t, want)

	// What is known stays known, without another handshake.
	if err := os.WriteFile(config, fmt.Appendf(nil, "listener_tls: {ports: [443, 9443], interval: 2h}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, body := porttest.Post(t, porttest.ScrapeAddress, "/-/reload"); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	for id := range want {
		if !strings.HasSuffix(id, " 443") {
			delete(want, id)
		}
	}
	if got := subjects(t); len(got) != 2 || got["0.0.0.0 443"] != want["0.0.0.0 443"] {
		t.Errorf("right after a reload: %v, want %v", got, want)
	}
	if n := plain.connections.Load(); n != 1 {
		t.Errorf("a plain server was connected to %d times", n)
	}
}

func awaitSubjects(t *testing.T, want map[string]string) {
	t.Helper()
	var got map[string]string
	deadline := time.Now().Add(time.Minute)
	for got = subjects(t); fmt.Sprint(got) != fmt.Sprint(want); got = subjects(t) {
		if time.Now().After(deadline) {
			t.Fatalf("got  %v\nwant %v", got, want)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
