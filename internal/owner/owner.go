// Package owner finds out who holds a listening socket: the process, its user,
// the systemd unit and the container.
//
// It remembers what it found by socket, so that a host on which nothing changes
// is not searched again.
package owner

import (
	"context"
	"os/user"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// recheckAfter is how long an answer holds before the process is looked at
// again: long enough that a scrape of a steady host looks at few, short enough
// that an executable that was replaced, and a new process on an inherited
// socket, show soon. A socket whose holder was not found is searched for as
// rarely.
const recheckAfter = time.Minute

// budget is the share of the time that is left which a search may take: the
// listeners must be told in time, with owners or without.
const budget = 2 // half

// maxMembers bounds the sockets of one listener whose owners are looked for.
const maxMembers = 256

// Host is the operating system's side: it reads processes.
type Host interface {
	// Find returns the process that holds each of the sockets, by the socket's
	// ID. Those whose holder cannot be read are left out.
	Find(ctx context.Context, members []socket.Member) map[uint64]Process
	// Look returns a process again, and which of the sockets it still holds, by
	// ID. False means that it is gone, or another process has its pid now.
	Look(ctx context.Context, p Process, members []socket.Member) (now Process, held map[uint64]bool, same bool)
	// Unit returns the unit and the container whose cgroup the socket was made
	// in; both may be empty.
	Unit(m socket.Member) (unit, container string)
	// Missing returns the privileges that this process lacks and that reading
	// other users' processes takes. Unlike the others it may be called at any time.
	Missing() []string
}

// Process is a process that holds a socket.
type Process struct {
	socket.Owner
	Start uint64 // identifies it, with the pid
	UID   uint32 // effective
	// Waiting says that it is systemd, which may hold the socket for a service
	// that is yet to start.
	Waiting bool
}

// Finder finds owners. It is safe for concurrent use.
type Finder struct {
	host     Host
	now      func() time.Time
	userName func(uid uint32) (string, error)

	lock       chan struct{} // a mutex that can be waited for with a context
	known      map[uint64]*answer
	users      map[uint32]string
	usersSince time.Time
	generation uint64
	searches   atomic.Uint64 // also read without the lock
}

// answer is what is known of one socket.
type answer struct {
	process    Process
	found      bool
	unit       string // of the socket itself, before that of the process
	container  string
	checked    time.Time
	generation uint64 // of the last call that saw the socket
}

// New returns a finder that asks a host.
func New(host Host) *Finder {
	return &Finder{
		host:     host,
		lock:     make(chan struct{}, 1),
		now:      time.Now,
		userName: lookUpUser,
		known:    map[uint64]*answer{},
		users:    map[uint32]string{},
	}
}

func lookUpUser(uid uint32) (string, error) {
	u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10))
	if err != nil {
		return "", err
	}
	return u.Username, nil
}

// Result is who owns the listeners.
type Result struct {
	// Owned has each listener once for each of its owners, in the order of the
	// listeners. A listener without a known owner is there with an empty one.
	Owned []socket.Owned
	// Unattributed counts the listeners whose process is not known.
	Unattributed int
	// Missing names the privileges that would have helped, if any listener is
	// unattributed.
	Missing []string
	// Searches counts how often processes were searched, ever.
	Searches uint64
	// Busy says that another search took all the time there was: nothing is known of
	// any owner, not even what was known before.
	Busy bool
}

// Owners returns the owners of listeners, within half of the time that ctx
// leaves. What was not found by then stays unknown, and is searched for again
// after a minute.
func (f *Finder) Owners(ctx context.Context, listeners []socket.Listener) Result {
	ctx, cancel := withinBudget(ctx)
	defer cancel()
	select {
	case f.lock <- struct{}{}:
		defer func() { <-f.lock }()
	case <-ctx.Done(): // another scrape's search takes as long
		return f.unknown(listeners)
	}
	f.generation++
	f.search(ctx, listeners)

	r := Result{Owned: make([]socket.Owned, 0, len(listeners))}
	for _, l := range listeners {
		owners := f.ownersOf(l)
		known := false
		for _, o := range owners {
			known = known || o.PID != 0
			r.Owned = append(r.Owned, socket.Owned{Listener: l, Owner: o})
		}
		if !known {
			r.Unattributed++
		}
	}
	if r.Unattributed > 0 {
		r.Missing = f.host.Missing()
	}
	r.Searches = f.searches.Load()
	f.forget()
	return r
}

func withinBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/budget)
}

