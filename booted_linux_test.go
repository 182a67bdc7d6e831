package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// booted is the pid of a systemd that has booted in the test's namespace, with a
// service of a user that it made up: px-web.service, on port 8080.
type booted int

// boot boots it. More arguments are those of systemd-nspawn.
func boot(t *testing.T, more ...string) booted {
	t.Helper()
	machine := filepath.Join(t.TempDir(), "machine-id")
	if err := os.WriteFile(machine, []byte(strings.Repeat("1", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	host := booted(porttest.Systemd(t, map[string]string{
		"test.target":    "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=px-web.service\n",
		"px-web.service": "[Service]\nDynamicUser=yes\nUser=pxweb\nExecStart=/usr/bin/systemd-socket-activate --accept --listen=127.0.0.1:8080 /bin/true\n",
	}, append(more, "--bind-ro="+machine+":/etc/machine-id", "--capability=all")...))
	porttest.Await(t, "the systemd to answer", func() bool {
		return host.command("systemctl", "start", "test.target").Run() == nil
	})
	porttest.AwaitListening(t, "127.0.0.1:8080")
	return host
}

// write writes a file in there.
func (h booted) write(t *testing.T, path, text string) {
	t.Helper()
	path = h.path(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// path is where a file of that system is for the test.
func (h booted) path(path string) string { return fmt.Sprintf("/proc/%d/root%s", h, path) }

// command is one that runs in there.
func (h booted) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--all", "--target", strconv.Itoa(int(h))}, args...)...)
}

// run runs a command in there, which succeeds, and returns its output.
func (h booted) run(t *testing.T, args ...string) (out string) {
	t.Helper()
	text, err := h.command(args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, text)
	}
	return strings.TrimSpace(string(text))
}

func (h booted) systemctl(t *testing.T, args ...string) (out string) {
	t.Helper()
	return h.run(t, append([]string{"systemctl", "--no-pager"}, args...)...)
}

// mainPID is the process of the exporter, by its number in there.
func (h booted) mainPID(t *testing.T) string {
	t.Helper()
	return h.systemctl(t, "show", "--property=MainPID", "--value", "port_exporter.service")
}
