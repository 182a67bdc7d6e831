package porttest

import (
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// Program returns the path of the first program of several that is there, by
// name, path or pattern. Without one the test is skipped, for a reason such as
// SKIP-SERVERS.
func Program(t testing.TB, reason string, patterns ...string) string {
	t.Helper()
	for _, pattern := range patterns {
		if path, err := exec.LookPath(pattern); err == nil {
			return path
		}
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[len(found)-1]
		}
	}
	t.Skipf("%s: none of %v is installed", reason, patterns)
	return ""
}

// As returns what a process needs to run as a user, or skips the test.
func As(t testing.TB, name string) *syscall.SysProcAttr {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Skipf("SKIP-SERVERS: %v", err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
}

// Own gives a file to a user.
func Own(t testing.TB, as *syscall.SysProcAttr, path string) {
	t.Helper()
	if err := os.Chown(path, int(as.Credential.Uid), int(as.Credential.Gid)); err != nil {
		t.Fatal(err)
	}
}

// DirOf makes a directory of a user's, for as long as the test lasts.
func DirOf(t testing.TB, as *syscall.SysProcAttr) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "port_exporter") //nolint:usetesting // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	Own(t, as, dir)
	return dir
}
