package socket

import (
	"cmp"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"sync"
)

// Host is what must be known of a host (or of one of its network namespaces)
// to tell its listeners from its clients.
type Host struct {
	// Netns is the name of the network namespace; empty is the host's own.
	Netns     string
	Ephemeral EphemeralPorts
	// MaxListeners bounds how many listeners are told apart. What comes after
	// them is folded into one. Zero means no bound.
	MaxListeners int
	// LongLived reports whether an unconnected UDP socket on an ephemeral port
	// has lived long enough to be a listener. Nil means never.
	LongLived func(*Socket) bool
	// Own reports whether a listening socket is one that the exporter itself has
	// for a moment, and no service. It is counted, and no listener. Nil means that
	// none is.
	Own func(*Socket) bool
}

// ListenerID is the identity of a listener: it stays the same when the service
// behind it restarts.
type ListenerID struct {
	Netns     string // of the network namespace; empty is the host's own
	Protocol  Protocol
	Address   netip.Addr
	Port      uint16
	Interface string
}

// Listener is one or more sockets (an SO_REUSEPORT group) that take what
// arrives at one bind address.
type Listener struct {
	ListenerID
	Scope     Scope
	DualStack bool // the address is ::, and IPv4 arrives here too
	Ephemeral bool // the port is one that the kernel gives to clients

	Sockets int
	// Known holds the facts known of every socket of the group.
	Known Facts
	// The figures below are sums over the group: each socket of it has its own
	// queue. AcceptQueue and AcceptQueueLimit count connections (TCP),
	// ReceiveQueue bytes (UDP), Drops connections or datagrams.
	AcceptQueue, AcceptQueueLimit, ReceiveQueue, Drops uint64

	// Members are the sockets of the group.
	Members []Member
}

// Member is what tells who holds one socket of a listener; see [Socket] for the
// fields.
type Member struct {
	Inode, Cookie, CgroupID uint64
	UID, Drops              uint32
	PID                     int32
}

// ID identifies the socket across scrapes, as [Socket.ID] does; where a source
// gives sockets no identity, its process stands for it.
func (m Member) ID() uint64 { return cmp.Or(m.Cookie, m.Inode, uint64(m.PID)) }

// StateCounts counts sockets by state.
type StateCounts [numStates]uint32

// Totals counts every socket by protocol, family and state.
type Totals [numProtocols][numFamilies]StateCounts

// Table is the set of listeners of one network namespace at one moment.
// It is not changed once made.
type Table struct {
	Totals    Totals     // LISTEN and UDP sockets
	Listeners []Listener // sorted by ID
	// LocalPorts are the local ports of LISTEN and UDP sockets.
	LocalPorts [numProtocols]PortSet
	// Folded counts the listening sockets beyond Host.MaxListeners: they are in
	// Totals, but in no Listener.
	Folded int
	// Malformed counts the rows that were passed over.
	Malformed int

	host        Host
	indexed     sync.Once // ports is made for the first connection
	ports       map[uint16]tcpPort
	foldedPorts map[uint16]bool // TCP ports of folded listeners
}

// tcpPort finds the TCP listener of one port that takes a connection; the
// values are indices into Table.Listeners.
type tcpPort struct {
	exact    map[netip.Addr][]int
	wildcard []int
}

// ReadListening folds the sockets of a read of [Listening] into a table.
// It returns the first error that is not [ErrMalformed]; beside an
// [ErrInterrupted] it returns the table of what was read.
func ReadListening(sockets iter.Seq2[*Socket, error], host Host) (*Table, error) {
	t := &Table{host: host}
	index := map[ListenerID]int{}
	err := each(sockets, &t.Malformed, func(s *Socket) {
		t.Totals[s.Protocol][s.Family][s.State]++
		t.LocalPorts[s.Protocol].Add(s.Local.Port())
		if t.isListener(s) {
			t.add(s, index)
		}
	})
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	t.choose()
	slices.SortFunc(t.Listeners, func(a, b Listener) int { return a.Compare(b.ListenerID) })
	t.presumeDualStack()
	return t, err
}

// each calls add for every socket of a read and counts the malformed rows. It
// returns the first error that ended the read, else an [ErrInterrupted] if
// there was one.
func each(sockets iter.Seq2[*Socket, error], malformed *int, add func(*Socket)) error {
	var interrupted error
	for s, err := range sockets {
		switch {
		case err == nil:
			add(s)
		case errors.Is(err, ErrMalformed):
			*malformed++
		case errors.Is(err, ErrInterrupted):
			interrupted = err
		default:
			return err
		}
	}
	return interrupted
}

// isListener reports whether others can send to the socket: it listens (TCP),
// or it is a UDP socket without a peer that is more than a client's passing one.
func (t *Table) isListener(s *Socket) bool {
	if s.State == Listen {
		return t.host.Own == nil || !t.host.Own(s)
	}
	if s.State != Unconnected || s.Local.Port() == 0 {
		return false
	}
	return !t.host.Ephemeral.Contains(s.Local.Port()) || t.host.LongLived != nil && t.host.LongLived(s)
}

