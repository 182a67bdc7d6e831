package netns

import (
	"iter"
	"strconv"
	"strings"
)

// mounts yields the network namespaces that are mounted somewhere, from a mountinfo
// (proc_pid_mountinfo(5)): their inodes and paths.
func mounts(mountinfo string) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		for line := range strings.Lines(mountinfo) {
			before, after, ok := strings.Cut(line, " - ")
			fields := strings.Fields(before)
			if !ok || len(fields) < 5 || !strings.HasPrefix(after, "nsfs ") {
				continue
			}
			if inode, ok := inodeOf(fields[3]); ok && !yield(inode, unescape(fields[4])) {
				return
			}
		}
	}
}

// inodeOf returns the inode in "net:[4026532008]", to which the link of a process
// leads too (namespaces(7)).
func inodeOf(link string) (uint64, bool) {
	digits, ok := strings.CutPrefix(link, "net:[")
	if !ok {
		return 0, false
	}
	digits, ok = strings.CutSuffix(digits, "]")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(digits, 10, 64)
	return inode, err == nil
}

// unescape undoes what the kernel does to blanks in mount points: \040.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
