package socket

import (
	"cmp"
	"errors"
	"iter"
	"net/netip"
	"slices"
	"sync"
)

// Criteria are what must be known of a host (or of one of its network namespaces)
// to distinguish its listeners from its clients.
type Criteria struct {
	// Netns is the name of the network namespace; empty is the host's own.
	Netns     string
	Ephemeral EphemeralPorts
	// Named reports whether a rule of the policy names the port of a UDP socket.
	// Nil means that none does.
	Named func(*Socket) bool
	// Aged says whether a UDP socket was seen for so long that no client of the
	// usual kind has it. It is called for each one without a peer, with whether its
	// program chose the port. Nil means that ages are unknown, as to a command that
	// looks once.
	Aged func(s *Socket, chosen bool) Age
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
	// MayBeClient says that nothing proves that it is a service: it is UDP, no
	// rule names its port, and the kernel may have chosen the port for a client
	// (or, where ages are unknown, the program may have, for one query).
	MayBeClient bool
	// Absent says that the address is not of this host, as that of a standby:
	// nothing arrives until it is (IP_FREEBIND, net.ipv4.ip_nonlocal_bind).
	Absent bool
	// PacketType and Filter are those of packet sockets.
	PacketType PacketType
	Filter     Filter
	// Vsock is the address of a vsock listener.
	Vsock VsockAddr
	// Unix is the name of a unix listener.
	Unix UnixName

	Sockets int
	// Known holds the facts known of every socket of the group.
	Known Facts
	// The figures below are sums over the group: each socket of it has its own
	// queue. AcceptQueue and AcceptQueueLimit count connections (TCP),
	// ReceiveQueue bytes (UDP), Drops connections or datagrams. The last two include
	// UDP sockets with a peer on the address.
	AcceptQueue, AcceptQueueLimit, ReceiveQueue, Drops uint64

	// Full counts the sockets of the group whose accept queue is full: the sum hides
	// them. Worst is the accept queue and its limit of the fullest one.
	Full  int
	Worst AcceptQueue
	// Transparent says that a socket of the group may take connections to addresses
	// and ports that are not its own (IP_TRANSPARENT).
	Transparent bool

	// Members are the sockets of the group.
	Members []Member
	// Peers are UDP sockets with a peer on the address of the listener that dropped
	// datagrams, as a QUIC server has one for each client.
	Peers []Member
}

// AcceptQueue is the accept queue of one socket, in connections.
type AcceptQueue struct{ Length, Limit uint32 }

// isFull is sk_acceptq_is_full of the kernel (include/net/sock.h): a queue holds
// one more than its limit.
func (q AcceptQueue) isFull() bool { return q.Length > q.Limit }

// fuller reports whether a queue has less room than another.
func (q AcceptQueue) fuller(than AcceptQueue) bool {
	return int64(q.Length)-int64(q.Limit) > int64(than.Length)-int64(than.Limit)
}

// Member identifies the holder of one socket of a listener; see [Socket] for the
// fields.
type Member struct {
	Inode, Cookie, CgroupID uint64
	UID, Drops              uint32
	PID                     int32
}

// ID identifies the socket across scrapes, as [Socket.ID] does; where a source
// gives sockets no identity, its process identifies it.
func (m Member) ID() uint64 { return cmp.Or(m.Cookie, m.Inode, uint64(m.PID)) }

// StateCounts counts sockets by state.
type StateCounts [numStates]uint32

// Sum returns how many there are.
func (c *StateCounts) Sum() (n int) {
	for _, of := range c {
		n += int(of)
	}
	return n
}

// Add adds other counts.
func (c *StateCounts) Add(other StateCounts) {
	for state, n := range other {
		c[state] += n
	}
}

// Totals counts every socket by protocol, family and state.
type Totals [numProtocols][numFamilies]StateCounts

// Table is the set of listeners of one network namespace at one moment.
// It is not changed once made.
type Table struct {
	Totals    Totals     // LISTEN and UDP sockets
	Listeners []Listener // sorted by ID
	// Young are UDP sockets without a peer that were not seen for long enough to
	// be listeners, sorted by ID: a datagram reaches them all the same.
	Young []Listener
	// LocalPorts are the local ports of LISTEN and UDP sockets.
	LocalPorts [numProtocols]PortSet
	// Unread counts the sockets that may be listeners and are in Totals only: those
	// beyond the limit on listeners, and UDP sockets beyond those whose age is known.
	Unread Unread
	// Malformed counts the discarded rows.
	Malformed int
	// Interrupted is the error of a read that was interrupted twice: the table may
	// miss or repeat sockets.
	Interrupted error
	// DefaultPorts is the error with which the range of ephemeral ports was read;
	// what the system starts with was taken in its place.
	DefaultPorts error

	criteria    Criteria
	indexed     sync.Once // ports is made for the first connection
	ports       map[uint16]tcpPort
	transparent []int           // indices of TCP listeners
	unreadPorts map[uint16]bool // TCP ports of listeners that were not read
}

