package cli

import (
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/port-exporter/port_exporter/collector"
)

// TestFlagsThatCannotWork has values that ended in a stack trace, or in a port that the
// kernel chose. Each is an error with a message.
func TestFlagsThatCannotWork(t *testing.T) {
	for _, tt := range []struct {
		flag, want string
	}{
		{"--web.route-prefix=/a/../b", "must be a plain path"},
		{"--web.route-prefix=/.", "must be a plain path"},
		{"--web.route-prefix=//a", ""},
		{"--web.route-prefix=/a//b", "must be a plain path"},
		{"--web.external-url=http://a/x/../y", "must be a plain path"},
		{"--web.external-url=ftp://a/x", "must be a URL with http or https"},
		{"--web.external-url=javascript:x", "must be a URL with http or https"},
		{"--web.external-url=/x", "must be a URL with http or https"},
		{"--web.external-url=http://u:secret@a/x", "=http://u:xxxxx@a/x: must not have a user"},
		{"--web.external-url=https://a/x", ""},
		{"--web.telemetry-path=/../x", "path is invalid or used by another page"},
		{"--web.telemetry-path=/./x", "path is invalid or used by another page"},
		{"--web.telemetry-path=/..", "path is invalid or used by another page"},
		{"--web.telemetry-path=/x/", "path is invalid or used by another page"},
		{"--timeout-offset=x", `"x" is not a duration`},
		{"--timeout-offset=1e300", "is not a duration"},
		{"--timeout-offset=NaN", "is not a duration"},
		{"--timeout-offset=-0.5", "must not be negative"},
		{"--config.auto-reload-interval=0.5", "must be at least 1s"},
		{"--history.limit=-1", "must be from 0 to 10000"},
		{"--history.limit=0", ""},
		{"--probes.allow=all", "must be one of configured,any"},
		{"--log.prober=debug", ""},
		{"--runtime.gomaxprocs=100000", "hint: use the number of CPUs"},
		{"--web.max-requests=9223372036854775807", "to 1000000"},
		{"--web.listen-address=", "must be host:port"},
		{"--web.listen-address=:", "must be host:port"},
		{"--web.listen-address=127.0.0.1:", "must be host:port"},
		{"--web.listen-address=127.0.0.1", "must be host:port"},
		{"--web.listen-address=10065", "must be host:port"},
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
	for _, value := range []string{"100000", "abc"} {
		t.Setenv("GOMAXPROCS", value)
		if _, err := parse(nil, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "environment variable GOMAXPROCS") {
			t.Errorf("%s of the environment: %v", value, err)
		}
	}
}

// TestSeconds has durations as blackbox_exporter has them, and as Go has.
func TestSeconds(t *testing.T) {
	for arg, want := range map[string]time.Duration{"0.5": 500 * time.Millisecond, "2": 2 * time.Second, "0": 0, "250ms": 250 * time.Millisecond} {
		f, err := parse([]string{"--timeout-offset=" + arg}, io.Discard, io.Discard)
		if err != nil || f.daemon.TimeoutOffset != want {
			t.Errorf("%s: %v, want %v", arg, err, want)
		}
	}
}

func TestDisableDefaults(t *testing.T) {
	for args, want := range map[string][]string{
		"":                             slices.DeleteFunc(collector.Names(), func(name string) bool { return slices.Contains(collector.OffByDefault(), name) }),
		"--collector.firewall":         slices.DeleteFunc(collector.Names(), func(name string) bool { return name == "closed" || name == "health" || name == "namespaces" }),
		"--collector.closed":           slices.DeleteFunc(collector.Names(), func(name string) bool { return name == "firewall" || name == "health" || name == "namespaces" }),
		"--no-collector.limits":        {"sockets", "listeners", "connections", "owners", "ephemeral", "portless", "unix", "policy", "probes", "certificates"},
		"--collector.disable-defaults": nil,
		"--collector.disable-defaults --no-collector.probes":                    nil,
		"--collector.listeners --collector.disable-defaults --collector.probes": {"listeners", "probes"},
		"--no-collector.disable-defaults --no-collector.probes":                 {"sockets", "listeners", "connections", "owners", "ephemeral", "limits", "portless", "unix", "policy", "certificates"},
	} {
		f, err := parse(strings.Fields(args), io.Discard, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		got := slices.DeleteFunc(collector.Names(), func(name string) bool { return slices.Contains(f.disabled(), name) })
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}
