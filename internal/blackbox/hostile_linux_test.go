package blackbox_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestDescriptorsOfHungProbes counts the sockets that probes hold while they wait for the
// rest of an answer. The server is another process, since it holds some too.
func TestDescriptorsOfHungProbes(t *testing.T) {
	_, _, target := otherProcess(t)
	p := newProber(t, parseModule(t, probe.KindHTTP, ""))
	settle(t)
	before, n := ownSockets(t), 32
	// What tests before this one have closed by now is not what is counted.
	count := func() (held int) {
		for socket := range ownSockets(t) {
			if !before[socket] {
				held++
			}
		}
		return held
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var probes sync.WaitGroup
	for range n {
		probes.Go(func() { p.Probe(ctx, probe.Request{Address: target}) })
	}
	time.Sleep(time.Second)
	held := count()
	for range 1000 { // on a slow machine not all of them hang yet
		if held >= n {
			break
		}
		time.Sleep(100 * time.Millisecond)
		held = count()
	}
	cancel()
	probes.Wait()
	settle(t)
	if held > n+2 {
		t.Errorf("%d hung probes hold %d sockets", n, held)
	}
	if held < n {
		t.Errorf("%d hung probes hold %d sockets: they do not hang", n, held)
	}
	if left := count(); left > 2 {
		t.Errorf("%d sockets are left", left)
	}
}

// ownSockets returns the sockets of this process, as /proc/self/fd names them.
func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	sockets := map[string]bool{}
	for _, e := range entries {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(name, "socket:") {
			sockets[name] = true
		}
	}
	return sockets
}

// TestFilesThatAreNone has what is no file, or has no end or nothing in it, in the place
// of each file that a module may name: nothing of it is waited for, or sent.
func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	fifo, empty, large := filepath.Join(dir, "fifo"), filepath.Join(dir, "empty"), filepath.Join(dir, "large")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, size := range map[string]int64{empty: 0, large: 1 << 40} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t)
	pem := porttest.WritePEM(t, filepath.Join(dir, "pem"), s.valid)
	target := web(t, withStatus(200))
	for _, settings := range []string{
		"{body_file: FILE}",
		"{tls_config: {ca_file: FILE}}",
		"{tls_config: {cert_file: FILE, key_file: PEM}}",
		"{tls_config: {cert_file: PEM, key_file: FILE}}",
		"{bearer_token_file: FILE}",
		"{authorization: {credentials_file: FILE}}",
		"{basic_auth: {username_file: FILE, password: p}}",
		"{basic_auth: {username: u, password_file: FILE}}",
		"{http_headers: {X-Token: {files: [FILE]}}}",
		"{oauth2: {client_id: a, client_secret_file: FILE, token_url: 'http://127.0.0.1:1/'}}",
		"{oauth2: {client_id: a, client_secret: b, token_url: 'https://127.0.0.1:1/', tls_config: {ca_file: FILE}}}",
		"{oauth2: {client_id: a, grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', client_certificate_key_file: FILE, token_url: 'http://127.0.0.1:1/'}}",
	} {
		for path, want := range map[string]string{
			fifo: "it is a pipe, not a regular file", dir: "it is a directory", "/dev/zero": "it is a device",
			large: "it is larger than", empty: "the file is empty", filepath.Join(dir, "gone"): "no such file",
		} {
			if path == empty && strings.Contains(settings, "body_file") {
				continue // an empty body is one
			}
			p := newProber(t, parseModule(t, probe.KindHTTP, strings.NewReplacer("FILE", path, "PEM", pem).Replace(settings)))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			r := p.Probe(ctx, probe.Request{Address: target})
			if described(r) != "local_error none local" || ctx.Err() != nil || !strings.Contains(fmt.Sprint(r.Err), want) {
				t.Errorf("%s: %s: %s: %v", settings, path, described(r), r.Err)
			}
			cancel()
		}
	}
	settle(t)
}

// TestFilesAreReadAnew changes each file between two probes, as blackbox_exporter's
// users do when a password or certificate is rotated.
func TestFilesAreReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	put := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		changed := time.Now().Add(-age)
		if err := os.Chtimes(file, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var heard string
	target := web(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		user, password, _ := r.BasicAuth()
		mu.Lock()
		defer mu.Unlock()
		heard = fmt.Sprint(user, password, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), r.Header.Get("X-Token"), string(body))
	})
	for _, settings := range []string{
		"{method: POST, body_file: FILE}",
		"{bearer_token_file: FILE}",
		"{authorization: {credentials_file: FILE}}",
		"{basic_auth: {username_file: FILE, password: p}}",
		"{basic_auth: {username: u, password_file: FILE}}",
		"{http_headers: {X-Token: {files: [FILE]}}}",
	} {
		p := newProber(t, parseModule(t, probe.KindHTTP, strings.ReplaceAll(settings, "FILE", file)))
		for age, text := range []string{"first", "second", "third"} {
			put(text, time.Hour-time.Duration(age)*time.Minute)
			if r := p.Probe(t.Context(), probe.Request{Address: target}); r.Outcome != probe.Open {
				t.Errorf("%s: %s: %v", settings, described(r), r.Err)
			}
			mu.Lock()
			if !strings.Contains(heard, text) {
				t.Errorf("%s: sent %q, want %q", settings, heard, text)
			}
			mu.Unlock()
		}
	}
}

// TestCertificatesOfModulesAreReadAnew changes the authority that a module trusts
// between two probes.
func TestCertificatesOfModulesAreReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	mine, others := newSite(t), newSite(t)
	put := func(from string, age time.Duration) {
		t.Helper()
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		changed := time.Now().Add(-age)
		if err := os.Chtimes(file, changed, changed); err != nil {
			t.Fatal(err)
		}
	}
	target := secureWeb(t, withCertificate(mine.valid))
	p := newProber(t, parseModule(t, probe.KindHTTP, "{tls_config: {server_name: server.test, ca_file: "+file+"}}"))
	for age, step := range []struct{ file, want string }{
		{others.file, "tls_certificate tls target"}, {mine.file, "open none none"}, {others.file, "tls_certificate tls target"},
	} {
		put(step.file, time.Hour-time.Duration(age)*time.Minute)
		if r := p.Probe(t.Context(), probe.Request{Address: target}); described(r) != step.want {
			t.Errorf("step %d: %s, want %s: %v", age, described(r), step.want, r.Err)
		}
	}
}

// dripSome answers with the beginning of a body, twice, and then waits.
func dripSome(c net.Conn) {
	request(c)
	for range 2 {
		c.Write([]byte(raw("200 OK", "Content-Length: 1000")))
		time.Sleep(50 * time.Millisecond)
	}
	silent(c.(*net.TCPConn))
}
