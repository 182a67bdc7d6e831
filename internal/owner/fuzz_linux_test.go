package owner

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzProcFiles reads what /proc has of a process from any text: its status, its
// list of pids, what its links and fdinfo say.
func FuzzProcFiles(f *testing.F) {
	for _, text := range []string{
		"", "Uid:\t0\t1000\t0\t0\n", "Uid:\t1\n", "Name:\tUid:\nUid:\t4294967295\t4294967295\t0\t0\n", "12\n1\nx\n99999999999\n",
		"socket:[42]", "socket:[]", "socket:[-1]", "/usr/bin/nginx (deleted)", " (deleted)", "scm_fds: 3\n", "scm_fds:\n",
		"UserFiles:\t2\n    0: socket:[7]\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = effectiveUID(text)
		if pids := parsePIDs(text); !slices.IsSorted(pids) {
			t.Errorf("pids %v", pids)
		}
		if inode, ok := socketInode(text); ok && !strings.HasPrefix(string(text), "socket:[") {
			t.Errorf("%q is inode %d", text, inode)
		}
		path, deleted := executable(string(text), func(string) bool { return false })
		if deleted && path+" (deleted)" != string(text) || !deleted && path != string(text) {
			t.Errorf("%q: %q, %v", text, path, deleted)
		}
		_ = inFlight(text)
		_, _ = registeredSockets(text)
	})
}

// FuzzMountInfo finds cgroup v2 in any text.
func FuzzMountInfo(f *testing.F) {
	f.Add("30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n")
	f.Add("30 24 0:26 / /sys/fs/a\\040b rw - cgroup2 x\n30 24 - cgroup2 \n - \n")
	f.Fuzz(func(t *testing.T, text string) {
		if mount := cgroupMount(text); utf8.ValidString(text) && !utf8.ValidString(mount) {
			t.Errorf("%q", mount)
		}
	})
}
