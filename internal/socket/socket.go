// Package socket says what a socket is and folds many of them into a bounded
// summary. It performs no I/O: sources yield [Socket] values, [ReadListening]
// and [ReadConnections] fold them.
package socket

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/netip"
	"strconv"
)

// Socket is one row of the kernel's socket table.
//
// A fact that not every source can read is valid only when [Socket.Known]
// has its bit.
type Socket struct {
	Protocol Protocol
	Family   Family
	State    State
	Known    Facts
	// Local and Remote are unmapped: ::ffff:192.0.2.1 appears as 192.0.2.1,
	// while Family still says IPv6. Remote is the zero port and an unspecified
	// address for a socket that has no peer.
	Local, Remote netip.AddrPort
	// Interface is the name of the device the socket is bound to
	// (SO_BINDTODEVICE, or the scope of a link-local address), else empty.
	Interface string

	// ReceiveQueue and SendQueue are bytes waiting in the socket (fact
	// KnowsQueues). They are zero for a LISTEN socket, where the kernel's fields
	// mean something else.
	ReceiveQueue, SendQueue uint32
	// Retransmits counts how often the segment that is under way, the SYN in
	// SYN_SENT, the SYN-ACK in SYN_RECV, was sent again without an answer (fact
	// KnowsQueues). A tail loss probe is not counted.
	Retransmits uint8
	// ZeroWindow says that the socket has something to send, and asks the peer from
	// time to time whether it has room again (fact KnowsQueues).
	ZeroWindow bool
	// AcceptQueue is the number of connections waiting for accept(2), of a
	// LISTEN socket only (fact KnowsQueues).
	AcceptQueue uint32
	// AcceptQueueLimit is the backlog in force after net.core.somaxconn, of a
	// LISTEN socket only (fact KnowsAcceptQueueLimit).
	AcceptQueueLimit uint32
	// Drops counts what this very socket dropped: connections of a LISTEN
	// socket, datagrams of a UDP socket (fact KnowsDrops).
	Drops uint32
	// V6Only is IPV6_V6ONLY of a LISTEN or UDP socket (fact KnowsV6Only).
	V6Only bool
	// Transparent is IP_TRANSPARENT: the socket may have an address that is not of
	// this host. An accepted socket has it from its listener. False where the source
	// does not provide it.
	Transparent bool
	// BindNoPort is IP_BIND_ADDRESS_NO_PORT, which only a client has a use for.
	BindNoPort bool
	// UID owns the socket (fact KnowsUID).
	UID uint32
	// PID is a process that holds the socket; zero if the source does not provide it,
	// as on Linux, where internal/owner finds it.
	PID int32
	// Inode is the socket's inode on sockfs; zero when it has none, as in
	// TIME_WAIT and SYN_RECV.
	Inode uint64
	// Info is what the kernel knows of the connection, valid as long as the Socket is;
	// nil where [WithInfo] was not asked for, the source does not provide it, or the
	// socket has none, as in TIME_WAIT and SYN_RECV.
	Info *TCPInfo
	// Cookie identifies the socket for the life of the kernel (sock_diag(7));
	// zero if the source does not provide it.
	Cookie uint64
	// CgroupID is the id of the cgroup v2 the socket was made in, of a connection
	// that was accepted that of its listener; zero when the source does not provide
	// it, and in TIME_WAIT and SYN_RECV.
	CgroupID uint64
}

// IndexName returns the name of a device of which only the index is known, as ip(8)
// writes it: if<index>.
func IndexName(index uint32) string { return "if" + strconv.FormatUint(uint64(index), 10) }

// ID identifies a socket across scrapes: its cookie, else its inode, else zero.
func (s *Socket) ID() uint64 {
	return cmp.Or(s.Cookie, s.Inode)
}

// Facts is a set of the optional facts of a [Socket].
type Facts uint8

// The facts that only some sources can read.
const (
	KnowsQueues Facts = 1 << iota
	KnowsAcceptQueueLimit
	KnowsDrops
	KnowsV6Only
	KnowsUID
)

// Has reports whether every fact of f is in the set.
func (known Facts) Has(f Facts) bool { return known&f == f }

// Protocol is a transport protocol.
type Protocol uint8

// The transport protocols that are read.
const (
	TCP Protocol = iota
	UDP
	UDPLite
	numProtocols
)

// String returns the protocol as it stands in labels: tcp, udp, udplite.
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case UDPLite:
		return "udplite"
	case Raw:
		return "raw"
	case Packet:
		return "packet"
	case Vsock:
		return "vsock"
	case Unix:
		return "unix"
	default:
		return "unknown"
	}
}

