//go:build unix

package gate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	toolkit "github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/crypto/bcrypt"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

func addresses(l *porttest.Log) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if _, address, ok := strings.Cut(line, `msg="Listening on" address=`); ok {
			found = append(found, strings.TrimSpace(address))
		}
	}
	return found
}

// serving is a server behind a gate.
type serving struct {
	dir, address string
	log          *porttest.Log
	client       *http.Client // with TLS it trusts whom it is given
	scheme       string
	gate         *Gate
}

// write replaces a file, as a tool does that truncates it, and has it look settled.
func (s *serving) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(s.dir, name)
	_ = os.Remove(path)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	settled(t, path)
}

func settled(t *testing.T, path string) {
	t.Helper()
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, long, long); err != nil {
		t.Fatal(err)
	}
}

// start serves with the file web.yml of the directory.
func start(t *testing.T, dir string) *serving {
	t.Helper()
	g, err := Open(t.Context(), filepath.Join(dir, "web.yml"))
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{dir: dir, log: &porttest.Log{}, client: &http.Client{}, scheme: "http", gate: g}
	server := &http.Server{ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })}
	at, systemd := []string{"127.0.0.1:0"}, false
	ended := make(chan error, 1)
	go func() {
		ended <- g.ListenAndServe(server, &toolkit.FlagConfig{WebListenAddresses: &at, WebSystemdSocket: &systemd}, slog.New(slog.NewTextHandler(s.log, nil)), func(net.Addr) {})
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	porttest.Await(t, "the server to listen", func() bool { return len(addresses(s.log)) == 1 })
	s.address = addresses(s.log)[0]
	return s
}

// status asks with a password; empty is without.
func (s *serving) status(password string) int {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, s.scheme+"://"+s.address+"/", nil)
	if err != nil {
		return 0
	}
	if password != "" {
		r.SetBasicAuth("prometheus", password)
	}
	defer s.client.CloseIdleConnections()
	response, err := s.client.Do(r)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

// TestBrokenFileKeepsTheDoorShut replaces a file with users by what has none, or
// cannot be read: without the password nobody comes in, and with it everybody, as
// before.
func TestBrokenFileKeepsTheDoorShut(t *testing.T) {
	t.Parallel()
	whole := "basic_auth_users:\n  prometheus: " + hashOf(t, "s3cret") + "\n  other: " + hashOf(t, "other") + "\n"
	for name, text := range map[string]string{
		"empty": "", "a comment": "# x\n", "without users": "basic_auth_users:\n", "something else": "http_server_config: {http2: false}\n",
		"cut in a line": whole[:len(whole)-71], "no YAML": "basic_auth_users: {", "a wrong key": "basic_auth_user: {}\n", "a plain password": "basic_auth_users: {prometheus: s3cret}\n",
		"with TLS": "tls_server_config: {cert_file: a, key_file: b}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepShut(t, whole, func(s *serving, _ string) { s.write(t, "web.yml", text) })
		})
	}
	for name, put := range map[string]func(path string) error{
		"missing":     func(string) error { return nil },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"a pipe":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"endless":     func(path string) error { return os.Symlink("/dev/zero", path) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keepShut(t, whole, func(_ *serving, path string) {
				_ = os.Remove(path)
				if err := put(path); err != nil {
					t.Fatal(err)
				}
				if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSymlink == 0 {
					settled(t, path)
				}
			})
		})
	}
}

// keepShut breaks the file of a server: the passwords stay in force until there is
// a good file with others.
func keepShut(t *testing.T, whole string, breakFile func(s *serving, path string)) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yml")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	shut := func() {
		t.Helper()
		for password, want := range map[string]int{"": 401, "wrong": 401, "s3cret": 200} {
			if status := s.status(password); status != want {
				t.Errorf("with the password %q: %d", password, status)
			}
		}
	}
	shut()
	breakFile(s, path)
	porttest.Await(t, "the file to be refused", func() bool {
		shut()
		return t.Failed() || strings.Contains(s.log.String(), "web configuration reload failed")
	})
	if strings.Contains(s.log.String(), "s3cret") || strings.Contains(s.log.String(), "$2a$") {
		t.Errorf("the log has a secret:\n%s", s.log)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	s.write(t, "web.yml", "basic_auth_users:\n  prometheus: "+hashOf(t, "n3w")+"\n")
	porttest.Await(t, "the new password", func() bool { return s.status("n3w") == 200 })
	if status := s.status("s3cret"); status != 401 {
		t.Errorf("with the old password: %d", status)
	}
}

