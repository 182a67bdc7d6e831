package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestFlagsOfBlackboxExporter starts the daemon as a blackbox_exporter is started, with a
// file of it, and changes that file.
func TestFlagsOfBlackboxExporter(t *testing.T) {
	file := filepath.Join(t.TempDir(), "blackbox.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const first = "modules:\n  tcp_connect:\n    prober: tcp\n"
	write(first)
	base, log := startDaemon(t, "--config.file="+file, "--timeout-offset=0.5", "--history.limit=1", "--log.prober=debug",
		"--config.enable-auto-reload", "--config.auto-reload-interval=1", "--probes.allow=any", "--web.enable-pprof")
	if !strings.Contains(log.String(), "flag has no effect") || !strings.Contains(log.String(), "--log.prober") {
		t.Errorf("the log lacks --log.prober:\n%s", log)
	}
	target := strings.TrimPrefix(base, "http://")
	for range 3 {
		if status, body := get(t, base+"/probe?module=tcp_connect&target="+target); status != 200 || !strings.Contains(body, "\nprobe_success 1\n") {
			t.Fatalf("a target that is not configured: %d %s", status, body)
		}
	}
	if status, _ := get(t, base+"/logs?id=1"); status != 404 {
		t.Errorf("the first of three probes is remembered: %d", status)
	}
	if status, _ := get(t, base+"/logs?id=3"); status != 200 {
		t.Errorf("the last of three probes: %d", status)
	}
	if status, body := get(t, base+"/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("/debug/pprof/goroutine: %d", status)
	}

	reloads := func() int { return strings.Count(log.String(), "configuration reloaded") }
	write(first + "  second:\n    prober: tcp\n")
	porttest.Await(t, "the reload", func() bool { return reloads() == 1 })
	write(first + "nonsense: 1\n")
	porttest.Await(t, "the refusal", func() bool { return strings.Contains(log.String(), "nonsense: unknown key") })
	write(first)
	porttest.Await(t, "the next reload", func() bool { return reloads() == 2 })
	if n := strings.Count(log.String(), "configuration reload failed"); n != 1 {
		t.Errorf("the failure is logged %d times", n)
	}
	if _, body := get(t, base+"/config"); strings.Contains(body, "second") || !strings.Contains(body, "allow: any") {
		t.Errorf("in force is\n%s", body)
	}
}

func TestProfilesAreOffByDefault(t *testing.T) {
	base, _ := startDaemon(t)
	if status, _ := get(t, base+"/debug/pprof/"); status != 404 {
		t.Errorf("/debug/pprof/: %d", status)
	}
}
