package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// serverRole makes the test a server of one port: see startListener.
const serverRole = "port-exporter-listen"

// serveOnePort listens on the address that is its argument, until its standard
// input ends.
func serveOnePort() { serveUntilEnd("tcp4", os.Args[1]) }

// serveUntilEnd listens on an address until the standard input ends.
func serveUntilEnd(network, address string) {
	l, err := net.Listen(network, address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer l.Close()
	fmt.Println("ready")
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// startListener starts a process that listens.
func startListener(t *testing.T, address string) (pid int) {
	t.Helper()
	return startListenerAs(t, &syscall.SysProcAttr{}, address)
}

func startListenerAs(t *testing.T, as *syscall.SysProcAttr, address string) (pid int) {
	t.Helper()
	cmd := exec.Command(serverRole, address)
	cmd.SysProcAttr = as
	porttest.StartReady(t, cmd)
	return cmd.Process.Pid
}

// hungPolicy requires two listeners by the user and the process, and knows a third
// by its port alone.
const hungPolicy = `policy:
  rules:
    - {name: hung, ports: 80, process: "*listen*", required: true}
    - {name: web, ports: 81, process: "*listen*", required: true}
    - {name: exporter, ports: 10065}
`

// TestHungProcessInNamespace has a process whose files in /proc do not answer, from
// before the exporter starts. Only its own listener has no verdict; the commands
// and the daemon end, and all is well once it answers.
func TestHungProcessInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	porttest.MountNamespace(t)
	policy := filepath.Join(t.TempDir(), "policy.yml")
	if err := os.WriteFile(policy, []byte(hungPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	hung := startListener(t, "127.0.0.1:80")
	startListener(t, "127.0.0.1:81")
	startListener(t, "127.0.0.1:82") // an intruder
	release := porttest.HangFile(t, fmt.Sprintf("/proc/%d/stat", hung))

	hungCommand(t, policy)
	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+policy)
	for i := range 3 {
		checkHungScrape(t, fmt.Sprintf("scrape %d", i))
	}
	release()
	porttest.Await(t, "the verdict on the process that answers again", func() bool {
		got := porttest.Scrape(t, "port_policy_", "port_listeners_un")
		return got[`port_policy_unverified_listeners{scope="loopback"}`] == 0 &&
			got[`port_policy_rule_listeners{rule="hung"}`] == 1 && got[`port_listeners_unattributed{netns=""}`] == 0
	})
	defer porttest.HangFile(t, fmt.Sprintf("/proc/%d/stat", hung))()
	startListener(t, "127.0.0.1:83")
	porttest.Scrape(t, "port_policy_")
	start := time.Now()
	stop()
	if elapsed := time.Since(start); elapsed > 9*time.Second { // porttest.Start kills after ten
		t.Errorf("the daemon ended %v after SIGTERM", elapsed)
	}
}

func checkHungScrape(t *testing.T, when string) {
	t.Helper()
	got := porttest.Scrape(t, "port_policy_", "port_scrape_collector_success", "port_listener_info", "port_listeners_un")
	for series, want := range map[string]float64{
		`port_scrape_collector_success{collector="listeners"}`: 1,
		`port_scrape_collector_success{collector="policy"}`:    1,
		`port_policy_missing_listener{rule="hung"}`:            0,
		`port_policy_missing_listener{rule="web"}`:             0,
		`port_policy_rule_listeners{rule="web"}`:               1,
		`port_policy_unverified_listeners{scope="loopback"}`:   1,
		`port_policy_unexpected_listeners{scope="loopback"}`:   1, // the intruder
		`port_listeners_unattributed{netns=""}`:                1,
	} {
		if n, there := got[series]; !there || n != want {
			t.Errorf("%s: %s is %v (%t), want %v", when, series, n, there, want)
		}
	}
}

// hungCommand runs the commands beside the process that hangs.
func hungCommand(t *testing.T, policy string) {
	t.Helper()
	start := time.Now()
	var out, said bytes.Buffer
	cmd := exec.Command("port_exporter", "--config.file="+policy, "listeners")
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || time.Since(start) > 25*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if strings.Count(out.String(), "unverified") != 1 || strings.Count(out.String(), "unexpected") != 1 {
		t.Errorf("wrote:\n%s", &out)
	}
	if want := "may be known later"; !strings.Contains(said.String(), want) {
		t.Errorf("said %q, want %q in it", &said, want)
	}
}

// hungProcfs returns a procfs with one file that never answers:
// ip_local_port_range, which is read first.
func hungProcfs(t *testing.T) string {
	t.Helper()
	procfs := t.TempDir()
	dir := filepath.Join(procfs, "sys/net/ipv4")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "ip_local_port_range"), 0o600); err != nil {
		t.Fatal(err)
	}
	return procfs
}

// endOnSIGTERM starts a command, ends it and returns how it ended.
func endOnSIGTERM(t *testing.T, cmd *exec.Cmd) syscall.WaitStatus {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	time.Sleep(500 * time.Millisecond)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-time.After(25 * time.Second): // before the limit of a command
		_ = cmd.Process.Kill()
		<-ended
		t.Fatal("it goes on after SIGTERM")
	}
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

