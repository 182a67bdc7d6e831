//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxKept bounds the sockets that one read keeps of each of its two walks: 100 MB.
const maxKept = 1 << 20

// errTooManySockets is about a namespace of which not all sockets were kept.
var errTooManySockets = fmt.Errorf("%w: other network namespaces have more than %d sockets", socket.ErrIncomplete, maxKept)

// Name implements [netns.Engine].
func (e *Engine) Name() string { return "bpf" }

// remembered is how long it is believed which namespaces have connections. Without it a
// read of the listeners alone would walk the connections too wherever one namespace has no
// listener, as the empty ones of sandboxes.
const remembered = time.Minute

// Read implements [netns.Engine]: it reads the listeners and UDP sockets of all
// namespaces with one walk, and their connections with another when those of one namespace
// are wanted. A namespace without a listener is empty unless the last walk, of a minute ago
// at most, has found connections. Our own namespace, which comes first, has a source that
// walks whenever it is read.
func (e *Engine) Read(ctx context.Context, _ func() netns.Places) ([]netns.Sockets, error) {
	if err := e.lock(ctx); err != nil {
		return nil, err
	}
	listening, all, others, err := e.readListening(ctx)
	e.unlock()
	if err != nil {
		return nil, err
	}
	connections := sync.OnceValues(func() (*kept, error) { return e.readConnections(ctx, all) })
	sockets := make([]netns.Sockets, len(all)+others)
	for i, n := range all {
		sockets[i] = netns.Sockets{Cookie: n.Cookie, Inode: n.Inode, Depth: netns.Full}
		if i == 0 {
			sockets[i].Source = e.Source()
			continue
		}
		if listening.empty(n.Cookie) {
			connected, err := e.connected(n.Cookie, connections)
			if err != nil {
				return nil, err
			}
			if !connected {
				sockets[i].Depth = netns.Empty
				continue
			}
		}
		sockets[i].Source = &otherSource{n.Cookie, listening, connections}
	}
	for i := range others {
		sockets[len(all)+i] = netns.Sockets{Depth: netns.Unread, Err: errTooMany}
	}
	return sockets, nil
}

// connected reports whether a namespace had connections at the last walk.
func (e *Engine) connected(cookie uint64, connections func() (*kept, error)) (bool, error) {
	e.mu.Lock()
	known, at := e.known, e.knownAt
	e.mu.Unlock()
	if time.Since(at) < remembered {
		return known[cookie], nil
	}
	all, err := connections()
	if err != nil {
		return false, err
	}
	return !all.empty(cookie), nil
}

// remember notes which namespaces have connections.
func (e *Engine) remember(all *kept) {
	known := map[uint64]bool{}
	for cookie := range all.chains {
		if !all.empty(cookie) {
			known[cookie] = true
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known, e.knownAt = known, time.Now()
}

// readListening returns the namespaces that were there before or after the walk, ours
// first, and their sockets but for ours. others are how many have no room on the list.
func (e *Engine) readListening(ctx context.Context) (all *kept, before []walkNamespace, others int, err error) {
	list, _, err := e.list()
	if err != nil {
		return nil, nil, 0, err
	}
	before = append(before, list...)
	all = newKept(before)
	all.strangers = true // of namespaces that were made meanwhile
	if err := e.keep(ctx, all, before, socket.Listening); err != nil {
		return nil, nil, 0, err
	}
	after, others, err := e.list()
	if err != nil {
		return nil, nil, 0, err
	}
	known := make(map[uint64]bool, len(before))
	for i := range before {
		known[before[i].Cookie] = true
	}
	for i := range after {
		if !known[after[i].Cookie] {
			before = append(before, after[i])
		}
	}
	return all, before, others, nil
}

// readConnections returns the connections of namespaces but for ours. Those of others,
// which are older than the list and dying, or younger, are dropped.
func (e *Engine) readConnections(ctx context.Context, namespaces []walkNamespace) (*kept, error) {
	if err := e.lock(ctx); err != nil {
		return nil, err
	}
	defer e.unlock()
	all := newKept(namespaces)
	if err := e.keep(ctx, all, namespaces, socket.Connections); err != nil {
		return nil, err
	}
	e.remember(all)
	return all, nil
}

func (e *Engine) keep(ctx context.Context, all *kept, namespaces []walkNamespace, want socket.StateSet) error {
	for _, t := range e.tables(namespaces, want) {
		err := e.walk(ctx, t, func(records []walkRecord) bool {
			for i := range records {
				all.add(&records[i])
			}
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// kept are copies of records, chained by namespace. An allocation serves a few thousand
// of them, of whatever namespaces.
type kept struct {
	own    uint64
	chunks [][]walkRecord
	next   []uint32 // after each record the next of its namespace; 0 is none
	n      uint32   // records, without the first, which stands for none
	chains map[uint64]*chain
	// strangers says that records of namespaces which are not on the list are kept too.
	strangers bool
}

// chain has the first and the last record of a namespace.
type chain struct {
	first, last uint32
	cut         bool
}

// perChunk is how many records one allocation has.
const perChunk = 1024

// newKept returns a store for the sockets of namespaces, of which the first is our own.
func newKept(namespaces []walkNamespace) *kept {
	k := &kept{own: namespaces[0].Cookie, next: []uint32{0}, chains: make(map[uint64]*chain, len(namespaces))}
	chains := make([]chain, len(namespaces))
	for i := range namespaces[1:] {
		k.chains[namespaces[i+1].Cookie] = &chains[i+1]
	}
	return k
}

// record returns one by its number.
func (k *kept) record(i uint32) *walkRecord { return &k.chunks[i/perChunk][i%perChunk] }

// add copies a record, unless it is of our own namespace or of an unknown one.
func (k *kept) add(r *walkRecord) {
	c := k.chains[r.Net]
	if c == nil {
		if r.Net == k.own || !k.strangers {
			return
		}
		c = &chain{}
		k.chains[r.Net] = c
	}
	if k.n == maxKept {
		c.cut = true
		return
	}
	k.n++
	if int(k.n/perChunk) >= len(k.chunks) {
		k.chunks = append(k.chunks, make([]walkRecord, perChunk))
	}
	*k.record(k.n) = *r
	k.next = append(k.next, 0)
	k.next[c.last] = k.n
	if c.first == 0 {
		c.first = k.n
	}
	c.last = k.n
}

// empty reports whether a namespace has no socket.
func (k *kept) empty(cookie uint64) bool {
	c := k.chains[cookie]
	return c == nil || c.first == 0 && !c.cut
}

// each yields the records of a namespace and reports whether more are wanted.
func (k *kept) each(cookie uint64, r *rows) (more bool) {
	c := k.chains[cookie]
	if c == nil {
		return true
	}
	for i := c.first; i != 0; i = k.next[i] {
		if !r.row(k.record(i)) {
			return false
		}
	}
	return !c.cut || r.yield(nil, errTooManySockets)
}

// otherSource has the sockets of a namespace that is not our own.
type otherSource struct {
	cookie      uint64
	listening   *kept
	connections func() (*kept, error)
}

// Sockets implements [socket.Source].
func (s *otherSource) Sockets(_ context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		r := &rows{want: want, yield: yield, names: indexNames{}}
		if want&socket.Listening != 0 && !s.listening.each(s.cookie, r) {
			return
		}
		if want&socket.Connections == 0 {
			return
		}
		connections, err := s.connections()
		if err != nil {
			yield(nil, err)
			return
		}
		connections.each(s.cookie, r)
	}
}
