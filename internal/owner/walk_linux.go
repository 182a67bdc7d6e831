package owner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Find looks first among the processes of the cgroup that each socket was made
// in, then through all of /proc, then at those that hold sockets for others, so
// that a service counts before the systemd that opened its socket, and last among
// the threads that have descriptors of their own. It stops when every socket is
// found. What no process holds may be the kernel's own.
func (h *linuxHost) Find(ctx context.Context, members []socket.Member, report func(uint64, Found)) {
	h.learnInit(ctx)
	h.cgroups.stale = true
	h.forbidden.Store(false)
	w := h.newWalk(ctx, members)
	w.report = report
	w.everywhere(members)
	if w.whole() {
		w.confirm(members)
	}
	for inode := range w.open {
		if w.unclear[inode] || w.partial || ctx.Err() != nil {
			report(w.asked[inode], Found{Fate: Unclear})
		}
	}
}

// walk is one walk through /proc for the holders of some sockets. Each process is
// read once: of a server with thousands of workers, every one has the same parent.
type walk struct {
	host *linuxHost
	ctx  context.Context
	// asked has the IDs by inode. It is never changed: a call that was given up
	// may still read it.
	asked     map[uint64]uint64
	open      map[uint64]bool // the inodes that are still looked for
	report    func(id uint64, f Found)
	held      map[int32]map[uint64]bool // what a process holds of what was asked for
	threads   map[int32]bool            // that all of it was read, its threads included
	processes map[int32]*process        // nil is one that is gone
	managers  []int32                   // hold what is looked for, and count last
	unclear   map[uint64]bool           // inodes that a process holds which does not answer
	partial   bool                      // something did not answer in time
	hidden    bool                      // something may not be read
	// flying says that descriptors in messages are looked for; inFlight that there
	// are some.
	flying, inFlight bool
}

func (h *linuxHost) newWalk(ctx context.Context, members []socket.Member) *walk {
	w := &walk{
		host: h, ctx: ctx,
		asked: map[uint64]uint64{}, open: map[uint64]bool{}, unclear: map[uint64]bool{},
		held: map[int32]map[uint64]bool{}, threads: map[int32]bool{}, processes: map[int32]*process{},
	}
	for _, m := range members {
		if m.Inode != 0 {
			w.asked[m.Inode], w.open[m.Inode] = m.ID(), true
		}
	}
	return w
}

func (w *walk) done() bool { return len(w.open) == 0 || w.ctx.Err() != nil }

// everywhere takes all steps of the search, until it is done.
func (w *walk) everywhere(members []socket.Member) {
	looked := map[uint64]bool{0: true} // no cgroup
	for _, m := range members {
		switch {
		case m.Inode == 0:
			w.named(m)
		case w.open[m.Inode] && !looked[m.CgroupID]:
			looked[m.CgroupID] = true
			w.through(w.host.cgroups.processes(w.ctx, m.CgroupID), w.holdings)
		}
	}
	if w.done() {
		return
	}
	pids, ok := w.host.pids(w.ctx)
	w.partial = w.partial || !ok
	w.through(pids, w.holdings)
	w.atManagers()
	w.through(pids, w.holdingsOfThreads)
}

// everyMapping looks for what is left in the memory of all processes.
func (w *walk) everyMapping() {
	if !w.whole() {
		return
	}
	pids, ok := w.host.pids(w.ctx)
	w.partial = w.partial || !ok
	w.through(pids, w.mappings)
	w.atManagers()
}

// named takes the holder that the source names.
func (w *walk) named(m socket.Member) {
	if m.PID == 0 {
		return
	}
	switch p, presence := w.process(m.PID); presence {
	case alive:
		w.report(m.ID(), Found{Fate: Held, Process: w.host.describe(*p)})
	case stuck:
		w.report(m.ID(), Found{Fate: Unclear})
	case gone:
	}
}

// through looks at processes in the order of their pids, which is mostly that
// of their age.
func (w *walk) through(pids []int32, holdings func(int32) map[uint64]bool) {
	for _, pid := range pids {
		if w.done() {
			return
		}
		if pid != w.host.init {
			w.at(pid, holdings(pid))
		}
	}
}

