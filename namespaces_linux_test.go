package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// dockerCgroup makes a cgroup as docker makes that of a container, by the twelve digits with
// which its id begins.
func dockerCgroup(t *testing.T, id string) porttest.Cgroup {
	t.Helper()
	return porttest.NewCgroup(t, "system.slice/docker-"+strings.Repeat(id, 6)[:64]+".scope")
}

// TestContainerInNamespace has a container made by hand: a process in a network namespace
// and a cgroup as docker makes them. The daemon, in another namespace, exports its
// listener with the container and the process, whichever engine reads them.
func TestContainerInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	const name = "docker-0123456789ab"
	cgroup := dockerCgroup(t, "0123456789ab")
	cgroup.Do(t, func() {
		startListenerAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, "0.0.0.0:18080")
	})
	for _, source := range []string{"auto", "sock_diag", "bpf"} {
		t.Run(source, func(t *testing.T) { compareContainer(t, name, source) })
	}
}

func compareContainer(t *testing.T, name, source string) {
	base, log := startDaemon(t, "--collector.disable-defaults", "--collector.namespaces", "--source="+source)
	engine := "bpf"
	if source == "sock_diag" {
		engine = source
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, `port_netns_source_info{reason="",source="`+engine+`"} 1`) {
		if _, why, fell := strings.Cut(body, `port_netns_source_info{reason="bpf: `); fell && engine == "bpf" {
			reason, _, _ := strings.Cut(why, `"`)
			t.Skip("SKIP-BPF: ", reason)
		}
		t.Fatalf("the engine is not %s:\n%s", engine, body)
	}
	for _, want := range []string{
		`port_listener_info{address="0.0.0.0",container="` + name + `",[^}]*netns="` + name + `",port="18080",process="[^"]+",protocol="tcp",scope="any",unit="",user="root"} 1`,
		`port_listener_accept_queue_limit{address="0.0.0.0",interface="",netns="` + name + `",port="18080",protocol="tcp"} [1-9]`,
		`port_netns_info{container="",container_id="0123456789ab[0-9a-f]{52}",[^}]*netns="` + name + `",[^}]*runtime="docker",unit=""} 1`,
		`port_sockets{family="ipv4",netns="` + name + `",protocol="tcp",state="listen"} 1`,
		`port_namespaces{read="full"} [1-9]`,
		`port_somaxconn{netns="` + name + `"} [1-9]`,
		`port_tcp_time_wait_limit{netns="` + name + `"} [1-9]`,
		`port_tcp_time_wait_entries{netns="` + name + `"} 0`,
		`port_privilege_missing{privilege="CAP_SYS_ADMIN"} 0`,
	} {
		pattern := regexp.MustCompile(want)
		var body string
		porttest.Await(t, want, func() bool {
			_, body = get(t, base+"/metrics")
			return pattern.MatchString(body)
		})
		if strings.Contains(body, `port="18080",protocol="tcp",state="established"`) || strings.Contains(body, `netns="`+name+`",protocol="tcp",state="established"`) {
			t.Error("connections that the container does not have")
		}
	}
	if t.Failed() {
		t.Log(log.String())
	}
}

