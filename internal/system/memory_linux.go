package system

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// MemoryLimit returns the smallest limit on memory of the cgroups that this process
// is in, in bytes. It reports false where there is none.
func MemoryLimit() (bytes uint64, limited bool) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return 0, false
	}
	bytes = math.MaxUint64
	for _, dir := range memoryGroups(string(groups), string(mounts)) {
		for _, name := range []string{"memory.max", "memory.high", "memory.limit_in_bytes"} {
			if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
				bytes = min(bytes, parseLimit(string(text)))
			}
		}
	}
	return bytes, bytes < unlimited
}

// unlimited is below what cgroup v1 has for no limit (PAGE_COUNTER_MAX pages), and
// above any memory there is.
const unlimited = 1 << 60

// parseLimit reads the file of a limit; "max", or what cannot be read, is none.
func parseLimit(text string) uint64 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return math.MaxUint64
	}
	return n
}

// memoryGroups returns the directories of the cgroups that bound the memory of a
// process, each and those above it, from its /proc/PID/cgroup and mountinfo
// (cgroups(7)). A container may see a part of the hierarchy only, with paths that
// are not in it: then the root of what it sees is its own.
func memoryGroups(groups, mounts string) []string {
	var dirs []string
	for line := range strings.Lines(mounts) {
		root, mount, version := cgroupMount(line)
		if version == 0 {
			continue
		}
		path, ok := groupOf(groups, version)
		if !ok {
			continue
		}
		below, inside := strings.CutPrefix(path, strings.TrimSuffix(root, "/"))
		if !inside || strings.HasPrefix(below, "/..") || below != "" && below[0] != '/' {
			below = "/"
		}
		for ; ; below = filepath.Dir(below) {
			dirs = append(dirs, filepath.Join(mount, below))
			if below == "/" || below == "." || below == "" {
				break
			}
		}
	}
	return dirs
}

// cgroupMount reads a line of mountinfo: ID parent device root mount options
// [tags] - type source super-options (proc_pid_mountinfo(5)). The version is zero
// for what is no hierarchy that bounds memory.
func cgroupMount(line string) (root, mount string, version int) {
	before, after, _ := strings.Cut(line, " - ")
	fields, tail := strings.Fields(before), strings.Fields(after)
	if len(fields) < 5 || len(tail) < 3 {
		return "", "", 0
	}
	switch {
	case tail[0] == "cgroup2":
		version = 2
	case tail[0] == "cgroup" && slices.Contains(strings.Split(tail[2], ","), "memory"):
		version = 1
	}
	return fields[3], fields[4], version
}

// groupOf returns the path of a process in the hierarchy that bounds memory.
func groupOf(groups string, version int) (path string, ok bool) {
	for line := range strings.Lines(groups) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) < 3 {
			continue
		}
		if version == 2 && parts[0] == "0" && parts[1] == "" ||
			version == 1 && slices.Contains(strings.Split(parts[1], ","), "memory") {
			return parts[2], true
		}
	}
	return "", false
}
