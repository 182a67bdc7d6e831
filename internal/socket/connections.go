package socket

// This file holds the inner loop of a scrape: count runs once for each socket
// of the host, a million times on a large one. It must not allocate.

import (
	"errors"
	"iter"
	"net/netip"
	"slices"
)

// Flow is what the connections of one service have in common.
type Flow struct {
	States StateCounts
	// ReceiveQueue and SendQueue are the bytes waiting in these sockets.
	ReceiveQueue, SendQueue uint64
	// SynRetransmitting counts the sockets in SYN_SENT that have sent their SYN
	// more than once: no answer. SynAckRetransmitting is the same of SYN_RECV and the
	// SYN-ACK, and Retransmitting of all other states and data.
	SynRetransmitting, SynAckRetransmitting, Retransmitting uint32
	// ZeroWindow counts the sockets that wait for room at the peer.
	ZeroWindow uint32
	// QueuesUnknown says that the source does not provide the bytes of some of them.
	QueuesUnknown bool
}

// PortFlow is the flow of one port.
type PortFlow struct {
	Port uint16
	// Ephemeral says that the port is one that the kernel gives to clients.
	Ephemeral bool
	Flow
}

// Traffic holds the TCP sockets of one network namespace that are not
// listening, by the end that names the service. Its size is bounded by the
// number of listeners and of ports, whatever the number of sockets.
type Traffic struct {
	Totals Totals // every TCP socket but LISTEN
	// Inbound has a flow for each listener of the table, in its order: the
	// sockets whose local end belongs to it.
	Inbound []Flow
	// InboundUnread has the sockets whose listener was not read.
	InboundUnread Flow
	// Outbound has the connections made from here, by remote port.
	Outbound []PortFlow
	// Held and Orphaned have the sockets whose local port is a service's, but no
	// listener is there (any more), by local port. A process holds those of Held:
	// a server that listens for one client only, or the data of FTP. Those of
	// Orphaned a service left behind.
	Held, Orphaned []PortFlow
	// EphemeralPorts is how many ephemeral ports a client can get, and
	// EphemeralUsed how many of them sockets of each protocol have as their local
	// port, those of the table included.
	EphemeralPorts int
	EphemeralUsed  [numProtocols]int
	// Destinations has, by remote end, the watched destinations that are in use
	// and those that use at least one in a thousand of the ephemeral ports.
	// Ports of one without an exact counter may be too low, by
	// DestinationsUndercounted at most; see the limits in destinations.go.
	Destinations             []DestinationUse
	DestinationsUndercounted int
	// Unanswered has, by remote end, the sockets in SYN_SENT that have sent their
	// SYN more than once. They are counted as destinations are, none of them watched.
	Unanswered []Unanswered
	// Cgroups has the sockets by the cgroup that they were made in. Those without one
	// are in none of them.
	Cgroups []CgroupFlow
	// Malformed counts the discarded rows.
	Malformed int
}

// Unanswered says how many sockets wait for one remote end that does not answer.
type Unanswered struct {
	Remote  netip.AddrPort
	Sockets int
}

// Observer is shown each connection with [Socket.Info]: the index of its listener, or
// -1, and without one whether it was made from here.
type Observer func(s *Socket, listener int, outbound bool)

// ReadConnections folds the sockets of a read of [Connections], and counts the
// watched destinations exactly. It returns the first error that is not
// [ErrMalformed]; beside an [ErrInterrupted] it returns what was read.
func ReadConnections(sockets iter.Seq2[*Socket, error], table *Table, watched []Watched) (*Traffic, error) {
	return ObserveConnections(sockets, table, watched, nil)
}

