package owner

import (
	"os"
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
	"test.target": "[Unit]\nDefaultDependencies=no\nWants=px-web.service px-held.socket\n",
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

// enterPIDNamespace has what the test starts from then on be in the pid namespace of a
// process.
func enterPIDNamespace(t *testing.T, pid int) {
	t.Helper()
	namespace, err := os.Open(filepath.Join("/proc", strconv.Itoa(pid), "ns/pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWPID); err != nil {
		t.Fatal(err)
	}
}

// TestSystemdInNamespace asks a real systemd, as an exporter in a container on its
// host does, for the name of a user that it made up, and follows a socket that it
// holds for a service until that runs.
func TestSystemdInNamespace(t *testing.T) {
	porttest.Namespace(t)
	enterPIDNamespace(t, porttest.Systemd(t, testUnits))
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
		return got.Owners[8081].Process != "systemd" // nor a child of it, before it executes the service
	})
	if held := got.Owners[8081]; held.Process != "sleep" || !strings.HasPrefix(held.Unit, "px-held.") {
		t.Errorf("when it runs: %+v", held)
	}
}
