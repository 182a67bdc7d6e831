// Package listenertls reads the certificates of this host's own listeners: one TLS
// handshake with each on a configured port, now and then, beside the scrapes.
package listenertls

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxListeners bounds memory, series, and with the timeout of a handshake the time
// that all of them take: 21 minutes if none answers.
const maxListeners = 256

// minAge is how old a result is at least before a restart of the service makes
// another handshake: workers that come and go must not make one on each scrape.
const minAge = time.Minute

// Settings say which listeners are asked. Without ports it is none.
type Settings struct {
	Ports []socket.PortRange
	// Interval is the time between two handshakes with a listener.
	Interval time.Duration
	// ServerName is sent to each (SNI); empty sends none.
	ServerName string
}

func (s *Settings) includes(port uint16) bool {
	return slices.ContainsFunc(s.Ports, func(r socket.PortRange) bool { return r.Contains(port) })
}

// Found is the latest result of a listener.
type Found struct {
	socket.ListenerID
	At time.Time
	// Outcome is open where the handshake succeeded.
	Outcome probe.Outcome
	// Certificate is nil if none was sent.
	Certificate *prober.Certificate
}

// Handshake makes a TLS handshake with an address of this host, without verifying
// what it is sent.
type Handshake func(to netip.AddrPort, serverName string) probe.Result

// Book has the latest results, and asks the listeners one at a time, beside whoever
// reads it. It is safe for concurrent use.
type Book struct {
	handshake Handshake
	now       func() time.Time

	mu       sync.Mutex
	settings Settings
	entries  map[socket.ListenerID]*entry
	queue    []*entry
	working  bool
}

type entry struct {
	found   Found
	sockets uint64         // identifies those that were asked
	to      netip.AddrPort // where to ask
	nowhere bool           // no address of this host leads to it now
	waiting bool           // it is in the queue, or being asked
	gone    bool           // from the book
}

// New returns a book that knows nothing and asks none.
func New(handshake Handshake, now func() time.Time) *Book {
	return &Book{handshake: handshake, now: now, entries: map[socket.ListenerID]*entry{}}
}

// Use puts settings in force. What is known of listeners that they include is kept,
// unless these were asked by another name.
func (b *Book) Use(s Settings) {
	b.mu.Lock()
	defer b.mu.Unlock()
	sameName := s.ServerName == b.settings.ServerName
	b.settings = s
	b.keep(func(id socket.ListenerID) bool { return sameName && s.includes(id.Port) })
}

// keep forgets the other listeners.
func (b *Book) keep(wanted func(socket.ListenerID) bool) {
	for id, e := range b.entries {
		if !wanted(id) {
			e.gone = true
			delete(b.entries, id)
		}
	}
}

// Read returns what is known of the listeners of a table, sorted, and how many
// listening sockets were left out because there are too many. It forgets all other
// listeners, and begins to ask those of whom nothing is known or whose result is
// old. Own has the addresses of this host with their devices.
func (b *Book) Read(table *socket.Table, own map[netip.Addr]string) (found []Found, leftOut int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var listeners []socket.Listener // few of many, which are not copied
	for i := range table.Listeners {
		if l := &table.Listeners[i]; l.Protocol == socket.TCP && b.settings.includes(l.Port) {
			listeners = append(listeners, *l)
		}
	}
	chosen, leftOut := socket.MostExposed(listeners, maxListeners)
	b.keep(func(id socket.ListenerID) bool { return chosen[id] })
	for i := range listeners {
		l := &listeners[i]
		if !chosen[l.ListenerID] {
			continue
		}
		e := b.entries[l.ListenerID]
		if e == nil {
			e = &entry{found: Found{ListenerID: l.ListenerID}}
			b.entries[l.ListenerID] = e
		}
		b.ask(e, l, table, own)
		if !e.found.At.IsZero() {
			found = append(found, e.found)
		}
	}
	return found, leftOut
}

// ask puts a listener into the queue if it is its turn.
func (b *Book) ask(e *entry, l *socket.Listener, table *socket.Table, own map[netip.Addr]string) {
	now, sockets := b.now(), identity(l)
	age := now.Sub(e.found.At)
	if e.waiting || !e.nowhere && age < b.settings.Interval && (sockets == e.sockets || age < minAge) {
		return
	}
	e.sockets, e.to = sockets, reach(l, table, own)
	if e.nowhere = !e.to.IsValid(); e.nowhere {
		e.found = Found{ListenerID: l.ListenerID, At: now, Outcome: probe.LocalError}
		return
	}
	e.waiting = true
	b.queue = append(b.queue, e)
	if !b.working {
		b.working = true
		go b.work()
	}
}

// identity changes when the service restarts.
func identity(l *socket.Listener) (sum uint64) {
	for _, m := range l.Members {
		sum += m.ID()
	}
	return sum
}

// work asks the listeners of the queue, one after the other, until it is empty.
func (b *Book) work() {
	for {
		e, name, ok := b.next()
		if !ok {
			return
		}
		result := b.handshake(e.to, name)
		b.note(e, &result)
	}
}

// next takes from the queue the first listener that is still in the book.
func (b *Book) next() (e *entry, serverName string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) > 0 {
		e, b.queue = b.queue[0], b.queue[1:]
		if !e.gone {
			return e, b.settings.ServerName, true
		}
	}
	b.queue, b.working = nil, false
	return nil, "", false
}

func (b *Book) note(e *entry, result *probe.Result) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.waiting = false
	e.found.At, e.found.Outcome, e.found.Certificate = b.now(), result.Outcome, nil
	if c, sent := prober.CertificateOf(result.Samples); sent {
		c.Subject, c.Issuer = shortened(c.Subject), shortened(c.Issuer)
		e.found.Certificate = &c
	}
}

// maxName is how much of a name is kept, in bytes: a certificate may have 256 kB.
const maxName = 1 << 10

func shortened(name string) string { return name[:min(len(name), maxName)] }
