package owner

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
)

// Group is what a cgroup stands for: a systemd unit, a container, or both; see
// [socket.Owner]. Both are empty for the root cgroup, where the sockets of the kernel
// are, and those of processes that nothing has placed.
type Group struct{ Unit, Container string }

// Groups names cgroups by their IDs. An ID is looked for once: it never comes back for
// another cgroup, and a cgroup that was removed stays unknown. It is safe for
// concurrent use.
type Groups struct {
	// walk returns the paths of cgroups, and whether it has seen all there are.
	walk func(ctx context.Context, wanted map[uint64]bool) (paths map[uint64]string, whole bool)
	now  func() time.Time

	mu    sync.Mutex // never held during a walk
	known map[uint64]*namedGroup
	next  time.Time // when the hierarchy may be walked again
}

type namedGroup struct {
	Group
	found bool
	seen  time.Time // when it was asked for last
}

// A walk is followed by a pause of walkPause times its duration, so that new cgroups
// all the time, as a build server has them, cost one hundredth of a CPU. What is not
// asked for is forgotten after groupsKept, or when there are more than maxGroups.
const (
	walkPause  = 100
	groupsKept = time.Hour
	maxGroups  = 16_384
)

// NewGroups returns the groups of this host, whose procfs is mounted at a place. It
// returns nil where cgroup v2 is not mounted.
func NewGroups(procfs string, logger *slog.Logger) *Groups {
	walk := groupWalk(procfs, logger)
	if walk == nil {
		return nil
	}
	return newGroups(walk, time.Now)
}

func newGroups(walk func(context.Context, map[uint64]bool) (map[uint64]string, bool), now func() time.Time) *Groups {
	return &Groups{walk: walk, now: now, known: map[uint64]*namedGroup{}}
}

// Of returns the groups of cgroups. Those that are unknown are not in it: they were
// removed, are not visible here, or could not be looked for in time.
func (g *Groups) Of(ctx context.Context, ids []uint64) map[uint64]Group {
	if wanted := g.wanted(ids); len(wanted) > 0 {
		began := time.Now()
		paths, whole := g.walk(ctx, maps.Clone(wanted)) // a walk that was given up may still read it
		g.note(wanted, paths, whole, time.Since(began))
	}
	return g.answer(ids)
}

// wanted returns the IDs that are to be looked for now.
func (g *Groups) wanted(ids []uint64) map[uint64]bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.now().Before(g.next) {
		return nil
	}
	wanted := map[uint64]bool{}
	for _, id := range ids {
		if g.known[id] == nil {
			wanted[id] = true
		}
	}
	return wanted
}

// note keeps what a walk has found. What it would have found is unknown for good.
func (g *Groups) note(wanted map[uint64]bool, paths map[uint64]string, whole bool, took time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	g.next = now.Add(walkPause * took)
	for id := range wanted {
		path, found := paths[id]
		if !found && !whole {
			continue
		}
		n := &namedGroup{found: found, seen: now}
		n.Unit, n.Container = unitAndContainer(path)
		n.Unit = strings.Clone(n.Unit) // without the path
		g.known[id] = n
	}
}

func (g *Groups) answer(ids []uint64) map[uint64]Group {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	groups := make(map[uint64]Group, len(ids))
	for _, id := range ids {
		if n := g.known[id]; n != nil {
			n.seen = now
			if n.found {
				groups[id] = n.Group
			}
		}
	}
	full := len(g.known) > maxGroups
	maps.DeleteFunc(g.known, func(_ uint64, n *namedGroup) bool {
		return now.Sub(n.seen) >= groupsKept || full && n.seen.Before(now)
	})
	return groups
}