// at takes what a process holds of what is looked for.
func (w *walk) at(pid int32, holdings map[uint64]bool) {
	for inode := range holdings {
		if !w.open[inode] {
			continue
		}
		p, presence := w.oldestHolder(pid, inode)
		switch {
		case presence == gone:
		case presence == stuck:
			w.unclear[inode] = true
		case w.host.isManager(*p):
			w.managers = append(w.managers, pid)
			return
		default:
			w.take(p, inode)
		}
	}
}

func (w *walk) take(p *process, inode uint64) {
	w.report(w.asked[inode], Found{Fate: Held, Process: w.host.describe(*p)})
	delete(w.open, inode)
}

// atManagers takes what only a systemd holds.
func (w *walk) atManagers() {
	managers := w.managers
	if w.host.init != 0 {
		managers = append(managers, w.host.init)
	}
	for _, pid := range managers {
		if w.done() {
			return
		}
		for inode := range w.holdings(pid) {
			if p, presence := w.process(pid); w.open[inode] && presence == alive {
				w.take(p, inode)
			}
		}
	}
}

// oldestHolder climbs from a process that holds a socket to its farthest
// ancestor that holds it too: of a server and its workers, the server. It does
// not climb to a systemd, which holds the sockets of what it starts.
func (w *walk) oldestHolder(pid int32, inode uint64) (*process, presence) {
	p, presence := w.process(pid)
	if presence != alive {
		return nil, presence
	}
	const limit = 64 // generations; a cycle cannot be, but a race of pids could look like one
	for range limit {
		if p.parent == 0 || p.parent == w.host.init || !w.holdings(p.parent)[inode] {
			break
		}
		older, presence := w.process(p.parent)
		if presence != alive || w.host.isManager(*older) {
			break
		}
		p = older
	}
	return p, alive
}

func (w *walk) process(pid int32) (*process, presence) {
	if p, ok := w.processes[pid]; ok {
		if p == nil {
			return nil, gone
		}
		return p, alive
	}
	now, presence := w.host.read(w.ctx, pid)
	switch presence {
	case alive:
		w.processes[pid] = &now
		return &now, alive
	case gone:
		w.processes[pid] = nil
	case stuck: // its name is asked for again: another call of it may have answered
	}
	return nil, presence
}

// holdings returns what a process holds of what was asked for. Where the main
// thread has no descriptors, as it has ended, the other threads count.
func (w *walk) holdings(pid int32) map[uint64]bool {
	if held, ok := w.held[pid]; ok {
		return held
	}
	w.held[pid] = nil
	d := w.table(pid, "fd")
	w.add(pid, d)
	if d.number == 0 && !d.denied {
		return w.holdingsOfThreads(pid)
	}
	return w.held[pid]
}

func (w *walk) add(pid int32, d descriptors) {
	for _, inode := range d.sockets {
		if w.held[pid] == nil {
			w.held[pid] = map[uint64]bool{}
		}
		w.held[pid][inode] = true
	}
}

// table reads a directory of descriptors of a process.
func (w *walk) table(pid int32, dir string) descriptors {
	key := w.host.key(pid, dir)
	return w.read(key, func() descriptors { return readDescriptors(w.ctx, key.Name, w.asked, w.flying) })
}

// mappings returns what a process holds, that included of which it has only a
// mapping: mmap(2) keeps a socket open whose descriptor is closed. They are part of
// its memory, as its arguments are: see [linuxHost.readArguments].
func (w *walk) mappings(pid int32) map[uint64]bool {
	status, err := os.ReadFile(w.host.path(pid, "status"))
	if err != nil {
		return w.held[pid]
	}
	uid, _ := effectiveUID(status)
	key := beside.Key{Name: w.host.path(pid, "maps"), Of: number(uid)}
	w.add(pid, w.read(key, func() descriptors {
		d := readMappings(w.ctx, key.Name, w.asked)
		if thread := w.host.livingThread(pid); d.number == 0 && thread != "" && !d.denied {
			return readMappings(w.ctx, filepath.Join(thread, "maps"), w.asked)
		}
		return d
	}))
	return w.held[pid]
}