// Unread counts sockets by protocol.
type Unread [numProtocols]int

// Sum returns how many there are.
func (u Unread) Sum() (n int) {
	for _, of := range u {
		n += of
	}
	return n
}

// HasCgroups reports whether the source provides the cgroups of sockets.
func (t *Table) HasCgroups() bool {
	return slices.ContainsFunc(t.Listeners, func(l Listener) bool {
		return slices.ContainsFunc(l.Members, func(m Member) bool { return m.CgroupID != 0 })
	})
}

// Whole reports whether every listener of the protocol is in the table, as far as
// sources of this kind have it.
func (t *Table) Whole(p Protocol) bool {
	return p < numProtocols && t.Unread[p] == 0 && t.Interrupted == nil
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
func ReadListening(sockets iter.Seq2[*Socket, error], criteria Criteria) (*Table, error) {
	t := &Table{criteria: criteria}
	listeners, passing := newGathering(), newGathering()
	var peers []peer
	err := each(sockets, &t.Malformed, func(s *Socket) {
		t.Totals[s.Protocol][s.Family][s.State]++
		t.LocalPorts[s.Protocol].Add(s.Local.Port())
		switch is := criteria.roleOf(s); {
		case is == noListener:
			if notable(s) && len(peers) < maxListeners {
				peers = append(peers, peer{s.Protocol, s.Local, s.Interface, s.ReceiveQueue, MemberOf(s)})
			}
		case is == ageless:
			t.cut(s)
		case is == young:
			if !passing.add(s, &criteria, true) {
				t.cut(s)
			}
		case !listeners.add(s, &criteria, is == mayBeClient):
			t.cut(s)
		}
	})
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	t.Listeners, t.Young = listeners.sorted(), passing.sorted()
	t.presumeDualStack()
	for i := range peers {
		t.addPeer(&peers[i])
	}
	return t, err
}

// peer is a UDP socket with a peer. Its listener is found when all are read.
type peer struct {
	protocol     Protocol
	local        netip.AddrPort
	device       string
	receiveQueue uint32
	Member
}

// notable reports whether a socket with a peer has something that its listener
// exports.
func notable(s *Socket) bool { return s.State == Connected && (s.Drops > 0 || s.ReceiveQueue > 0) }

// addPeer adds a UDP socket with a peer to the listener on its address, whose service
// made it: what the kernel drops for the one is lost to the other as well.
func (t *Table) addPeer(p *peer) {
	l := taker(t.on(p.protocol, p.local.Port()), &Socket{Protocol: p.protocol, Local: p.local, Interface: p.device})
	if l == nil {
		return
	}
	l.ReceiveQueue += uint64(p.receiveQueue)
	l.Drops += uint64(p.Drops)
	if p.Drops > 0 {
		l.Peers = append(l.Peers, p.Member)
	}
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

// role is what a socket of a read of [Listening] is.
type role uint8

const (
	noListener  role = iota // it has a peer
	young                   // UDP that may be gone in a moment
	ageless                 // UDP of which it is not known whether it is young
	mayBeClient             // a listener that may be a client
	service                 // a listener
)

// privilegedPorts is the first port that any program may bind to (ip(7)).
const privilegedPorts = 1024

// roleOf is the one notion of a listener: a TCP socket that listens, or a UDP
// socket without a peer on a privileged port, on a multicast address, on a port
// that a rule names, or one that has been there for a while. Of the last kind, one on an ephemeral
// port may be a client: neither sendto(2) without bind(2) nor bind(2) to port 0
// leaves another trace (ip(7), udp(7)).
func (c *Criteria) roleOf(s *Socket) role {
	if s.State == Listen {
		return service
	}
	port := s.Local.Port()
	if s.State != Unconnected || port == 0 {
		return noListener
	}
	age := AgeUnknown
	if c.Aged != nil {
		age = c.Aged(s, !c.Ephemeral.Contains(port)) // it must see every socket
	}
	switch {
	case port < privilegedPorts, s.Local.Addr().IsMulticast(), c.Named != nil && c.Named(s):
		return service
	case c.Aged == nil, age == AgeOld && c.Ephemeral.Contains(port):
		return mayBeClient
	case age == AgeOld:
		return service
	case age == AgeYoung:
		return young
	default:
		return ageless
	}
}

// maxListeners bounds the memory of a table: so many listeners of each protocol
// are read, whatever the limit on those that are exported.
const maxListeners = 1 << 15

// gathering puts the sockets of each listener together.
type gathering struct {
	index     map[ListenerID]int
	listeners []Listener
	count     [numProtocols]int
}

func newGathering() *gathering { return &gathering{index: map[ListenerID]int{}} }

// add returns false when the socket is beyond maxListeners.
func (g *gathering) add(s *Socket, criteria *Criteria, mayBeClient bool) bool {
	id := ListenerID{criteria.Netns, s.Protocol, s.Local.Addr(), s.Local.Port(), s.Interface}
	at, ok := g.index[id]
	if !ok {
		if g.count[s.Protocol] == maxListeners {
			return false
		}
		g.count[s.Protocol]++
		at = len(g.listeners)
		g.index[id] = at
		g.listeners = append(g.listeners, Listener{
			ListenerID:  id,
			Scope:       ScopeOf(id.Address),
			Ephemeral:   criteria.Ephemeral.Contains(id.Port),
			MayBeClient: mayBeClient,
			Known:       s.Known,
		})
	}
	g.listeners[at].add(s)
	return true
}

func (l *Listener) add(s *Socket) {
	if s.Protocol == TCP && s.Known.Has(KnowsQueues|KnowsAcceptQueueLimit) {
		l.addQueue(AcceptQueue{s.AcceptQueue, s.AcceptQueueLimit})
	}
	l.Transparent = l.Transparent || s.Transparent
	l.Sockets++
	l.Known &= s.Known
	l.AcceptQueue += uint64(s.AcceptQueue)
	l.AcceptQueueLimit += uint64(s.AcceptQueueLimit)
	l.ReceiveQueue += uint64(s.ReceiveQueue)
	l.Drops += uint64(s.Drops)
	l.Members = append(l.Members, MemberOf(s))
	if l.Address == netip.IPv6Unspecified() && !s.V6Only {
		l.DualStack = true
	}
}

// MemberOf returns what identifies a socket and its owner.
func MemberOf(s *Socket) Member { return Member{s.Inode, s.Cookie, s.CgroupID, s.UID, s.Drops, s.PID} }

func (l *Listener) addQueue(q AcceptQueue) {
	if q.isFull() {
		l.Full++
	}
	if l.Sockets == 0 || q.fuller(l.Worst) {
		l.Worst = q
	}
}

func (g *gathering) sorted() []Listener {
	slices.SortFunc(g.listeners, func(a, b Listener) int { return a.Compare(b.ListenerID) })
	return g.listeners
}

// cut counts a listening socket that was not read.
func (t *Table) cut(s *Socket) {
	t.Unread[s.Protocol]++
	if s.Protocol != TCP {
		return
	}
	if t.unreadPorts == nil {
		t.unreadPorts = map[uint16]bool{}
	}
	t.unreadPorts[s.Local.Port()] = true
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
		if l.Transparent {
			t.transparent = append(t.transparent, i)
		}
	}
}

// Acceptor returns the index of the listener that takes connections to the
// local end of s, or -1 if there is none. A connection that a firewall diverted
// (TPROXY) has an end of another host, and its listener another port: what shows
// it is IP_TRANSPARENT, which it has from that listener.
func (t *Table) Acceptor(s *Socket) int {
	at := t.onPort(s)
	if len(t.transparent) == 0 || at >= 0 && (!s.Transparent || t.Listeners[at].Transparent) {
		return at
	}
	if diverted := t.diverted(s); diverted >= 0 {
		return diverted
	}
	return at
}

// diverted returns the index of the one transparent listener that may have
// accepted a connection, or -1. Rows in TIME_WAIT and SYN_RECV have no options:
// on a port that nothing else explains they are taken for diverted ones.
func (t *Table) diverted(s *Socket) int {
	bare := (s.State == TimeWait || s.State == SynRecv) && !t.criteria.Ephemeral.Contains(s.Local.Port())
	if t.isOutbound(s) || !s.Transparent && !bare {
		return -1
	}
	found, several := -1, false
	for _, at := range t.transparent {
		l := &t.Listeners[at]
		if l.score(s) < 0 || s.CgroupID != 0 && l.Members[0].CgroupID != s.CgroupID {
			continue
		}
		several = several || found >= 0
		found = at
	}
	if several {
		return -1
	}
	return found
}

// isOutbound reports whether a connection was made from here, where no listener on
// its port says otherwise. A transparent client has the port of another host, so
// only the remote port counts.
func (t *Table) isOutbound(s *Socket) bool {
	local, remote := s.Local.Port(), s.Remote.Port()
	ephemeral := t.criteria.Ephemeral
	towardsService := !ephemeral.Contains(remote) && (remote < local || isReserved(local))
	if s.Transparent {
		return s.BindNoPort || towardsService
	}
	return ephemeral.Contains(local) || towardsService
}

// onPort returns the index of the listener on the port of the local end of s, or
// -1. It chooses as the kernel does
// (inet_lookup_listener in net/ipv4/inet_hashtables.c): an exact address
// before the wildcard; then a socket bound to the device before one that is
// not; then, on the wildcard, one of the same family.
func (t *Table) onPort(s *Socket) int {
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