// TestListenersOfContainerInNamespace lists the listeners of a container made by hand, by its
// label and by a second name that ip-netns(8) has for it: they are those of ss in it.
func TestListenersOfContainerInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	for _, tool := range []string{"ip", "ss", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("SKIP-" + tool)
		}
	}
	const label = "docker-ba9876543210"
	cgroup := dockerCgroup(t, "ba9876543210")
	var pid int
	cgroup.Do(t, func() {
		pid = startListenerAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, "0.0.0.0:18080")
	})
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	bindIn(t, path)
	second := fmt.Sprintf("cni-%08x-0000-4000-8000-%012x", os.Getpid(), pid)
	if out, err := exec.Command("ip", "netns", "attach", second, fmt.Sprint(pid)).CombinedOutput(); err != nil {
		t.Skipf("SKIP-NAMESPACE: ip netns attach: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", second).Run() })
	out, err := exec.Command("nsenter", "--net="+path, "ss", "-Hlntu").Output()
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		want = append(want, fields[0]+" "+strings.Replace(fields[4], "*:", "[::]:", 1))
	}
	slices.Sort(want)
	if len(want) != 4 {
		t.Fatalf("ss has %q", want)
	}
	for _, args := range [][]string{{"--netns=" + label}, {"--netns=" + second}, {"--netns=" + second, "--source=sock_diag"}, {"--all-namespaces"}, {"--all-namespaces", "--source=sock_diag"}} {
		text, said, status := porttest.EndedAs(t, nil, append([]string{"port_exporter", "listeners", "--output=json"}, args...)...)
		if status != 0 {
			t.Fatalf("%q: status %d, said %s", args, status, said)
		}
		if diff := cmp.Diff(want, listenersOf(t, text, label, args[0] != "--all-namespaces")); diff != "" {
			t.Errorf("%q (-ss +listeners):\n%s", args, diff)
		}
	}
	table, said, status := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--netns="+label)
	if status != 0 || !regexp.MustCompile(`(?m)^tcp +0\.0\.0\.0 +18080 .* root .* `+label+` +`+label+` +-$`).MatchString(table) {
		t.Errorf("status %d, said %s:\n%s", status, said, table)
	}
	deniedNamespaces(t, label)
}