func TestFileThatOpensTheDoor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte("basic_auth_users: {prometheus: "+hashOf(t, "s3cret")+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if status := s.status(""); status != 401 {
		t.Errorf("without a password: %d", status)
	}
	s.write(t, "web.yml", "basic_auth_users: {}\n")
	porttest.Await(t, "nothing to be asked for, as the file says", func() bool { return s.status("") == 200 })
}

// TestState breaks the file and puts the same one back: until it is there again the
// state says that an earlier one is in force, and since when.
func TestState(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, aside := filepath.Join(dir, "web.yml"), filepath.Join(dir, "aside")
	if err := os.WriteFile(path, []byte("basic_auth_users:\n  prometheus: "+hashOf(t, "s3cret")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settled(t, path)
	began := time.Now()
	s := start(t, dir)
	first, ok := s.gate.State()
	if !ok || !first.Current || first.Since.Before(began) || first.Since.After(time.Now()) {
		t.Fatalf("at first: %+v, %t", first, ok)
	}
	become := func(what string, current bool) State {
		t.Helper()
		var state State
		porttest.Await(t, what, func() bool {
			s.status("s3cret") // which looks at the files
			state, _ = s.gate.State()
			return state.Current == current
		})
		return state
	}
	if err := os.Rename(path, aside); err != nil {
		t.Fatal(err)
	}
	if state := become("the file to be missed", false); !state.Since.Equal(first.Since) {
		t.Errorf("in force since %v, was %v", state.Since, first.Since)
	}
	if err := os.Rename(aside, path); err != nil {
		t.Fatal(err)
	}
	if state := become("the same file to be back", true); !state.Since.Equal(first.Since) {
		t.Errorf("in force since %v, was %v", state.Since, first.Since)
	}
	s.write(t, "web.yml", "basic_auth_users: {")
	become("a broken file to be refused", false)
	s.write(t, "web.yml", "basic_auth_users: {prometheus: "+hashOf(t, "s3cret")+"}\n")
	if state := become("a good file", true); !state.Since.After(first.Since) {
		t.Errorf("in force since %v, was %v", state.Since, first.Since)
	}
	none, err := Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if state, ok := none.State(); ok {
		t.Errorf("without a web configuration: %+v", state)
	}
}

// TestTruncatedInPlace has a tool that truncates the file and writes it, over and
// over: without the password nobody comes in.
func TestTruncatedInPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yml")
	whole := "basic_auth_users:\n  prometheus: " + hashOf(t, "s3cret") + "\n"
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			f, err := os.Create(path)
			if err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
			_, _ = f.WriteString(whole)
			_ = f.Close()
			time.Sleep(10 * time.Millisecond)
		}
	}()
	defer func() { cancel(); <-ended }()
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); {
		if status := s.status(""); status != 401 {
			t.Fatalf("without a password: %d", status)
		}
		if status := s.status("s3cret"); status != 200 {
			t.Fatalf("with the password: %d", status)
		}
	}
}

