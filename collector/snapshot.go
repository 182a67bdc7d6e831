package collector

import (
	"context"
	"errors"
	"sync"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Snapshot is what was read of the host for one scrape. Each part is read once,
// when the first collector asks for it, so all of them tell of the same moment.
type Snapshot struct {
	ports   func() (socket.EphemeralPorts, error)
	watched func() Watched
	table   func() (*socket.Table, error)
	history func() (socket.Record, error)
	owners  func() (owner.Result, error)
	traffic func() (*socket.Traffic, error)
}

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
	o := e.options
	s := &Snapshot{}
	began := o.Memory.history.Now()
	s.ports = sync.OnceValues(o.EphemeralPorts)
	s.watched = sync.OnceValue(func() Watched {
		if o.Watched == nil {
			return Watched{}
		}
		return o.Watched()
	})
	s.table = sync.OnceValues(func() (*socket.Table, error) {
		ports, err := s.ports()
		if err != nil {
			o.Logger.Debug("ephemeral port range is not known, using the default", "err", err)
		}
		host := socket.Host{
			Ephemeral:    ports,
			MaxListeners: o.Limits.Listeners,
			LongLived: func(s *socket.Socket) bool {
				old := o.Memory.longLived.Has(s) // it must see every socket
				return old || e.named(s)
			},
			Own: o.Own,
		}
		table, err := readTwice(o, func() (*socket.Table, error) {
			return socket.ReadListening(o.Source.Sockets(ctx, socket.Listening), host)
		})
		if err == nil {
			o.Memory.malformed.Add(uint64(table.Malformed))
		}
		return table, err
	})
	s.history = sync.OnceValues(func() (socket.Record, error) {
		table, err := s.table()
		if err != nil {
			return socket.Record{}, err
		}
		return o.Memory.history.Note(began, table.Listeners), nil
	})
	s.owners = sync.OnceValues(func() (owner.Result, error) {
		table, err := s.table()
		if err != nil {
			return owner.Result{}, err
		}
		return o.Owners.Owners(ctx, table.Listeners), nil
	})
	s.traffic = sync.OnceValues(func() (*socket.Traffic, error) {
		table, err := s.table()
		if err != nil {
			return nil, err
		}
		traffic, err := readTwice(o, func() (*socket.Traffic, error) {
			return socket.ReadConnections(o.Source.Sockets(ctx, socket.Connections), table, s.watched().Destinations)
		})
		if err == nil {
			o.Memory.malformed.Add(uint64(traffic.Malformed))
		}
		return traffic, err
	})
	return s
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
