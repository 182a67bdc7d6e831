package blackbox_test

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// listening127 returns what listens on 127.0.0.1 of this process, found as a
// stranger would: in /proc/net/tcp, where 0A is LISTEN.
func listening127(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	own := ownSockets(t)
	var found []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != "0A" || !own["socket:["+f[9]+"]"] {
			continue
		}
		host, port, _ := strings.Cut(f[1], ":")
		b, err := hex.DecodeString(host)
		if err != nil || b[3] != 127 {
			continue
		}
		n, err := strconv.ParseUint(port, 16, 16)
		if err != nil {
			continue
		}
		found = append(found, netip.AddrPortFrom(netip.AddrFrom4([4]byte{b[3], b[2], b[1], b[0]}), uint16(n)).String())
	}
	return found
}

func ownSockets(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]bool{}
	for _, file := range files {
		to, _ := os.Readlink(file)
		own[to] = true
	}
	return own
}

// TestStrangers has others of this host connect to the relay, many times, before
// a probe makes its second connection.
func TestStrangers(t *testing.T) {
	const many = 100
	var (
		strangers []net.Conn
		others    []string
		next      = web(t, withStatus(200))
	)
	target := web(t, func(w http.ResponseWriter, r *http.Request) {
		for _, address := range listening127(t) {
			for range many {
				if slices.Contains(others, address) {
					break
				}
				c, err := net.DialTimeout("tcp", address, time.Second)
				if err != nil {
					t.Errorf("%s: %v", address, err)
					break
				}
				strangers = append(strangers, c)
			}
		}
		redirecting(next)(w, r)
	})
	others = listening127(t)
	r := probeWith(t, parseModule(t, blackbox.HTTP, ""), probe.Request{Address: target})
	if len(strangers) != many {
		t.Errorf("%d strangers connected, want %d to the relay", len(strangers), many)
	}
	if r.Outcome != probe.Open {
		t.Errorf("%s: %v", described(r), r.Err)
	}
	for _, c := range strangers {
		c.Close()
	}
	settle(t)
}

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
		if held >= 2*n {
			break
		}
		time.Sleep(100 * time.Millisecond)
		held = count() - before
	}
	cancel()
	probes.Wait()
	settle(t)
	if held > 4*n {
		t.Errorf("%d hung probes hold %d descriptors", n, held)
	}
	if held < 2*n {
		t.Errorf("%d hung probes hold %d descriptors: they do not hang", n, held)
	}
	if left := count() - before; left > 2 {
		t.Errorf("%d descriptors are left", left)
	}
}

// TestStuckProbesAreBounded has a body from a FIFO that nobody writes to, which
// the prober waits for without end: no more than 16 are left to do so.
func TestStuckProbesAreBounded(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "body")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProber(t, parseModule(t, blackbox.HTTP, "{body_file: "+fifo+"}"))
	var outcomes []probe.Outcome
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		outcomes = append(outcomes, p.Probe(ctx, probe.Request{Address: "127.0.0.1:1"}).Outcome)
		cancel()
	}
	if outcomes[0] != probe.Timeout || outcomes[19] != probe.LocalError {
		t.Errorf("%v", outcomes)
	}
	over := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() { // once is not enough: who comes to open it later waits again
		for ; !closed(over); time.Sleep(10 * time.Millisecond) {
			if w, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
				w.Close()
			}
		}
	})
	settle(t)
	close(over)
	writing.Wait()
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
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
