package porttest

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// MountNamespace moves the test's thread into a mount namespace of its own, which
// the processes that it starts share. Other goroutines see it below the directory
// that is returned.
func MountNamespace(t testing.TB) (root string) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the runtime then ends the thread
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		t.Skipf("SKIP-NAMESPACE: unshare(CLONE_NEWNS): %v", err)
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/self/task/%d/root", unix.Gettid())
}

// HangDirectory mounts a file system that answers nothing at all over a directory, until
// release is called.
func HangDirectory(t testing.TB, dir string) (release func()) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIP-FUSE: %v", err)
	}
	if err := unix.Mount("test", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		_ = unix.Close(fd)
		t.Skipf("SKIP-FUSE: mount: %v", err)
	}
	release = sync.OnceFunc(func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = unix.Close(fd) // ends all that waits
	})
	t.Cleanup(release)
	return release
}

// HangFile puts a FIFO that has no writer over a file, until release is called.
func HangFile(t testing.TB, file string) (release func()) {
	t.Helper()
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(fifo, file, "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount a FIFO over %s: %v", file, err)
	}
	release = sync.OnceFunc(func() {
		_ = unix.Unmount(file, unix.MNT_DETACH)
		if writer, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0); err == nil {
			_ = writer.Close() // ends all that waits
		}
	})
	t.Cleanup(release)
	return release
}