// TestCertificatesAreRotated replaces certificate and key, one after the other, and
// each by nothing: the last good pair is served until the new one is whole.
func TestCertificatesAreRotated(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := porttest.SelfSigned(t), porttest.SelfSigned(t)
	porttest.WritePEM(t, filepath.Join(dir, "1.pem"), first)
	porttest.WritePEM(t, filepath.Join(dir, "2.pem"), second)
	text := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	one, two := text("1.pem"), text("2.pem")
	for name, text := range map[string]string{"cert.pem": one, "key.pem": one, "web.yml": "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, dir)
	s.scheme = "https"
	trust := func(c *x509.Certificate) {
		pool := x509.NewCertPool()
		pool.AddCert(c)
		s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	}
	trust(first.Leaf)
	if status := s.status(""); status != 200 {
		t.Fatalf("status %d", status)
	}
	keeps := func(what string) {
		t.Helper()
		before := strings.Count(s.log.String(), "web configuration reload failed")
		porttest.Await(t, what+" to be refused", func() bool {
			if status := s.status(""); status != 200 {
				t.Fatalf("%s: the old certificate is gone: %d", what, status)
			}
			return strings.Count(s.log.String(), "web configuration reload failed") > before
		})
	}
	s.write(t, "cert.pem", "")
	keeps("an empty certificate")
	s.write(t, "cert.pem", two)
	keeps("a certificate without its key")
	s.write(t, "web.yml", "tls_server_config:\n")
	keeps("a file without TLS")
	s.write(t, "web.yml", "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n")
	s.write(t, "key.pem", two)
	trust(second.Leaf)
	porttest.Await(t, "the new certificate", func() bool { return s.status("") == 200 })
}

// TestClientCertificatesStayRequired has a file that is cut before the line that
// asks clients for a certificate.
func TestClientCertificatesStayRequired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := porttest.SelfSigned(t)
	porttest.WritePEM(t, filepath.Join(dir, "pem"), certificate)
	const cut = "tls_server_config:\n  cert_file: pem\n  key_file: pem\n"
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte(cut+"  client_ca_file: pem\n  client_auth_type: RequireAndVerifyClientCert\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	s.scheme = "https"
	pool := x509.NewCertPool()
	pool.AddCert(certificate.Leaf)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	s.write(t, "web.yml", cut)
	porttest.Await(t, "the file to be refused", func() bool {
		if status := s.status(""); status != 0 {
			t.Fatalf("without a certificate: %d", status)
		}
		return strings.Contains(s.log.String(), "client_auth_type: key was removed")
	})
}

// TestClientCAStaysTheOnlyOne has a file that is cut before its last line, which names
// the CA of clients: Go would verify them by the CAs of the system. That is an error
// at start too.
func TestClientCAStaysTheOnlyOne(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certificate := porttest.SelfSigned(t)
	porttest.WritePEM(t, filepath.Join(dir, "pem"), certificate)
	file := filepath.Join(dir, "web.yml")
	for _, mode := range []string{"VerifyClientCertIfGiven", "RequireAndVerifyClientCert"} {
		cut := "tls_server_config:\n  cert_file: pem\n  key_file: pem\n  client_auth_type: " + mode + "\n"
		if err := os.WriteFile(file, []byte(cut), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), mode+" requires client_ca_file") {
			t.Errorf("%s at start: %v", mode, err)
		}
		if err := os.WriteFile(file, []byte(cut+"  client_ca_file: pem\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s := start(t, dir)
		s.write(t, "web.yml", cut)
		porttest.Await(t, "the file to be refused", func() bool {
			_ = s.gate.current()
			return strings.Contains(s.log.String(), mode+" requires client_ca_file")
		})
		if cas := s.gate.TLS().ClientCAs; cas == nil || !cas.Equal(poolOf(certificate.Leaf)) {
			t.Errorf("%s: clients are verified by other CAs", mode)
		}
	}
}

func poolOf(certificates ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// TestCutInALine has files that end within a line: each is refused, whatever it lacks.
func TestCutInALine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := "basic_auth_users:\n  prometheus: " + hashOf(t, "s3cret") + "\n"
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte(users+"http_server_config:\n  headers:\n    X-Frame-Options: deny\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	s.write(t, "web.yml", strings.TrimSuffix(users, "\n"))
	porttest.Await(t, "the file to be refused", func() bool {
		_ = s.gate.current()
		return strings.Contains(s.log.String(), "file does not end with a line break")
	})
}

// TestFutureIsSeenTwice has files whose times are ahead, as on a server whose clock is:
// one that changes from check to check is not put in force.
func TestFutureIsSeenTwice(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "web.yml")
	put := func(users string, ahead time.Duration) {
		t.Helper()
		if err := os.WriteFile(file, []byte("basic_auth_users:\n"+users), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Now().Add(ahead)
		if err := os.Chtimes(file, at, at); err != nil {
			t.Fatal(err)
		}
	}
	one, two := "  a: "+hashOf(t, "a")+"\n", "  b: "+hashOf(t, "b")+"\n"
	put(one+two, -time.Hour)
	g, err := Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		write string
		ahead time.Duration
		want  int // users in force
	}{{one, time.Hour, 2}, {one + two, 2 * time.Hour, 2}, {one, 3 * time.Hour, 2}, {"", 0, 1}} {
		if step.write != "" {
			put(step.write, step.ahead)
		}
		g.refresh()
		if got := len(g.inForce.Load().Users); got != step.want {
			t.Errorf("step %d: %d users, want %d", i, got, step.want)
		}
	}
}

func TestOpenFaults(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "web.yml")
	for text, want := range map[string]string{
		"x: 1\n":                       "line 1: field x not found",
		"basic_auth_users: {a: b}\n":   "basic_auth_users.a: not a bcrypt hash",
		"basic_auth_users: [secret]\n": "cannot unmarshal",
		"tls_server_config: {cert_file: nope, key_file: nope}\n": "tls_server_config.cert_file: open " + dir + "/nope",
		"tls_server_config: {cert_file: nope}\n":                 "tls_server_config",
		"http_server_config: {headers: {X: y}}\n":                "http_server_config.headers.X",
		"http_server_config: {headers: {X-Frame-Options: y}}\n":  "http_server_config.headers.X-Frame-Options",
		"{}\n---\n{}\n": "a second YAML document",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error has the secret: %v", text, err)
		}
	}
}