// bindIn opens three more sockets in a namespace, which belong to the test.
func bindIn(t *testing.T, path string) {
	t.Helper()
	err := new(netns.Worker).Do(t.Context(), path, func(uint64) error {
		var errs error
		for _, s := range []struct {
			family, kind int
			at           unix.Sockaddr
		}{
			{unix.AF_INET6, unix.SOCK_STREAM, &unix.SockaddrInet6{Port: 18081}},
			{unix.AF_INET, unix.SOCK_DGRAM, &unix.SockaddrInet4{Port: 1053}},
			{unix.AF_INET6, unix.SOCK_DGRAM, &unix.SockaddrInet6{Port: 1054}},
		} {
			fd, err := unix.Socket(s.family, s.kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = unix.Close(fd) })
			errs = errors.Join(errs, unix.Bind(fd, s.at))
			if s.kind == unix.SOCK_STREAM {
				errs = errors.Join(errs, unix.Listen(fd, 16))
			}
		}
		return errs
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listenersOf returns the listeners of a namespace, which is alone in the table or not.
func listenersOf(t *testing.T, text, name string, alone bool) (all []string) {
	t.Helper()
	var saved struct {
		Listeners []struct {
			Netns, Protocol, Address, Process string
			Port                              int
			Runs                              struct{ Runtime string } `json:"netns_info"`
		}
	}
	if err := json.Unmarshal([]byte(text), &saved); err != nil {
		t.Fatal(err)
	}
	for _, l := range saved.Listeners {
		if l.Netns != name {
			if alone {
				t.Errorf("a listener of the network namespace %q", l.Netns)
			}
			continue
		}
		if l.Process == "" || l.Runs.Runtime != "docker" {
			t.Errorf("process %q, runtime %q", l.Process, l.Runs.Runtime)
		}
		all = append(all, l.Protocol+" "+net.JoinHostPort(l.Address, fmt.Sprint(l.Port)))
	}
	slices.Sort(all)
	return all
}

// deniedNamespaces lists them without a privilege: what is not read is said.
func deniedNamespaces(t *testing.T, label string) {
	t.Helper()
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	for _, tt := range []struct {
		arg    string
		status int
		said   string
	}{
		{"--all-namespaces", 0, `(?s)\d+ network namespaces were not read\nnetwork namespaces may be missing\nhint: .*CAP_SYS_ADMIN`},
		{"--netns=" + label, 2, `--netns=` + label + `: no other network namespace .*; \d+ could not be read\nhint: .*CAP_SYS_ADMIN and CAP_SYS_PTRACE`},
		{"--netns=" + label + "\x1b", 2, `--netns="` + label + `\\x1b": `},
	} {
		_, said, status := porttest.EndedAs(t, nobody, "port_exporter", "listeners", tt.arg)
		if status != tt.status || !regexp.MustCompile(tt.said).MatchString(said) {
			t.Errorf("%q: status %d, said:\n%s", tt.arg, status, said)
		}
	}
}

// TestPolicyOfContainersInNamespace judges the listener of a container made by hand: in the
// daemon, on the command line and in a saved table.
func TestPolicyOfContainersInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	const label = "docker-cdef01234567"
	cgroup := dockerCgroup(t, "cdef01234567")
	cgroup.Do(t, func() {
		startListenerAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}, "0.0.0.0:18377")
	})
	rules := func(netns string, port int) string {
		file := filepath.Join(t.TempDir(), "policy.yml")
		text := fmt.Sprintf("policy: {rules: [{name: theirs, netns: %q, ports: %d, required: true}, {name: the rest, netns: \"*\", ports: [1-18376, 18378-65535]}]}\n", netns, port)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return "--config.file=" + file
	}
	listeners := func(want int, args ...string) (text string) {
		t.Helper()
		text, said, status := porttest.EndedAs(t, nil, append([]string{"port_exporter", "listeners"}, args...)...)
		if status != want && status != 3 { // other tests may have namespaces whose owners are gone
			t.Errorf("%q: status %d, said %s\n%s", args, status, said, text)
		}
		return text
	}
	expected := listeners(0, rules("docker-*", 18377))
	if !regexp.MustCompile(`(?m)^tcp .* 18377 .* ` + label + ` .*expected: theirs$`).MatchString(expected) {
		t.Errorf("got\n%s", expected)
	}
	unexpected := rules("blue", 18377)
	if got := listeners(1, unexpected, "--unexpected"); !regexp.MustCompile(`(?m)^tcp .* 18377 .* ` + label + ` .*unexpected$`).MatchString(got) {
		t.Errorf("got\n%s", got)
	}
	saved := filepath.Join(t.TempDir(), "host.json")
	if err := os.WriteFile(saved, []byte(listeners(0, "--all-namespaces", "--output=json")), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := listeners(1, unexpected, "--input="+saved, "--unexpected"); !strings.Contains(got, label) {
		t.Errorf("got\n%s", got)
	}
	base, _ := startDaemon(t, "--collector.disable-defaults", "--collector.namespaces", "--collector.policy", unexpected)
	want := `port_policy_unexpected_listener{address="0.0.0.0",container="` + label + `",interface="",netns="` + label + `",port="18377",`
	porttest.Await(t, want, func() bool {
		_, body := get(t, base+"/metrics")
		return strings.Contains(body, want)
	})
}

// TestClosedNamespaceInNamespace lists the listeners of a namespace that may not be entered,
// of a process of the same user: without a privilege its files in /proc show them.
func TestClosedNamespaceInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	const label = "docker-c105edc105ed"
	cgroup := dockerCgroup(t, "c105edc105ed")
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	cgroup.Do(t, func() {
		startListenerAs(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: nobody}, "0.0.0.0:18080")
	})
	text, said, status := porttest.EndedAs(t, &syscall.SysProcAttr{Credential: nobody}, "port_exporter", "listeners", "--source=sock_diag", "--output=json", "--netns="+label)
	if status != 0 || !strings.Contains(said, "was read from /proc/PID/net") || !strings.Contains(text, `"read": "procfs"`) {
		t.Fatalf("status %d, said %s:\n%s", status, said, text)
	}
	if diff := cmp.Diff([]string{"tcp 0.0.0.0:18080"}, listenersOf(t, text, label, true)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
