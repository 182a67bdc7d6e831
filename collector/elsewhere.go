package collector

import (
	"errors"
	"slices"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// elsewhere is what was read of the other network namespaces.
type elsewhere struct {
	netns.Found
	// all are those that have series and could be read, and beyond are as many as exceed
	// the limit.
	all    []namespace
	beyond int
	// owned are their listeners with owners, in the order of all: those with series, and
	// if the policy is about them all others.
	owned []socket.Owned
	// history is that of the listeners with series.
	history socket.Record
	missing []string // privileges
}

// whole reports whether every listener of every namespace was read.
func (e *elsewhere) whole() bool {
	return e.beyond == 0 && e.Depths[netns.Unread] == 0 && len(e.missing) == 0 &&
		!slices.ContainsFunc(e.all, func(n namespace) bool { return n.table.Unread.Sum() > 0 })
}

// namespace is one that was read.
type namespace struct {
	*netns.Namespace
	table   *socket.Table
	traffic *socket.Traffic // nil if the connections were not read
	// listeners have series of their own; rest counts the sockets of the others.
	listeners []socket.Listener
	rest      int
}

// eachShown calls f for each listener that has series of its own, with its owners.
func (e *elsewhere) eachShown(f func(owned []socket.Owned)) {
	shown := map[socket.ListenerID]bool{}
	for _, n := range e.all {
		for i := range n.listeners {
			shown[n.listeners[i].ListenerID] = true
		}
	}
	for owned := range byListener(e.owned) {
		if shown[owned[0].ListenerID] {
			f(owned)
		}
	}
}

var errNoNamespaces = errors.New("other network namespaces cannot be read on this system")

// readElsewhere reads the other network namespaces.
func (r *reading) readElsewhere() (*elsewhere, error) {
	switch name := (namespaces{}).Name(); {
	case r.Namespaces == nil:
		return nil, errNoNamespaces
	case slices.Contains(r.Disabled, name):
		return nil, &DisabledError{name}
	}
	found, err := r.Namespaces.Read(r.ctx)
	if err != nil {
		return nil, err
	}
	shown := min(len(found.Namespaces), r.Limits.Namespaces)
	e := &elsewhere{Found: found, beyond: len(found.Namespaces) - shown, missing: r.Namespaces.Missing()}
	if e.all, err = r.readNamespaces(found.Namespaces[:shown], &e.Depths); err != nil {
		return nil, err
	}
	r.noteListenersOf(e)
	r.Memory.namespaces.forget()
	return e, nil
}

// readNamespaces reads namespaces. One that has more sockets than can be read must not cost
// the metrics of the others: depths says how far it was read instead.
func (r *reading) readNamespaces(found []netns.Namespace, depths *netns.Depths) ([]namespace, error) {
	all := make([]namespace, 0, len(found))
	for i := range found {
		of := &found[i]
		n, err := r.readNamespace(of)
		switch {
		case errors.Is(err, socket.ErrIncomplete):
			depths.Lower(of, netns.Unread)
			continue
		case err != nil:
			return nil, err
		case r.Snapshot.wants.namespaces && of.Depth == netns.Full && n.traffic == nil:
			depths.Lower(of, netns.Listeners)
		}
		all = append(all, n)
	}
	return all, nil
}

// readNamespace reads a namespace; its connections only for who exports them. An
// interruption is no error: a second read would cost as much again in each of them.
// Connections of which a part was lost are left out.
func (r *reading) readNamespace(of *netns.Namespace) (n namespace, err error) {
	n = namespace{Namespace: of}
	reader := of.Reader(r.ctx)
	reader.Aged, reader.Named = r.Memory.namespaces.longLived.Age, r.namedElsewhere
	if n.table, err = reader.Listening(r.ctx); err != nil {
		return n, err
	}
	series, rest := socket.MostExposed(n.table.Listeners, r.Limits.NamespaceListeners)
	n.rest = rest
	for _, l := range n.table.Listeners {
		if series[l.ListenerID] {
			n.listeners = append(n.listeners, l)
		}
	}
	if of.Depth != netns.Full || !r.Snapshot.wants.namespaces {
		return n, nil
	}
	n.traffic, err = socket.ReadConnections(of.Source.Sockets(r.ctx, socket.Connections), n.table, nil)
	switch {
	case errors.Is(err, socket.ErrInterrupted):
		err = nil
	case errors.Is(err, socket.ErrIncomplete):
		n.traffic, err = nil, nil
	}
	return n, err
}

// noteListenersOf adds the history of listeners, and their owners, which are found
// together.
func (r *reading) noteListenersOf(e *elsewhere) {
	var shown, judged []socket.Listener
	workloads := make(map[string]*socket.Workload, len(e.all))
	for _, n := range e.all {
		shown, judged = append(shown, n.listeners...), append(judged, n.table.Listeners...)
		workloads[n.Name] = n.Workload()
	}
	e.history = r.Memory.namespaces.history.Note(r.began, shown)
	if r.NamespaceOwners == nil {
		return
	}
	if !policy.NamesOthers(r.Policy) {
		judged = shown
	}
	e.owned = r.NamespaceOwners.Owners(r.ctx, judged).Owned
	for i := range e.owned {
		e.owned[i].Workload = workloads[e.owned[i].Netns]
	}
}
