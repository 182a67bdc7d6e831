package owner

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// How long one process may take to answer, how many that do not are waited for at
// a time, of all users and of one, and how long all cgroups may take. A user who
// has processes that do not answer must not take the names of others.
const (
	processPatience = 2 * time.Second
	maxAllStuck     = 64
	maxStuck        = 8
	cgroupsPatience = 5 * time.Second
)

// NewProcesses returns the host whose procfs is mounted at a place, /proc, and whose root
// file system at another, for the names of its users; empty is one that is found
// out. A panic is logged, and costs one answer.
func NewProcesses(procfs, rootfs string, logger *slog.Logger) Processes {
	return newLinuxHost(procfs, rootfs, logger)
}

func newLinuxHost(procfs, rootfs string, logger *slog.Logger) *linuxHost {
	panicked := func(err *panics.Error) { panics.Log(logger, "search for owners", err) }
	return &linuxHost{
		procfs:       procfs,
		rootfs:       absolute(rootfs),
		calls:        beside.New(beside.Limits{All: maxAllStuck, Each: maxStuck, Patience: processPatience}, panicked),
		cgroups:      newCgroups(procfs, panicked),
		everyProcess: initialPIDNamespace,
		names:        chosenNames{},
	}
}

// absolute returns a path as mountinfo(5) has it. An empty one stays.
func absolute(path string) string {
	if path == "" {
		return ""
	}
	if full, err := filepath.Abs(path); err == nil {
		return full
	}
	return path
}

// linuxHost reads /proc. It is used by one [Finder], by one search at a time. What
// it reads may not answer, so it reads in calls that it can give up.
type linuxHost struct {
	procfs  string
	rootfs  string // of the host; empty where it is to be found out
	calls   *beside.Calls
	cgroups *cgroups
	// init is the pid of systemd, which holds sockets for others; 0 for none. It
	// is not known before the first search.
	init      int32
	knowsInit bool
	names     chosenNames
	arrivals  arrivals
	// forbidden says that the last search was denied what it has the privileges for.
	forbidden atomic.Bool
	// everyProcess is the pid namespace (pid_namespaces(7)) that has every process
	// which may hold a socket.
	everyProcess string
}

// initPID is systemd: it holds the sockets of .socket units, also once their
// service holds them too.
const initPID = 1

// learnInit finds out whether the first process is systemd: that of a container is
// a service like any other.
func (h *linuxHost) learnInit(ctx context.Context) {
	if h.knowsInit {
		return
	}
	p, presence := h.read(ctx, initPID)
	h.init = initPID
	if presence == alive && p.comm != "systemd" && p.comm != "init" {
		h.init = 0
	}
	h.knowsInit = presence != stuck
}

// presence is what a process answers.
type presence uint8

const (
	alive presence = iota
	gone
	stuck // it does not answer in time
)

// read reads a process.
func (h *linuxHost) read(ctx context.Context, pid int32) (process, presence) {
	type result struct {
		process
		alive bool
	}
	r, ok := attempt(ctx, h.calls, h.key(pid, "stat"), func() (r result) {
		r.process, r.alive = h.readProcess(pid)
		return r
	})
	switch {
	case !ok:
		return process{}, stuck
	case !r.alive:
		return process{}, gone
	}
	h.readArguments(ctx, &r.process)
	return r.process, alive
}

// readArguments reads what a process was started as, where its name may rest on
// that. They lie in the memory of the process, which may not answer where all else
// does: then it is taken to have kept its name.
func (h *linuxHost) readArguments(ctx context.Context, p *process) {
	if !socket.NeedsArguments(p.comm, p.executable) {
		return
	}
	key := beside.Key{Name: h.path(p.pid, "cmdline"), Of: number(p.uid)}
	text, ok := attempt(ctx, h.calls, key, func() []byte {
		text, _ := readCommandLine(key.Name)
		return text
	})
	const first = 16 // a script is behind the options of its interpreter
	p.arguments, p.unsure = strings.SplitN(string(text), "\x00", first+1), !ok
	p.arguments = p.arguments[:min(first, len(p.arguments))]
	if p.unsure {
		p.arguments = []string{p.comm, p.comm}
	}
}

// key names a call for a file of a process. It is on behalf of who owns the
// directory of the process, which answers whatever the process does: its effective
// user, or root if it has changed its user (proc_pid(5)). Of such a process only the
// memory may not answer, which is asked for by its true user.
func (h *linuxHost) key(pid int32, name string) beside.Key {
	key := beside.Key{Name: h.path(pid, name)}
	if info, err := os.Lstat(h.path(pid, "")); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			key.Of = number(stat.Uid)
		}
	}
	return key
}

