package collector

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/health"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Snapshot is what was read of the host for one scrape. Each part is read once,
// when the first collector asks for it, so all of them export the same moment.
type Snapshot struct {
	began   time.Time
	ports   func() (socket.EphemeralPorts, error)
	watched func() Watched
	table   func() (*socket.Table, error)
	history func() (socket.Record, error)
	owners  func() (owner.Result, error)
	shown   func() (*Shown, error)
	traffic func() (*socket.Traffic, error)
	health  func() (*health.Fold, error)
	missing func(out *Output, err error)
	lacking func() []string // privileges that other namespaces require

	wants     wants
	elsewhere func() (*elsewhere, error)
	rules     func() (Rules, error)
	published func() (*publishedPorts, error)

	portless       func() (socket.PortlessTable, error)
	portlessOwners func() []socket.Owned
	unix           func() (socket.PortlessTable, error)
	unixOwners     func() []socket.Owned
}

// wants are the collectors of a scrape that require a part to be read further.
type wants struct {
	health     bool // TCP_INFO of connections is read
	namespaces bool // connections of other network namespaces are read
}

// Rules returns those of the firewall. The error may be [firewall.ErrPrivilege].
func (s *Snapshot) Rules() (Rules, error) { return s.rules() }

// Portless returns what takes packets without a port.
func (s *Snapshot) Portless() (socket.PortlessTable, error) { return s.portless() }

// PortlessOwners returns the same with owners.
func (s *Snapshot) PortlessOwners() []socket.Owned { return s.portlessOwners() }

// Unix returns the unix listeners.
func (s *Snapshot) Unix() (socket.PortlessTable, error) { return s.unix() }

// UnixOwners returns the same with owners.
func (s *Snapshot) UnixOwners() []socket.Owned { return s.unixOwners() }

// Began returns when the reading began.
func (s *Snapshot) Began() time.Time { return s.began }

// Listening returns the listeners. From sock_diag it is cheap.
func (s *Snapshot) Listening() (*socket.Table, error) { return s.table() }

// EphemeralPorts returns the ports that clients get. Beside an error it returns
// the system's default.
func (s *Snapshot) EphemeralPorts() (socket.EphemeralPorts, error) { return s.ports() }

// Watched returns the destinations that are exported regardless of their use.
func (s *Snapshot) Watched() Watched { return s.watched() }

// History returns what was seen of the listeners of Shown up to this scrape.
func (s *Snapshot) History() (socket.Record, error) { return s.history() }

// Owners returns all listeners that were read, with their owners.
func (s *Snapshot) Owners() (owner.Result, error) { return s.owners() }

// Missing exports which files below procfs could not be read, where an error says
// so: each costs its own figures and no others.
func (s *Snapshot) Missing(out *Output, err error) { s.missing(out, err) }

// Shown returns the listeners as they are exported.
func (s *Snapshot) Shown() (*Shown, error) { return s.shown() }

// Shown are the listeners as they are exported, those of a client with many
// ephemeral ports being one.
type Shown struct {
	listeners []socket.Listener // sorted by ID
	owned     []socket.Owned
	folded    map[socket.ListenerID]bool // those that are one
	// series has those with series of their own; of the others there are rest
	// sockets.
	series map[socket.ListenerID]bool
	rest   int
}

// Connections returns the listeners, and every other socket folded onto them.
// It makes the kernel walk its whole table.
func (s *Snapshot) Connections() (*socket.Table, *socket.Traffic, error) {
	table, err := s.table()
	if err != nil {
		return nil, nil, err
	}
	traffic, err := s.traffic()
	return table, traffic, err
}

// Health returns what the read of Connections shows of their paths. The scrape must
// have the collector health.
func (s *Snapshot) Health() (*health.Fold, error) { return s.health() }

// fold returns listeners under the ID that they are exported with, sorted by it.
func (s *Shown) fold(owned []socket.Owned) []socket.Owned {
	owned = slices.Clone(owned)
	for i := range owned {
		if s.folded[owned[i].ListenerID] {
			owned[i].Port = 0
		}
	}
	slices.SortStableFunc(owned, func(a, b socket.Owned) int { return a.Compare(b.ListenerID) })
	return owned
}

// newSnapshot returns a snapshot.
func newSnapshot(ctx context.Context, e *Exporter, w wants) *Snapshot {
	r := &reading{Options: e.options, ctx: ctx, named: e.named, namedElsewhere: e.namedElsewhere, began: e.options.Memory.history.Now()}
	r.Snapshot = Snapshot{
		began: r.began,

		wants:     w,
		elsewhere: sync.OnceValues(r.readElsewhere),
		rules:     sync.OnceValues(r.readRules),
		published: sync.OnceValues(r.readPublished),

		ports:   sync.OnceValues(r.EphemeralPorts),
		watched: sync.OnceValue(r.readWatched),
		table:   sync.OnceValues(r.readTable),
		history: sync.OnceValues(r.noteHistory),
		shown:   sync.OnceValues(r.choose),
		owners:  sync.OnceValues(r.findOwners),
		traffic: sync.OnceValues(r.readTraffic),
		health:  sync.OnceValues(r.readHealth),
		missing: r.noteFiles,
		lacking: e.lackingForNamespaces,

		portless:       sync.OnceValues(r.readPortless),
		portlessOwners: sync.OnceValue(r.findPortlessOwners),
		unix:           sync.OnceValues(r.readUnix),
		unixOwners:     sync.OnceValue(r.findUnixOwners),
	}
	return &r.Snapshot
}

// reading is how the parts of a snapshot are read. Those that need another part
// ask the snapshot for it.
type reading struct {
	Options
	Snapshot Snapshot

	ctx   context.Context
	began time.Time
	// named and namedElsewhere are of [policy.Named] and [policy.NamedElsewhere].
	named, namedElsewhere func(*socket.Socket) bool

	fold *health.Fold // is there when the traffic was read
}