// TestCommandEndsOnSIGTERM has a command that waits for what never answers.
func TestCommandEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	porttest.OpenProgram(t)
	status := endOnSIGTERM(t, exec.Command("port_exporter", "--path.procfs="+hungProcfs(t), "listeners"))
	if !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", status)
	}
}

// slowNameService is a module of the name service (nss(5)) that knows one user,
// and answers nothing before a file is there.
const slowNameService = `
#include <errno.h>
#include <nss.h>
#include <pwd.h>
#include <stdlib.h>
#include <unistd.h>
enum nss_status _nss_slow_getpwuid_r(uid_t uid, struct passwd *p, char *buf, size_t n, int *err) {
	if (uid != 4242) return NSS_STATUS_NOTFOUND;
	while (access(getenv("SLOW_NSS_FILE"), F_OK) != 0) usleep(20000);
	*p = (struct passwd){.pw_name = "alice", .pw_passwd = "x", .pw_uid = uid, .pw_gid = 0, .pw_gecos = "", .pw_dir = "/", .pw_shell = "/bin/sh"};
	return NSS_STATUS_SUCCESS;
}
`

// nameService makes the module the name service of what the test starts, and
// returns a function after which it answers.
func nameService(t *testing.T) (answer func()) {
	t.Helper()
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}) {
		t.Skip("SKIP-gcc: the test is built without cgo")
	}
	dir := t.TempDir()
	source, ready := filepath.Join(dir, "slow.c"), filepath.Join(dir, "ready")
	files := map[string]string{source: slowNameService, filepath.Join(dir, "nsswitch.conf"): "passwd: files slow\n"}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	compile := exec.Command("gcc", "-shared", "-fPIC", "-o", filepath.Join(dir, "libnss_slow.so.2"), source)
	if out, err := compile.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		t.Skip("SKIP-gcc: not installed")
	} else if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := unix.Mount(filepath.Join(dir, "nsswitch.conf"), "/etc/nsswitch.conf", "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Setenv("LD_LIBRARY_PATH", dir)
	t.Setenv("SLOW_NSS_FILE", ready)
	return func() {
		if err := os.WriteFile(ready, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHungNameServiceInNamespace has a name service that does not answer for one
// user, in a program built with cgo.
func TestHungNameServiceInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	porttest.MountNamespace(t)
	answer := nameService(t)
	policy := filepath.Join(t.TempDir(), "policy.yml")
	rules := "policy: {rules: [{name: slow, ports: 80, user: alice, required: true}, {name: root, user: root}]}"
	if err := os.WriteFile(policy, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	startListenerAs(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 0}, AmbientCaps: []uintptr{unix.CAP_NET_BIND_SERVICE}}, "127.0.0.1:80")
	startListener(t, "127.0.0.1:81")
	porttest.StartDaemon(t, "port_exporter", "--config.file="+policy)
	families := []string{"port_policy_", "port_scrape_collector_success", "port_listener_info"}
	for i := range 3 {
		got := porttest.Scrape(t, families...)
		for series, want := range map[string]float64{
			`port_scrape_collector_success{collector="policy"}`:  1,
			`port_policy_missing_listener{rule="slow"}`:          0,
			`port_policy_unverified_listeners{scope="loopback"}`: 1,
			`port_policy_unexpected_listeners{scope="loopback"}`: 0,
			`port_policy_rule_listeners{rule="root"}`:            2, // ours and 81
		} {
			if n, there := got[series]; !there || n != want {
				t.Errorf("scrape %d: %s is %v (%t), want %v", i, series, n, there, want)
			}
		}
	}
	answer()
	porttest.Await(t, "the name of the user", func() bool {
		got := porttest.Scrape(t, families...)
		return got[`port_policy_rule_listeners{rule="slow"}`] == 1 && got[`port_policy_unverified_listeners{scope="loopback"}`] == 0
	})
}

// TestDaemonEndsOnSIGTERM has a daemon that waits for a file as it starts.
func TestDaemonEndsOnSIGTERM(t *testing.T) {
	t.Parallel()
	porttest.OpenProgram(t)
	endOnSIGTERM(t, exec.Command("port_exporter", "--path.procfs="+hungProcfs(t), "--web.listen-address=127.0.0.1:0"))
}

// TestReloadAfterAHang has a configuration behind a link that leads to a file that
// hangs, for more reloads than are waited for, and then back: the reload succeeds.
func TestReloadAfterAHang(t *testing.T) {
	t.Parallel()
	hanging := porttest.HangingFile(t)
	dir := t.TempDir()
	file, good := filepath.Join(dir, "c.yml"), filepath.Join(dir, "good.yml")
	if err := os.WriteFile(good, []byte("limits: {outbound_ports: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.Link(t, good, file)
	base, _ := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	porttest.Link(t, hanging, file)
	porttest.Await(t, "reloads that are not waited for", func() bool {
		status, body := request(t, http.MethodPost, base+"/-/reload")
		if status != 500 {
			t.Fatalf("hanging: %d %s", status, body)
		}
		return strings.Contains(body, "earlier attempts are still waiting")
	})
	porttest.Link(t, good, file)
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
		t.Errorf("put right: %d %s", status, body)
	}
}
