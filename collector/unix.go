package collector

import (
	"cmp"
	"context"
	"slices"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var unixLabels = []string{"netns", "path", "kind"}

var (
	unixInfo = gauge("port_unix_listener_info",
		"Path of a unix listener, with its owner; always 1.", bind(unixLabels, "process", "user", "unit", "container")...)
	unixQueueLength = gauge("port_unix_listener_accept_queue_length",
		"Connections waiting to be accepted by a unix listener.", unixLabels...)
	unixQueueLimit = gauge("port_unix_listener_accept_queue_limit",
		"Accept queue limit of a unix listener (backlog capped by net.core.somaxconn).", unixLabels...)
	unixQueueFull = gauge("port_unix_listener_accept_queue_full_sockets",
		"Sockets of a unix listener whose accept queue is full.", unixLabels...)
	unixListeners = gauge("port_unix_listeners",
		"Listening unix sockets by kind of name (path or abstract).", "netns", "kind")
)

// unix exports unix listeners.
type unix struct{ limit int }

func (unix) Name() string { return "unix" }

func (unix) Families() []*Family {
	return []*Family{unixInfo, unixQueueLength, unixQueueLimit, unixQueueFull, unixListeners}
}

// Collect adds nothing where the host does not report unix listeners.
func (c unix) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, err := host.Unix()
	if len(kernel.Files(err)) > 0 {
		host.Missing(out, err)
		return nil
	}
	if err != nil || !table.Has(socket.Unix) {
		return err
	}
	counts := map[string]int{}
	for i := range table.Listeners {
		counts[table.Listeners[i].Unix.Kind()] += table.Listeners[i].Sockets
	}
	for _, kind := range []string{socket.UnixName{}.Kind(), socket.UnixName{Abstract: true}.Kind()} {
		out.add(unixListeners, float64(counts[kind]), hostNetns, kind)
	}
	out.add(unreadListeners, float64(table.Unread[socket.Unix]), hostNetns, socket.Unix.String())
	groups := groupUnix(table.Listeners, host.UnixOwners())
	shown := min(len(groups), c.limit)
	for _, g := range groups[:shown] {
		g.add(out)
	}
	rest := table.Unread[socket.Unix]
	for _, g := range groups[shown:] {
		rest += g.sockets
	}
	out.fold(unixInfo, rest)
	return nil
}

// unixGroup are the unix listeners with the same labels.
type unixGroup struct {
	unixKey
	rank          int
	known         socket.Facts
	sockets, full int
	length, limit uint64
	owners        [][4]string
}

// unixKey are the labels of a unix listener. Names that differ in bytes that a label
// cannot hold are one.
type unixKey struct{ path, kind string }

func unixKeyOf(l *socket.Listener) unixKey {
	return unixKey{plain.Line(socket.FoldPath(l.Unix.Path)), l.Unix.Kind()}
}

// groupUnix returns the unix listeners by their labels, those that have series of their
// own first.
func groupUnix(listeners []socket.Listener, owned []socket.Owned) []*unixGroup {
	at := make(map[unixKey]*unixGroup, len(listeners))
	for i := range listeners {
		l := &listeners[i]
		key := unixKeyOf(l)
		g := at[key]
		if g == nil {
			g = &unixGroup{unixKey: key, known: l.Known, rank: unixRank(l)}
			at[key] = g
		}
		g.join(l)
	}
	for i := range owned {
		at[unixKeyOf(&owned[i].Listener)].own(owned[i].Owner)
	}
	groups := make([]*unixGroup, 0, len(at))
	for _, g := range at {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *unixGroup) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.kind, b.kind), cmp.Compare(a.path, b.path))
	})
	return groups
}

// unixRank is lower for what goes first: sockets of root and of services, which no
// user can push out of the series by many sockets of their own, then those of users,
// then those of which that is unknown.
func unixRank(l *socket.Listener) int {
	const firstUser = 1000 // systemd.io/UIDS-GIDS
	switch {
	case !l.Known.Has(socket.KnowsUID):
		return 2
	case l.Members[0].UID >= firstUser:
		return 1
	default:
		return 0
	}
}

func (g *unixGroup) join(l *socket.Listener) {
	g.rank = min(g.rank, unixRank(l))
	g.known &= l.Known
	g.sockets += l.Sockets
	g.full += l.Full
	g.length += l.AcceptQueue
	g.limit += l.AcceptQueueLimit
}

// own adds an owner, up to a limit: as many containers as there are may have a socket
// under one path.
func (g *unixGroup) own(o socket.Owner) {
	const maxOwners = 16
	labels := ownerLabels(o)
	if len(g.owners) < maxOwners && !slices.Contains(g.owners, labels) {
		g.owners = append(g.owners, labels)
	}
}

func (g *unixGroup) add(out *Output) {
	id := []string{hostNetns, g.path, g.kind}
	for _, o := range g.owners {
		out.add(unixInfo, 1, bind(id, o[:]...)...)
	}
	if g.known.Has(socket.KnowsQueues | socket.KnowsAcceptQueueLimit) {
		labels := out.set(unixQueueLength, id...)
		out.addSet(unixQueueLength, float64(g.length), labels)
		out.addSet(unixQueueLimit, float64(g.limit), labels)
		out.addSet(unixQueueFull, float64(g.full), labels)
	}
}