// ObserveConnections is ReadConnections, and shows what it reads to an observer.
func ObserveConnections(sockets iter.Seq2[*Socket, error], table *Table, watched []Watched, observe Observer) (*Traffic, error) {
	f := &folder{
		observe:      observe,
		Traffic:      &Traffic{Inbound: make([]Flow, len(table.Listeners))},
		table:        table,
		usable:       table.criteria.Ephemeral.Usable(),
		outbound:     newPortFlows(),
		held:         newPortFlows(),
		orphaned:     newPortFlows(),
		destinations: newDestinations(newWatchedSet(watched)),
		unanswered:   newDestinations(newWatchedSet(nil)),
		cgroups:      newCgroupFlows(),
		localPorts:   table.LocalPorts,
	}
	err := each(sockets, &f.Malformed, f.add)
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	return f.finish(), err
}

// folder folds sockets onto the listeners of a table.
type folder struct {
	*Traffic
	observe                  Observer
	table                    *Table
	usable                   *PortSet // what a client can get
	outbound, held, orphaned *portFlows
	destinations             *destinations
	unanswered               *destinations // by remote end
	cgroups                  *cgroupFlows
	localPorts               [numProtocols]PortSet
}

func (f *folder) add(s *Socket) {
	f.Totals[s.Protocol][s.Family][s.State]++
	f.localPorts[s.Protocol].Add(s.Local.Port())
	flow, listener, outbound := f.flowOf(s)
	flow.count(s)
	if s.Info != nil && f.observe != nil {
		f.observe(s, listener, outbound)
	}
	if outbound && f.usable.Has(s.Local.Port()) {
		f.destinations.count(s)
	}
	if s.CgroupID != 0 {
		f.cgroups.count(s, outbound)
	}
	if s.isUnanswered() {
		f.unanswered.countRemote(s)
	}
}

func (f *folder) finish() *Traffic {
	f.Outbound, f.Held, f.Orphaned = f.outbound.sorted(), f.held.sorted(), f.orphaned.sorted()
	for i := range f.Outbound {
		f.Outbound[i].Ephemeral = f.table.criteria.Ephemeral.Contains(f.Outbound[i].Port)
	}
	f.Cgroups = f.cgroups.sorted(f.table.criteria.Ephemeral)
	f.EphemeralPorts = f.usable.Len()
	for p := range f.localPorts {
		f.EphemeralUsed[p] = f.localPorts[p].in(f.usable)
	}
	f.Destinations = f.destinations.atLeast(max(1, f.EphemeralPorts/1000))
	f.DestinationsUndercounted = f.destinations.undercounted
	for _, d := range f.unanswered.atLeast(1) {
		f.Unanswered = append(f.Unanswered, Unanswered{d.Remote, d.Ports})
	}
	return f.Traffic
}

// flowOf decides whose connection a socket is. A socket in SYN_SENT asked for
// its connection itself, whatever listens on its port. A socket whose local
// end belongs to a listener is inbound. Of the others, one on an ephemeral
// local port is outbound. So is one on a service's port towards a remote port
// that is not ephemeral, if the remote port is the smaller, as rsh-like clients
// and explicit binds make them, or the local one is reserved (bindresvport(3)),
// as that of an NFS mount. The rest have lost their listener, or never had one for
// long: where no process holds them they are leftovers of a service that is gone.
func (f *folder) flowOf(s *Socket) (flow *Flow, listener int, outbound bool) {
	local, remote := s.Local.Port(), s.Remote.Port()
	if s.State == SynSent {
		return f.outbound.of(remote), -1, true
	}
	if at := f.table.Acceptor(s); at >= 0 {
		return &f.Inbound[at], at, false
	}
	switch {
	case f.table.unreadPorts[local]:
		return &f.InboundUnread, -1, false
	case f.table.isOutbound(s):
		return f.outbound.of(remote), -1, true
	case s.isHeld():
		return f.held.of(local), -1, false
	default:
		return f.orphaned.of(local), -1, false
	}
}

// isHeld reports whether a process holds the socket: only then it has an inode.
func (s *Socket) isHeld() bool { return s.Inode != 0 || s.PID != 0 }

// isReserved reports whether a port is of those that bindresvport(3) and the
// kernel's RPC client take for clients.
func isReserved(port uint16) bool { return 512 <= port && port < 1024 }

