package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// unixSocket opens a socket of AF_UNIX, with which connect(2) does not wait.
func unixSocket(t *testing.T, kind int) int {
	t.Helper()
	return portlessSocket(t, unix.AF_UNIX, kind|unix.SOCK_NONBLOCK, 0)
}

// openUnix listens as services do: a pool of php-fpm whose queue is full, a seqpacket
// socket whose file is gone, an abstract one with a name of odd bytes, and one of which
// the kernel chose the name.
func openUnix(t *testing.T, dir string) (fpm string) {
	t.Helper()
	fpm = filepath.Join(dir, "php-fpm.sock")
	gone := filepath.Join(dir, "x-1234abcd")
	for _, l := range []struct {
		kind, backlog int
		name          string
	}{{unix.SOCK_STREAM, 2, fpm}, {unix.SOCK_SEQPACKET, 7, gone}, {unix.SOCK_STREAM, 128, "@odd\n\xff\x00name"}, {unix.SOCK_STREAM, 5, ""}} {
		fd := unixSocket(t, l.kind)
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: l.name}), unix.Listen(fd, l.backlog)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	const room = 3 // the backlog and one more
	for i := range room + 1 {
		err := unix.Connect(unixSocket(t, unix.SOCK_STREAM), &unix.SockaddrUnix{Name: fpm})
		if i < room && err != nil || i == room && !errors.Is(err, unix.EAGAIN) {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	return fpm
}

// TestUnixListenersInNamespace finds unix listeners with owner and queue: in the table,
// in metrics, and against a policy.
func TestUnixListenersInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	dir := porttest.OpenDir(t)
	fpm := openUnix(t, dir)
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	own := porttest.OwnName(t)

	for name, tt := range map[string]struct {
		as     *syscall.SysProcAttr
		args   []string
		owner  string
		queues [4]string // of the odd one, the one without a name, the pool, the one without a file
	}{
		"sock_diag":    {nil, nil, own + " root", [4]string{"0/128 0", "0/5 0", "3/2 1", "0/7 0"}},
		"unprivileged": {nobody, nil, " root", [4]string{"0/128 0", "0/5 0", "3/2 1", "0/7 0"}},
		"procfs":       {nil, []string{"--source=procfs"}, own + " root", [4]string{"-", "-", "-", "-"}},
	} {
		out, said, status := porttest.EndedAs(t, tt.as, append(append([]string{"port_exporter"}, tt.args...), "listeners", "--unix", "--output=json")...)
		if status != 0 {
			t.Fatalf("%s: status %d, said %s", name, status, said)
		}
		odd := `@odd` + "\n" + `\xff@name`
		if name == "procfs" {
			odd = "@odd" // a line ends there
		}
		want := []string{
			"abstract @* " + tt.owner + " " + tt.queues[1],
			"abstract " + odd + " " + tt.owner + " " + tt.queues[0],
			"path " + fpm + " " + tt.owner + " " + tt.queues[2],
			"path " + dir + "/x-1234abcd " + tt.owner + " " + tt.queues[3],
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, unixOf(t, out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if out, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--output=json"); len(unixOf(t, out)) > 0 {
		t.Errorf("unix listeners without the flag: %s", out)
	}

	file := filepath.Join(dir, "baseline.yml")
	baseline, _, _ := porttest.EndedAs(t, nil, "port_exporter", "baseline", "--unix")
	writeOpen(t, file, baseline)
	if out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected"); status != 0 || out+said != "" {
		t.Errorf("the baseline does not expect its own host: %s%s\n%s", out, said, baseline)
	}
	ports := filepath.Join(dir, "ports.yml")
	writeOpen(t, ports, "policy: {rules: [{name: everything with a port}]}\n")
	if out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+ports, "listeners", "--unix", "--unexpected"); status != 0 || out+said != "" {
		t.Errorf("a policy without rules for unix listeners is about them: %s%s", out, said)
	}
	unixMetrics(t, dir, fpm)
}

// unixMetrics compares what a scrape has with a policy that expects the pool only.
func unixMetrics(t *testing.T, dir, fpm string) {
	t.Helper()
	file := filepath.Join(dir, "policy.yml")
	writeOpen(t, file, "policy: {rules: [{name: all}, {name: pools, protocol: unix, path: "+dir+"/*.sock, process: '"+porttest.OwnName(t)+"', required: true}]}\n")
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected")
	if status != 1 || !strings.Contains(said, "3 unexpected") || !strings.Contains(out, "x-1234abcd") || strings.Contains(out, fpm) {
		t.Errorf("status %d, wrote %s and said %s", status, out, said)
	}
	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	defer stop()
	got := porttest.Scrape(t, "port_unix_", "port_policy_unexpected_portless_socket", "port_policy_rule_listeners", "port_policy_missing_listener")
	labels := fmt.Sprintf(`{kind="path",path=%q}`, fpm)
	unexpected := `port_policy_unexpected_portless_socket{address=%q,container="",filter="",kind="unix",packet_type="",process=%q,protocol="",unit="",user="root"}`
	for series, n := range map[string]float64{
		"port_unix_listener_accept_queue_length" + labels:       3,
		"port_unix_listener_accept_queue_limit" + labels:        2,
		"port_unix_listener_accept_queue_full_sockets" + labels: 1,
		fmt.Sprintf(`port_unix_listener_info{container="",kind="path",path=%q,process=%q,unit="",user="root"}`, fpm, porttest.OwnName(t)): 1,
		`port_unix_listener_accept_queue_limit{kind="abstract",path="@odd\\x0a\\xff@name"}`:                                               128,
		`port_unix_listener_accept_queue_limit{kind="abstract",path="@*"}`:                                                                5,
		`port_unix_listener_accept_queue_limit{kind="path",path="` + dir + `/x-*"}`:                                                       7,
		`port_unix_listeners{kind="path",netns=""}`:                                                                                       2,
		`port_unix_listeners{kind="abstract",netns=""}`:                                                                                   2,
		fmt.Sprintf(unexpected, dir+"/x-*", porttest.OwnName(t)):                                                                          1,
		`port_policy_rule_listeners{rule="pools"}`:                                                                                        1,
	} {
		if got[series] != n {
			t.Errorf("%s is %v, want %v; there are %v", series, got[series], n, porttest.NonZero(got))
		}
	}
}

// unixOf returns the unix listeners of a table, a line each.
func unixOf(t *testing.T, table string) (lines []string) {
	t.Helper()
	var saved struct {
		Listeners []struct {
			Protocol, Path, Type, Process, User string
			Queue                               *int `json:"accept_queue"`
			Limit                               *int `json:"accept_queue_limit"`
			Full                                *int `json:"accept_queue_full_sockets"`
		}
	}
	if err := json.Unmarshal([]byte(table), &saved); err != nil {
		t.Fatal(err)
	}
	for _, r := range saved.Listeners {
		if r.Protocol != "unix" {
			continue
		}
		if len(r.Path) == len("@00000") && r.Type == "abstract" {
			r.Path = "@*"
		}
		queue := "-"
		if r.Queue != nil && r.Limit != nil && r.Full != nil {
			queue = fmt.Sprintf("%d/%d %d", *r.Queue, *r.Limit, *r.Full)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s %s %s", r.Type, r.Path, r.Process, r.User, queue))
	}
	slices.Sort(lines)
	return lines
}