// unknown returns the listeners without owners. The counter is there all the
// same: at 0 it would be taken for a restart.
func (f *Finder) unknown(listeners []socket.Listener) Result {
	r := Result{Unattributed: len(listeners), Missing: f.host.Missing(), Searches: f.searches.Load(), Busy: true}
	for _, l := range listeners {
		r.Owned = append(r.Owned, socket.Owned{Listener: l})
	}
	return r
}

// search brings the answers for every member up to date. Sockets that are new,
// and those that their process holds no more, are searched for together.
func (f *Finder) search(ctx context.Context, listeners []socket.Listener) {
	now := f.now()
	var unknown []socket.Member
	stale := map[int32][]socket.Member{} // by the process that held them
	for _, l := range listeners {
		for _, m := range l.Members[:min(len(l.Members), maxMembers)] {
			id := m.ID()
			if id == 0 {
				continue
			}
			a, seen := f.known[id]
			switch {
			case !seen, now.Sub(a.checked) >= recheckAfter && !a.keeps():
				unknown = append(unknown, m)
			case now.Sub(a.checked) >= recheckAfter:
				stale[a.process.PID] = append(stale[a.process.PID], m)
			}
			if seen {
				a.generation = f.generation
			}
		}
	}
	for _, members := range stale {
		unknown = append(unknown, f.recheck(ctx, members, now)...)
	}
	if len(unknown) == 0 {
		return
	}
	f.searches.Add(1)
	found := f.host.Find(ctx, unknown)
	for _, m := range unknown {
		a := &answer{checked: now, generation: f.generation}
		a.process, a.found = found[m.ID()]
		a.unit, a.container = f.host.Unit(m)
		f.known[m.ID()] = a
	}
}

// keeps reports whether the answer is worth a second look at its process.
// Sockets that wait for a service, and those without a holder, are searched for
// again instead.
func (a *answer) keeps() bool { return a.found && !a.process.Waiting }

// recheck looks again at the process of some sockets, which had the same one,
// and returns those that it holds no more.
func (f *Finder) recheck(ctx context.Context, members []socket.Member, now time.Time) (lost []socket.Member) {
	p, held, same := f.host.Look(ctx, f.known[members[0].ID()].process, members)
	for _, m := range members {
		a := f.known[m.ID()]
		if !same || !held[m.ID()] || a.process.Start != p.Start {
			lost = append(lost, m)
			continue
		}
		a.process, a.checked = p, now
		if a.unit == "" && a.container == "" {
			a.unit, a.container = f.host.Unit(m)
		}
	}
	return lost
}

// ownersOf returns the distinct owners of a listener, sorted; at least one,
// which may be empty.
func (f *Finder) ownersOf(l socket.Listener) []socket.Owner {
	var owners []socket.Owner
	for _, m := range l.Members[:min(len(l.Members), maxMembers)] {
		o := f.ownerOf(m, l.Known)
		if !slices.ContainsFunc(owners, func(other socket.Owner) bool { return other.Identity() == o.Identity() }) {
			owners = append(owners, o)
		}
	}
	if len(owners) == 0 {
		return []socket.Owner{{}}
	}
	slices.SortFunc(owners, socket.Owner.Compare)
	return owners
}

func (f *Finder) ownerOf(m socket.Member, known socket.Facts) socket.Owner {
	a, ok := f.known[m.ID()]
	if !ok {
		a = &answer{}
	}
	o := a.process.Owner
	if a.unit != "" {
		o.Unit = a.unit
	}
	if a.container != "" {
		o.Container = a.container
	}
	switch {
	case o.User != "": // the host knows the name
	case a.found:
		o.User = f.user(a.process.UID)
	case known.Has(socket.KnowsUID):
		o.User = f.user(m.UID) // who made the socket, which takes no privilege to read
	}
	return o
}

// user returns the name of a user, or the number of one without a name.
func (f *Finder) user(uid uint32) string {
	const limit, keep = 1024, 5 * time.Minute
	if now := f.now(); len(f.users) >= limit || now.Sub(f.usersSince) >= keep {
		clear(f.users)
		f.usersSince = now
	}
	if name, ok := f.users[uid]; ok {
		return name
	}
	name, err := f.userName(uid)
	if err != nil {
		name = strconv.FormatUint(uint64(uid), 10)
	}
	f.users[uid] = name
	return name
}

// forget drops the answers for sockets that are gone.
func (f *Finder) forget() {
	for id, a := range f.known {
		if a.generation != f.generation {
			delete(f.known, id)
		}
	}
}
