package porttest

import (
	"os"
	"os/user"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// AsNobody runs a function without root's rights, on a thread that ends with
// them. A test that has none runs it as it is.
func AsNobody(t testing.TB, f func()) {
	t.Helper()
	if os.Getuid() != 0 {
		f()
		return
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		const nobody = 65534
		// Not [unix.Setresuid], which changes every thread of the process.
		_, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody)
		if errno != 0 {
			done <- errno
			return
		}
		defer close(done)
		f()
	}()
	if err := <-done; err != nil {
		t.Fatalf("setresuid: %v", err)
	}
}

// OpenDir makes a directory that every user can read.
func OpenDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "port_exporter") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// userAndDir returns what a process needs to run as a user, and a directory of
// that user's for as long as the test lasts. Without the user the test is skipped.
func userAndDir(t testing.TB, name string) (as *syscall.SysProcAttr, dir string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("SKIP-SERVERS: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	as = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	dir = OpenDir(t)
	own(t, as, dir)
	return as, dir
}

func own(t testing.TB, as *syscall.SysProcAttr, path string) {
	t.Helper()
	if err := os.Chown(path, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
		t.Fatal(err)
	}
}
