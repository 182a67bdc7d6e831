// Package owner finds out who holds a listening socket: the process, its user,
// the systemd unit and the container.
//
// It remembers what it found by socket, so that a host on which nothing changes
// is not searched again. A search runs beside the scrapes: what it waits for, they
// do not.
package owner

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// When an answer is due again. Sockets whose holder is known are looked at after
// recheckAfter: long enough that a scrape of a steady host looks at few, short
// enough that an executable that was replaced, and a new process on an inherited
// socket, show soon. Those that no process holds are searched for more and more
// rarely, and so are those that wait for a service. Those whose search did not end are
// searched for again soon.
const (
	recheckAfter = time.Minute
	longestPause = time.Hour
	retryAfter   = 10 * time.Second
)

// forgetAfter is how long the answer for a socket that is gone is kept: callers may
// have read the sockets at different moments.
const forgetAfter = time.Minute

// How long a search may take, and up to which age of a search other scrapes wait
// for it. Who begins one waits for as long as its budget lets it.
const (
	searchLimit = 30 * time.Second
	joinWithin  = 5 * time.Second
)

// budget is the share of the time that is left which may be spent waiting: the
// listeners must be exported in time, with owners or without.
const budget = 2 // half

// The sockets whose owners are looked for, of one listener and of all. An answer
// takes about 400 bytes.
const (
	maxMembers    = 16_384
	maxAllMembers = 131_072
)

// Processes is the operating system's side: it reads processes. Find, Look and Unit are
// called by one goroutine at a time.
type Processes interface {
	// Find reports what it finds out about each of the sockets, by the socket's
	// ID, as soon as it does, until ctx ends. What it does not report was not found.
	Find(ctx context.Context, members []socket.Member, report func(id uint64, f Found))
	// Look looks at a process again.
	Look(ctx context.Context, p Process, members []socket.Member) Sight
	// Unit returns the unit and the container whose cgroup the socket was made
	// in; both may be empty.
	Unit(ctx context.Context, m socket.Member) (unit, container string)
	// Missing returns the privileges that this process lacks and that reading
	// other users' processes takes. Unlike the others it may be called at any time.
	Missing() []string
	// Names returns how users are named.
	Names() Names
}

// Process is a process that holds a socket.
type Process struct {
	socket.Owner
	Start uint64 // identifies it, with the pid
	UID   uint32 // effective
	// Elsewhere says that UID is not that of one of the host's users: the process
	// is in a container.
	Elsewhere bool
	// Unsure says that its name may be another: a part of it did not answer in time.
	Unsure bool
	// Waiting says that it is systemd, which may hold the socket for a service
	// that is yet to start. A look at it finds out whether one did.
	Waiting bool
}

// Found is what a search finds out about one socket.
type Found struct {
	Fate    Fate
	Process Process // that holds it, if it is Held
}

// Fate is how the search for the holder of a socket ended.
type Fate uint8

// The fates.
const (
	NotFound Fate = iota // no process that may be read holds it
	Held                 // a process holds it
	Unclear              // what may hold it did not answer in time
	InKernel             // no process holds it: it is the kernel's own
)

// Sight is what a second look at a process saw.
type Sight struct {
	Process Process         // as it is now
	Held    map[uint64]bool // the sockets that it holds, of those asked for, by ID
	Gone    bool            // it ended, or another process has its pid
	Unclear bool            // it did not answer in time
}

// Finder finds owners. It is safe for concurrent use.
type Finder struct {
	host   Processes
	logger *slog.Logger
	now    func() time.Time
	users  *users
	uids   UIDs // of sockets whose process is not known

	mu       sync.Mutex // never held during a call of the host
	known    map[uint64]*answer
	search   *search // the one that is under way, or nil
	searches uint64
}

// answer is what is known of one socket.
type answer struct {
	Found
	unit      string // of the socket itself, before that of the process
	container string
	due       time.Time     // when it is to be looked at again
	search    time.Time     // when it is to be searched for again, if it waits for a service
	pause     time.Duration // before that
	seen      time.Time     // when the socket was there last
}

// New returns a finder that asks a host. What panics is logged and not known.
func New(host Processes, logger *slog.Logger) *Finder {
	names := host.Names()
	f := &Finder{host: host, logger: logger, now: time.Now, uids: names.Sockets, known: map[uint64]*answer{}}
	f.users = newUsers(names.Look, f.panicked)
	return f
}

func (f *Finder) panicked(err *panics.Error) { panics.Log(f.logger, "search for owners", err) }

// Result is who owns the listeners.
type Result struct {
	// Owned has each listener once for each of its owners, in the order of the
	// listeners. A listener without a known owner is there with an empty one.
	Owned []socket.Owned
	// Unattributed counts the listeners that have a socket whose process is not
	// known.
	Unattributed int
	// Pending counts those of the listeners that have an owner which is not known
	// now: see [socket.Owner.Pending].
	Pending int
	// Missing names the privileges that would have helped, if any listener is
	// unattributed.
	Missing []string
	// Searches counts how often processes were searched, ever.
	Searches uint64
	// Busy says that a search is under way whose answers are not in Owned.
	Busy bool
}