// readProcess reads a process. False means that it is gone. The main thread of one
// may have ended, and others serve: then they have what it has no more
// (proc_pid_task(5)).
func (h *linuxHost) readProcess(pid int32) (process, bool) {
	stat, err := os.ReadFile(h.path(pid, "stat"))
	if err != nil {
		return process{}, false
	}
	p, err := parseStat(stat)
	if err != nil || p.pid != pid {
		return process{}, false
	}
	dir := h.path(pid, "")
	if p.state == 'Z' {
		if dir = h.livingThread(pid); dir == "" {
			return process{}, false
		}
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return process{}, false
	}
	p.uid, _ = effectiveUID(status)
	if cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup")); err == nil {
		p.cgroup = cgroupPath(string(cgroup))
	}
	p.elsewhere = h.livesElsewhere(dir, p.cgroup)
	if link, err := os.Readlink(filepath.Join(dir, "exe")); err == nil {
		p.executable, p.deleted = executable(link, existsBelow(filepath.Join(dir, "root")))
	}
	return p, true
}

// livingThread returns the directory of a thread that has not ended, or nothing.
func (h *linuxHost) livingThread(pid int32) string {
	for _, tid := range numbers(h.path(pid, "task")) {
		dir := h.path(pid, filepath.Join("task", strconv.Itoa(int(tid))))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		if p, err := parseStat(stat); err == nil && p.state != 'Z' && p.state != 'X' {
			return dir
		}
	}
	return ""
}

// existsBelow reports whether a path exists in the mount namespace of a process,
// whose root is given. It asks no file system, which may not answer (a network
// file system whose server is gone), and could keep even a killed process: only
// what the kernel has in memory (RESOLVE_CACHED, openat2(2)). The executable of
// a running process is there. Where the kernel does not know of that, as before
// 5.12, no path exists.
func existsBelow(root string) func(string) bool {
	return func(path string) bool {
		dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return false
		}
		defer unix.Close(dir)
		const cached = 0x20 // RESOLVE_CACHED
		how := unix.OpenHow{Flags: unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: cached}
		fd, err := unix.Openat2(dir, strings.TrimPrefix(path, "/"), &how)
		if err != nil {
			return false
		}
		_ = unix.Close(fd)
		return true
	}
}

func (h *linuxHost) describe(p process) Process {
	unit, container := unitAndContainer(p.cgroup)
	return Process{
		Owner: socket.Owner{
			Process:    h.names.of(p),
			Comm:       p.comm,
			Executable: p.executable,
			Deleted:    p.deleted,
			Unit:       unit,
			Container:  container,
			PID:        p.pid,
		},
		Start:     p.start,
		UID:       p.uid,
		Elsewhere: p.elsewhere,
		Unsure:    p.unsure,
		Waiting:   h.isManager(p) && (p.comm == "systemd" || p.comm == "init"),
	}
}

// chosenNames are the names that processes chose, as they were at the first look:
// the program of an interpreter may change its name with its state.
type chosenNames map[chosenBy]string

// chosenBy identifies a process, until it executes another program.
type chosenBy struct {
	pid        int32
	start      uint64
	executable string
}

// of returns the name of a process.
func (c chosenNames) of(p process) string {
	name := socket.InvokedName(p.comm, p.executable, p.arguments)
	if !socket.IsInterpreter(p.executable) {
		return name
	}
	by := chosenBy{p.pid, p.start, p.executable}
	if first, ok := c[by]; ok {
		return first
	}
	if name != p.comm || p.unsure || !socket.IsChosen(p.comm, p.executable) {
		return name
	}
	const limit = 4096
	if len(c) >= limit {
		clear(c)
	}
	c[by] = name
	return name
}

// describeAgain is describe for a process that is known: if its name is not sure
// now, the one that was stays.
func (h *linuxHost) describeAgain(p process, known Process) Process {
	now := h.describe(p)
	if now.Unsure && (now.Comm == known.Comm || socket.IsInterpreter(now.Executable)) && now.Executable == known.Executable {
		now.Process, now.Unsure = known.Process, known.Unsure
	}
	return now
}

// isManager reports whether a process is a systemd, which holds sockets for the
// services that it starts: that of the system, of a user, or of a container.
func (h *linuxHost) isManager(p process) bool {
	return p.pid == h.init || isInitScope(p.cgroup)
}

// isInitScope reports whether a cgroup is that in which a systemd puts itself
// (systemd.special(7)).
func isInitScope(cgroup string) bool { return filepath.Base(cgroup) == "init.scope" }

func (h *linuxHost) path(pid int32, name string) string {
	return filepath.Join(h.procfs, strconv.Itoa(int(pid)), name)
}

// pids returns every process that /proc shows, in numeric order.
func (h *linuxHost) pids(ctx context.Context) ([]int32, bool) {
	return attempt(ctx, h.calls, beside.Key{Name: h.procfs}, func() []int32 { return numbers(h.procfs) })
}

// numbers returns the entries of a directory that are numbers, in their order.
func numbers(dir string) []int32 {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(-1)
	var pids []int32
	for _, name := range names {
		if pid, err := strconv.ParseInt(name, 10, 32); err == nil {
			pids = append(pids, int32(pid))
		}
	}
	slices.Sort(pids)
	return pids
}

