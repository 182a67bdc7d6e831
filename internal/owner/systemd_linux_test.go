package owner

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// The units that the systemd of a test runs: a service whose user systemd makes up,
// and a socket whose service starts with the first connection.
var testUnits = map[string]string{
	"px.target": "[Unit]\nDefaultDependencies=no\nWants=px-web.service px-held.socket\n",
	"px-web.service": `[Unit]
DefaultDependencies=no
[Service]
DynamicUser=yes
User=pxweb
ExecStart=/usr/bin/systemd-socket-activate --listen=127.0.0.1:8080 /bin/true
`,
	"px-held.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=127.0.0.1:8081\n",
	"px-held.service": `[Unit]
DefaultDependencies=no
[Service]
ExecStart=/bin/sleep infinity
`,
}

// startSystemd boots a systemd that has this host's /usr and nothing else, in the
// network namespace of the test. The processes that the test starts from then on are
// in its pid namespace.
func startSystemd(t *testing.T, units map[string]string) {
	t.Helper()
	nspawn := porttest.Program(t, "SKIP-NSPAWN", "systemd-nspawn")
	if os.Getuid() != 0 {
		t.Skip("SKIP-NAMESPACE: systemd-nspawn requires root")
	}
	args := []string{"--quiet", "--register=no", "--keep-unit", "--console=pipe", "--volatile=yes", "--directory=/"}
	for name, text := range units {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--bind-ro="+file+":/etc/systemd/system/"+name)
	}
	cmd := exec.Command(nspawn, append(args, "/lib/systemd/systemd", "systemd.unit=px.target")...)
	porttest.Start(t, cmd)
	var leader int32
	porttest.Await(t, "a systemd", func() bool {
		leader = childOf(int32(cmd.Process.Pid), "systemd")
		return leader != 0
	})
	namespace, err := os.Open(filepath.Join("/proc", strconv.Itoa(int(leader)), "ns/pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWPID); err != nil {
		t.Fatal(err)
	}
}

// childOf returns a child of a process that has a name.
func childOf(parent int32, comm string) int32 {
	for _, pid := range numbers("/proc") {
		stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(int(pid)), "stat"))
		if err != nil {
			continue
		}
		if p, err := parseStat(stat); err == nil && p.parent == parent && p.comm == comm {
			return pid
		}
	}
	return 0
}

// TestSystemdInNamespace asks a real systemd, as an exporter in a container on its
// host does, for the name of a user that it made up, and follows a socket that it
// holds for a service until that runs.
func TestSystemdInNamespace(t *testing.T) {
	porttest.Namespace(t)
	startSystemd(t, testUnits)
	image := jail(t, "intruder:x:65534:65534::/:/bin/sh\n")
	look := func() findings {
		return reportFrom(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}, "proc=/proc", "whole=", "bind=/proc:"+image+"/proc", "chroot="+image)
	}
	var got findings
	porttest.Await(t, "the service and the socket", func() bool {
		got = look()
		return got.Owners[8080].Process != "" && got.Owners[8081].Process != ""
	})
	web := got.Owners[8080]
	if uid, err := strconv.Atoi(web.UserID); err != nil || uid < firstDynamic || uid > lastDynamic {
		t.Errorf("the user is %q, and none that systemd made up", web.UserID)
	}
	if web.User != "pxweb" || web.Unit != "px-web.service" || web.Process != "systemd-socket-activate" || web.Pending {
		t.Errorf("the service: %+v", web)
	}
	if held := got.Owners[8081]; held.Process != "systemd" || held.PID != initPID || held.User != "root" {
		t.Errorf("before the service runs: %+v", held)
	}

	porttest.Dial(t, "127.0.0.1:8081")
	porttest.Await(t, "the service to run", func() bool {
		got = look()
		return got.Owners[8081].PID != initPID
	})
	if held := got.Owners[8081]; held.Process != "sleep" || !strings.HasPrefix(held.Unit, "px-held.") {
		t.Errorf("when it runs: %+v", held)
	}
}
