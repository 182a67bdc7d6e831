package porttest

import (
	"os"
	"testing"
)

// HangingFile returns the path of a regular file of which a reading does not end: that
// of the kernel's messages waits for the next one. Without the right to read it the
// test is skipped.
func HangingFile(t *testing.T) string {
	t.Helper()
	const path = "/proc/kmsg"
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("SKIP-NAMESPACE: %v", err)
	}
	_ = f.Close()
	return path
}

// Link makes a symbolic link lead to a target, in one step.
func Link(t *testing.T, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
}
