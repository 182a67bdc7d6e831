package owner

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// process is what was read of one process.
type process struct {
	pid    int32
	parent int32
	// start is when the process started, in clock ticks since boot: with the pid
	// it identifies the process (proc_pid_stat(5), starttime).
	start      uint64
	comm       string
	state      byte     // R, S, D, Z, …
	uid        uint32   // effective
	elsewhere  bool     // uid is not that of one of the host's users
	executable string   // empty where it may not be read
	arguments  []string // the first ones, where the name may rest on them
	unsure     bool     // they could not be read in time, and are a guess
	deleted    bool
	cgroup     string
}

var errStat = errors.New("malformed /proc/<pid>/stat")

// parseStat reads the parent, the start time and comm. comm stands in
// parentheses and may hold anything, parentheses and newlines included.
func parseStat(b []byte) (p process, err error) {
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 0 || end < open {
		return process{}, errStat
	}
	pid, err := strconv.ParseInt(strings.TrimSpace(string(b[:open])), 10, 32)
	if err != nil {
		return process{}, errStat
	}
	const state, parent, start = 0, 1, 19 // fields 3, 4 and 22 of the file, counted from behind comm
	fields := strings.Fields(string(b[end+1:]))
	if len(fields) <= start {
		return process{}, errStat
	}
	p = process{pid: int32(pid), comm: string(b[open+1 : end]), state: fields[state][0]}
	ppid, parentErr := strconv.ParseInt(fields[parent], 10, 32)
	p.parent = int32(ppid)
	p.start, err = strconv.ParseUint(fields[start], 10, 64)
	if parentErr != nil || err != nil {
		return process{}, errStat
	}
	return p, nil
}

// effectiveUID reads the second number of the line "Uid:" of
// /proc/<pid>/status. The owner of the directory /proc/<pid> would not do: it
// is root for a process that has given up privileges (proc(5)).
func effectiveUID(status []byte) (uint32, bool) {
	for line := range bytes.Lines(status) {
		rest, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		fields := bytes.Fields(rest)
		if len(fields) < 2 {
			return 0, false
		}
		uid, err := strconv.ParseUint(string(fields[1]), 10, 32)
		return uint32(uid), err == nil
	}
	return 0, false
}

// executable splits what /proc/<pid>/exe links to into the path and whether
// the file there is gone. A path that merely ends so is not: its file exists.
func executable(link string, exists func(path string) bool) (path string, deleted bool) {
	const mark = " (deleted)"
	path, marked := strings.CutSuffix(link, mark)
	if marked && exists(link) {
		return link, false
	}
	return path, marked
}

// socketInode returns the inode in "socket:[4242]", what a descriptor links to.
func socketInode(link []byte) (uint64, bool) {
	digits, ok := bytes.CutPrefix(link, []byte("socket:["))
	if !ok {
		return 0, false
	}
	digits, ok = bytes.CutSuffix(digits, []byte("]"))
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(string(digits), 10, 64)
	return inode, err == nil
}

// mappedSocket returns the inode of the socket that a line of /proc/<pid>/maps
// (proc_pid_maps(5)) is about. The names of files begin with a slash there.
func mappedSocket(line []byte) (uint64, bool) {
	const name = 5
	fields := bytes.Fields(line)
	if len(fields) <= name {
		return 0, false
	}
	return socketInode(fields[name])
}

// parsePIDs reads a list of pids, one a line, and sorts it.
func parsePIDs(text []byte) []int32 {
	var pids []int32
	for line := range bytes.Lines(text) {
		if pid, err := strconv.ParseInt(strings.TrimSpace(string(line)), 10, 32); err == nil {
			pids = append(pids, int32(pid))
		}
	}
	slices.Sort(pids)
	return pids
}

// inFlight reports whether the fdinfo of a socket (proc_pid_fdinfo(5)) says that
// descriptors are in messages which it is to receive.
func inFlight(fdinfo []byte) bool {
	for line := range bytes.Lines(fdinfo) {
		if rest, ok := bytes.CutPrefix(line, []byte("scm_fds:")); ok {
			return string(bytes.TrimSpace(rest)) != "0"
		}
	}
	return false
}

// registeredSockets returns the inodes of the sockets that are registered with an
// io_uring, from its fdinfo (io_uring/fdinfo.c). False means that the kernel does
// not say what is registered, as while the ring is in use.
func registeredSockets(fdinfo []byte) (inodes []uint64, ok bool) {
	for line := range bytes.Lines(fdinfo) {
		_, file, numbered := bytes.Cut(bytes.TrimSpace(line), []byte(": "))
		if inode, is := socketInode(file); numbered && is {
			inodes = append(inodes, inode)
		}
		ok = ok || bytes.HasPrefix(line, []byte("UserFiles:"))
	}
	return inodes, ok
}
