package owner

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// NewHost returns the host whose procfs is mounted at a place, /proc.
func NewHost(procfs string) Host {
	h := &linuxHost{procfs: procfs, cgroups: newCgroups(procfs), buf: make([]byte, 4096)}
	if p, ok := h.read(initPID); ok && p.comm != "systemd" && p.comm != "init" {
		h.init = 0 // a container's first process is a service like any other
	} else {
		h.init = initPID
	}
	return h
}

// linuxHost reads /proc. It is used by one [Finder], under its lock.
type linuxHost struct {
	procfs  string
	cgroups *cgroups
	buf     []byte
	init    int32 // the pid of systemd, which holds sockets for others; 0 for none
}

// initPID is systemd: it holds the sockets of .socket units, also once their
// service holds them too.
const initPID = 1

// Find looks first among the processes of the cgroup that each socket was made
// in, then through all of /proc, and last at init, so that a service counts
// before the systemd that opened its socket. It stops when every socket is
// found.
func (h *linuxHost) Find(ctx context.Context, members []socket.Member) map[uint64]Process {
	s := search{
		host: h, ctx: ctx,
		wanted: map[uint64]uint64{}, found: map[uint64]Process{},
		held: map[int32]map[uint64]bool{}, processes: map[int32]*process{},
	}
	for _, m := range members {
		switch {
		case m.Inode != 0:
			s.wanted[m.Inode] = m.ID()
		case m.PID != 0: // the source knows a holder
			if p := s.process(m.PID); p != nil {
				s.found[m.ID()] = h.describe(*p)
			}
		}
	}
	h.cgroups.stale = true
	looked := map[uint64]bool{0: true} // no cgroup
	for _, m := range members {
		if _, open := s.wanted[m.Inode]; open && !looked[m.CgroupID] {
			looked[m.CgroupID] = true
			s.through(h.cgroups.processes(m.CgroupID))
		}
	}
	if !s.done() {
		s.through(h.pids())
	}
	if !s.done() && h.init != 0 {
		s.at(h.init)
	}
	return s.found
}

// search is one search for the holders of some sockets. Each process is read
// once: of a server with thousands of workers, every one has the same parent.
type search struct {
	host      *linuxHost
	ctx       context.Context
	wanted    map[uint64]uint64 // by inode: the ID
	found     map[uint64]Process
	held      map[int32]map[uint64]bool // what a process holds of what was wanted
	processes map[int32]*process        // nil is one that is gone
}

func (s *search) done() bool { return len(s.wanted) == 0 || s.ctx.Err() != nil }

// through looks at processes in the order of their pids, which is mostly that
// of their age.
func (s *search) through(pids []int32) {
	for _, pid := range pids {
		if s.done() {
			return
		}
		if pid != s.host.init {
			s.at(pid)
		}
	}
}

// at takes what the process holds of what is wanted.
func (s *search) at(pid int32) {
	for inode := range s.holdings(pid) {
		id, open := s.wanted[inode]
		if !open {
			continue
		}
		if s.done() {
			return
		}
		if p, ok := s.oldestHolder(pid, inode); ok {
			s.found[id] = p
			delete(s.wanted, inode)
		}
	}
}

// oldestHolder climbs from a process that holds a socket to its farthest
// ancestor that holds it too: of a server and its workers, the server.
func (s *search) oldestHolder(pid int32, inode uint64) (Process, bool) {
	p := s.process(pid)
	if p == nil {
		return Process{}, false
	}
	const limit = 64 // generations; a cycle cannot be, but a race of pids could look like one
	for range limit {
		if p.parent == 0 || p.parent == s.host.init || !s.holdings(p.parent)[inode] {
			break
		}
		older := s.process(p.parent)
		if older == nil {
			break
		}
		p = older
	}
	return s.host.describe(*p), true
}

func (s *search) holdings(pid int32) map[uint64]bool {
	held, ok := s.held[pid]
	if ok {
		return held
	}
	s.host.eachSocket(s.ctx, pid, func(inode uint64) {
		if _, ok := s.wanted[inode]; ok {
			if held == nil {
				held = map[uint64]bool{}
			}
			held[inode] = true
		}
	})
	s.held[pid] = held
	return held
}

func (s *search) process(pid int32) *process {
	p, ok := s.processes[pid]
	if ok {
		return p
	}
	if now, alive := s.host.read(pid); alive {
		p = &now
	}
	s.processes[pid] = p
	return p
}

// eachSocket calls add for each socket among the descriptors of a process. A
// process that is gone, or may not be read, has none.
func (h *linuxHost) eachSocket(ctx context.Context, pid int32, add func(inode uint64)) {
	dir, err := os.Open(h.path(pid, "fd"))
	if err != nil {
		return
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			n, err := unix.Readlinkat(int(dir.Fd()), name, h.buf)
			if err != nil {
				continue
			}
			if inode, ok := socketInode(h.buf[:n]); ok {
				add(inode)
			}
		}
		if err != nil || ctx.Err() != nil {
			return
		}
	}
}

