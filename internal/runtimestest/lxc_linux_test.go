package runtimestest_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

func TestLXC(t *testing.T) {
	h := newHost(t)
	porttest.Program(t, "SKIP-lxc", "lxc-start")
	dir := filepath.Join("/run/lxc-test/web")
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // of a container
		t.Fatal(err)
	}
	config := write(t, filepath.Join(dir, "config"), "lxc.uts.name = web\nlxc.rootfs.path = dir:"+rootfs(t)+
		"\nlxc.net.0.type = empty\nlxc.apparmor.profile = unconfined\nlxc.init.cmd = /bin/httpd -f -p 0.0.0.0:8080\n")
	of := []string{"--name=web", "--lxcpath=" + filepath.Dir(dir)}
	run(t, append([]string{"lxc-start", "--daemon", "--rcfile=" + config, "--logfile=" + filepath.Join(dir, "log")}, of...)...)
	t.Cleanup(func() { _ = exec.Command("lxc-stop", append(of, "--kill")...).Run() }) //nolint:gosec // of the test
	pid := number(t, run(t, append([]string{"lxc-info", "--pid", "--no-humanize"}, of...)...))
	want := space{Info: map[string]string{"runtime": "lxc", "container_id": "web", "container": "web"}, Listeners: []string{"tcp 0.0.0.0:8080 any httpd root  lxc-web"}}
	porttest.Await(t, "httpd to listen", func() bool { return run(t, "nsenter", "-t", fmt.Sprint(pid), "-n", "ss", "-Hlnt") != "" })
	sameAsKernel(t, pid, want)
	h.expect(t, map[string]space{"": {}, "lxc-web": want})
	h.ends(t, pid, func() { run(t, append([]string{"lxc-stop", "--kill"}, of...)...) })
	h.expect(t, map[string]space{"": {}})
}

// TestNspawn starts a machine as machinectl(1) does: as a service, whose cgroup names it.
func TestNspawn(t *testing.T) {
	h := newHost(t)
	nspawn := porttest.Program(t, "SKIP-systemd-nspawn", "systemd-nspawn")
	const cgroup = `/sys/fs/cgroup/machine.slice/systemd-nspawn@my\x2dweb.service`
	if err := os.MkdirAll(cgroup, 0o755); err != nil { //nolint:gosec // of a container
		t.Fatal(err)
	}
	stop := porttest.Start(t, exec.Command("sh", "-c", `echo $$ >"$0/cgroup.procs"; exec "$@"`, cgroup, nspawn, "--quiet", "--directory="+rootfs(t), //nolint:gosec // of the test
		"--register=no", "--keep-unit", "--private-network", "--as-pid2", "--machine=my-web", "/bin/httpd", "-f", "-p", "0.0.0.0:8080"))
	pid := 0
	porttest.Await(t, "httpd", func() bool {
		text, err := os.ReadFile(cgroup + "/payload/cgroup.procs")
		for line := range strings.Lines(string(text)) {
			comm, _ := os.ReadFile("/proc/" + strings.TrimSpace(line) + "/comm")
			if string(comm) == "httpd\n" {
				pid = number(t, line)
			}
		}
		return err == nil && pid != 0
	})
	want := space{
		Info:      map[string]string{"runtime": "nspawn", "container_id": "my-web", "container": "my-web", "unit": `systemd-nspawn@my\x2dweb.service`},
		Listeners: []string{`tcp 0.0.0.0:8080 any httpd root systemd-nspawn@my\x2dweb.service nspawn-my-web`},
	}
	porttest.Await(t, "httpd to listen", func() bool { return run(t, "nsenter", "-t", fmt.Sprint(pid), "-n", "ss", "-Hlnt") != "" })
	sameAsKernel(t, pid, want)
	h.expect(t, map[string]space{"": {}, "nspawn-my-web": want})
	h.ends(t, pid, stop)
	h.expect(t, map[string]space{"": {}})
}

// TestPrivateNetwork has a service with a network of its own in a systemd that has booted,
// beside another on the network of the host.
func TestPrivateNetwork(t *testing.T) {
	h := newHost(t)
	httpd := "[Service]\nExecStart=" + porttest.Program(t, "SKIP-busybox", "busybox") + " httpd -f -p "
	systemd := porttest.Systemd(t, map[string]string{
		"test.target":    "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=alone.service beside.service\n",
		"alone.service":  httpd + "0.0.0.0:8080\nPrivateNetwork=yes\n",
		"beside.service": httpd + "127.0.0.1:8081\n",
	}, "--capability=all")
	in := func(args ...string) []string {
		return append([]string{"nsenter", "--all", "--target", fmt.Sprint(systemd)}, args...)
	}
	show := func(property string) string {
		return run(t, in("systemctl", "show", "--property="+property, "--value", "alone.service")...)
	}
	porttest.Await(t, "the service", func() bool {
		args := in("systemctl", "is-active", "alone.service", "beside.service")
		return exec.Command(args[0], args[1:]...).Run() == nil //nolint:gosec // of the test
	})
	// Its number in there is not ours.
	text, err := os.ReadFile("/sys/fs/cgroup" + cgroupOf(t, systemd, show("ControlGroup")) + "/cgroup.procs")
	if err != nil {
		t.Fatal(err)
	}
	pid := number(t, string(text))
	want := space{Info: map[string]string{"unit": "alone.service"}, Listeners: []string{"tcp 0.0.0.0:8080 any busybox root alone.service "}}
	sameAsKernel(t, pid, want)
	h.expect(t, map[string]space{"": {Listeners: []string{"tcp 127.0.0.1:8081 loopback busybox root beside.service "}}, "alone.service": want})
	h.ends(t, pid, func() { run(t, in("systemctl", "stop", "alone.service")...) })
}

// cgroupOf returns the cgroup of a unit of a systemd, whose own ends in init.scope.
func cgroupOf(t *testing.T, systemd int, unit string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", systemd))
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(text), "0::")
	own, _, _ = strings.Cut(own, "\n")
	return strings.TrimSuffix(own, "/init.scope") + unit
}
