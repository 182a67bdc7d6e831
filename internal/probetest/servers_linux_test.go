package probetest_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startServers starts nginx, with workers and a group of its own, redis and
// PostgreSQL, each as the user that distributions run it as.
func startServers(t *testing.T) (restartNginx func()) {
	t.Helper()
	dir := t.TempDir()
	nginx := func() (stop func()) {
		return porttest.Nginx(t, dir, "server { listen 8080; listen [::]:8080 ipv6only=on; listen 127.0.0.1:8081 reuseport; }\n")
	}
	stop := nginx()
	porttest.Redis(t)
	porttest.Postgres(t, nil)
	porttest.AwaitListening(t, "127.0.0.1:8080", "127.0.0.1:8081", "127.0.0.1:6379", "127.0.0.1:5432")
	return func() {
		stop()
		nginx()
		porttest.AwaitListening(t, "127.0.0.1:8081")
	}
}

// command runs port_exporter once in the test's namespace.
func command(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command("port_exporter", args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// TestServersInNamespace compares owners, policy and commands with real servers.
func TestServersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	restartNginx := startServers(t)

	// Owners.
	stop := porttest.StartDaemon(t, "port_exporter")
	info := func(address string, port int, process, user, scope string) string {
		return fmt.Sprintf(`port_listener_info{address=%q,container="",dual_stack="false",ephemeral="false",port="%d",process=%q,protocol="tcp",scope=%q,unit="",user=%q}`,
			address, port, process, scope, user)
	}
	want := map[string]float64{
		info("0.0.0.0", 8080, "nginx", "root", "any"):                 1,
		info("::", 8080, "nginx", "root", "any"):                      1,
		info("127.0.0.1", 8081, "nginx", "root", "loopback"):          1,
		info("127.0.0.1", 6379, "redis-server", "redis", "loopback"):  1,
		info("127.0.0.1", 5432, "postgres", "postgres", "loopback"):   1,
		info("127.0.0.1", 10065, "port_exporter", "root", "loopback"): 1,
	}
	if diff := cmp.Diff(want, porttest.Scrape(t, "port_listener_info")); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if n := porttest.Scrape(t, "port_listener_sockets")[`port_listener_sockets{address="127.0.0.1",port="8081",protocol="tcp"}`]; n != 2 {
		t.Errorf("nginx has %v sockets for its two workers", n)
	}
	stop()

	// A baseline expects all of it, and the same again.
	status, text, errs := command(t, "baseline")
	const noVsock = "vsock listeners are unknown: the kernel does not report them\nhint: modprobe vsock_diag\n" // on some hosts
	if status != 0 || strings.TrimSuffix(errs, noVsock) != "" {
		t.Fatalf("baseline: status %d, %s", status, errs)
	}
	if _, again, _ := command(t, "baseline"); again != text {
		t.Errorf("two baselines of one host differ:\n%s", cmp.Diff(text, again))
	}
	file := filepath.Join(t.TempDir(), "policy.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := command(t, "--config.file="+file, "listeners", "--unexpected"); status != 0 {
		t.Errorf("the baseline does not expect its own host: %d\n%s%s\n%s", status, out, errs, text)
	}
	if status, merged, errs := command(t, "baseline", "--merge="+file); status != 0 || merged != text {
		t.Errorf("merging what is expected changes the file: %d, %s\n%s", status, errs, cmp.Diff(text, merged))
	}
	if status, out, _ := command(t, "--config.file="+file, "--config.check"); status != 0 || !strings.Contains(out, "valid") || strings.Contains(out, "warning") {
		t.Errorf("the baseline does not pass the check: %d, %s", status, out)
	}

	// The exporter itself is not in it, and neither is an intruder.
	porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	unexpected := func(address string, port int, process, scope string) string {
		return fmt.Sprintf(`port_policy_unexpected_listener{address=%q,container="",port="%d",process=%q,protocol="tcp",scope=%q,unit="",user="root"}`,
			address, port, process, scope)
	}
	exporter := unexpected("127.0.0.1", 10065, "port_exporter", "loopback")
	if diff := cmp.Diff(map[string]float64{exporter: 1}, porttest.Scrape(t, "port_policy_unexpected_listener{")); diff != "" {
		t.Errorf("before the intruder (-want +got):\n%s", diff)
	}
	porttest.Listen(t, "0.0.0.0:40000", 5)
	intruder := unexpected("0.0.0.0", 40000, porttest.OwnName(t), "any")
	if diff := cmp.Diff(map[string]float64{exporter: 1, intruder: 1}, porttest.Scrape(t, "port_policy_unexpected_listener{")); diff != "" {
		t.Errorf("at the next scrape (-want +got):\n%s", diff)
	}
	counts := porttest.NonZero(porttest.Scrape(t, "port_policy_unexpected_listeners{"))
	if diff := cmp.Diff(map[string]float64{`port_policy_unexpected_listeners{scope="any"}`: 1, `port_policy_unexpected_listeners{scope="loopback"}`: 1}, counts); diff != "" {
		t.Errorf("counts (-want +got):\n%s", diff)
	}
	if n := porttest.NonZero(porttest.Scrape(t, "port_policy_missing_listener")); len(n) != 0 {
		t.Errorf("missing: %v", n)
	}

	before := porttest.Scrape(t, "port_listener_info", "port_policy", "port_listener_sockets")
	restartNginx()
	if diff := cmp.Diff(before, porttest.Scrape(t, "port_listener_info", "port_policy", "port_listener_sockets")); diff != "" {
		t.Errorf("a restart changes series (-before +after):\n%s", diff)
	}

	status, out, errs := command(t, "--config.file="+file, "listeners", "--unexpected")
	if status != 1 || !strings.Contains(out, "40000") || !strings.Contains(out, "unexpected") || strings.Contains(out, "nginx") || !strings.Contains(errs, "2 unexpected") {
		t.Errorf("listeners --unexpected: status %d\n%s%s", status, out, errs)
	}
	if status, out, _ := command(t, "--config.file="+file, "listeners"); status != 1 || !strings.Contains(out, "expected: ") || !strings.Contains(out, "redis-server") {
		t.Errorf("listeners: status %d\n%s", status, out)
	}
	if _, merged, _ := command(t, "baseline", "--merge="+file); !strings.HasPrefix(merged, strings.TrimRight(text, "\n")) || len(merged) == len(text) {
		t.Errorf("merging what is new does not only add:\n%s", cmp.Diff(text, merged))
	}

	// check speaks the protocols that URLs name.
	for target, want := range map[string]int{"postgres://u:p@localhost/db": 0, "redis://localhost": 0, "postgres://localhost:6379": 1, "redis://localhost:5432": 1, "nginx": 0} {
		if status, out, errs := command(t, "check", "--timeout=3s", target); status != want {
			t.Errorf("check %s: status %d, want %d\n%s%s", target, status, want, out, errs)
		}
	}
}
