package netns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/owner"
)

// Finder finds namespaces by their names, to make sockets in them. It keeps what it saw
// for a moment, as names and places only. It is safe for concurrent use.
type Finder struct {
	procfs   string
	metadata metadata
	// sockets makes sockets, and questions asks what may take longer.
	sockets, questions Worker

	mu   sync.Mutex
	last *sight
}

// sight is what one look at the host has seen. It does not change.
type sight struct {
	at    time.Time
	all   []seen
	names map[[2]string]Identity // with names, by container id and pod uid
}

// seen is a namespace that was seen, and where.
type seen struct {
	Identity
	inode uint64
	paths []string
}

// NewFinder returns a finder for a host whose procfs and root are mounted at some places;
// an empty root is that of the first process.
func NewFinder(procfs, rootfs string) *Finder {
	return &Finder{procfs: procfs, metadata: newMetadata(procfs, rootfs), last: &sight{}}
}

// Named returns the way into a namespace by a name that [Called] knows. It looks for the
// namespace when it is first used.
func (f *Finder) Named(name string) *Entrance { return &Entrance{finder: f, name: name} }

// Entrance is the way into one namespace. It holds nothing of it; once it has found a
// namespace, it leads to no other. It is safe for concurrent use.
type Entrance struct {
	finder *Finder
	name   string

	mu     sync.Mutex
	found  bool
	seen   seen
	cookie uint64
}

// Do runs f in the namespace, on a thread that makes sockets for all: f must not wait.
// The error is [ErrGone] if there is no such namespace, else that of entering it, of ctx
// or of f.
func (e *Entrance) Do(ctx context.Context, f func() error) error {
	return e.run(ctx, &e.finder.sockets, f)
}

// Ask is Do for what asks the kernel something that may take long.
func (e *Entrance) Ask(ctx context.Context, f func() error) error {
	return e.run(ctx, &e.finder.questions, f)
}

// Name returns what the namespace is called, once it was found.
func (e *Entrance) Name() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen.Name
}

func (e *Entrance) run(ctx context.Context, on *Worker, f func() error) error {
	if err := e.find(ctx); err != nil {
		return err
	}
	return e.explain(on.doAny(ctx, e.seen.inode, e.seen.paths, func(string) error {
		cookie, err := ownCookie()
		if err == nil && cookie != e.cookie { // the kernel gave its inode to another one
			err = ErrGone
		}
		if err != nil {
			return err
		}
		return f()
	}))
}

// find looks for the namespace, once. One that was seen a moment ago may have gone since,
// and its name be that of the next.
func (e *Entrance) find(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.found {
		return nil
	}
	const fresh = time.Second // for the targets of one scrape
	began := time.Now()
	for _, after := range []time.Time{began.Add(-fresh), began} {
		at, err := e.finder.look(ctx, after).called(e.name)
		if errors.Is(err, ErrGone) {
			err = e.finder.hidden()
		}
		if err != nil {
			return err
		}
		err = e.finder.sockets.doAny(ctx, at.inode, at.paths, func(string) (err error) {
			e.cookie, err = ownCookie()
			return err
		})
		if errors.Is(err, ErrGone) {
			continue
		}
		e.seen, e.found = at, err == nil
		return e.explain(err)
	}
	return ErrGone
}

// explain adds to the error of entering a namespace what would help.
func (e *Entrance) explain(err error) error {
	if err == nil || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	if hints := owner.Hints(missingToEnter()); len(hints) > 0 {
		return fmt.Errorf("%w\nhint: %s", err, hints[0])
	}
	return err
}

// hidden returns [ErrGone] if every namespace of the host can be seen.
func (f *Finder) hidden() error {
	if owner.HasCapability(unix.CAP_SYS_PTRACE) {
		return fmt.Errorf("%w\nhint: port_exporter listeners --all-namespaces shows their names", ErrGone)
	}
	return fmt.Errorf("no network namespace that can be seen has this name\nhint: %s", owner.Hints([]string{owner.CapSysPtrace})[0])
}

// look returns what was seen after a moment, and looks if that is nothing. The end of ctx
// does not end the look: what it sees is for others too.
func (f *Finder) look(ctx context.Context, after time.Time) *sight {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last.at.After(after) {
		return f.last
	}
	now := &sight{at: time.Now(), names: map[[2]string]Identity{}}
	places := findPlaces(context.WithoutCancel(ctx), f.procfs)
	for inode, place := range places {
		p, _ := owner.Oldest(f.procfs, place.PIDs)
		id := identify(place, p)
		f.addNames(&id, now)
		now.all = append(now.all, seen{id, inode, place.paths(f.procfs)})
	}
	f.last = now
	return now
}

// addNames adds the names of a container and its pod, which do not change.
func (f *Finder) addNames(i *Identity, now *sight) {
	if !i.settled() {
		return
	}
	key := [2]string{i.ContainerID, i.PodUID}
	if known, ok := f.last.names[key]; ok {
		i.Runtime, i.Container, i.Pod, i.Namespace = known.Runtime, known.Container, known.Pod, known.Namespace
	} else {
		f.metadata.name(i)
	}
	if i.Container != "" || i.Pod != "" {
		now.names[key] = *i
	}
}

// called returns the one namespace of a name.
func (s *sight) called(name string) (seen, error) {
	found := Called(s.all, name, func(at *seen) *Identity { return &at.Identity })
	switch len(found) {
	case 0:
		return seen{}, ErrGone
	case 1:
		return found[0], nil
	}
	var names []string
	for i := range found {
		names = append(names, found[i].Name)
	}
	return seen{}, fmt.Errorf("%d network namespaces have this name (%s)\nhint: a name from ip netns, or one that port_exporter listeners --all-namespaces shows once", len(found), strings.Join(names[:min(len(names), 5)], ", "))
}

// missingToEnter returns the capabilities that this process lacks to enter every namespace.
func missingToEnter() []string {
	var missing []string
	for _, c := range []struct {
		name   string
		number int
	}{{CapSysAdmin, unix.CAP_SYS_ADMIN}, {owner.CapSysPtrace, unix.CAP_SYS_PTRACE}} {
		if !owner.HasCapability(c.number) {
			missing = append(missing, c.name)
		}
	}
	return missing
}
