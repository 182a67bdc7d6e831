package owner

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// TestWalkOfCgroups compares a walk of real cgroups with what stat says of each.
func TestWalkOfCgroups(t *testing.T) {
	mount := newCgroups("/proc", nil).mount
	top := filepath.Dir(cgroup(t, "a.slice"))
	want := map[string]bool{}
	for _, name := range []string{"a.slice", "a.slice/b.service", "a.slice/b.service/deep", "a.slice/b.service/deep/er", "a.slice/c.service", "d.service"} {
		dir := cgroup(t, name)
		want[dir[len(mount):]] = true
	}
	got := map[string]bool{}
	walkCgroups(mount, func(id uint64, path string) bool {
		if len(path) > len(top)-len(mount) && path[:len(top)-len(mount)] == top[len(mount):] {
			got[path] = true
		}
		var stat unix.Stat_t
		if unix.Stat(mount+path, &stat) == nil && stat.Ino != id {
			t.Errorf("%s: id %d, inode %d", path, id, stat.Ino)
		}
		return true
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	groups := NewGroups("/proc", slog.New(slog.DiscardHandler))
	var stat unix.Stat_t
	if err := unix.Stat(filepath.Join(top, "a.slice/b.service/deep/er"), &stat); err != nil {
		t.Fatal(err)
	}
	const never = 1<<63 - 1
	if diff := cmp.Diff(map[uint64]Group{stat.Ino: {Unit: "b.service"}}, groups.Of(t.Context(), []uint64{stat.Ino, never})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestGroupsWithoutCgroups(t *testing.T) {
	procfs := t.TempDir()
	if err := os.Mkdir(filepath.Join(procfs, "self"), 0o755); err != nil {
		t.Fatal(err)
	}
	v1 := "30 24 0:26 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n"
	if err := os.WriteFile(filepath.Join(procfs, "self/mountinfo"), []byte(v1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, procfs := range []string{procfs, filepath.Join(procfs, "nowhere")} {
		if NewGroups(procfs, slog.New(slog.DiscardHandler)) != nil {
			t.Errorf("%s has groups", procfs)
		}
	}
}

// entry is a struct linux_dirent64.
func entry(inode uint64, kind byte, name string) []byte {
	b := binary.NativeEndian.AppendUint64(nil, inode)
	b = binary.NativeEndian.AppendUint64(b, 0)
	length := (19 + len(name) + 1 + 7) &^ 7
	b = append(binary.NativeEndian.AppendUint16(b, uint16(length)), kind)
	b = append(b, name...)
	return append(b, make([]byte, length-len(b))...)
}

func TestParseDirectories(t *testing.T) {
	whole := bytes.Join([][]byte{
		entry(1, unix.DT_DIR, "."), entry(2, unix.DT_DIR, ".."), entry(3, unix.DT_REG, "cgroup.procs"),
		entry(4, unix.DT_DIR, "nginx.service"), entry(1<<40, unix.DT_DIR, "a"),
	}, nil)
	if diff := cmp.Diff(map[string]uint64{"nginx.service": 4, "a": 1 << 40}, maps.Collect(parseDirectories(whole))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]uint64{"nginx.service": 4}, maps.Collect(parseDirectories(whole[:len(whole)-1]))); diff != "" {
		t.Errorf("one byte short (-want +got):\n%s", diff)
	}
}

func FuzzParseDirectories(f *testing.F) {
	f.Add(entry(4, unix.DT_DIR, "nginx.service"))
	f.Add(entry(4, unix.DT_DIR, "nginx.service")[:30])
	f.Add(append(entry(4, unix.DT_REG, ""), 1, 2, 3))
	f.Add(make([]byte, 64)) // lengths of zero
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for name := range parseDirectories(b) {
			if n++; name == "" || name == "." || name == ".." || bytes.ContainsRune([]byte(name), 0) {
				t.Errorf("%q", name)
			}
		}
		if n > len(b)/20 {
			t.Errorf("%d directories in %d bytes", n, len(b))
		}
	})
}

// BenchmarkWalkOfCgroups walks a thousand services below those of this host.
func BenchmarkWalkOfCgroups(b *testing.B) {
	mount := newCgroups("/proc", nil).mount
	top := filepath.Join(mount, fmt.Sprintf("port_exporter_bench_%d", os.Getpid()))
	const services = 1000
	for i := range services {
		dir := filepath.Join(top, fmt.Sprintf("s%d.service", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			b.Skipf("SKIP-CGROUP: %v", err)
		}
	}
	b.Cleanup(func() {
		for i := range services {
			_ = os.Remove(filepath.Join(top, fmt.Sprintf("s%d.service", i)))
		}
		_ = os.Remove(top)
	})
	n := 0
	for b.Loop() {
		n = 0
		walkCgroups(mount, func(uint64, string) bool { n++; return true })
	}
	b.ReportMetric(float64(n), "cgroups")
}
