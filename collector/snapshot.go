package collector

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Snapshot is what was read of the host for one scrape. Each part is read once,
// when the first collector asks for it, so all of them tell of the same moment.
type Snapshot struct {
	began   time.Time
	ports   func() (socket.EphemeralPorts, error)
	watched func() Watched
	table   func() (*socket.Table, error)
	history func() (socket.Record, error)
	owners  func() (owner.Result, error)
	traffic func() (*socket.Traffic, error)
}

// Began returns when the reading began.
func (s *Snapshot) Began() time.Time { return s.began }

// Listening returns the listeners. From sock_diag it is cheap.
func (s *Snapshot) Listening() (*socket.Table, error) { return s.table() }

// EphemeralPorts returns the ports that clients get. Beside an error it returns
// the system's default.
func (s *Snapshot) EphemeralPorts() (socket.EphemeralPorts, error) { return s.ports() }

// Watched returns the destinations that are told whatever they use.
func (s *Snapshot) Watched() Watched { return s.watched() }

// History returns what was seen of the listeners up to this scrape.
func (s *Snapshot) History() (socket.Record, error) { return s.history() }

// Owners returns the listeners with their owners.
func (s *Snapshot) Owners() (owner.Result, error) { return s.owners() }

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

func newSnapshot(ctx context.Context, e *Exporter) *Snapshot {
	r := &reading{Options: e.options, ctx: ctx, named: e.named, began: e.options.Memory.history.Now()}
	r.Snapshot = Snapshot{
		began:   r.began,
		ports:   sync.OnceValues(r.EphemeralPorts),
		watched: sync.OnceValue(r.readWatched),
		table:   sync.OnceValues(r.readTable),
		history: sync.OnceValues(r.noteHistory),
		owners:  sync.OnceValues(r.findOwners),
		traffic: sync.OnceValues(r.readTraffic),
	}
	return &r.Snapshot
}

// reading is how the parts of a snapshot are read. Those that need another part
// ask the snapshot for it.
type reading struct {
	Options
	Snapshot Snapshot

	ctx   context.Context
	named func(*socket.Socket) bool
	began time.Time
}

func (r *reading) readWatched() Watched {
	if r.Watched == nil {
		return Watched{}
	}
	return r.Watched()
}

func (r *reading) readTable() (*socket.Table, error) {
	ports, err := r.Snapshot.ports()
	if err != nil {
		r.Logger.Debug("ephemeral port range is not known, using the default", "err", err)
	}
	host := socket.Host{Ephemeral: ports, MaxListeners: r.Limits.Listeners, LongLived: r.isLongLived, Own: r.Own}
	table, err := readTwice(r.Options, func() (*socket.Table, error) {
		return socket.ReadListening(r.Source.Sockets(r.ctx, socket.Listening), host)
	})
	if err == nil {
		r.Memory.malformed.Add(uint64(table.Malformed))
	}
	return table, err
}

// isLongLived reports whether a UDP socket on an ephemeral port is a service's.
func (r *reading) isLongLived(s *socket.Socket) bool {
	old := r.Memory.longLived.Has(s) // it must see every socket
	return old || r.named(s)
}

func (r *reading) noteHistory() (socket.Record, error) {
	table, err := r.Snapshot.table()
	if err != nil {
		return socket.Record{}, err
	}
	return r.Memory.history.Note(r.began, table.Listeners), nil
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
	traffic, err := readTwice(r.Options, func() (*socket.Traffic, error) {
		return socket.ReadConnections(r.Source.Sockets(r.ctx, socket.Connections), table, r.Snapshot.watched().Destinations)
	})
	if err == nil {
		r.Memory.malformed.Add(uint64(traffic.Malformed))
	}
	return traffic, err
}

// readTwice reads again after an interruption or a loss. A second interruption
// is counted and said, and what was read is taken as it is: on a host that busy,
// figures that are a little off beat none. A second loss is a failure.
func readTwice[T any](o Options, read func() (T, error)) (T, error) {
	result, err := read()
	if !errors.Is(err, socket.ErrInterrupted) && !errors.Is(err, socket.ErrIncomplete) {
		return result, err
	}
	result, err = read()
	if !errors.Is(err, socket.ErrInterrupted) {
		return result, err
	}
	o.Memory.interrupted.Add(1)
	o.Logger.Warn("socket table kept changing while it was read, figures may be off", "err", err)
	return result, nil
}
