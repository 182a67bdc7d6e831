package socket

// This file holds the inner loop of a scrape: count runs once for each socket
// of the host, a million times on a large one. It must not allocate.

import (
	"errors"
	"iter"
	"slices"
)

// Flow is what the connections of one service have in common.
type Flow struct {
	States StateCounts
	// ReceiveQueue and SendQueue are the bytes waiting in these sockets.
	ReceiveQueue, SendQueue uint64
	// SynRetransmitting counts the sockets in SYN_SENT that have sent their SYN
	// more than once: nobody answers.
	SynRetransmitting uint32
	// QueuesUnknown says that the source cannot tell the bytes of some of them.
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
	// InboundFolded has the sockets whose listener the table folded.
	InboundFolded Flow
	// Outbound has the connections made from here, by remote port.
	Outbound []PortFlow
	// Orphaned has the sockets whose local port is a service's, but no listener
	// is there any more, by local port.
	Orphaned []PortFlow
	// Malformed counts the rows that were passed over.
	Malformed int
}

// ReadConnections folds the sockets of a read of [Connections]. It returns the
// first error that is not [ErrMalformed]; beside an [ErrInterrupted] it returns
// what was read.
func ReadConnections(sockets iter.Seq2[*Socket, error], table *Table) (*Traffic, error) {
	t := &Traffic{Inbound: make([]Flow, len(table.Listeners))}
	outbound, orphaned := newPortFlows(), newPortFlows()
	err := each(sockets, &t.Malformed, func(s *Socket) {
		t.Totals[s.Protocol][s.Family][s.State]++
		t.flowOf(s, table, outbound, orphaned).count(s)
	})
	if err != nil && !errors.Is(err, ErrInterrupted) {
		return nil, err
	}
	t.Outbound, t.Orphaned = outbound.sorted(), orphaned.sorted()
	for i := range t.Outbound {
		t.Outbound[i].Ephemeral = table.host.Ephemeral.Contains(t.Outbound[i].Port)
	}
	return t, err
}

// flowOf decides whose connection a socket is. A socket in SYN_SENT asked for
// its connection itself, whatever listens on its port. A socket whose local
// end belongs to a listener is inbound. Of the others, one on an ephemeral
// local port is outbound. So is one on a service's port towards a remote port
// that is not ephemeral, if the remote port is the smaller, as rsh-like clients
// and explicit binds make them, or the local one is reserved (bindresvport(3)),
// as that of an NFS mount. The rest are leftovers of a service that is gone.
func (t *Traffic) flowOf(s *Socket, table *Table, outbound, orphaned *portFlows) *Flow {
	local, remote := s.Local.Port(), s.Remote.Port()
	if s.State == SynSent {
		return outbound.of(remote)
	}
	if at := table.Acceptor(s); at >= 0 {
		return &t.Inbound[at]
	}
	ephemeral := table.host.Ephemeral
	switch {
	case table.foldedPorts[local]:
		return &t.InboundFolded
	case ephemeral.Contains(local), !ephemeral.Contains(remote) && (remote < local || isReserved(local)):
		return outbound.of(remote)
	default:
		return orphaned.of(local)
	}
}

// isReserved reports whether a port is of those that bindresvport(3) and the
// kernel's RPC client take for clients.
func isReserved(port uint16) bool { return 512 <= port && port < 1024 }

func (f *Flow) count(s *Socket) {
	f.States[s.State]++
	f.ReceiveQueue += uint64(s.ReceiveQueue)
	f.SendQueue += uint64(s.SendQueue)
	f.QueuesUnknown = f.QueuesUnknown || !s.Known.Has(KnowsQueues)
	if s.State == SynSent && s.Retransmits > 0 {
		f.SynRetransmitting++
	}
}

// Add adds the sockets and bytes of g to f.
func (f *Flow) Add(g Flow) {
	for state, n := range g.States {
		f.States[state] += n
	}
	f.ReceiveQueue += g.ReceiveQueue
	f.SendQueue += g.SendQueue
	f.QueuesUnknown = f.QueuesUnknown || g.QueuesUnknown
	f.SynRetransmitting += g.SynRetransmitting
}

// Sockets returns how many sockets the flow has.
func (f *Flow) Sockets() int {
	n := 0
	for _, count := range f.States {
		n += int(count)
	}
	return n
}

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

// Top returns the n busiest flows, in the order of their ports, and the sum of
// the rest with the number of flows in it. Equally busy flows rank by port, so
// that the choice is the same on every run. An ephemeral port with a single
// socket is a passing client's, and always in the rest.
func Top(flows []PortFlow, n int) (top []PortFlow, rest Flow, folded int) {
	ranked := make([]PortFlow, 0, len(flows))
	for _, f := range flows {
		if f.Ephemeral && f.Sockets() < 2 {
			rest.Add(f.Flow)
			folded++
			continue
		}
		ranked = append(ranked, f)
	}
	slices.SortStableFunc(ranked, func(a, b PortFlow) int { return b.Sockets() - a.Sockets() })
	if len(ranked) > n {
		for _, f := range ranked[n:] {
			rest.Add(f.Flow)
		}
		folded += len(ranked) - n
		ranked = ranked[:n]
	}
	slices.SortFunc(ranked, func(a, b PortFlow) int { return int(a.Port) - int(b.Port) })
	return ranked, rest, folded
}
