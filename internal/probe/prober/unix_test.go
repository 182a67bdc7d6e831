//go:build unix

package prober

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

func TestUnix(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t)

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("stale"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	datagrams, err := net.ListenPacket("unixgram", at("datagrams"))
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	startServer(t, "unix", at("holds"), hold)
	startServer(t, "unix", at("leaves"), leaves(""))
	startServer(t, "unix", at("speaks"), says("220 here\n"))
	startServer(t, "unix", at("tls"), underTLS(serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour))), says("220 here\n")))

	hears := []Step{{Expect: regexp.MustCompile("^220 (.*)"), Labels: []probe.Label{{Name: "said", Value: "$1"}}}}
	for _, tc := range []struct {
		name     string
		path     string
		hostname string
		c        Conversation
		outcome  probe.Outcome
		phase    probe.Phase
		origin   probe.Origin
	}{
		{"no such path", at("none"), "", Conversation{}, probe.Unreachable, probe.PhaseConnect, probe.OriginLocal},
		{"no such folder", at("file/socket"), "", Conversation{}, probe.Unreachable, probe.PhaseConnect, probe.OriginLocal},
		{"left behind", at("stale"), "", Conversation{}, probe.Refused, probe.PhaseConnect, probe.OriginTarget},
		{"a file", at("file"), "", Conversation{}, probe.Refused, probe.PhaseConnect, probe.OriginTarget},
		{"datagrams", at("datagrams"), "", Conversation{}, probe.Protocol, probe.PhaseConnect, probe.OriginTarget},
		{"nothing said, FIN", at("leaves"), "", Conversation{Exchange: hears}, probe.Closed, probe.PhaseExchange, probe.OriginTarget},
		{"silence", at("holds"), "", Conversation{Exchange: hears}, probe.Timeout, probe.PhaseExchange, probe.OriginNone},
		{"TLS without a name", at("tls"), "", Conversation{TLS: true, TLSConfig: ca.trusting()}, probe.LocalError, probe.PhaseTLS, probe.OriginLocal},
		{"TLS with a wrong name", at("tls"), "other.example", Conversation{TLS: true, TLSConfig: ca.trusting()}, probe.TLSCertificate, probe.PhaseTLS, probe.OriginTarget},
		{"TLS", at("tls"), "name.example", Conversation{TLS: true, TLSConfig: ca.trusting(), Exchange: hears}, probe.Open, probe.PhaseNone, probe.OriginNone},
		{"exchange", at("speaks"), "", Conversation{Exchange: hears}, probe.Open, probe.PhaseNone, probe.OriginNone},
		{"connect", at("holds"), "", Conversation{}, probe.Open, probe.PhaseNone, probe.OriginNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := probe.Module{Prober: &Unix{Conversation: tc.c}, Timeout: 5 * time.Second}
			if tc.outcome == probe.Timeout {
				m.Timeout = 300 * time.Millisecond
			}
			got := m.Probe(t.Context(), probe.Request{Address: tc.path, Hostname: tc.hostname})
			if got.Outcome != tc.outcome || got.Phase != tc.phase || got.Origin != tc.origin {
				t.Errorf("got %s in %q (%s), want %s in %q (%s): %v", got.Outcome, got.Phase, got.Origin, tc.outcome, tc.phase, tc.origin, got.Err)
			}
			if _, ok := sample(got, "probe_unix_duration_seconds", "connect"); !ok {
				t.Errorf("no time of connecting: %v", got.Samples)
			}
			if _, ok := sample(got, "probe_expect_info", "here"); ok != (tc.outcome == probe.Open && tc.c.Exchange != nil) {
				t.Errorf("what was said there: %v", ok)
			}
		})
	}
}

func TestUnixDenied(t *testing.T) {
	path := startServer(t, "unix", filepath.Join(t.TempDir(), "socket"), hold)
	p := &Unix{}
	got := p.Probe(t.Context(), probe.Request{Address: path, Allow: func(netip.AddrPort) error { return nil }})
	if got.Outcome != probe.Denied || got.Origin != probe.OriginLocal {
		t.Errorf("got %s (%s): %v", got.Outcome, got.Origin, got.Err)
	}
}

// TestUnixQueueFull has a server that does not accept, until it does.
func TestUnixQueueFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	first, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	m := probe.Module{Prober: &Unix{}, Timeout: 200 * time.Millisecond}
	if got := m.Probe(t.Context(), probe.Request{Address: path}); got.Outcome != probe.Timeout || got.Origin != probe.OriginNone || got.Duration > time.Second {
		t.Errorf("got %s (%s) after %v: %v", got.Outcome, got.Origin, got.Duration, got.Err)
	}
	accepted := make(chan int)
	go func() {
		time.Sleep(50 * time.Millisecond)
		conn, _, _ := syscall.Accept(fd)
		accepted <- conn
	}()
	m.Timeout = 5 * time.Second
	if got := m.Probe(t.Context(), probe.Request{Address: path}); got.Outcome != probe.Open {
		t.Errorf("got %s: %v", got.Outcome, got.Err)
	}
	syscall.Close(<-accepted)
}

// TestUnixAbstract has a name without a path.
func TestUnixAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP-ABSTRACT: only Linux has abstract names")
	}
	name := "@port_exporter-test-" + strconv.Itoa(os.Getpid())
	p := &Unix{}
	if got := p.Probe(t.Context(), probe.Request{Address: name}); got.Outcome != probe.Refused || got.Origin != probe.OriginTarget {
		t.Errorf("nobody listens: %s (%s): %v", got.Outcome, got.Origin, got.Err)
	}
	startServer(t, "unix", name, hold)
	if got := p.Probe(t.Context(), probe.Request{Address: name}); got.Outcome != probe.Open {
		t.Errorf("%s: %v", got.Outcome, got.Err)
	}
}