func (t *Table) add(s *Socket, index map[ListenerID]int) {
	id := ListenerID{t.host.Netns, s.Protocol, s.Local.Addr(), s.Local.Port(), s.Interface}
	at, ok := index[id]
	if !ok {
		if t.host.MaxListeners > 0 && len(t.Listeners) == readAhead*t.host.MaxListeners {
			t.fold(s.Protocol, s.Local.Port(), 1)
			return
		}
		at = len(t.Listeners)
		index[id] = at
		t.Listeners = append(t.Listeners, Listener{
			ListenerID: id,
			Scope:      ScopeOf(id.Address),
			Ephemeral:  t.host.Ephemeral.Contains(id.Port),
			Known:      s.Known,
		})
	}
	l := &t.Listeners[at]
	l.Sockets++
	l.Known &= s.Known
	l.AcceptQueue += uint64(s.AcceptQueue)
	l.AcceptQueueLimit += uint64(s.AcceptQueueLimit)
	l.ReceiveQueue += uint64(s.ReceiveQueue)
	l.Drops += uint64(s.Drops)
	l.Members = append(l.Members, Member{s.Inode, s.Cookie, s.CgroupID, s.UID, s.Drops, s.PID})
	if id.Address == netip.IPv6Unspecified() && !s.V6Only {
		l.DualStack = true
	}
}

// readAhead is how many times more listeners are read than are told apart, so
// that the choice does not hang on the order in which the kernel gives them.
const readAhead = 16

// choose keeps the listeners that are told apart: the most exposed, then those
// that come first by ID. The others are folded.
func (t *Table) choose() {
	n := t.host.MaxListeners
	if n == 0 || len(t.Listeners) <= n {
		return
	}
	slices.SortFunc(t.Listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), a.Compare(b.ListenerID))
	})
	for _, l := range t.Listeners[n:] {
		t.fold(l.Protocol, l.Port, l.Sockets)
	}
	t.Listeners = slices.Clone(t.Listeners[:n])
}

func (t *Table) fold(p Protocol, port uint16, sockets int) {
	t.Folded += sockets
	if p != TCP {
		return
	}
	if t.foldedPorts == nil {
		t.foldedPorts = map[uint16]bool{}
	}
	t.foldedPorts[port] = true
}

// presumeDualStack settles the listeners on :: of a source that cannot read
// IPV6_V6ONLY: they also take IPv4 (the default, ipv6(7)) unless another
// listener holds 0.0.0.0 on the same port, which the kernel allows only beside
// a V6ONLY socket.
func (t *Table) presumeDualStack() {
	for i := range t.Listeners {
		l := &t.Listeners[i]
		if !l.DualStack || l.Known.Has(KnowsV6Only) {
			continue
		}
		beside := l.ListenerID
		beside.Address = netip.IPv4Unspecified()
		if _, held := t.find(beside); held {
			l.DualStack = false
		}
	}
}

func (t *Table) find(id ListenerID) (int, bool) {
	return slices.BinarySearchFunc(t.Listeners, id, func(l Listener, id ListenerID) int { return l.Compare(id) })
}

func (t *Table) indexPorts() {
	t.ports = map[uint16]tcpPort{}
	for i, l := range t.Listeners {
		if l.Protocol != TCP {
			continue
		}
		p := t.ports[l.Port]
		if l.Scope == ScopeAny {
			p.wildcard = append(p.wildcard, i)
		} else {
			if p.exact == nil {
				p.exact = map[netip.Addr][]int{}
			}
			p.exact[l.Address] = append(p.exact[l.Address], i)
		}
		t.ports[l.Port] = p
	}
}

// Acceptor returns the index of the listener that takes connections to the
// local end of s, or -1 if there is none. It chooses as the kernel does
// (inet_lookup_listener in net/ipv4/inet_hashtables.c): an exact address
// before the wildcard; then a socket bound to the device before one that is
// not; then, on the wildcard, one of the same family.
func (t *Table) Acceptor(s *Socket) int {
	t.indexed.Do(t.indexPorts)
	p, ok := t.ports[s.Local.Port()]
	if !ok {
		return -1
	}
	if at := t.best(p.exact[s.Local.Addr()], s); at >= 0 {
		return at
	}
	return t.best(p.wildcard, s)
}

func (t *Table) best(candidates []int, s *Socket) int {
	best, bestScore := -1, -1
	for _, at := range candidates {
		if score := t.Listeners[at].score(s); score > bestScore {
			best, bestScore = at, score
		}
	}
	return best
}

// score returns how well the listener, whose address is known to match, fits
// the connection; -1 if it cannot have accepted it.
func (l *Listener) score(s *Socket) int {
	sameFamily := l.Address.Is4() == s.Local.Addr().Is4()
	switch {
	case l.Interface != "" && l.Interface != s.Interface:
		return -1
	case !sameFamily && !l.DualStack:
		return -1
	}
	score := 0
	if l.Interface != "" {
		score += 2
	}
	if sameFamily {
		score++
	}
	return score
}

// Compare orders listeners by namespace, protocol, port, address, interface.
func (id ListenerID) Compare(other ListenerID) int {
	return cmp.Or(
		cmp.Compare(id.Netns, other.Netns),
		cmp.Compare(id.Protocol, other.Protocol),
		cmp.Compare(id.Port, other.Port),
		id.Address.Compare(other.Address),
		cmp.Compare(id.Interface, other.Interface),
	)
}
