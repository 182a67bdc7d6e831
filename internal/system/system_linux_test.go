package system

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// quiet is a log that keeps nothing.
var quiet = slog.New(slog.DiscardHandler)

func TestOpen(t *testing.T) {
	for _, name := range SourceNames() {
		s, err := Open(t.Context(), name, "/proc", "", quiet)
		for range 5 { // gopsutil reads the descriptors of every process, which a busy machine may have many of
			if !errors.Is(err, context.DeadlineExceeded) {
				break
			}
			s, err = Open(t.Context(), name, "/proc", "", quiet)
		}
		if errors.Is(err, errors.ErrUnsupported) && name == SockDiag {
			t.Logf("no sock_diag here: %v", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if name == BPF && s.Fallback != nil {
			if s.Name != SockDiag || !strings.Contains(s.Fallback.Error(), "bpf: ") {
				t.Errorf("no bpf: %s (%v)", s.Name, s.Fallback)
			}
			continue
		}
		if name != Auto && (s.Name != name || s.Fallback != nil) {
			t.Errorf("asked for %s, got %s (%v)", name, s.Name, s.Fallback)
		}
		if r, err := s.EphemeralPorts(); err != nil || r.First == 0 || r.Last < r.First {
			t.Errorf("ephemeral ports %v, %v", r, err)
		}
		for _, err := range s.Source.Sockets(t.Context(), socket.Listening) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if _, err := Open(t.Context(), "ebpf", "/proc", "", quiet); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("an unknown source: %v", err)
	}
	if _, err := Open(t.Context(), ProcFS, t.TempDir(), "", quiet); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a place without procfs: %v", err)
	}
}

// TestSourceThatSeesNothing has a procfs with a whole table, in which this process
// is not.
func TestSourceThatSeesNothing(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"": "missing header line",
		"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n": "own listening socket is missing",
	} {
		if err := os.WriteFile(filepath.Join(dir, "net/tcp"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), ProcFS, dir, "", quiet); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestEphemeralPorts(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sys/net/ipv4/ip_local_port_range")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if r, err := ephemeralPorts(dir); err == nil || r.PortRange != defaultEphemeralPorts {
		t.Errorf("without the file: %v, %v", r, err)
	}
	for text, want := range map[string]socket.PortRange{
		"": defaultEphemeralPorts, "10000": defaultEphemeralPorts, "99999 100000": defaultEphemeralPorts,
		"0 0": defaultEphemeralPorts, "0 60999": defaultEphemeralPorts, "60999 32768": defaultEphemeralPorts,
		"10000\t10010\n": {First: 10000, Last: 10010},
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if r, err := ephemeralPorts(dir); r.PortRange != want || r.Reserved != nil || (err == nil) != (want != defaultEphemeralPorts) {
			t.Errorf("%q: %v, %v", text, r, err)
		}
	}
	if err := os.WriteFile(path, []byte("10000 30000"), 0o600); err != nil {
		t.Fatal(err)
	}
	reserved := filepath.Join(filepath.Dir(path), "ip_local_reserved_ports")
	for text, want := range map[string][]socket.PortRange{
		"x\n": nil, "1,x\n": nil, "1-\n": nil, "70000\n": nil, "9-8\n": nil,
		"\n": {}, "8080\n": {{First: 8080, Last: 8080}},
		"8080,20000-20010\n": {{First: 8080, Last: 8080}, {First: 20000, Last: 20010}},
	} {
		if err := os.WriteFile(reserved, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := ephemeralPorts(dir)
		if !slices.Equal(r.Reserved, want) || (err == nil) != (want != nil) {
			t.Errorf("reserved %q: %v, %v", text, r, err)
		}
	}
}