// Owners returns the owners of listeners, within half of the time that ctx
// leaves, and a second for the names of users. What is not found by then is pending: the search goes on, and a later
// call has its answers.
func (f *Finder) Owners(ctx context.Context, listeners []socket.Listener) Result {
	f.update(ctx, listeners)
	r, due := f.result(listeners)
	if len(due) > 0 {
		f.users.refresh(ctx, due)
		r, _ = f.result(listeners)
	}
	if r.Unattributed > 0 {
		r.Missing = f.host.Missing()
	}
	return r
}

func withinBudget(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(deadline)/budget)
}

// update brings the answers for the listeners up to date, by a search of its own
// and those under way.
func (f *Finder) update(ctx context.Context, listeners []socket.Listener) {
	ctx, cancel := withinBudget(ctx)
	defer cancel()
	const enough = 3 // one under way, one of its own, one that another caller was faster with
	for range enough {
		s, own := f.searchFor(listeners)
		if s == nil || !s.wait(ctx, own) {
			return
		}
	}
}

// result returns what is known, and the users whose names are to be refreshed.
func (f *Finder) result(listeners []socket.Listener) (r Result, due []uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := resultBuilder{finder: f, Result: Result{Owned: make([]socket.Owned, 0, len(listeners)), Searches: f.searches, Busy: f.search != nil}}
	b.left = maxAllMembers
	for i := range listeners {
		b.add(&listeners[i])
	}
	b.Busy = b.Busy && b.Pending > 0
	return b.Result, slices.Sorted(maps.Keys(b.due))
}

// resultBuilder puts a result together.
type resultBuilder struct {
	Result
	finder *Finder
	left   int // sockets that may still be looked for
	due    map[uint32]bool
}

func (b *resultBuilder) add(l *socket.Listener) {
	members := lookedFor(l, &b.left)
	owners := make([]socket.Owner, 0, 1)
	known := len(members) == len(l.Members) && len(members) > 0
	pending := false
	for i := range members {
		o := b.ownerOf(&members[i], l.Known)
		known = known && (o.PID != 0 || o.Process == socket.Kernel)
		pending = pending || o.Pending
		if !slices.ContainsFunc(owners, func(other socket.Owner) bool { return other.Identity() == o.Identity() }) {
			owners = append(owners, o)
		}
	}
	if len(owners) == 0 {
		owners = append(owners, socket.Owner{})
	}
	slices.SortFunc(owners, socket.Owner.Compare)
	for _, o := range owners {
		owned := socket.Owned{Listener: *l, Owner: o}
		owned.MayBeClient = l.MayBeClient && o.Process != socket.Kernel // which sends from the sockets it listens on
		b.Owned = append(b.Owned, owned)
	}
	b.Unattributed += count(!known)
	b.Pending += count(pending)
}

func count(yes bool) int {
	if yes {
		return 1
	}
	return 0
}

// lookedFor returns the sockets of a listener whose owners are looked for.
func lookedFor(l *socket.Listener, left *int) []socket.Member {
	n := min(len(l.Members), maxMembers, *left)
	*left -= n
	return l.Members[:n]
}

// ownerOf returns the owner of one socket. Who made it, which takes no privilege
// to read, is its user as long as no process is known.
func (b *resultBuilder) ownerOf(m *socket.Member, known socket.Facts) socket.Owner {
	a, ok := b.finder.known[m.ID()]
	switch {
	case ok:
	case m.ID() == 0: // it cannot be looked for
		a = &answer{}
	default:
		a = &answer{Found: Found{Fate: Unclear}}
	}
	o := a.owner()
	switch {
	case o.User != "": // the host knows the name
	case a.Fate == Held:
		b.name(&o, a.Process.UID, b.finder.uidsOf(a))
	case known.Has(socket.KnowsUID):
		b.name(&o, m.UID, b.finder.uidsOf(a))
	}
	return o
}

// uidsOf returns whose the user ids are that an answer is about. Those of what runs
// elsewhere have no names here, and seen from another user namespace they are made
// up. What made a socket in the cgroup of a container runs there.
func (f *Finder) uidsOf(a *answer) UIDs {
	elsewhere := a.Process.Elsewhere || a.Fate != Held && a.container != "" && !isVirtualMachine(a.container)
	switch {
	case a.Fate == Held && !elsewhere:
		return HostUIDs
	case f.uids == HostUIDs && elsewhere:
		return OtherUIDs
	default:
		return f.uids
	}
}

func (b *resultBuilder) name(o *socket.Owner, uid uint32, whose UIDs) {
	if whose == NoUIDs {
		return
	}
	o.UserID = number(uid)
	if whose == OtherUIDs && uid != 0 {
		o.User = o.UserID
		return
	}
	name, known, due := b.finder.users.name(uid)
	o.User, o.Pending = name, o.Pending || !known
	if due {
		if b.due == nil {
			b.due = map[uint32]bool{}
		}
		b.due[uid] = true
	}
}

// owner returns the owner that an answer has. A process that calls itself what
// the kernel's sockets have for a process is not taken for the kernel.
func (a *answer) owner() socket.Owner {
	o := a.Process.Owner
	switch {
	case a.Fate == InKernel:
		return socket.Owner{Process: socket.Kernel}
	case o.Process == socket.Kernel:
		o.Process += "?"
	}
	if a.unit != "" {
		o.Unit = a.unit
	}
	if a.container != "" {
		o.Container = a.container
	}
	o.Pending = a.Fate == Unclear || a.Process.Unsure
	return o
}