// TestWrongPasswordsDoNotHoldRightOnes has many clients with wrong passwords: one
// whose password was right before waits for none of them.
func TestWrongPasswordsDoNotHoldRightOnes(t *testing.T) {
	dir := t.TempDir()
	hash, err := bcrypt.GenerateFromPassword([]byte("s3cret"), 12)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "web.yml"), []byte("basic_auth_users:\n  prometheus: "+string(hash)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, dir)
	if status := s.status("s3cret"); status != 200 {
		t.Fatalf("status %d", status)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wrong sync.WaitGroup
	for i := range 20 {
		wrong.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/", nil)
				r.SetBasicAuth([]string{"prometheus", "nobody"}[n%2], fmt.Sprint("wrong", i, n))
				if response, err := http.DefaultClient.Do(r); err == nil {
					_ = response.Body.Close()
				}
			}
		})
	}
	defer func() { cancel(); wrong.Wait() }()
	for range 150 { // more than the toolkit remembers
		began := time.Now()
		if status := s.status("s3cret"); status != 200 {
			t.Fatalf("status %d", status)
		}
		// One comparison takes a quarter of a second, twenty take five.
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
	}
}

// TestClientsTakeTurns has one client try wrong passwords, and another come with its
// right one for the first time.
func TestClientsTakeTurns(t *testing.T) {
	turns := newTurns()
	attacker, scraper := netaddr.Client("192.0.2.1:1"), netaddr.Client("192.0.2.2:1")
	turns.hashing <- struct{}{} // busy
	var order []string
	var waiting sync.WaitGroup
	ask := func(name string, client netip.Prefix) {
		waiting.Go(func() {
			done, ok := turns.wait(t.Context(), client)
			if !ok {
				t.Error("no turn")
				return
			}
			order = append(order, name) // one at a time
			done()
		})
	}
	const many = 50
	for range many {
		ask("attacker", attacker)
	}
	ask("scraper", scraper)
	porttest.Await(t, "all to wait", func() bool {
		turns.mu.Lock()
		defer turns.mu.Unlock()
		return len(turns.clients) == 2 && turns.clients[attacker].requests == many && len(turns.clients[scraper].held) == 1
	})
	<-turns.hashing
	waiting.Wait()
	if at := slices.Index(order, "scraper"); at > 2 {
		t.Errorf("the scraper came after %d of the attacker", at)
	}
	if len(turns.clients) != 0 {
		t.Errorf("left behind: %v", turns.clients)
	}
}

// TestTurnThatIsNotWaitedFor gives up before the turn comes.
func TestTurnThatIsNotWaitedFor(t *testing.T) {
	turns := newTurns()
	turns.hashing <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, ok := turns.wait(ctx, netaddr.Client("192.0.2.1:1")); ok || len(turns.clients) != 0 {
		t.Errorf("got a turn, or %v is left", turns.clients)
	}
}

// TestEmptyAtStart opens what may be an emptied file.
func TestEmptyAtStart(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "basic_auth_users:\n", "tls_server_config:\nbasic_auth_users: {}\n"} {
		file := filepath.Join(t.TempDir(), "web.yml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), "hint: ") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
