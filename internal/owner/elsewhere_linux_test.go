package owner

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// place is where a process reads the host from.
type place struct {
	procfs, rootfs string
	whole          bool // the processes of its pid namespace are all there are
}

// take takes a process to another place, step by step.
//
//	proc=DIR      mounts the /proc of its pid namespace on DIR, and reads that
//	bind=A:B      mounts A, and what is mounted in there, on B
//	tmpfs=DIR     mounts an empty file system on DIR
//	chroot=DIR    has DIR for its root
//	rootfs=DIR    the root of the host is at DIR
//	enter=DIR     moves to a cgroup
//	setuid=UID    gives up root
//	listen=PORT,STEP…  starts a server that takes steps, in the same namespaces
//	apart=        goes on as a child in a mount namespace of its own
//	whole=        takes the processes of its pid namespace for all there are
//	landlock=     has a security module that denies it to read other processes
func take(steps []string) (place, error) {
	p := place{procfs: "/proc"}
	if len(steps) > 0 && !strings.HasPrefix(steps[0], "setuid") && !strings.HasPrefix(steps[0], "chroot") { // may mount
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil && steps[0] != "landlock=" {
			return p, fmt.Errorf("private: %w", err)
		}
	}
	for i, step := range steps {
		name, value, _ := strings.Cut(step, "=")
		var err error
		switch name {
		case "proc":
			p.procfs = value
			err = unix.Mount("proc", value, "proc", 0, "")
		case "bind":
			from, to, _ := strings.Cut(value, ":")
			err = unix.Mount(from, to, "", unix.MS_BIND|unix.MS_REC, "")
		case "tmpfs":
			err = unix.Mount("tmpfs", value, "tmpfs", 0, "")
		case "chroot":
			if err = unix.Chroot(value); err == nil {
				err = os.Chdir("/")
			}
		case "rootfs":
			p.rootfs = value
		case "enter":
			err = enter(value)
		case "setuid":
			var uid int
			if uid, err = strconv.Atoi(value); err == nil {
				err = syscall.Setuid(uid)
			}
		case "listen":
			port, rest, _ := strings.Cut(value, ",")
			err = listenBeside(append([]string{port}, strings.FieldsFunc(rest, func(r rune) bool { return r == ',' })...))
		case "apart":
			err = goApart(steps[i+1:])
		case "whole":
			p.whole = true
		case "landlock":
			err = landlock()
		}
		if err != nil {
			return p, fmt.Errorf("%s: %w", step, err)
		}
	}
	return p, nil
}

// listenBeside starts a server that ends with this process.
func listenBeside(args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleVariable+"=elsewhere")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if _, err := cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(stdout).ReadString('\n')
	return err
}

// goApart lets a child take the other steps, and ends with it.
func goApart(steps []string) error {
	cmd := exec.Command("/proc/self/exe", steps...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		return err
	}
	os.Exit(0)
	return nil
}

// landlock runs this process again, restricted (landlock(7)): it may make no named
// pipes, and as any process so restricted it may not read others with ptrace access.
func landlock() error {
	runtime.LockOSThread() // the restriction is that of a thread, and outlives exec
	fs := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_FIFO)
	ruleset, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&fs)), unsafe.Sizeof(fs), 0)
	if errno != 0 {
		return errno
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0); errno != 0 {
		return errno
	}
	return syscall.Exec("/proc/self/exe", os.Args[:1], os.Environ())
}

// findings are what a report says.
type findings struct {
	Missing []string
	Owners  map[uint16]socket.Owner
}