func (r *reading) readWatched() Watched {
	if r.Watched == nil {
		return Watched{}
	}
	return r.Watched()
}

func (r *reading) readTable() (*socket.Table, error) {
	table, err := socket.Reader{
		Source:         r.Source,
		EphemeralPorts: r.Snapshot.ports,
		Named:          r.named,
		Aged:           r.Memory.longLived.Age,
		Kinds:          r.AddressKinds,
	}.Listening(r.ctx)
	if err != nil {
		return nil, err
	}
	if table.DefaultPorts != nil {
		r.Logger.Debug("cannot read ephemeral port range, using the default", "err", table.DefaultPorts)
	}
	for _, p := range socket.Protocols() {
		r.noteUnread(p, table.Unread[p])
	}
	r.Memory.malformed.Add(uint64(table.Malformed))
	return table, r.tolerate(table.Interrupted)
}

// tolerate counts and logs an interruption. Any other error is returned.
func (r *reading) tolerate(err error) error {
	if !errors.Is(err, socket.ErrInterrupted) {
		return err
	}
	r.noteInterruption(err)
	return nil
}

func (r *reading) noteInterruption(err error) {
	r.Memory.interrupted.Add(1)
	r.Logger.Warn("socket table changed during the read, values may be inaccurate", "err", err)
}

func (r *reading) noteUnread(p socket.Protocol, sockets int) {
	if sockets > 0 {
		r.Logger.Warn("too many listeners, some were not read", "protocol", p, "sockets", sockets)
	}
}

func (r *reading) choose() (*Shown, error) {
	owners, err := r.Snapshot.owners()
	if err != nil {
		return nil, err
	}
	table, err := r.Snapshot.table()
	if err != nil {
		return nil, err
	}
	s := &Shown{}
	s.listeners, s.owned, s.folded = r.Memory.clients.Fold(table.Listeners, owners.Owned)
	s.series, s.rest = socket.MostExposed(s.listeners, r.Limits.Listeners)
	s.rest += table.Unread.Sum()
	return s, nil
}

// noteFiles exports the files of an error, and logs those that are news.
func (r *reading) noteFiles(out *Output, err error) {
	for _, f := range kernel.Files(err) {
		out.add(unreadableFiles, 1, f.File)
		if r.Memory.isNews(f.File) {
			r.Logger.Warn("cannot read file, its metrics are absent", "file", f.File, "err", f.Err)
		}
	}
}

func (r *reading) noteHistory() (socket.Record, error) {
	shown, err := r.Snapshot.shown()
	if err != nil {
		return socket.Record{}, err
	}
	return r.Memory.history.Note(r.began, shown.listeners), nil
}

func (r *reading) findOwners() (owner.Result, error) {
	table, err := r.Snapshot.table()
	if err != nil {
		return owner.Result{}, err
	}
	return r.Owners.Owners(r.ctx, table.Listeners), nil
}

func (r *reading) readTraffic() (*socket.Traffic, error) {
	table, err := r.Snapshot.table()
	if err != nil {
		return nil, err
	}
	read := r.readPlain
	if r.Snapshot.wants.health {
		walk := r.beginWalk(table)
		defer walk.End()
		read = func(table *socket.Table) (*socket.Traffic, error) { return r.readWithInfo(table, walk) }
	}
	traffic, err := socket.Twice(func() (*socket.Traffic, error) { return read(table) })
	if err := r.tolerate(err); err != nil {
		return nil, err
	}
	r.Memory.malformed.Add(uint64(traffic.Malformed))
	return traffic, nil
}

func (r *reading) readPlain(table *socket.Table) (*socket.Traffic, error) {
	return socket.ReadConnections(r.Source.Sockets(r.ctx, socket.Connections), table, r.Snapshot.watched().Destinations)
}

// readWithInfo reads the connections with TCP_INFO, which it adds up, and shows to a walk.
func (r *reading) readWithInfo(table *socket.Table, walk openWalk) (*socket.Traffic, error) {
	r.fold = r.newFold(table)
	observe := func(s *socket.Socket, listener int, outbound bool) {
		r.fold.Observe(s, listener, outbound)
		walk.Observe(s)
	}
	rows := r.Source.Sockets(r.ctx, socket.Connections|socket.WithInfo)
	return socket.ObserveConnections(rows, table, r.Snapshot.watched().Destinations, observe)
}

// openWalk counts open connections.
type openWalk interface {
	Observe(s *socket.Socket)
	End()
}

// beginWalk begins to count open connections among those of the collector closed, if it
// runs.
func (r *reading) beginWalk(table *socket.Table) openWalk {
	if r.Closed != nil {
		if recorder, err := r.Closed(); err == nil {
			if walk := recorder.Walk(table); walk != nil {
				return walk
			}
		}
	}
	return noWalk{}
}

// noWalk counts nothing.
type noWalk struct{}

func (noWalk) Observe(*socket.Socket) {}
func (noWalk) End()                   {}

// newFold returns an empty fold. The remote ports that the last scrape chose have a place
// in it, and as many others: which are the busiest is known afterwards.
func (r *reading) newFold(table *socket.Table) *health.Fold {
	series, _ := socket.MostExposed(table.Listeners, r.Limits.Listeners)
	ports := health.Ports{Room: 2 * r.Limits.OutboundPorts}
	if last := r.Memory.openPorts.Load(); last != nil {
		ports.First = *last
	}
	return health.New(table, series, ports)
}

func (r *reading) readHealth() (*health.Fold, error) {
	_, err := r.Snapshot.traffic()
	return r.fold, err
}
