package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzEphemeralPorts reads any text as the port range and the reserved ports.
func FuzzEphemeralPorts(f *testing.F) {
	f.Add("32768\t60999\n", "8080,20000-20010\n")
	f.Add("", ",")
	f.Add("60999 32768", "1-")
	f.Add("0x10 65536", "65535-1,,2")
	f.Fuzz(func(t *testing.T, first, reserved string) {
		proc := t.TempDir()
		dir := filepath.Join(proc, "sys/net/ipv4")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"ip_local_port_range": first, "ip_local_reserved_ports": reserved} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ports, err := ephemeralPorts(proc)
		if err != nil && ports.First == 0 && ports.Last == 0 {
			t.Errorf("no default beside %v", err)
		}
		_, _ = parsePorts(reserved)
	})
}

// FuzzMemoryGroups reads any text as the files that name the cgroups of a process:
// what comes of it is below a mount point.
func FuzzMemoryGroups(f *testing.F) {
	f.Add("4:memory:/a/b\n0::/\n", "43 34 0:37 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
	f.Add("0::/../x\n", "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
	f.Fuzz(func(t *testing.T, groups, mounts string) {
		for _, dir := range memoryGroups(groups, mounts) {
			if strings.Contains(mounts, " /sys/fs/cgroup ") && strings.Count(mounts, "cgroup2") == 1 && strings.HasPrefix(dir, "/sys/fs/x") {
				t.Errorf("%q is outside", dir)
			}
		}
		_ = parseLimit(groups)
	})
}