// States returns the states that a socket of the protocol can be in.
func (p Protocol) States() []State {
	if p == TCP {
		return []State{Established, SynSent, SynRecv, FinWait1, FinWait2, TimeWait, Close, CloseWait, LastAck, Listen, Closing}
	}
	return []State{Unconnected, Connected}
}

// Protocols returns every protocol that is read.
func Protocols() []Protocol { return []Protocol{TCP, UDP, UDPLite} }

// Family is an address family.
type Family uint8

// The address families that are read.
const (
	IPv4 Family = iota
	IPv6
	numFamilies
)

// String returns the family as it stands in labels: ipv4, ipv6.
func (f Family) String() string {
	if f == IPv6 {
		return "ipv6"
	}
	return "ipv4"
}

// Families returns every address family that is read.
func Families() []Family { return []Family{IPv4, IPv6} }

// State is the state of a socket. TCP states have the numbers of Linux
// (include/net/tcp_states.h), so that a [StateSet] is the kernel's own filter
// mask; the two states of UDP sockets lie above them.
type State uint8

// The states.
const (
	Established State = iota + 1
	SynSent
	SynRecv // TCP_NEW_SYN_RECV included
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	newSynRecv  // TCP_NEW_SYN_RECV, a request socket; see KernelState
	_           // TCP_BOUND_INACTIVE, in no table that is read
	Unconnected // a UDP socket without a peer
	Connected   // a UDP socket with a peer
	numStates
)

// String returns the state as it stands in labels: the names of node_exporter.
func (s State) String() string {
	switch s {
	case Established:
		return "established"
	case SynSent:
		return "syn_sent"
	case SynRecv:
		return "syn_recv"
	case FinWait1:
		return "fin_wait1"
	case FinWait2:
		return "fin_wait2"
	case TimeWait:
		return "time_wait"
	case Close:
		return "close"
	case CloseWait:
		return "close_wait"
	case LastAck:
		return "last_ack"
	case Listen:
		return "listen"
	case Closing:
		return "closing"
	case Unconnected:
		return "unconnected"
	case Connected:
		return "connected"
	default:
		return "unknown"
	}
}

// KernelState returns the state that Linux gives a socket the number of, or
// zero for a number that is not known. The kernel has TCP_CLOSE for a UDP
// socket without a peer, and TCP_ESTABLISHED for one with a peer.
func KernelState(p Protocol, number uint8) State {
	state := State(number)
	switch {
	case number == 0 || number > uint8(newSynRecv):
		return 0
	case p != TCP && state == Close:
		return Unconnected
	case p != TCP:
		return Connected
	case state == newSynRecv:
		return SynRecv
	default:
		return state
	}
}

// StateSet is a set of states, one bit each: the filter of a read.
type StateSet uint32

// The two reads of a scrape. From sock_diag, Listening is cheap, and Connections
// makes the kernel walk its whole established hash.
const (
	Listening   StateSet = 1<<Listen | UDPStates
	Connections StateSet = TCPStates &^ (1 << Listen)

	TCPStates StateSet = 1<<Established | 1<<SynSent | 1<<SynRecv | 1<<FinWait1 | 1<<FinWait2 | 1<<TimeWait |
		1<<Close | 1<<CloseWait | 1<<LastAck | 1<<Listen | 1<<Closing
	UDPStates StateSet = 1<<Unconnected | 1<<Connected
)

// WithInfo in a set asks for [Socket.Info] of TCP sockets that do not listen, which
// costs the kernel more. Sources without it ignore it.
const WithInfo StateSet = 1 << 31

// Has reports whether the state is in the set.
func (set StateSet) Has(s State) bool { return set&(1<<s) != 0 }

// A Source reads the sockets of one network namespace.
//
// Sockets yields every socket that is in one of the wanted states. After an
// error that is [ErrMalformed], which is about one row, or [ErrInterrupted],
// the read may go on; any other error is the last thing yielded. The socket yielded is valid until the next
// one. The read ends early when the context does, with its error.
type Source interface {
	Sockets(ctx context.Context, want StateSet) iter.Seq2[*Socket, error]
}

// ErrInterrupted says that the table changed under the read in a way that may
// have hidden or repeated rows (NLM_F_DUMP_INTR, netlink(7)): read again.
var ErrInterrupted = errors.New("socket table changed during the read")

// ErrIncomplete says that a part of the table, maybe all of a protocol, was lost
// on the way: read again.
var ErrIncomplete = errors.New("part of the socket table was lost")

// ErrMalformed says that one row could not be parsed and was discarded.
var ErrMalformed = errors.New("malformed row")
