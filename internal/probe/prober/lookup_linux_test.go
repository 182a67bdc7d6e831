package prober

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// mixed answers the questions for A by one function and those for AAAA by another.
func mixed(forA, forAAAA func([]byte) []byte) func([]byte) []byte {
	return func(query []byte) []byte {
		if asked := porttest.RCode(0)(query); asked[len(asked)-3] == 1 {
			return forA(query)
		}
		return forAAAA(query)
	}
}

// TestNotFoundNeedsBothAnswers has a name server that answers one of the
// questions for A and AAAA, again and again: which answer comes last is chance.
func TestNotFoundNeedsBothAnswers(t *testing.T) {
	t.Parallel()
	silent := func([]byte) []byte { return nil }
	for _, tt := range []struct {
		name          string
		forA, forAAAA func([]byte) []byte
		times         int
		want          probe.Outcome
	}{
		{"SERVFAIL for A", porttest.RCode(2), porttest.RCode(0), 20, probe.DNSError},
		{"SERVFAIL for AAAA", porttest.RCode(0), porttest.RCode(2), 20, probe.DNSError},
		{"REFUSED for AAAA, and no such name", porttest.RCode(3), porttest.RCode(5), 20, probe.DNSError},
		{"silence for AAAA", porttest.RCode(0), silent, 1, probe.DNSTimeout},
		{"no such name, and no such address", porttest.RCode(3), porttest.RCode(0), 20, probe.DNSNotFound},
		{"SERVFAIL for AAAA, and an address", porttest.Records("192.0.2.1"), porttest.RCode(2), 20, probe.Open},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := dial.Resolution{Resolver: porttest.NameServer(t, mixed(tt.forA, tt.forAAAA))}
			for range tt.times {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				got, err := outcomeOfLookup(ctx, r)
				cancel()
				if got != tt.want {
					t.Fatalf("got %s, want %s: %v", got, tt.want, err)
				}
			}
		})
	}
}

func outcomeOfLookup(ctx context.Context, r dial.Resolution) (probe.Outcome, error) {
	_, err := r.LookUp(ctx, "name.example.")
	if err == nil {
		return probe.Open, nil
	}
	outcome, _ := dial.ClassifyLookup(err)
	return outcome, err
}

// TestNameServerIsNotReached has no name server at the address, and no way to it:
// then none answers with an error.
func TestNameServerIsNotReached(t *testing.T) {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := gone.LocalAddr().String()
	gone.Close()
	for _, tt := range []struct {
		name, server string
		origin       probe.Origin
	}{
		{"nothing listens there", refusing, probe.OriginNone},
		{"no way, as connect(2) reports", "", probe.OriginLocal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := dial.Resolution{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if tt.server == "" {
					return nil, &net.OpError{Op: "dial", Net: "udp", Err: os.NewSyscallError("connect", unix.ENETUNREACH)}
				}
				return (&net.Dialer{}).DialContext(ctx, "udp", tt.server)
			}}}
			_, err := r.LookUp(t.Context(), "name.example.")
			result := probe.Result{Phase: probe.PhaseResolve, Err: err}
			result.Outcome, result.Origin = dial.ClassifyLookup(err)
			if result.Outcome != probe.DNSTimeout || result.Origin != tt.origin {
				t.Errorf("%s, origin %s: %v", result.Outcome, result.Origin, err)
			}
			if got := sentence("name.example:80", &result); !strings.HasPrefix(got, "name.example:80 was not tried: the name server ") || !strings.HasSuffix(got, ":53 cannot be reached") {
				t.Error(got)
			}
		})
	}
}

// TestLookUpWithOneDescriptor resolves a name again and again in a process that
// has a descriptor for one of the questions for A and AAAA.
func TestLookUpWithOneDescriptor(t *testing.T) {
	const variable = "PORT_EXPORTER_TEST_NAME_SERVER"
	if server := os.Getenv(variable); server != "" {
		lookUpWithOneDescriptor(t, server)
		return
	}
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(porttest.Records("192.0.2.1")(b[:n]), from)
		}
	}()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestLookUpWithOneDescriptor$", "-test.v")
	child.Env = append(os.Environ(), variable+"="+server.LocalAddr().String())
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func lookUpWithOneDescriptor(t *testing.T, server string) {
	r := dial.Resolution{Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server)
	}}}
	if got, err := outcomeOfLookup(t.Context(), r); got != probe.Open { // the files of the resolver are read
		t.Fatalf("%s: %v", got, err)
	}
	limit := unix.Rlimit{Cur: 64, Max: 64}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	last := -1
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.EMFILE) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = fd
	}
	if err := unix.Close(last); err != nil {
		t.Fatal(err)
	}
	seen := map[probe.Outcome]int{}
	for range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		outcome, _ := outcomeOfLookup(ctx, r)
		cancel()
		seen[outcome]++
	}
	if seen[probe.Open]+seen[probe.LocalError] != 200 || seen[probe.LocalError] == 0 {
		t.Errorf("outcomes with one descriptor: %v", seen)
	}
}
