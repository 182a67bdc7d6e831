package blackbox_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestDescriptorsOfHungProbes counts what one holds while it waits for an answer
// of which a part came: in another process, since the servers hold some too.
func TestDescriptorsOfHungProbes(t *testing.T) {
	_, _, target := otherProcess(t)
	p := newProber(t, parseModule(t, blackbox.HTTP, ""))
	settle(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before, n := count(), 32
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var probes sync.WaitGroup
	for range n {
		probes.Go(func() { p.Probe(ctx, probe.Request{Address: target}) })
	}
	time.Sleep(time.Second)
	held := count() - before
	for range 100 { // on a slow machine not all of them hang yet
		if held >= n {
			break
		}
		time.Sleep(100 * time.Millisecond)
		held = count() - before
	}
	cancel()
	probes.Wait()
	settle(t)
	if held > n+2 {
		t.Errorf("%d hung probes hold %d descriptors", n, held)
	}
	if held < n {
		t.Errorf("%d hung probes hold %d descriptors: they do not hang", n, held)
	}
	if left := count() - before; left > 2 {
		t.Errorf("%d descriptors are left", left)
	}
}

// TestFilesThatAreNone has a FIFO that nobody writes to in the place of each file
// that a module may name: it is not waited for.
func TestFilesThatAreNone(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	target := web(t, withStatus(200))
	for _, settings := range []string{
		"{body_file: FIFO}",
		"{tls_config: {ca_file: FIFO}}",
		"{tls_config: {cert_file: FIFO, key_file: FIFO}}",
		"{bearer_token_file: FIFO}",
		"{authorization: {credentials_file: FIFO}}",
		"{basic_auth: {username_file: FIFO, password: p}}",
		"{basic_auth: {username: u, password_file: FIFO}}",
		"{http_headers: {X-Token: {files: [FIFO]}}}",
		"{oauth2: {client_id: a, client_secret_file: FIFO, token_url: 'http://127.0.0.1:1/'}}",
	} {
		p := newProber(t, parseModule(t, blackbox.HTTP, strings.ReplaceAll(settings, "FIFO", fifo)))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		r := p.Probe(ctx, probe.Request{Address: target})
		if described(r) != "local_error none local" || ctx.Err() != nil || !strings.Contains(fmt.Sprint(r.Err), "regular file") {
			t.Errorf("%s: %s: %v", settings, described(r), r.Err)
		}
		cancel()
	}
	settle(t)
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
