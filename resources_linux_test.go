package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startLogging starts the program on a free port with a pipe for its log, and
// returns where it listens, the pipe, and what ends it with one SIGTERM and
// returns its state.
func startLogging(t *testing.T, args ...string) (base string, log *os.File, end func() string) {
	t.Helper()
	log, written, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("port_exporter", append(args, "--web.listen-address=127.0.0.1:0")...)
	cmd.Stderr = written
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = written.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	end = func() string {
		t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			return "one SIGTERM did not end it"
		}
		return cmd.ProcessState.String()
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = log.Close() })
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			return "http://" + m[1], log, end
		}
	}
	t.Fatalf("it ended: %s", end())
	return "", nil, nil
}

// TestBrokenLogPipe has a reader of the log that goes: no line ends the daemon
// with SIGPIPE, and those that nothing reads are counted.
func TestBrokenLogPipe(t *testing.T) {
	base, log, end := startLogging(t, "--web.enable-lifecycle")
	_ = log.Close()
	for range 5 {
		if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	porttest.Await(t, "dropped lines to be counted", func() bool {
		_, body := get(t, base+"/metrics?collect[]=limits")
		return strings.Contains(body, "port_exporter_log_lines_dropped_total ") && !strings.Contains(body, "port_exporter_log_lines_dropped_total 0\n")
	})
	if state := end(); state != "exit status 0" {
		t.Errorf("it ended with %s", state)
	}
}

// TestFullLogPipe has a reader of the log that reads no more: reloads, scrapes and
// SIGTERM go on.
func TestFullLogPipe(t *testing.T) {
	base, log, end := startLogging(t, "--web.enable-lifecycle")
	size, err := unix.FcntlInt(log.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for range size/60 + 100 { // a line has some 100 bytes
		if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	if status, _ := get(t, base+"/metrics"); status != 200 {
		t.Errorf("scrape: %d", status)
	}
	if state := end(); state != "exit status 0" {
		t.Errorf("it ended with %s", state)
	}
}

// TestShortageAtStart has no descriptor left when the program starts, and some a
// moment later: it waits.
func TestShortageAtStart(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	warm, err := net.Listen("tcp", "127.0.0.1:0") // the runtime's own descriptors are there from then on
	if err != nil {
		t.Fatal(err)
	}
	_ = warm.Close()
	lift := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) }
	t.Cleanup(lift)
	low := limit
	low.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	log := &porttest.Log{}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- cli.Run(ctx, []string{"--web.listen-address=127.0.0.1:0"}, io.Discard, log)
	}()
	porttest.Await(t, "a second attempt", func() bool { return strings.Count(log.String(), "retrying") > 1 })
	lift()
	porttest.Await(t, "the daemon to listen", func() bool { return strings.Contains(log.String(), `msg="Listening on"`) })
	if strings.Contains(log.String(), "mount /proc") {
		t.Errorf("a hint that does not help:\n%s", log)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestMemoryLimitOfCgroup runs the program in a cgroup with a limit on memory, and
// looks at the limit of Go.
func TestMemoryLimitOfCgroup(t *testing.T) {
	group := memoryGroup(t, 64<<20)
	// The shell goes into the group and becomes the program.
	for _, tt := range []struct{ env, want string }{
		{"", "go_gc_gomemlimit_bytes 5.36870"}, // four fifths
		{"GOMEMLIMIT=12345678", "go_gc_gomemlimit_bytes 1.2345678e+07\n"},
	} {
		cmd := exec.Command("sh", "-c", `echo $$ >"$0"/cgroup.procs && exec env `+tt.env+` port_exporter --web.listen-address=127.0.0.1:0`, group)
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		base := ""
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				base = "http://" + m[1]
				break
			}
		}
		if base == "" {
			t.Fatalf("it ended: %v", cmd.Wait())
		}
		if _, body := get(t, base+"/metrics"); !strings.Contains(body, tt.want) {
			t.Errorf("%q: lacks %q: %s", tt.env, tt.want, regexp.MustCompile(`go_gc_gomemlimit_bytes \S+`).FindString(body))
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// memoryGroup makes a cgroup with a limit on memory below the test's own.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		dir, file := "/sys/fs/cgroup", "memory.max"
		switch {
		case parts[1] == "memory":
			dir, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		case parts[1] != "":
			continue
		}
		// A container may not see its own path.
		for _, parent := range []string{filepath.Join(dir, parts[2]), dir} {
			group := filepath.Join(parent, fmt.Sprintf("port_exporter-test-%d", os.Getpid()))
			if os.Mkdir(group, 0o755) != nil {
				continue
			}
			t.Cleanup(func() { _ = os.Remove(group) })
			if os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0) == nil {
				return group
			}
		}
	}
	t.Skip("SKIP-NAMESPACE: no cgroup with a limit on memory can be made")
	return ""
}