// Look implements [Processes].
func (h *linuxHost) Look(ctx context.Context, known Process, members []socket.Member) Sight {
	h.learnInit(ctx)
	p, presence := h.read(ctx, known.PID)
	switch {
	case presence == stuck:
		return Sight{Unclear: true}
	case presence == gone, p.start != known.Start:
		return Sight{Gone: true}
	}
	w := h.newWalk(ctx, members)
	for _, look := range []func(int32) map[uint64]bool{w.holdings, w.holdingsOfThreads, w.mappings} {
		for inode := range look(known.PID) {
			delete(w.open, inode)
		}
		if len(w.open) == 0 {
			break
		}
	}
	s := Sight{Process: h.describeAgain(p, known), Held: map[uint64]bool{}, Unclear: w.partial && len(w.open) > 0}
	for _, m := range members {
		if m.Inode == 0 { // the source says who holds it
			s.Held[m.ID()] = m.PID == known.PID
		} else {
			s.Held[m.ID()] = !w.open[m.Inode]
		}
	}
	if s.Process.Waiting {
		h.takenOver(ctx, known.PID, members, s.Held)
	}
	return s
}

// takenOver notes which sockets of a systemd a service holds by now. What a systemd
// starts is new, so only processes that came since the last look are looked at.
func (h *linuxHost) takenOver(ctx context.Context, systemd int32, members []socket.Member, held map[uint64]bool) {
	w := h.newWalk(ctx, members)
	pids, ok := h.pids(ctx)
	for _, pid := range h.arrivals.since(systemd, pids) {
		if pid == systemd || pid == h.init {
			continue
		}
		for inode := range w.holdings(pid) {
			held[w.asked[inode]] = false
		}
	}
	if !ok || w.partial {
		h.arrivals.forget(systemd)
	}
}

// arrivals are the processes by when they came.
type arrivals struct {
	round  uint64
	first  map[int32]uint64 // the round in which a process was listed first
	looked map[int32]uint64 // the last round of each that asked
}

// since returns the processes that came since it was last called on behalf of one of
// them; all of them at first.
func (a *arrivals) since(asking int32, pids []int32) (fresh []int32) {
	a.round++
	first, looked := make(map[int32]uint64, len(pids)), map[int32]uint64{asking: a.round}
	for _, pid := range pids {
		came := cmp.Or(a.first[pid], a.round)
		first[pid] = came
		if came > a.looked[asking] {
			fresh = append(fresh, pid)
		}
		if round, ok := a.looked[pid]; ok && pid != asking {
			looked[pid] = round
		}
	}
	a.first, a.looked = first, looked
	return fresh
}

// forget has the next call on behalf of a process return all.
func (a *arrivals) forget(asking int32) { delete(a.looked, asking) }

// Unit implements [Processes]. The root cgroup and a systemd's own say nothing: there
// sockets are made by what systemd did not start, or by systemd before it
// starts something.
func (h *linuxHost) Unit(ctx context.Context, m socket.Member) (unit, container string) {
	if m.CgroupID == 0 {
		return "", ""
	}
	path := h.cgroups.path(ctx, m.CgroupID)
	if path == "" || isInitScope(path) {
		return "", ""
	}
	return unitAndContainer(path)
}

// cgroups finds the cgroup of an id in the cgroup v2 hierarchy.
type cgroups struct {
	calls *beside.Calls
	mount string // empty where there is none
	paths map[uint64]string
	// stale says that the hierarchy may be walked for an id that is not known:
	// once in a search, whatever the number of ids. Those of cgroups that were
	// removed are never found.
	stale bool
}

func newCgroups(procfs string, panicked func(*panics.Error)) *cgroups {
	c := &cgroups{calls: beside.New(beside.Limits{All: 1, Patience: cgroupsPatience}, panicked)}
	if text, err := os.ReadFile(filepath.Join(procfs, "self/mountinfo")); err == nil {
		c.mount = cgroupMount(string(text))
	}
	return c
}

// path returns the path of a cgroup, or nothing for one that is not known.
func (c *cgroups) path(ctx context.Context, id uint64) string {
	if _, known := c.paths[id]; !known && c.stale && c.mount != "" {
		c.stale = false
		if paths, ok := attempt(ctx, c.calls, beside.Key{Name: "walk"}, c.walk); ok {
			c.paths = paths
		}
	}
	return c.paths[id]
}

// walk notes the id of every cgroup, up to a bound.
func (c *cgroups) walk() map[uint64]string {
	paths := map[uint64]string{}
	walkCgroups(c.mount, func(id uint64, path string) bool {
		paths[id] = path
		return true
	})
	return paths
}

// processes returns the processes of a cgroup, in numeric order. The root
// cgroup has none worth the name: every process that nothing has placed.
func (c *cgroups) processes(ctx context.Context, id uint64) []int32 {
	path := c.path(ctx, id)
	if path == "" {
		return nil
	}
	text, _ := attempt(ctx, c.calls, beside.Key{Name: "processes"}, func() []byte {
		text, _ := os.ReadFile(filepath.Join(c.mount, path, "cgroup.procs")) // none of one that was removed
		return text
	})
	return parsePIDs(text)
}
