//go:build unix

package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

func TestReloadOnSignal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hangUp := func() {
		t.Helper()
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	write("limits: {outbound_ports: 1}\n")
	base, log := startDaemon(t, "--config.file="+file)
	inForce := func(want string) {
		t.Helper()
		if _, body := get(t, base+"/config"); !strings.Contains(body, want) {
			t.Errorf("in force is\n%swant %s", body, want)
		}
	}

	write("limits: {outbound_port: 2}\n")
	hangUp()
	porttest.Await(t, "SIGHUP to be refused", func() bool { return strings.Contains(log.String(), "previous one stays in force") })
	inForce("outbound_ports: 1\n")

	write("limits: {outbound_ports: 2}\n")
	hangUp()
	porttest.Await(t, "SIGHUP to reload", func() bool { return strings.Contains(log.String(), "configuration reloaded") })
	inForce("outbound_ports: 2\n")
}
