package owner

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// userdb serves users on a socket of a service, as systemd does. An empty name is
// answered by nothing at all.
func userdb(t *testing.T, dir, service string, names map[uint32]string) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(dir, service))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answerUser(conn, service, names)
		}
	}()
}

func answerUser(conn net.Conn, service string, names map[uint32]string) {
	defer conn.Close()
	text, err := bufio.NewReader(conn).ReadBytes(0)
	var call userdbCall
	if err != nil || json.Unmarshal(text[:len(text)-1], &call) != nil {
		return
	}
	reply := map[string]any{"error": userdbNotFound, "parameters": map[string]any{}}
	switch name, ok := names[call.Parameters.UID]; {
	case call.Method != userdbGetUser || call.Parameters.Service != service:
		reply["error"] = "org.varlink.service.InvalidParameter"
	case ok && name == "":
		_, _ = conn.Read(make([]byte, 1)) // until the other end has gone
		return
	case ok:
		reply = map[string]any{"parameters": map[string]any{"record": map[string]any{"userName": name, "uid": call.Parameters.UID}}}
	}
	answer, _ := json.Marshal(reply)
	_, _ = conn.Write(append(answer, 0))
}

func TestNameInUserdb(t *testing.T) {
	dir := t.TempDir()
	if name, err := nameInUserdb(dir, 62955); !errors.Is(err, user.UnknownUserIdError(62955)) {
		t.Errorf("without systemd: %q, %v", name, err)
	}
	userdb(t, dir, userdbDynamic, map[uint32]string{62955: "web", 62956: "", 62957: ""})
	userdb(t, dir, userdbAll, map[uint32]string{62956: "slow", 70000: "alice"})
	for uid, want := range map[uint32]string{
		62955: "web",   // of systemd itself
		62956: "slow",  // of the second, as the first does not answer
		70000: "alice", // only the second is asked
	} {
		if name, err := nameInUserdb(dir, uid); name != want || err != nil {
			t.Errorf("%d: %q, %v; want %q", uid, name, err, want)
		}
	}
	if name, err := nameInUserdb(dir, 70001); !errors.Is(err, user.UnknownUserIdError(70001)) {
		t.Errorf("no record: %q, %v", name, err)
	}
	if name, err := nameInUserdb(dir, 62957); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("no answer: %q, %v", name, err)
	}
}

// TestRelativeRootfs has the root of the host at a path that is not absolute.
func TestRelativeRootfs(t *testing.T) {
	const uid = 62955
	root := porttest.OpenDir(t)
	t.Chdir(root)
	dir := filepath.Join("host", userdbDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	userdb(t, dir, userdbDynamic, map[uint32]string{uid: "web"})
	absolute := newLinuxHost("/proc", filepath.Join(root, "host"), quiet)
	for _, rootfs := range []string{"host", "./host", "../" + filepath.Base(root) + "/host"} {
		host := newLinuxHost("/proc", rootfs, quiet)
		if name, err := host.userName(uid); name != "web" || err != nil {
			t.Errorf("%s: user %q, %v", rootfs, name, err)
		}
		if got, want := host.hostRoots(), absolute.hostRoots(); !slices.Equal(got, want) {
			t.Errorf("%s: the host's roots are %q, want %q", rootfs, got, want)
		}
	}
}

// TestOpenBelow opens what an image may have for a passwd file.
func TestOpenBelow(t *testing.T) {
	root, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	write := func(path string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secret)
	write(filepath.Join(root, "file"))
	if err := unix.Mkfifo(filepath.Join(root, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"inside": "/file", "outside": secret, "above": strings.Repeat("../", 20) + secret, "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan map[string]error)
	go func() {
		found := map[string]error{}
		for _, name := range []string{"file", "inside", "outside", "above", "loop", "pipe", ".", "missing"} {
			file, err := openBelow(root, name)
			if err == nil {
				_ = file.Close()
			}
			found[name] = err
		}
		done <- found
	}()
	select {
	case found := <-done:
		for name, want := range map[string]error{
			"file": nil, "inside": nil, "outside": fs.ErrNotExist, "above": fs.ErrNotExist, "loop": unix.ELOOP,
			"pipe": errNoFile, ".": errNoFile, "missing": fs.ErrNotExist,
		} {
			if !errors.Is(found[name], want) {
				t.Errorf("%s: %v, want %v", name, found[name], want)
			}
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for a named pipe")
	}
}

func TestMountAt(t *testing.T) {
	const mounts = `26 1 254:0 / / rw - ext4 /dev/vda rw
27 26 0:21 / /sys rw - sysfs sysfs rw
28 26 254:1 /@data /srv rw - btrfs /dev/vdb rw
29 28 254:0 / /srv/my\040host rw - ext4 /dev/vda rw
30 26 0:50 / / rw - tmpfs hidden rw
`
	for dir, want := range map[string]string{
		"/":               "254:0 /",
		"/etc":            "254:0 /etc",
		"/sysfoo":         "254:0 /sysfoo",
		"/srv":            "254:1 /@data",
		"/srv/x/y":        "254:1 /@data/x/y",
		"/srv/my host":    "254:0 /",
		"/srv/my host/in": "254:0 /in",
	} {
		if got := mountAt(mounts, dir); got != want {
			t.Errorf("%s: %q, want %q", dir, got, want)
		}
	}
	if got := mountAt("short\n27 26 0:21 / /sys rw - sysfs sysfs rw\n", "/"); got != "" {
		t.Errorf("in a chroot: %q", got)
	}
}

func TestNamespaceDepth(t *testing.T) {
	for status, want := range map[string]int{"": 0, "Pid:\t7\nNSpid:\t7\n": 1, "NSpid:\t4711\t7\nNSsid:\t1\n": 2} {
		if got := namespaceDepth(status); got != want {
			t.Errorf("%q: %d", status, got)
		}
	}
}
