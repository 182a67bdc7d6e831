package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestSentenceOfLocalError has each way in which this host can be the reason
// called by its name. Where a probe can be had that fails like that, it is one.
func TestSentenceOfLocalError(t *testing.T) {
	address := startServer(t, "tcp", "127.0.0.1:0", hold)
	missing := func(string) (*tls.Config, error) {
		_, err := os.ReadFile(filepath.Join(t.TempDir(), "ca.pem"))
		return nil, fmt.Errorf("unable to read CA cert: %w", err)
	}
	run := func(p probe.Prober) probe.Result {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		return p.Probe(ctx, probe.Request{Address: address})
	}
	wrap := func(err error) probe.Result {
		return probe.Result{Outcome: probe.LocalError, Err: fmt.Errorf("dial: %w", err)}
	}
	for _, tt := range []struct {
		name   string
		result probe.Result
		want   string
	}{
		{"a source that is not here, tcp", run(&TCP{SourceAddress: netip.MustParseAddr("192.0.2.77")}), "source address"},
		{"a source that is not here, udp", run(&UDP{SourceAddress: netip.MustParseAddr("192.0.2.77")}), "source address"},
		{"a source of another version", run(&TCP{SourceAddress: netip.MustParseAddr("::1")}), "source address"},
		{"no such ca_file", run(&TCP{Conversation: Conversation{TLS: true, TLSConfig: missing}}), "a file that its module names"},
		{"a wrong ca_file", run(&TCP{Conversation: Conversation{TLS: true, TLSConfig: func(string) (*tls.Config, error) { return nil, errors.New("no PEM") }}}), "TLS settings"},
		{"no descriptors", wrap(os.NewSyscallError("socket", syscall.EMFILE)), "file descriptor"},
		{"no descriptors for a file", wrap(&fs.PathError{Op: "open", Path: "/ca.pem", Err: syscall.EMFILE}), "file descriptor"},
		{"a file for others", wrap(&fs.PathError{Op: "open", Path: "/ca.pem", Err: syscall.EACCES}), "a file that its module names"},
		{"no right to ping", wrap(os.NewSyscallError("socket", syscall.EPERM)), "CAP_NET_RAW"},
		{"something else", wrap(errors.New("16 earlier probes still run")), "this host or its module"},
		{"nothing known", probe.Result{Outcome: probe.LocalError}, "this host or its module"},
	} {
		if tt.result.Outcome != probe.LocalError {
			t.Errorf("%s: %s, want local_error: %v", tt.name, tt.result.Outcome, tt.result.Err)
		}
		if got := sentence(address, &tt.result); !strings.Contains(got, tt.want) || !strings.Contains(got, "was not tried") {
			t.Errorf("%s: %q, want it to have %q", tt.name, got, tt.want)
		}
	}
}