// report writes the owners of the listeners as it sees them from another place.
func report(steps []string) error {
	p, err := take(steps)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	source, err := sockdiag.New(ctx)
	if err != nil {
		return err
	}
	table, err := socket.ReadListening(source.Sockets(ctx, socket.Listening), socket.Criteria{})
	if err != nil {
		return err
	}
	host := newLinuxHost(p.procfs, p.rootfs, quiet)
	if p.whole {
		if host.everyProcess, err = os.Readlink("/proc/self/ns/pid"); err != nil {
			return err
		}
	}
	r := New(host, quiet).Owners(ctx, table.Listeners)
	found := findings{Missing: r.Missing, Owners: map[uint16]socket.Owner{}}
	for _, o := range r.Owned {
		found.Owners[o.Port] = o.Owner
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// reportFrom runs a report as another process.
func reportFrom(t *testing.T, attr *syscall.SysProcAttr, steps ...string) (found findings) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", steps...)
	cmd.Env = append(os.Environ(), roleVariable+"=report")
	cmd.SysProcAttr = attr
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		skipUnlessPermitted(t, err, stderr.String())
		t.Fatalf("%v: %v\n%s", steps, err, stderr.String())
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	return found
}

func skipUnlessPermitted(t *testing.T, err error, stderr string) {
	t.Helper()
	if os.Getuid() != 0 && (os.IsPermission(err) || strings.Contains(stderr, "not permitted")) {
		t.Skipf("SKIP-NAMESPACE: %v %s", err, stderr)
	}
}

// startElsewhere starts a server as another process, which takes some steps.
func startElsewhere(t *testing.T, port int, attr *syscall.SysProcAttr, steps ...string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{strconv.Itoa(port)}, steps...)...)
	cmd.Env = append(os.Environ(), roleVariable+"=elsewhere")
	cmd.SysProcAttr = attr
	porttest.StartReady(t, cmd)
}

// inUserNamespace makes a process root of a user namespace, which is the user of
// the host.
func inUserNamespace(hostID int, size uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostID, Size: int(size)}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: hostID, Size: int(size)}},
		Credential:  &syscall.Credential{},
	}
}

const nobody = 65534

// jail returns a directory for a root, with a passwd file if there is a text.
func jail(t *testing.T, passwd string) string {
	t.Helper()
	dir := porttest.OpenDir(t)
	for _, name := range []string{"proc", "etc", "host", "host/etc"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if passwd == "" {
		return dir
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte(passwd), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestBlindnessInNamespace looks at one server from places from which its process
// cannot be read, and asks for the cause.
func TestBlindnessInNamespace(t *testing.T) {
	porttest.Namespace(t)
	startServer(t, self(t), "listen", 80)
	startServer(t, self(t), "setuid", 82)
	proc := t.TempDir()
	capabilities := []string{CapSysPtrace, CapDacReadSearch}

	for _, tt := range []struct {
		what    string
		attr    *syscall.SysProcAttr
		steps   []string
		missing []string
		users   [2]string // of root, of nobody
	}{
		{"nothing", nil, nil, nil, [2]string{"root", "nobody"}},
		{"another user", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}, nil, capabilities, [2]string{"root", "root"}},
		{"a pid namespace", &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, []string{"proc=" + proc}, []string{PIDNamespace}, [2]string{"root", "root"}},
		{"a user namespace of one", inUserNamespace(nobody, 1), nil, append(slices.Clone(capabilities), UserNamespace), [2]string{}},
		{"a user namespace of all", inUserNamespace(0, 1<<32-1), nil, append(slices.Clone(capabilities), UserNamespace), [2]string{}},
		{"a security module", nil, []string{"landlock="}, []string{SecurityModule}, [2]string{"root", "root"}},
	} {
		if slices.Contains(tt.missing, SecurityModule) && !hasLandlock() {
			t.Log("not tried: this kernel has no landlock")
			continue
		}
		got := reportFrom(t, tt.attr, tt.steps...) // in a subtest it would be in another namespace
		if diff := cmp.Diff(tt.missing, got.Missing); diff != "" {
			t.Errorf("%s: missing (-want +got):\n%s", tt.what, diff)
		}
		// The socket of the second server was made by root.
		if users := [2]string{got.Owners[80].User, got.Owners[82].User}; users != tt.users {
			t.Errorf("%s: users %q, want %q", tt.what, users, tt.users)
		}
		if known := got.Owners[80].Process != ""; known != (tt.missing == nil) {
			t.Errorf("%s: process %q", tt.what, got.Owners[80].Process)
		}
	}
}

func hasLandlock() bool {
	const version = 1 // LANDLOCK_CREATE_RULESET_VERSION
	_, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, version)
	return errno == 0
}

// TestNamesInNamespace asks for the names of users, from the host and from
// containers, whose root is another one. The host is a pid namespace: where tests
// run in a container, the first process may be out of reach.
func TestNamesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	empty, image := jail(t, ""), jail(t, "intruder:x:65534:65534::/:/bin/sh\nintruder:x:0:0::/:/bin/sh\n")
	host := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	onHost := []string{"proc=/proc", "listen=80", "listen=82,setuid=65534"}
	known, own := [2]string{"root", "nobody"}, [2]string{"root", "65534"}

	for _, tt := range []struct {
		what  string
		steps []string
		users [2]string
	}{
		{"the host", []string{"whole="}, known},
		{"an empty root", []string{"apart=", "whole=", "bind=/proc:" + empty + "/proc", "chroot=" + empty}, known},
		{"an image with users", []string{"apart=", "whole=", "bind=/proc:" + image + "/proc", "chroot=" + image}, known},
		{"an image on the host", []string{"apart=", "whole=", "bind=/proc:" + image + "/proc", "bind=/:" + image + "/host", "chroot=" + image, "rootfs=/host"}, known},
		{"a rootfs with a part of the host", []string{"apart=", "whole=", "bind=/proc:" + image + "/proc", "bind=/etc:" + image + "/host/etc", "chroot=" + image, "rootfs=/host"}, known},
		{"a rootfs without users", []string{"apart=", "whole=", "bind=/proc:" + image + "/proc", "chroot=" + image, "rootfs=/proc"}, own},
	} {
		got := reportFrom(t, host, slices.Concat(onHost, tt.steps)...)
		if users := [2]string{got.Owners[80].User, got.Owners[82].User}; users != tt.users {
			t.Errorf("%s: users %q, want %q", tt.what, users, tt.users)
		}
	}
}

