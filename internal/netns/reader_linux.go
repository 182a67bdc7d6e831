package netns

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/procnet"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Reader reads the namespaces of a host but our own. It is safe for concurrent use.
type Reader struct {
	options  Options
	metadata metadata

	mu     sync.Mutex
	reads  uint64
	known  map[uint64]*named // by cookie
	warned bool
}

// Options are what a reader reads with.
type Options struct {
	Engine Engine
	Worker *Worker
	// Procfs and Rootfs are where procfs and the root of the host are mounted; an empty
	// root is that of the first process, or ours if that may not be read.
	Procfs, Rootfs string
	// EphemeralPorts reads the ports that clients get in the namespace of its thread.
	// Beside an error it returns what it could read of them, else the default.
	EphemeralPorts func() (socket.EphemeralPorts, error)
	// DefaultPorts are those of a namespace that may not be entered.
	DefaultPorts socket.EphemeralPorts
	Logger       *slog.Logger
}

// named is what is remembered of a namespace.
type named struct {
	Identity
	retry time.Time // when missing names are looked for again
	seen  uint64    // the last read in which it was there
}

// NewReader returns a reader.
func NewReader(o Options) *Reader {
	return &Reader{options: o, metadata: newMetadata(o.Procfs, o.Rootfs), known: map[uint64]*named{}}
}

// Read finds the namespaces. What may not be read is no error.
func (r *Reader) Read(ctx context.Context) (Found, error) {
	own, err := ownCookie()
	if err != nil {
		return Found{}, err
	}
	places := sync.OnceValue(func() Places { return findPlaces(ctx, r.options.Procfs) })
	all, err := r.options.Engine.Read(ctx, places)
	if err != nil {
		return Found{}, err
	}
	all = slices.DeleteFunc(all, func(s Sockets) bool { return s.Cookie == own })
	found := Found{Engine: r.options.Engine.Name()}
	for _, s := range all {
		found.Depths[s.Depth]++
		r.warn(s.Err)
	}
	found.Namespaces = r.group(all, places)
	found.Closed = r.closed(all, places)
	r.forget()
	return found, nil
}

// group names what can be read, and makes those of the same name one.
func (r *Reader) group(all []Sockets, places func() Places) []Namespace {
	groups := map[string]*Namespace{}
	for _, s := range all {
		if s.Source == nil {
			continue
		}
		id := r.identity(&s, places)
		addresses := func(ctx context.Context) []netip.Addr { return r.addresses(ctx, s.Inode, places()) }
		if n := groups[id.Name]; n != nil {
			n.add(s.Depth)
			n.Source = append(n.Source.(joined), s.Source)
			n.Mounted, n.Hidden, n.Limits = nil, n.Hidden || id.Hidden, nil
			n.Addresses = joinAddresses(n.Addresses, addresses)
			continue
		}
		groups[id.Name] = &Namespace{Identity: id, Depth: s.Depth, Count: 1, Source: joined{s.Source}, Addresses: addresses,
			EphemeralPorts: func(ctx context.Context) (socket.EphemeralPorts, error) { return r.ports(ctx, s.Inode, places()) },
			Limits:         func(ctx context.Context) (*kernel.Stats, error) { return r.limits(ctx, s.Inode, places()) }}
	}
	namespaces := make([]Namespace, 0, len(groups))
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		namespaces = append(namespaces, *groups[name])
	}
	return namespaces
}

// closed returns the namespaces that may not be entered and have a process whose files are
// readable: those of /proc/PID/net are about the namespace of the process.
func (r *Reader) closed(all []Sockets, places func() Places) (closed []Namespace) {
	for _, s := range all {
		if s.Err == nil {
			continue
		}
		place := places()[s.Inode]
		for _, pid := range place.PIDs {
			source, err := procnet.New(filepath.Join(r.options.Procfs, strconv.Itoa(int(pid))))
			if err != nil {
				continue
			}
			p, _ := owner.Oldest(r.options.Procfs, place.PIDs)
			id := identify(place, p)
			r.metadata.name(&id)
			closed = append(closed, Namespace{Identity: id, Depth: Full, Count: 1, Source: source,
				EphemeralPorts: func(ctx context.Context) (socket.EphemeralPorts, error) { return r.ports(ctx, s.Inode, places()) }})
			break
		}
	}
	return closed
}

// identity returns what a namespace is called. A name that will not change is kept.
func (r *Reader) identity(s *Sockets, places func() Places) Identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.known[s.Cookie]
	if known == nil {
		known = &named{}
		r.known[s.Cookie] = known
	}
	known.seen = r.reads
	now := time.Now()
	const retry = time.Minute
	if !known.settled() {
		place := places()[s.Inode]
		p, _ := owner.Oldest(r.options.Procfs, place.PIDs)
		known.Identity = identify(place, p)
	} else if known.Container != "" || known.Pod != "" || now.Before(known.retry) {
		return known.Identity
	}
	r.metadata.name(&known.Identity)
	known.retry = now.Add(retry)
	return known.Identity
}

// forget drops namespaces that were not there for some reads.
func (r *Reader) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	const keep = 16
	r.reads++
	maps.DeleteFunc(r.known, func(_ uint64, n *named) bool { return r.reads-n.seen > keep })
}

// warn logs the first namespace that cannot be read.
func (r *Reader) warn(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && !r.warned {
		r.warned = true
		r.options.Logger.Warn("cannot read all network namespaces", "err", err, "missing", strings.Join(r.Missing(), ", "))
	}
}

// ports reads the ephemeral ports of a namespace.
func (r *Reader) ports(ctx context.Context, inode uint64, places Places) (socket.EphemeralPorts, error) {
	var err error
	ports := r.options.DefaultPorts
	enterErr := r.options.Worker.doAny(ctx, inode, places[inode].paths(r.options.Procfs), func(string) error {
		ports, err = r.options.EphemeralPorts()
		return nil
	})
	return ports, cmp.Or(enterErr, err)
}

// limits reads the limits of a namespace.
func (r *Reader) limits(ctx context.Context, inode uint64, places Places) (stats *kernel.Stats, err error) {
	err = r.options.Worker.doAny(ctx, inode, places[inode].paths(r.options.Procfs), func(string) (err error) {
		stats, err = kernel.ReadLimits(r.options.Procfs)
		return err
	})
	return stats, err
}

// Missing returns the privileges that this process lacks to see every namespace with
// this engine.
func (r *Reader) Missing() []string {
	if _, enters := r.options.Engine.(*SockDiag); !enters {
		return nil
	}
	return missingToEnter()
}
