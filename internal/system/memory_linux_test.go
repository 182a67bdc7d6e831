package system

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMemoryGroups(t *testing.T) {
	const (
		v1     = "43 34 0:37 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
		v1part = "43 34 0:37 /docker/ab /sys/fs/cgroup/memory ro shared:3 - cgroup cgroup rw,memory\n"
		v2     = "30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		other  = "35 34 0:38 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n22 1 8:1 / / rw - ext4 /dev/sda1 rw\nshort - x\n\n"
	)
	for _, tt := range []struct {
		name, groups, mounts string
		want                 []string
	}{
		{"nothing", "", "", nil},
		{"no controller of memory", "3:cpu:/a\n", other, nil},
		{"cut", "4:memory\n4", v1, nil},
		{"v1", "4:memory:/a/b\n0::/\n", other + v1, []string{"/sys/fs/cgroup/memory/a/b", "/sys/fs/cgroup/memory/a", "/sys/fs/cgroup/memory"}},
		{"v1 in a container", "4:cpu,memory:/docker/ab\n", v1part, []string{"/sys/fs/cgroup/memory"}},
		{"v1 in a container, a path from outside", "4:memory:/docker/abc\n", v1part, []string{"/sys/fs/cgroup/memory"}},
		{"v1 below a container", "4:memory:/docker/ab/c\n", v1part, []string{"/sys/fs/cgroup/memory/c", "/sys/fs/cgroup/memory"}},
		{"v2", "0::/system.slice/p.service\n", v2, []string{"/sys/fs/cgroup/system.slice/p.service", "/sys/fs/cgroup/system.slice", "/sys/fs/cgroup"}},
		{"v2 in a namespace", "0::/\n", v2, []string{"/sys/fs/cgroup"}},
		{"v2 from outside the namespace", "0::/../x\n", v2, []string{"/sys/fs/cgroup"}},
	} {
		if diff := cmp.Diff(tt.want, memoryGroups(tt.groups, tt.mounts)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
	for text, want := range map[string]uint64{"max\n": math.MaxUint64, "": math.MaxUint64, "67108864\n": 64 << 20, "9223372036854771712\n": 9223372036854771712, "-1": math.MaxUint64} {
		if got := parseLimit(text); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