// TestUsersOfContainersInNamespace asks for the users of processes in containers,
// whose numbers are not those of the host's users.
func TestUsersOfContainersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	mounts := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	root := jail(t, "intruder:x:65534:65534::/:/bin/sh\n")
	startElsewhere(t, 90, mounts, "tmpfs="+root, "chroot="+root, "setuid=65534")
	startElsewhere(t, 91, mounts, "tmpfs="+root, "chroot="+root)
	startElsewhere(t, 92, mounts, "tmpfs="+root, "setuid=65534")
	startElsewhere(t, 93, nil, "chroot="+root, "setuid=65534")
	startElsewhere(t, 8094, inUserNamespace(nobody, 1))
	byPort, _ := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
	for port, want := range map[uint16][2]string{
		90:   {"65534", "65534"}, // another root in another mount namespace
		91:   {"root", "0"},
		92:   {"nobody", "65534"}, // the host's root, as with PrivateTmp=
		93:   {"nobody", "65534"}, // the host's mount namespace
		8094: {"65534", "65534"},  // another user namespace
	} {
		o := byPort[port][0]
		if got := [2]string{o.User, o.UserID}; got != want || o.Process == "" {
			t.Errorf("port %d: user %q, want %q (process %q)", port, got, want, o.Process)
		}
	}
}

// TestRootOfAServiceInNamespace has services of the host with a root of their own, as
// RootDirectory= makes it: systemd takes their user from the host. What is in a
// container or in a session has another root for another reason.
func TestRootOfAServiceInNamespace(t *testing.T) {
	porttest.Namespace(t)
	mounts := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	root := jail(t, "intruder:x:65534:65534::/:/bin/sh\n")
	units := map[string]string{
		"web.service":                           "nobody",
		"web.service/system.slice/a.service":    "65534",
		"session-3.scope":                       "65534",
		"user@1000.service/web.service":         "65534",
		"web.service/docker-" + id64 + ".scope": "65534",
		"web.service/libpod-payload-" + id64:    "65534",
	}
	wants := map[uint16]string{}
	for unit, want := range units {
		port := 90 + len(wants)
		wants[uint16(port)] = want
		startElsewhere(t, port, mounts, "enter="+cgroup(t, unit), "tmpfs="+root, "chroot="+root, "setuid=65534")
		t.Logf("port %d: %s", port, unit)
	}
	byPort, _ := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
	for port, want := range wants {
		if o := byPort[port][0]; o.User != want || o.Process == "" {
			t.Errorf("port %d: user %q, want %q: %+v", port, o.User, want, o)
		}
	}
}
