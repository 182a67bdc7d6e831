package main

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestFlagsThatCannotWork has values that ended in a stack trace, or in a port that the
// kernel chose. Each is an error with a message.
func TestFlagsThatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		flag, want string
	}{
		{"--web.route-prefix=/a/../b", "it must be a plain path"},
		{"--web.route-prefix=/.", "it must be a plain path"},
		{"--web.route-prefix=//a", ""},
		{"--web.route-prefix=/a//b", "it must be a plain path"},
		{"--web.external-url=http://a/x/../y", "it must be a plain path"},
		{"--web.telemetry-path=/../x", "it must be a path that no other page has"},
		{"--web.telemetry-path=/./x", "it must be a path that no other page has"},
		{"--web.telemetry-path=/..", "it must be a path that no other page has"},
		{"--web.telemetry-path=/x/", "it must be a path that no other page has"},
		{"--runtime.gomaxprocs=100000", "hint: the number of CPUs"},
		{"--web.max-requests=9223372036854775807", "to 1000000"},
		{"--web.listen-address=", "it must be host:port"},
		{"--web.listen-address=:", "it must be host:port"},
		{"--web.listen-address=127.0.0.1:", "it must be host:port"},
		{"--web.listen-address=127.0.0.1", "it must be host:port"},
		{"--web.listen-address=10065", "it must be host:port"},
		{"--web.listen-address=:0", ""},
		{"--web.listen-address=[::1]:http", ""},
		{"--web.listen-address=vsock://:10065", ""},
		{"--web.telemetry-path=/x..y/.z", ""},
	} {
		f, err := parse([]string{tt.flag}, io.Discard, io.Discard)
		if tt.want == "" && (err != nil || f == nil) || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.flag, err, tt.want)
		}
	}
	t.Setenv("GOMAXPROCS", "100000")
	if _, err := parse(nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "GOMAXPROCS in the environment") {
		t.Errorf("of the environment: %v", err)
	}
}

// TestOutputThatCannotBeWritten writes the output of every command to a device that
// is full.
func TestOutputThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("SKIP-FULL: %v", err)
	}
	defer full.Close()
	for _, args := range [][]string{
		{"--help"}, {"--help-long"}, {"--help-man"}, {"listeners", "--help"}, {"help"},
		{"--version"}, {"listeners", "--version"}, {"--completion-script-bash"}, {"--completion-script-zsh"},
		{"listeners"}, {"listeners", "--output=json"}, {"listeners", "--output=csv"}, {"baseline"}, {"--config.check"},
		{"check", "127.0.0.1:1"},
	} {
		var stderr strings.Builder
		cmd := exec.Command("port_exporter", args...)
		cmd.Stdout, cmd.Stderr = full, &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != 1 && code != 2 || strings.Contains(stderr.String(), "goroutine") || !strings.Contains(stderr.String(), "no space left") {
			t.Errorf("%v: status %d:\n%s", args, code, stderr.String())
		}
	}
}
