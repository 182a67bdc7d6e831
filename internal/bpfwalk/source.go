//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"context"
	"iter"

	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Source reads the network namespace of the thread that calls it, from the records in
// place. It is safe for concurrent use; a read waits until another one is over.
type Source struct{ engine *Engine }

// Source returns the source of the caller's own namespace.
func (e *Engine) Source() *Source { return &Source{e} }

// Sockets implements [socket.Source].
func (s *Source) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		e := s.engine
		if err := e.lock(ctx); err != nil {
			yield(nil, err)
			return
		}
		defer e.unlock()
		list, _, err := e.list() // ours is always there
		if err != nil {
			yield(nil, err)
			return
		}
		reader := rows{want: want, yield: yield, names: ownNames{}}
		own := list[:1]
		for _, t := range e.tables(own, want) {
			err := e.walk(ctx, t, func(records []walkRecord) bool {
				for i := range records {
					if records[i].Net == own[0].Cookie && !reader.row(&records[i]) {
						return false
					}
				}
				return true
			})
			if err != nil && !reader.stopped {
				yield(nil, err)
			}
			if err != nil || reader.stopped {
				return
			}
		}
	}
}

// rows yields records as sockets.
type rows struct {
	want    socket.StateSet
	yield   func(*socket.Socket, error) bool
	names   names
	sock    socket.Socket
	stopped bool
}

// row yields one record and reports whether more are wanted.
func (r *rows) row(record *walkRecord) bool {
	err := record.decode(&r.sock)
	if err == nil && !r.want.Has(r.sock.State) {
		return true
	}
	if err == nil && record.Device != 0 {
		r.sock.Interface = r.names.of(record.Device)
	}
	r.stopped = !r.yield(&r.sock, err)
	return !r.stopped
}

// names are the names of interfaces.
type names interface {
	of(index uint32) string
}

// ownNames caches those of our own namespace, for one read.
type ownNames map[uint32]string

func (n ownNames) of(index uint32) string {
	name, ok := n[index]
	if !ok {
		name = sockdiag.DeviceName(index)
		n[index] = name
	}
	return name
}

// indexNames are those of another namespace, which are not read.
type indexNames struct{}

func (indexNames) of(index uint32) string { return socket.IndexName(index) }
