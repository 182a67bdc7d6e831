package porttest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Cgroup is the directory of a cgroup.
type Cgroup string

// CgroupRoot returns where cgroup v2 is mounted. Without it the test is skipped.
func CgroupRoot(t testing.TB) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1]
		}
	}
	t.Skip("SKIP-CGROUP: no cgroup v2 hierarchy is mounted")
	return ""
}

// CgroupTop returns the cgroup below which [NewCgroup] makes those of this process.
func CgroupTop(t testing.TB) string {
	t.Helper()
	return filepath.Join(CgroupRoot(t), fmt.Sprintf("port_exporter_test_%d", os.Getpid()))
}

// NewCgroup makes a cgroup (system.slice/web.service) below one of this process. It is
// removed with the test, whose processes in it have to end before.
func NewCgroup(t testing.TB, name string) Cgroup {
	t.Helper()
	root, dir := CgroupRoot(t), filepath.Join(CgroupTop(t), name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("SKIP-CGROUP: %v", err)
	}
	t.Cleanup(func() {
		Await(t, dir+" to be empty", func() bool { return os.Remove(dir) == nil || !exists(dir) })
		for parent := filepath.Dir(dir); parent != root && os.Remove(parent) == nil; {
			parent = filepath.Dir(parent)
		}
	})
	return Cgroup(dir)
}

// Do has the test's process in the cgroup for the time of a function. The sockets that
// it makes stay there.
func (c Cgroup) Do(t testing.TB, f func()) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "0::")
	home, _, _ := strings.Cut(rest, "\n")
	enter := func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			t.Fatalf("enter %s: %v", dir, err)
		}
	}
	enter(string(c))
	defer enter(filepath.Join(CgroupRoot(t), home))
	f()
}