// Look implements [Host].
func (h *linuxHost) Look(ctx context.Context, known Process, members []socket.Member) (Process, map[uint64]bool, bool) {
	p, ok := h.read(known.PID)
	if !ok || p.start != known.Start {
		return Process{}, nil, false
	}
	wanted := map[uint64]uint64{}
	held := map[uint64]bool{}
	for _, m := range members {
		wanted[m.Inode] = m.ID()
		if m.Inode == 0 { // the source says that the process holds it
			held[m.ID()] = m.PID == known.PID
		}
	}
	h.eachSocket(ctx, known.PID, func(inode uint64) {
		if id, ok := wanted[inode]; ok && inode != 0 {
			held[id] = true
		}
	})
	return h.describe(p), held, true
}

// read reads a process. False means that it is gone.
func (h *linuxHost) read(pid int32) (process, bool) {
	stat, err := os.ReadFile(h.path(pid, "stat"))
	if err != nil {
		return process{}, false
	}
	p, err := parseStat(stat)
	if err != nil || p.pid != pid {
		return process{}, false
	}
	status, err := os.ReadFile(h.path(pid, "status"))
	if err != nil {
		return process{}, false
	}
	p.uid, _ = effectiveUID(status)
	if cgroup, err := os.ReadFile(h.path(pid, "cgroup")); err == nil {
		p.cgroup = cgroupPath(string(cgroup))
	}
	if link, err := os.Readlink(h.path(pid, "exe")); err == nil {
		p.executable, p.deleted = executable(link, h.existsFor(pid))
	}
	return p, true
}

// existsFor tells whether a path exists in the mount namespace of a process.
func (h *linuxHost) existsFor(pid int32) func(string) bool {
	return func(path string) bool {
		_, err := os.Stat(filepath.Join(h.path(pid, "root"), path))
		return err == nil
	}
}

func (h *linuxHost) describe(p process) Process {
	unit, container := unitAndContainer(p.cgroup)
	return Process{
		Owner: socket.Owner{
			Process:    socket.ProcessName(p.comm, p.executable),
			Executable: p.executable,
			Deleted:    p.deleted,
			Unit:       unit,
			Container:  container,
			PID:        p.pid,
		},
		Start:   p.start,
		UID:     p.uid,
		Waiting: p.pid == h.init,
	}
}

func (h *linuxHost) path(pid int32, name string) string {
	return filepath.Join(h.procfs, strconv.Itoa(int(pid)), name)
}

// pids returns every process that /proc shows, in numeric order.
func (h *linuxHost) pids() []int32 {
	dir, err := os.Open(h.procfs)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var pids []int32
	for _, name := range names {
		if pid, err := strconv.ParseInt(name, 10, 32); err == nil {
			pids = append(pids, int32(pid))
		}
	}
	slices.Sort(pids)
	return pids
}

// Unit implements [Host]. The root cgroup and init's own say nothing: there
// sockets are made by what systemd did not start, or by systemd before it
// starts something.
func (h *linuxHost) Unit(m socket.Member) (unit, container string) {
	if m.CgroupID == 0 {
		return "", ""
	}
	path := h.cgroups.path(m.CgroupID)
	if path == "" || path == "/init.scope" {
		return "", ""
	}
	return unitAndContainer(path)
}

// Missing implements [Host]. Either of two capabilities is not enough: the
// descriptors of other users' processes lie in directories that only
// CAP_DAC_READ_SEARCH opens, and only CAP_SYS_PTRACE may read their links
// (proc_pid_fd(5)).
func (h *linuxHost) Missing() []string {
	var header = unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil
	}
	has := func(capability int) bool { return data[capability/32].Effective&(1<<(capability%32)) != 0 }
	var missing []string
	if !has(unix.CAP_SYS_PTRACE) {
		missing = append(missing, "CAP_SYS_PTRACE")
	}
	if !has(unix.CAP_DAC_READ_SEARCH) && !has(unix.CAP_DAC_OVERRIDE) {
		missing = append(missing, "CAP_DAC_READ_SEARCH")
	}
	return missing
}

// cgroups finds the cgroup of an id in the cgroup v2 hierarchy.
type cgroups struct {
	mount string // empty where there is none
	paths map[uint64]string
	// stale says that the hierarchy may be walked for an id that is not known:
	// once in a search, whatever the number of ids. Those of cgroups that were
	// removed are never found.
	stale bool
}

func newCgroups(procfs string) *cgroups {
	c := &cgroups{}
	if text, err := os.ReadFile(filepath.Join(procfs, "self/mountinfo")); err == nil {
		c.mount = cgroupMount(string(text))
	}
	return c
}

// path returns the path of a cgroup, or nothing for one that is not known.
func (c *cgroups) path(id uint64) string {
	if _, known := c.paths[id]; !known && c.stale && c.mount != "" {
		c.walk()
	}
	return c.paths[id]
}

// walk notes the id of every cgroup, which is the inode of its directory
// (kernfs, fs/kernfs/inode.c), up to a bound.
func (c *cgroups) walk() {
	const limit = 100_000
	c.stale, c.paths = false, map[uint64]string{}
	_ = filepath.WalkDir(c.mount, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return nil //nolint:nilerr // a cgroup that was removed meanwhile
		}
		var stat unix.Stat_t
		if unix.Lstat(path, &stat) == nil {
			c.paths[stat.Ino] = path[len(c.mount):]
		}
		if len(c.paths) >= limit {
			return filepath.SkipAll
		}
		return nil
	})
}

// processes returns the processes of a cgroup, in numeric order. The root
// cgroup has none worth the name: every process that nothing has placed.
func (c *cgroups) processes(id uint64) []int32 {
	path := c.path(id)
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(c.mount, path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	return parsePIDs(text)
}