// read reads descriptors, or mappings, in a call that can be given up.
func (w *walk) read(key beside.Key, call func() descriptors) descriptors {
	d, ok := attempt(w.ctx, w.host.calls, key, call)
	w.partial = w.partial || !ok
	w.hidden = w.hidden || d.denied
	if d.forbidden {
		w.host.forbidden.Store(true)
	}
	w.inFlight = w.inFlight || d.inFlight
	return d
}

// holdingsOfThreads returns what a process holds, that included which only a
// thread with descriptors of its own holds (unshare(2), CLONE_FILES).
func (w *walk) holdingsOfThreads(pid int32) map[uint64]bool {
	if w.threads[pid] {
		return w.held[pid]
	}
	w.threads[pid] = true
	key := w.host.key(pid, "task")
	tids, ok := attempt(w.ctx, w.host.calls, key, func() []int32 { return w.host.tables(pid, numbers(key.Name)) })
	w.partial = w.partial || !ok
	w.hidden = w.hidden || len(tids) > maxTables
	for _, tid := range tids[:min(len(tids), maxTables)] {
		if w.ctx.Err() != nil {
			break
		}
		w.add(pid, w.table(pid, filepath.Join("task", strconv.Itoa(int(tid)), "fd")))
	}
	return w.held[pid]
}

// tables returns a thread of a process for each table of descriptors besides that
// of its main thread; all threads where they cannot be compared.
func (h *linuxHost) tables(pid int32, tids []int32) (own []int32) {
	comparable := h.canCompare()
	for _, tid := range tids {
		shares := func(other int32) bool { return shareTable(other, tid) }
		if tid == pid || comparable && (shares(pid) || slices.ContainsFunc(own[:min(len(own), maxCompared)], shares)) {
			continue
		}
		own = append(own, tid)
	}
	return own
}

// Bounds on what one process can make a search do: with how many tables of
// descriptors each of its threads is compared, and how many are read.
const (
	maxCompared = 8
	maxTables   = 1024
)

// canCompare reports whether kcmp(2) may be called, which the sandbox of the
// packaged unit forbids, and knows the threads of this /proc, which may be of
// another pid namespace.
func (h *linuxHost) canCompare() bool {
	self, err := os.Readlink(filepath.Join(h.procfs, "self"))
	pid := os.Getpid()
	return err == nil && self == strconv.Itoa(pid) && kcmp(int32(pid), int32(pid)) == 0
}

// shareTable reports whether two threads are known to have the same descriptors,
// or may not be compared: then the descriptors may not be read either.
func shareTable(a, b int32) bool {
	errno := kcmp(a, b)
	return errno == 0 || errno == unix.EPERM
}

// kcmp compares the descriptors of two threads; EXDEV means that they differ.
func kcmp(a, b int32) unix.Errno {
	const files = 2 // KCMP_FILES
	differ, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), files, 0, 0, 0)
	if errno == 0 && differ != 0 {
		return unix.EXDEV
	}
	return errno
}

// descriptors is what was read of one table of descriptors.
type descriptors struct {
	number    int      // of all
	sockets   []uint64 // inodes of those asked for
	denied    bool     // some are not known
	forbidden bool     // some may not be read
	inFlight  bool     // some are in messages that were not received
}

// readDescriptors reads /proc/<pid>/fd. A process that is gone has none.
func readDescriptors(ctx context.Context, path string, asked map[uint64]uint64, flying bool) (d descriptors) {
	dir, err := os.Open(path)
	if err != nil {
		d.forbid(err)
		return d
	}
	defer dir.Close()
	buf := make([]byte, 64)
	for {
		names, err := dir.Readdirnames(256)
		for _, name := range names {
			n, err := unix.Readlinkat(int(dir.Fd()), name, buf)
			if errors.Is(err, unix.EACCES) && hasEnded(filepath.Dir(path)) {
				return descriptors{}
			}
			if d.forbid(err) { // so are all others
				return d
			}
			if err != nil {
				continue
			}
			d.add(buf[:n], filepath.Join(path, "../fdinfo", name), asked, flying)
		}
		d.number += len(names)
		if err != nil || ctx.Err() != nil {
			return d
		}
	}
}

