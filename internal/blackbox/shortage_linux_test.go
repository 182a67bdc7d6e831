package blackbox_test

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestNoDescriptors has our own shortage not be held against the target, however
// many descriptors are left.
func TestNoDescriptors(t *testing.T) {
	target := web(t, withStatus(200))
	server := nameServer(t, records(0, address))
	probers := map[string]*blackbox.Prober{
		target:      newProber(t, parseModule(t, blackbox.HTTP, "")),
		server:      newProber(t, parseModule(t, blackbox.DNS, ask)),
		"127.0.0.1": newProber(t, parseModule(t, blackbox.ICMP, "")),
	}
	for address, p := range probers {
		probeWithin(t, p, address) // what is opened once is open
		for spare := range 5 {     // with more, the server, which is in this process, may get none
			got := withDescriptors(t, spare, func() probe.Result { return probeWithin(t, p, address) })
			if got.Outcome != probe.LocalError && got.Outcome != probe.Open {
				t.Errorf("%s with %d descriptors: %v: %v", address, spare, got.Outcome, got.Err)
			}
			if spare == 0 && got.Outcome != probe.LocalError {
				t.Errorf("%s without descriptors: %v", address, got.Outcome)
			}
		}
	}
}

func probeWithin(t *testing.T, p *blackbox.Prober, address string) probe.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return p.Probe(ctx, probe.Request{Address: address})
}

// withDescriptors runs f with so many descriptors to spare.
func withDescriptors(t *testing.T, spare int, f func() probe.Result) probe.Result {
	t.Helper()
	settle(t)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	next := lowestFree(t)
	lowered := before
	lowered.Cur = uint64(next + spare)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	return f()
}

// lowestFree fills gaps in the table of descriptors and returns its end.
func lowestFree(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for _, e := range entries {
		var n int
		fmt.Sscan(e.Name(), &n)
		last = max(last, n)
	}
	for {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if fd > last {
			syscall.Close(fd)
			return fd
		}
		t.Cleanup(func() { syscall.Close(fd) })
	}
}
