package closed

import (
	"cmp"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// view is a table of listeners as connections are counted by it.
type view struct {
	table  *socket.Table // nil before the first
	series map[socket.ListenerID]bool
	at     []*Counters // of the listeners of the table that had connections
	// gone has the listeners that are in no table now and had connections, by port.
	gone map[uint16][]socket.ListenerID
}

func (v *view) partyOf(c *socket.Closed) (at int, outbound, guess bool) {
	if v.table == nil {
		return -1, true, false
	}
	return v.table.PartyOf(c)
}

func (v *view) isEphemeral(port uint16) bool { return v.table != nil && v.table.IsEphemeral(port) }

// use puts a table in force. Listeners that are gone keep their counters for a while.
func (b *Book) use(table *socket.Table) {
	v := view{table: table, at: make([]*Counters, len(table.Listeners))}
	v.series, _ = socket.MostExposed(table.Listeners, b.limits.Listeners)
	present := map[socket.ListenerID]bool{}
	for i := range table.Listeners {
		id := table.Listeners[i].ListenerID
		if n := b.listeners[id]; n != nil {
			delete(b.goneAt, id)
			v.at[i] = n
			present[id] = true
		}
	}
	if len(present) < len(b.listeners) {
		v.gone = b.noteGone(present)
	}
	b.view = v
}

// noteGone returns the listeners that are not present, by port, and removes those that
// have been gone for long.
func (b *Book) noteGone(present map[socket.ListenerID]bool) map[uint16][]socket.ListenerID {
	now, gone := b.now(), map[uint16][]socket.ListenerID{}
	for id := range b.listeners {
		if present[id] {
			continue
		}
		since, known := b.goneAt[id]
		if !known {
			since = now
			b.goneAt[id] = now
		}
		if now.Sub(since) > away || len(b.goneAt) > b.limits.Listeners {
			delete(b.listeners, id)
			delete(b.goneAt, id)
			continue
		}
		gone[id.Port] = append(gone[id.Port], id)
	}
	for _, ids := range gone { // an exact address before the wildcard
		slices.SortFunc(ids, func(a, b socket.ListenerID) int {
			return cmp.Or(wildcards(a)-wildcards(b), a.Compare(b))
		})
	}
	return gone
}

func wildcards(id socket.ListenerID) int {
	if id.Address.IsUnspecified() {
		return 1
	}
	return 0
}

// goneListener returns the counters of a listener that had the local end of a
// connection and is gone, or nil.
func (b *Book) goneListener(c *socket.Closed) *Counters {
	for _, id := range b.view.gone[c.Local.Port()] {
		local := c.Local.Addr()
		if id.Address == local || id.Address.IsUnspecified() && (id.Address.Is6() || local.Is4() || local.IsUnspecified()) {
			return b.listeners[id]
		}
	}
	return nil
}

// ofListener returns the counters of a listener of the table, which are made if it
// has series of its own.
func (b *Book) ofListener(at int) *Counters {
	if n := b.view.at[at]; n != nil {
		return n
	}
	id := b.view.table.Listeners[at].ListenerID
	if !b.view.series[id] || len(b.listeners) >= 2*b.limits.Listeners {
		return &b.otherInbound
	}
	n := &Counters{}
	b.listeners[id], b.view.at[at] = n, n
	return n
}