// readMappings reads the sockets in /proc/<pid>/maps. Of more than the kernel allows
// a process by default, some are not known.
func readMappings(ctx context.Context, path string, asked map[uint64]uint64) (d descriptors) {
	file, err := os.Open(path)
	if err != nil {
		if !hasEnded(filepath.Dir(path)) {
			d.forbid(err)
		}
		return d
	}
	defer file.Close()
	const most = 1 << 17 // twice vm.max_map_count
	lines := bufio.NewScanner(file)
	for lines.Scan() && d.number < most && ctx.Err() == nil {
		d.number++
		if !bytes.Contains(lines.Bytes(), []byte("socket:[")) {
			continue
		}
		inode, ok := mappedSocket(lines.Bytes())
		if _, wanted := asked[inode]; ok && wanted {
			d.sockets = append(d.sockets, inode)
		}
	}
	d.denied = d.number >= most || errors.Is(lines.Err(), bufio.ErrTooLong)
	return d
}

// hasEnded reports whether a process is gone. While it goes, its links are denied
// like those of one that may not be read (proc_fd_access_allowed in fs/proc/base.c).
func hasEnded(dir string) bool {
	_, err := os.Lstat(dir)
	return errors.Is(err, fs.ErrNotExist)
}

// forbid notes an error that says that something may not be read, and reports
// whether it is one.
func (d *descriptors) forbid(err error) bool {
	forbidden := errors.Is(err, fs.ErrPermission)
	d.denied, d.forbidden = d.denied || forbidden, d.forbidden || forbidden
	return forbidden
}

// add adds a descriptor by what it links to. What is registered with an io_uring
// may have no descriptor of its own.
func (d *descriptors) add(link []byte, info string, asked map[uint64]uint64, flying bool) {
	if string(link) == "anon_inode:[io_uring]" {
		d.addRing(info, asked)
		return
	}
	inode, ok := socketInode(link)
	if _, wanted := asked[inode]; ok && wanted {
		d.sockets = append(d.sockets, inode)
	}
	if ok && flying && !d.inFlight {
		text, _ := os.ReadFile(info) // nothing of one that was closed
		d.inFlight = inFlight(text)
	}
}

// addRing adds the sockets registered with an io_uring.
func (d *descriptors) addRing(info string, asked map[uint64]uint64) {
	text, err := os.ReadFile(info)
	if err != nil {
		return
	}
	inodes, ok := registeredSockets(text)
	d.denied = d.denied || !ok
	for _, inode := range inodes {
		if _, wanted := asked[inode]; wanted {
			d.sockets = append(d.sockets, inode)
		}
	}
}

// whole reports whether every process was looked at, and some socket was not
// found. Then the kernel may have it.
func (w *walk) whole() bool {
	if w.partial || w.hidden || w.inFlight || w.done() || len(w.host.Missing()) > 0 {
		return false
	}
	namespace, err := os.Readlink(w.host.path(initPID, "ns/pid"))
	return err == nil && namespace == w.host.everyProcess
}

// confirm looks for what is left a second time: a socket may have been handed from
// a process that was still to be looked at to one that had been. It looks for
// descriptors in messages as well (unix(7), SCM_RIGHTS): then it is not known
// what is in them. Mappings are read only for what has no descriptor. What is left
// after that, made by root, is the kernel's.
func (w *walk) confirm(members []socket.Member) {
	var left []socket.Member
	for _, m := range members {
		if w.open[m.Inode] {
			left = append(left, m)
		}
	}
	again := w.host.newWalk(w.ctx, left)
	again.report, again.flying = w.report, true
	again.everywhere(left)
	again.everyMapping()
	w.open, w.unclear, w.partial = again.open, again.unclear, again.partial
	if !again.whole() {
		return
	}
	for _, m := range left {
		if w.open[m.Inode] && m.UID == 0 {
			w.report(m.ID(), Found{Fate: InKernel})
			delete(w.open, m.Inode)
		}
	}
}
