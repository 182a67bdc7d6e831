package socket

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
)

// Standing is what a table of listeners says of one address and port of its
// host.
type Standing uint8

// The standings.
const (
	NotListening Standing = iota // nothing listens on the port
	LoopbackOnly                 // what listens on the port can be reached from this host only
	OtherAddress                 // what listens on the port takes other addresses
	QueueFull                    // a listener takes the address, and its accept queue has no room
	Listens                      // a listener takes the address
)

// String returns the standing as it stands in the label state.
func (s Standing) String() string {
	switch s {
	case NotListening:
		return "not_listening"
	case LoopbackOnly:
		return "loopback_only"
	case OtherAddress:
		return "other_address"
	case QueueFull:
		return "queue_full"
	case Listens:
		return "listening"
	default:
		return "unknown"
	}
}

// Answer is what a table says of an address and port.
type Answer struct {
	Standing Standing
	Protocol Protocol
	To       netip.AddrPort
	// Listener is the one that takes the address, or else the most exposed of
	// those on the port; nil when there is none.
	Listener *Listener
}

// Taken reports whether a listener takes what is sent to the address.
func (a Answer) Taken() bool { return a.Standing == Listens || a.Standing == QueueFull }

// Full reports whether a listener takes the address and has a full accept queue.
func (a Answer) Full() bool { return a.Standing == QueueFull }

// Scope returns the scope of the listener as it stands in labels; it is empty
// when there is none.
func (a Answer) Scope() string {
	if a.Listener == nil {
		return ""
	}
	return a.Listener.Scope.String()
}

// String returns the answer as a sentence without its full stop.
func (a Answer) String() string {
	switch a.Standing {
	case Listens:
		return fmt.Sprintf("%s listens on %s %s (scope %s)", a.Place(), a.Protocol, a.To, a.Listener.Scope)
	case QueueFull:
		return fmt.Sprintf("%s of %s, which takes %s %s, is full (%d of %d): the service does not accept",
			a.Listener.queue(), a.Place(), a.Protocol, a.To, a.Listener.Worst.Length, a.Listener.Worst.Limit)
	case LoopbackOnly:
		return fmt.Sprintf("nothing listens on %s %s; a listener on %s is loopback only", a.Protocol, a.To, a.Place())
	case OtherAddress:
		return fmt.Sprintf("nothing listens on %s %s; a listener on %s has another address", a.Protocol, a.To, a.Place())
	default:
		return fmt.Sprintf("nothing listens on %s port %d of this host", a.Protocol, a.To.Port())
	}
}

// queue names what is full of a listener.
func (l *Listener) queue() string {
	if l.Sockets == 1 {
		return "the accept queue"
	}
	return fmt.Sprintf("the accept queue of %d of the %d sockets", l.Full, l.Sockets)
}

// FullQueues says how many accept queues of a listener are full, as the second half
// of a sentence.
func (l *Listener) FullQueues() string {
	switch {
	case l.Sockets == 1:
		return "its accept queue is full"
	case l.Full == 1:
		return fmt.Sprintf("1 of its %d accept queues is full", l.Sockets)
	default:
		return fmt.Sprintf("%d of its %d accept queues are full", l.Full, l.Sockets)
	}
}

// Place returns where the listener listens, as address:port.
func (a Answer) Place() string {
	place := netip.AddrPortFrom(a.Listener.Address, a.Listener.Port).String()
	if a.Listener.Interface != "" {
		place += " (device " + a.Listener.Interface + ")"
	}
	return place
}

// Answer says what becomes of what this host sends to one of its own
// addresses. Device is the interface that has the address: a listener that is
// bound to it gets what is sent there from within, too, and one that is bound to
// another does not. It is not known where a listener on the port may have gone
// unread.
func (t *Table) Answer(p Protocol, to netip.AddrPort, device string) (answer Answer, known bool) {
	to = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	answer = Answer{Protocol: p, To: to}
	on := t.on(p, to.Port())
	if p != TCP {
		on = slices.Concat(on, at(t.Young, p, to.Port()))
	}
	answer.Listener = taker(on, &Socket{Protocol: p, Local: to, Interface: device})
	if answer.Listener != nil {
		answer.Standing = answer.Listener.standing()
		return answer, true
	}
	if p < numProtocols && t.Unread[p] > 0 && (p != TCP || t.unreadPorts[to.Port()]) {
		return answer, false
	}
	answer.Standing, answer.Listener = elsewhere(on)
	return answer, true
}

// taker returns which of the listeners on one port takes what arrives, as
// [Table.Acceptor] chooses.
func taker(on []Listener, arriving *Socket) *Listener {
	var best, wildcard *Listener
	for i := range on {
		l := &on[i]
		switch {
		case l.Address == arriving.Local.Addr():
			best = better(best, l, arriving)
		case l.Scope == ScopeAny:
			wildcard = better(wildcard, l, arriving)
		}
	}
	if best == nil {
		return wildcard
	}
	return best
}

func better(than, l *Listener, arriving *Socket) *Listener {
	score := l.score(arriving)
	if score < 0 || than != nil && than.score(arriving) >= score {
		return than
	}
	return l
}

// on returns the listeners on a port.
func (t *Table) on(p Protocol, port uint16) []Listener { return at(t.Listeners, p, port) }

// at returns those of a table's listeners that are on a port. They stand
// together, because the table is sorted by namespace, protocol and port, and has
// one namespace.
func at(listeners []Listener, p Protocol, port uint16) []Listener {
	before := func(i int) bool {
		l := &listeners[i]
		return l.Protocol > p || l.Protocol == p && l.Port >= port
	}
	first := sort.Search(len(listeners), before)
	last := first
	for last < len(listeners) && listeners[last].Protocol == p && listeners[last].Port == port {
		last++
	}
	return listeners[first:last]
}

// standing returns what a listener says of what it takes. Of a group, the kernel
// gives each connection to one socket, so one full queue is enough.
func (l *Listener) standing() Standing {
	if l.Full > 0 {
		return QueueFull
	}
	return Listens
}

// elsewhere returns the standing where listeners on the port do not take the
// address, and the most exposed of them.
func elsewhere(on []Listener) (Standing, *Listener) {
	var nearest *Listener
	for i := range on {
		if nearest == nil || on[i].Scope < nearest.Scope {
			nearest = &on[i]
		}
	}
	switch {
	case nearest == nil:
		return NotListening, nil
	case nearest.Scope == ScopeLoopback:
		return LoopbackOnly, nearest
	default:
		return OtherAddress, nearest
	}
}