func (f *Flow) count(s *Socket) {
	f.States[s.State]++
	f.ReceiveQueue += uint64(s.ReceiveQueue)
	f.SendQueue += uint64(s.SendQueue)
	f.QueuesUnknown = f.QueuesUnknown || !s.Known.Has(KnowsQueues)
	if s.Retransmits > 0 || s.ZeroWindow {
		f.countStalled(s)
	}
}

// countStalled counts a socket whose peer does not answer, or has no room. The kernel
// has one timer for both.
func (f *Flow) countStalled(s *Socket) {
	switch {
	case s.ZeroWindow:
		f.ZeroWindow++
	case s.State == SynSent:
		f.SynRetransmitting++
	case s.State == SynRecv:
		f.SynAckRetransmitting++
	default:
		f.Retransmitting++
	}
}

// isUnanswered reports whether a socket has sent its SYN more than once.
func (s *Socket) isUnanswered() bool { return s.State == SynSent && s.Retransmits > 0 }

// Add adds the sockets and bytes of g to f.
func (f *Flow) Add(g Flow) {
	f.States.Add(g.States)
	f.ReceiveQueue += g.ReceiveQueue
	f.SendQueue += g.SendQueue
	f.QueuesUnknown = f.QueuesUnknown || g.QueuesUnknown
	f.SynRetransmitting += g.SynRetransmitting
	f.SynAckRetransmitting += g.SynAckRetransmitting
	f.Retransmitting += g.Retransmitting
	f.ZeroWindow += g.ZeroWindow
}

// Sockets returns how many sockets the flow has.
func (f *Flow) Sockets() int { return f.States.Sum() }

// portFlows holds a flow for each port that was seen.
type portFlows struct {
	index map[uint16]int
	flows []PortFlow
}

func newPortFlows() *portFlows { return &portFlows{index: map[uint16]int{}} }

// of returns the flow of a port, valid until the next call.
func (p *portFlows) of(port uint16) *Flow {
	at, ok := p.index[port]
	if !ok {
		at = len(p.flows)
		p.index[port] = at
		p.flows = append(p.flows, PortFlow{Port: port})
	}
	return &p.flows[at].Flow
}

func (p *portFlows) sorted() []PortFlow {
	slices.SortFunc(p.flows, func(a, b PortFlow) int { return int(a.Port) - int(b.Port) })
	return p.flows
}

// Top returns the n busiest flows as the ranking sees them, in the order of
// their ports, and the sum of the rest with the number of flows in it. A new
// ephemeral port with a single socket is a passing client's, and in the rest.
func Top(flows []PortFlow, n int, ranking *Ranking[uint16]) (top []PortFlow, rest Flow, folded int) {
	return topBy(flows, n, ranking, func(f *PortFlow) Candidate[uint16] {
		c := Candidate[uint16]{Key: f.Port, Weight: f.Sockets()}
		if f.Ephemeral {
			c.Floor = 2
		}
		return c
	})
}

// TopOf is Top among the flows that have sockets of some kind, by the number of
// these: the port of a dead service need not be a busy one.
func TopOf(flows []PortFlow, count func(*Flow) uint32, n int, ranking *Ranking[uint16]) (top []PortFlow, rest Flow, folded int) {
	having := slices.DeleteFunc(slices.Clone(flows), func(f PortFlow) bool { return count(&f.Flow) == 0 })
	return topBy(having, n, ranking, func(f *PortFlow) Candidate[uint16] {
		return Candidate[uint16]{Key: f.Port, Weight: int(count(&f.Flow))}
	})
}

func topBy(flows []PortFlow, n int, ranking *Ranking[uint16], candidate func(*PortFlow) Candidate[uint16]) (top []PortFlow, rest Flow, folded int) {
	candidates := make([]Candidate[uint16], len(flows))
	for i := range flows {
		candidates[i] = candidate(&flows[i])
	}
	chosen := ranking.Choose(candidates, n)
	for _, f := range flows {
		if chosen[f.Port] {
			top = append(top, f)
			continue
		}
		rest.Add(f.Flow)
		folded++
	}
	return top, rest, folded
}
