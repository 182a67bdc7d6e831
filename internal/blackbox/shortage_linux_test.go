package blackbox_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestNoDescriptors has our own shortage not be held against the target, however
// many descriptors are left.
func TestNoDescriptors(t *testing.T) {
	target, server, _ := otherProcess(t)
	probers := map[string]probe.Prober{
		target:      newProber(t, parseModule(t, probe.KindHTTP, "")),
		server:      newProber(t, parseModule(t, probe.KindDNS, ask)),
		"127.0.0.1": newProber(t, parseModule(t, probe.KindICMP, "")),
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

// serveOthers is set in the process that serves while this one has no
// descriptors.
const serveOthers = "BLACKBOX_TEST_SERVE"

func TestMain(m *testing.M) {
	if os.Getenv(serveOthers) == "" {
		os.Exit(m.Run())
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(l, withStatus(200))
	go (&dns.Server{PacketConn: c, Handler: records(0, address)}).ActivateAndServe()
	hung, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go serveHung(hung)
	fmt.Println("http://"+l.Addr().String(), c.LocalAddr(), "http://"+hung.Addr().String())
	io.Copy(io.Discard, os.Stdin) // until the test ends
}

// serveHung answers each connection in part.
func serveHung(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go dripSome(c)
	}
}

// otherProcess starts that process and returns a URL and a name server in it, and
// a URL that answers in part.
func otherProcess(t *testing.T) (url, server, hung string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveOthers+"=1")
	line, _ := porttest.StartReady(t, cmd)
	if _, err := fmt.Sscan(line, &url, &server, &hung); err != nil {
		t.Fatal(err)
	}
	return url, server, hung
}

func probeWithin(t *testing.T, p probe.Prober, address string) probe.Result {
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
