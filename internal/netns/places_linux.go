package netns

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// maxPIDs is how many processes of one namespace are kept: enough to enter it though
// some of them end, and to find the oldest.
const maxPIDs = 64

// findPlaces looks for network namespaces in the links of processes, and among the
// mounts of this process and of the first one. What may not be read is left out.
func findPlaces(ctx context.Context, procfs string) Places {
	places := Places{}
	addProcesses(ctx, places, procfs)
	self, first := filepath.Join(procfs, "self"), filepath.Join(procfs, "1")
	addMounts(places, self, "")
	ours, _ := os.Readlink(filepath.Join(self, "ns/mnt"))
	if others, err := os.Readlink(filepath.Join(first, "ns/mnt")); err == nil && others != ours {
		addMounts(places, first, filepath.Join(first, "root"))
	}
	return places
}

// addMounts adds what a process has mounted, whose root is at a path.
func addMounts(places Places, process, root string) {
	text, err := os.ReadFile(filepath.Join(process, "mountinfo"))
	if err != nil {
		return
	}
	for inode, path := range mounts(string(text)) {
		p := places[inode]
		p.Mounts = append(p.Mounts, Mount{Path: path, Root: root})
		places[inode] = p
	}
}

func addProcesses(ctx context.Context, places Places, procfs string) {
	dir, err := os.Open(procfs)
	if err != nil {
		return
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	pids := make([]int32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseInt(name, 10, 32); err == nil {
			pids = append(pids, int32(pid))
		}
	}
	slices.Sort(pids)
	link, path := make([]byte, 64), make([]byte, 0, 32)
	for _, pid := range pids {
		if ctx.Err() != nil {
			return
		}
		path = append(strconv.AppendInt(path[:0], int64(pid), 10), "/ns/net"...)
		n, err := unix.Readlinkat(int(dir.Fd()), string(path), link)
		if err != nil { // it is gone, or may not be read
			continue
		}
		if inode, ok := inodeOf(string(link[:n])); ok && len(places[inode].PIDs) < maxPIDs {
			p := places[inode]
			p.PIDs = append(p.PIDs, pid)
			places[inode] = p
		}
	}
}

// paths returns where a namespace may be entered, the likeliest first.
func (p Place) paths(procfs string) []string {
	const tried = 4 // processes
	var paths []string
	for _, m := range p.Mounts {
		paths = append(paths, filepath.Join(m.Root, m.Path))
	}
	for _, pid := range p.PIDs[:min(tried, len(p.PIDs))] {
		paths = append(paths, filepath.Join(procfs, strconv.Itoa(int(pid)), "ns/net"))
	}
	return paths
}
