package netns

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// SockDiag is the engine that enters each namespace and dumps its sockets there. It
// requires CAP_SYS_ADMIN, and CAP_SYS_PTRACE for namespaces that are mounted nowhere.
type SockDiag struct {
	procfs string
	diag   *sockdiag.Source
	worker *Worker
	memory memory
}

// NewSockDiag returns the engine of a host whose procfs is mounted at a place. diag is
// the source of our own namespace.
func NewSockDiag(procfs string, diag *sockdiag.Source, worker *Worker) *SockDiag {
	return &SockDiag{procfs: procfs, diag: diag, worker: worker}
}

// Name implements [Engine].
func (e *SockDiag) Name() string { return "sock_diag" }

// Read implements [Engine]. A namespace of which only sockets in SYN_RECV do not listen
// shows none of these.
func (e *SockDiag) Read(ctx context.Context, places func() Places) ([]Sockets, error) {
	found := maps.Clone(places())
	delete(found, ownInode())
	visits, denied, err := e.visitAll(ctx, found)
	if err != nil {
		return nil, err
	}
	depths := e.memory.plan(visits, budgetOf(ctx))
	all := denied
	for _, v := range visits {
		s := Sockets{Cookie: v.cookie, Inode: v.inode, Depth: depths[v.cookie]}
		if s.Depth >= Listeners {
			s.Source = &dumped{engine: e, visit: v, ctx: ctx, listeners: -1}
		}
		all = append(all, s)
	}
	return all, nil
}

// budgetOf returns the CPU time for the dumps of a read.
func budgetOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return maxBudget
	}
	return min(maxBudget, time.Until(deadline)/budgetShare)
}

// visitAll enters every namespace once. Those that may not be entered are denied.
func (e *SockDiag) visitAll(ctx context.Context, places Places) (visits []visit, denied []Sockets, err error) {
	seen := map[uint64]bool{}
	for _, inode := range slices.Sorted(maps.Keys(places)) {
		v, err := e.visit(ctx, inode, places[inode])
		switch {
		case ctx.Err() != nil:
			return nil, nil, ctx.Err()
		case errors.Is(err, ErrGone):
		case err != nil:
			denied = append(denied, Sockets{Inode: inode, Depth: Unread, Err: err})
		case !seen[v.cookie]:
			seen[v.cookie] = true
			visits = append(visits, v)
		}
	}
	return visits, denied, nil
}

// visit enters a namespace by the first of its places at which it still is.
func (e *SockDiag) visit(ctx context.Context, inode uint64, place Place) (visit, error) {
	v := visit{inode: inode}
	err := e.worker.doAny(ctx, inode, place.paths(e.procfs), func(path string) error {
		v.path = path
		return e.look(&v)
	})
	return v, err
}

// look runs in the namespace.
func (e *SockDiag) look(v *visit) (err error) {
	if v.cookie, err = ownCookie(); err != nil {
		return err
	}
	var text []byte
	for _, name := range []string{"sockstat", "sockstat6"} { // the second is missing without IPv6
		text, err = kernel.AppendFile(text, filepath.Join(e.procfs, "thread-self/net", name))
		if err != nil && name == "sockstat" {
			return err
		}
	}
	v.use, v.allocated = parseUse(string(text))
	return nil
}

// ownCookie returns the cookie of the thread's namespace. Every socket has it, since
// Linux 5.14.
func ownCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("network namespace: open netlink socket: %w", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("network namespace: SO_NETNS_COOKIE: %w", err)
	}
	return cookie, nil
}

// ownInode returns the inode of the thread's namespace, 0 if it is not known.
func ownInode() uint64 {
	var stat unix.Stat_t
	_ = unix.Stat("/proc/thread-self/ns/net", &stat)
	return stat.Ino
}

// dumped reads a namespace by entering it for each read, only to open a netlink socket:
// what it holds then it gives back when the read ends.
type dumped struct {
	engine *SockDiag
	ctx    context.Context // of the read, which ends the time in which it may be entered
	visit
	listeners int // TCP sockets that listen, of the last read of them
}

// Sockets implements [socket.Source]. Connections are not dumped where all TCP sockets
// listen: the dump walks the table of the whole machine.
func (d *dumped) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	if want&socket.Listening == 0 && !d.use.mayConnect(d.listeners) {
		return func(func(*socket.Socket, error) bool) {}
	}
	rows := d.engine.diag.In(d.enter, d.use.lacks).Sockets(ctx, want)
	if !want.Has(socket.Listen) {
		return rows
	}
	return func(yield func(*socket.Socket, error) bool) {
		listeners := 0
		for s, err := range rows {
			if err == nil && s.State == socket.Listen {
				listeners++
			}
			if !yield(s, err) {
				return
			}
		}
		d.listeners = listeners
		d.engine.memory.noteListeners(d.cookie, listeners)
	}
}

// enter runs a function in the namespace, if it is still there: another one may have its
// inode, and another process the pid.
func (d *dumped) enter(f func() error) error {
	return d.engine.worker.Do(d.ctx, d.path, func(uint64) error {
		cookie, err := ownCookie()
		if err == nil && cookie != d.cookie {
			err = ErrGone
		}
		if err != nil {
			return err
		}
		return f()
	})
}
