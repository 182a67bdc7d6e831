package probe

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// runServer runs a program until the test ends, as a user if one is given.
func runServer(t *testing.T, as *syscall.SysProcAttr, path string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr, cmd.Dir = &output, &output, as, "/"
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", path, err, &output)
		}
	})
}

// startNginx serves a certificate on each port.
func startNginx(t *testing.T, certificates map[string]string) {
	t.Helper()
	dir := t.TempDir()
	var servers strings.Builder
	for port, pem := range certificates {
		fmt.Fprintf(&servers, "server { listen 127.0.0.1:%s ssl; ssl_certificate %[2]s; ssl_certificate_key %[2]s; location / { return 200; } }\n", port, pem)
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; user www-data; worker_processes 1; pid %s/pid; error_log stderr;\nevents {}\nhttp { access_log off;\n%s}\n", dir, &servers)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	runServer(t, nil, porttest.Program(t, "SKIP-SERVERS", "nginx", "/usr/sbin/nginx"), "-c", conf, "-p", dir)
}

// startRedis listens on TCP and on a unix-domain socket, whose path it returns.
func startRedis(t *testing.T) string {
	t.Helper()
	path := porttest.Program(t, "SKIP-SERVERS", "redis-server")
	as := porttest.As(t, "redis")
	dir := porttest.DirOf(t, as)
	socket := filepath.Join(dir, "socket")
	runServer(t, as, path, "--bind", "127.0.0.1", "--port", "6379", "--unixsocket", socket, "--dir", dir, "--save", "")
	return socket
}

// startPostgres listens with TLS.
func startPostgres(t *testing.T, write func(dir string) string) {
	t.Helper()
	path := porttest.Program(t, "SKIP-SERVERS", "/usr/lib/postgresql/*/bin/postgres")
	as := porttest.As(t, "postgres")
	dir := porttest.DirOf(t, as)
	initdb := exec.Command(filepath.Join(filepath.Dir(path), "initdb"), "--no-sync", "-A", "trust", "-D", filepath.Join(dir, "data"))
	initdb.SysProcAttr, initdb.Dir = as, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	pem := write(dir)
	porttest.Own(t, as, pem)
	runServer(t, as, path, "-D", filepath.Join(dir, "data"), "-h", "127.0.0.1", "-p", "5432", "-k", dir,
		"-c", "ssl=on", "-c", "ssl_cert_file="+pem, "-c", "ssl_key_file="+pem)
}

// TestServersInNamespace probes real servers.
func TestServersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	ca := newAuthority(t)
	dir := t.TempDir()
	soon, past := time.Now().Add(100*time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour).Truncate(time.Second)
	startNginx(t, map[string]string{
		"8443": writePEM(t, dir, "valid", ca.issue(t, "name.example", soon)),
		"8444": writePEM(t, dir, "expired", ca.issue(t, "name.example", past)),
		"8445": writePEM(t, dir, "other", ca.issue(t, "other.example", soon)),
		"8446": writePEM(t, dir, "own", (*authority)(nil).issue(t, "name.example", soon)),
	})
	redis := startRedis(t)
	startPostgres(t, func(dir string) string { return writePEM(t, dir, "pem", ca.issue(t, "name.example", soon)) })

	for _, address := range []string{"127.0.0.1:8443", "127.0.0.1:8444", "127.0.0.1:8445", "127.0.0.1:8446", "127.0.0.1:6379", "127.0.0.1:5432"} {
		awaitReached(t, &TCP{}, address)
	}
	awaitReached(t, &Unix{}, redis)

	var (
		none     = Conversation{}
		http     = Conversation{TLS: true, TLSConfig: ca.trusting(), Exchange: []Step{{Send: "GET / HTTP/1.0\r\nHost: name.example\r\n\r"}, expect("^HTTP/1.1 200 ")}}
		ping     = Conversation{Exchange: []Step{{Send: "PING"}, expect(`^\+PONG$`)}}
		authWant = Conversation{Exchange: []Step{{Send: "PING"}, expect("^-NOAUTH"), {Send: "QUIT"}}}
		// SSLRequest of the PostgreSQL protocol: length 8, code 80877103.
		request  = Step{SendBytes: []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}}
		postgres = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{request, {ExpectBytes: []byte("S")}, {StartTLS: true}}}
		asLine   = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{{Send: string(request.SendBytes)}, {ExpectBytes: []byte("S")}, {StartTLS: true}}}
		distrust = Conversation{Exchange: postgres.Exchange}
		refusing = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{request, {ExpectBytes: []byte("N")}}}
	)
	for _, tc := range []struct {
		name    string
		prober  Prober
		address string
		outcome Outcome
		phase   Phase
		expiry  time.Time // zero if no certificate is told
	}{
		{"nginx", &TCP{Conversation: http}, "127.0.0.1:8443", Open, PhaseNone, soon},
		{"nginx, expired", &TCP{Conversation: http}, "127.0.0.1:8444", TLSCertificate, PhaseTLS, past},
		{"nginx, of another name", &TCP{Conversation: http}, "127.0.0.1:8445", TLSCertificate, PhaseTLS, soon},
		{"nginx, self-signed", &TCP{Conversation: http}, "127.0.0.1:8446", TLSCertificate, PhaseTLS, soon},
		{"nginx, plain text", &TCP{Conversation: ping}, "127.0.0.1:8443", Mismatch, PhaseExchange, time.Time{}},
		{"nginx, connect", &TCP{Conversation: none}, "127.0.0.1:8443", Open, PhaseNone, time.Time{}},
		{"redis", &TCP{Conversation: ping, CloseReset: true}, "127.0.0.1:6379", Open, PhaseNone, time.Time{}},
		{"redis, something else expected", &TCP{Conversation: authWant}, "127.0.0.1:6379", Timeout, PhaseExchange, time.Time{}},
		{"redis, unix", &Unix{Conversation: ping}, redis, Open, PhaseNone, time.Time{}},
		{"PostgreSQL", &TCP{Conversation: postgres}, "127.0.0.1:5432", Open, PhaseNone, soon},
		{"PostgreSQL, as blackbox.yml has it", &TCP{Conversation: asLine}, "127.0.0.1:5432", Open, PhaseNone, soon},
		{"PostgreSQL, unknown authority", &TCP{Conversation: distrust}, "127.0.0.1:5432", TLSCertificate, PhaseTLS, soon},
		{"PostgreSQL, no TLS expected", &TCP{Conversation: refusing}, "127.0.0.1:5432", Mismatch, PhaseExchange, time.Time{}},
		{"nobody", &TCP{}, "127.0.0.1:1", Refused, PhaseConnect, time.Time{}},
	} {
		// No subtest: the namespace is that of this thread.
		m := Module{Prober: tc.prober, Timeout: 10 * time.Second}
		if tc.outcome == Timeout {
			m.Timeout = time.Second
		}
		got := m.Probe(t.Context(), Request{Address: tc.address, Hostname: "name.example"})
		if got.Outcome != tc.outcome || got.Phase != tc.phase {
			t.Errorf("%s: got %s in %q, want %s in %q: %v", tc.name, got.Outcome, got.Phase, tc.outcome, tc.phase, got.Err)
		}
		expiry, ok := sample(got, "probe_ssl_earliest_cert_expiry")
		if ok == tc.expiry.IsZero() || ok && expiry != float64(tc.expiry.Unix()) {
			t.Errorf("%s: expiry %v (there: %v), want %v", tc.name, expiry, ok, tc.expiry.Unix())
		}
	}
}

// awaitReached probes until a server is there.
func awaitReached(t *testing.T, p Prober, address string) {
	t.Helper()
	var got Result
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got = p.Probe(t.Context(), Request{Address: address}); got.Outcome == Open {
			return
		}
	}
	t.Fatalf("%s: %v", address, got.Err)
}
