package prober

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// TestLeaks probes servers that do their worst a thousand times, and then
// counts what is left.
func TestLeaks(t *testing.T) {
	const probes, atOnce = 1000, 32
	ca := newAuthority(t)
	config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
	dir := t.TempDir()
	targets := []string{closedPort}
	var unixTargets []string
	for i, serve := range []func(net.Conn){
		hold, drips, endless("x"), endless("ERROR\n"), reset, leaves(""), says("220 here\n"), leaves("\x16\x03\x03"),
		underTLS(config, hold), underTLS(config, drips), underTLS(config, endless("ERROR\n")), underTLS(config, says("220 here\n")),
	} {
		targets = append(targets, startServer(t, "tcp", "127.0.0.1:0", serve))
		if i != 4 { // only TCP resets
			unixTargets = append(unixTargets, startServer(t, "unix", filepath.Join(dir, string(rune('a'+i))), serve))
		}
	}
	conversations := []Conversation{{}, {Exchange: []Step{expect("^220")}}, {TLS: true, TLSConfig: ca.trusting(), Exchange: []Step{expect("^220")}}}
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)

	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	var slowest time.Duration
	var lock sync.Mutex
	for i := range probes {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			c := conversations[i%len(conversations)]
			m := probe.Module{Prober: &TCP{Conversation: c, Breadth: Breadth{AllIPs: i%2 == 0}, CloseReset: i%5 == 0}, Timeout: 50 * time.Millisecond}
			target := targets[i%len(targets)]
			if i%4 == 0 {
				m.Prober, target = &Unix{Conversation: c}, unixTargets[i%len(unixTargets)]
			}
			took := m.Probe(t.Context(), probe.Request{Address: target, Hostname: "name.example"}).Duration
			lock.Lock()
			defer lock.Unlock()
			slowest = max(slowest, took)
		})
	}
	running.Wait()
	// Two cores shared by 32 probes and their servers do not keep time to the
	// millisecond; a probe without a deadline would not end at all.
	if slowest > 2*time.Second {
		t.Errorf("a probe with 50 ms took %v", slowest)
	}
	awaitNothingLeft(t, goroutines, descriptors)
}

func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestNoDescriptors has a limit on descriptors (ulimit -n) that leaves a few
// of them, or none.
func TestNoDescriptors(t *testing.T) {
	address := unattended(t, "tcp", "127.0.0.1:0")
	path := unattended(t, "unix", filepath.Join(t.TempDir(), "socket"))
	_, port, _ := strings.Cut(address, ":")
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
	for _, tc := range []struct {
		name    string
		left    int
		prober  probe.Prober
		address string
		outcome probe.Outcome
	}{
		{"tcp, none left", 0, &TCP{}, address, probe.LocalError},
		{"tcp, one left", 1, &TCP{}, address, probe.LocalError}, // it takes two while it connects
		{"name, none left", 0, &TCP{Resolution: dial.Resolution{Resolver: &net.Resolver{PreferGo: true}}}, "name.invalid.:" + port, probe.LocalError},
		{"unix, none left", 0, &Unix{}, path, probe.LocalError},
		{"unix, one left", 1, &Unix{}, path, probe.Open},
		{"tcp, two left", 2, &TCP{}, address, probe.Open},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got probe.Result
			leave(t, tc.left, func() {
				m := probe.Module{Prober: tc.prober}
				got = m.Probe(t.Context(), probe.Request{Address: tc.address})
			})
			if got.Outcome != tc.outcome {
				t.Errorf("got %s in %q: %v", got.Outcome, got.Phase, got.Err)
			}
		})
	}
	awaitNothingLeft(t, goroutines, descriptors)
}

// unattended listens and never accepts: what a server of this process accepts
// would take one of the descriptors that a probe is left.
func unattended(t *testing.T, network, address string) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// leave runs a function with so many descriptors left to the process.
func leave(t *testing.T, n int, f func()) {
	t.Helper()
	var taken []int
	defer func() {
		for _, fd := range taken {
			unix.Close(fd)
		}
	}()
	highest := 0
	for range n + 1 { // the lowest free ones, as the kernel gives them
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, fd)
		highest = fd
	}
	for _, fd := range taken {
		unix.Close(fd)
	}
	taken = nil
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(highest), Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	f()
}
