package socket

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
)

// What listens without a port of the Internet protocols. Rules name these like
// protocols; they have no place in [Totals].
const (
	Raw    Protocol = numProtocols + iota // packets of an IP protocol, raw(7)
	Packet                                // frames of a device, packet(7)
	Vsock                                 // connections of a virtual machine or its host, vsock(7)
	Unix                                  // connections of this host, by the name of a file or an abstract one, unix(7)
)

// Portless returns what listens without a port of the Internet protocols, but for
// [Unix], of which every host has much, and which is read apart.
func Portless() []Protocol { return []Protocol{Raw, Packet, Vsock} }

// Judged returns everything that rules can name: the protocols with ports, and what
// has none.
func Judged() []Protocol { return append(append(Protocols(), Portless()...), Unix) }

// HasPorts reports whether the protocol is one with ports of the Internet protocols.
func (p Protocol) HasPorts() bool { return p < numProtocols }

// IsPortless reports whether the listener has no port of the Internet protocols: its
// Port is then the number of an IP protocol, an EtherType, or the port of a vsock
// where that is below 65536, else 0.
func (l *Listener) IsPortless() bool { return !l.Protocol.HasPorts() }

// Filter says whether a packet socket has a classic BPF filter (SO_ATTACH_FILTER,
// socket(7)). An eBPF filter (SO_ATTACH_BPF) is in no table of the kernel.
type Filter uint8

// The answers.
const (
	FilterUnknown Filter = iota // requires CAP_NET_ADMIN, and sock_diag
	NoFilter
	HasFilter
)

// String returns the answer as it stands in labels.
func (f Filter) String() string {
	switch f {
	case NoFilter:
		return "false"
	case HasFilter:
		return "true"
	default:
		return "unknown"
	}
}

// Filters returns every answer.
func Filters() []Filter { return []Filter{FilterUnknown, NoFilter, HasFilter} }

// PacketType is the type of a packet socket (packet(7)).
type PacketType uint8

// The types; the zero type is that of what is no packet socket.
const (
	PacketDgram PacketType = iota + 1 // without link-layer headers
	PacketRaw                         // with them
	PacketOther
)

// String returns the type as it stands in labels.
func (t PacketType) String() string {
	switch t {
	case PacketDgram:
		return "dgram"
	case PacketRaw:
		return "raw"
	case PacketOther:
		return "other"
	default:
		return ""
	}
}

// PacketTypes returns every type of packet sockets.
func PacketTypes() []PacketType { return []PacketType{PacketDgram, PacketRaw, PacketOther} }

// KernelPacketType returns the type of the number of a socket's type
// (include/linux/net.h).
func KernelPacketType(n uint8) PacketType {
	switch n {
	case 2:
		return PacketDgram
	case 3:
		return PacketRaw
	default:
		return PacketOther
	}
}

// VsockAddr is an address of the family AF_VSOCK (vsock(7)).
type VsockAddr struct{ CID, Port uint32 }

// The context identifiers of include/uapi/linux/vm_sockets.h that are no machine.
const (
	vsockAnyCID   = 1<<32 - 1
	vsockLocalCID = 1
)

// Scope returns who can reach a listener on the address: this machine alone, or its
// host or guests as well.
func (a VsockAddr) Scope() Scope {
	if a.CID == vsockLocalCID {
		return ScopeLoopback
	}
	return ScopeAny
}

// Context returns the context identifier, or "any", as it stands in labels.
func (a VsockAddr) Context() string {
	if a.CID == vsockAnyCID {
		return "any"
	}
	return strconv.FormatUint(uint64(a.CID), 10)
}

// ParseContext is the reverse of [VsockAddr.Context].
func ParseContext(text string) (cid uint32, err error) {
	if text == "any" {
		return vsockAnyCID, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), err
}

// String returns the address as context:port.
func (a VsockAddr) String() string {
	return a.Context() + ":" + strconv.FormatUint(uint64(a.Port), 10)
}

// SetVsock gives the listener an address.
func (l *Listener) SetVsock(a VsockAddr) {
	l.Protocol, l.Vsock, l.Scope, l.Port = Vsock, a, a.Scope(), 0
	if a.Port < 1<<16 {
		l.Port = uint16(a.Port)
	}
}

// PortlessRead is what was read of one protocol without ports.
type PortlessRead struct {
	Listeners []Listener
	Unread    int // sockets beyond the limit
	Malformed int // rows that could not be parsed
	// FiltersHidden says that the kernel does not show this process the filters of
	// packet sockets, which requires CAP_NET_ADMIN.
	FiltersHidden bool
}

// Add adds the socket of a row, up to a limit, or counts the error of the row.
func (r *PortlessRead) Add(l Listener, err error, limit int) {
	switch {
	case err != nil:
		r.Malformed++
	case len(r.Listeners) >= limit:
		r.Unread++
	default:
		r.Listeners = append(r.Listeners, l)
	}
}

// PortlessTable is what listens without a port at one moment.
type PortlessTable struct {
	Listeners []Listener // sorted
	// Unread has each protocol that was read, with the number of sockets beyond the
	// limit, which are in no Listener.
	Unread    map[Protocol]int
	Malformed int // rows that could not be parsed
	// FiltersHidden is that of [PortlessRead].
	FiltersHidden bool
	// Interrupted are the protocols whose read was interrupted twice.
	Interrupted []Protocol
}

// Put adds the read of a protocol, which is to be folded at the end. The error is
// that of the read; it is returned unless it is an [ErrInterrupted], or
// [errors.ErrUnsupported]: then [PortlessTable.Has] says that nothing was read.
func (t *PortlessTable) Put(p Protocol, r PortlessRead, err error) error {
	if errors.Is(err, ErrInterrupted) {
		t.Interrupted, err = append(t.Interrupted, p), nil
	}
	if errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	if err != nil {
		return err
	}
	if t.Unread == nil {
		t.Unread = map[Protocol]int{}
	}
	t.Unread[p] = r.Unread
	t.Malformed += r.Malformed
	t.FiltersHidden = t.FiltersHidden || r.FiltersHidden
	t.Listeners = append(t.Listeners, r.Listeners...)
	return nil
}

// Has reports whether the protocol was read.
func (t *PortlessTable) Has(p Protocol) bool {
	_, read := t.Unread[p]
	return read
}

// Whole reports whether every socket of the protocol is in the table.
func (t *PortlessTable) Whole(p Protocol) bool {
	return t.Has(p) && t.Unread[p] == 0 && !slices.Contains(t.Interrupted, p)
}

// FoldPortless puts sockets together that differ in nothing but their members, and
// sorts them.
func FoldPortless(sockets []Listener) []Listener {
	order := func(a, b Listener) int {
		return cmp.Or(a.Compare(b.ListenerID), cmp.Compare(a.PacketType, b.PacketType), cmp.Compare(a.Filter, b.Filter),
			cmp.Compare(a.Vsock.CID, b.Vsock.CID), cmp.Compare(a.Vsock.Port, b.Vsock.Port), a.Unix.Compare(b.Unix))
	}
	slices.SortStableFunc(sockets, order)
	var folded []Listener
	for _, s := range sockets {
		if last := len(folded) - 1; last >= 0 && order(folded[last], s) == 0 {
			folded[last].join(&s)
			continue
		}
		folded = append(folded, s)
	}
	return folded
}

// join adds the sockets of another listener.
func (l *Listener) join(other *Listener) {
	l.Sockets += other.Sockets
	l.Known &= other.Known
	l.AcceptQueue += other.AcceptQueue
	l.AcceptQueueLimit += other.AcceptQueueLimit
	l.Full += other.Full
	if other.Worst.fuller(l.Worst) {
		l.Worst = other.Worst
	}
	l.Members = append(l.Members, other.Members...)
}

// IPProtocolName returns the name of an IP protocol of raw sockets as IANA has it,
// or its number.
func IPProtocolName(n uint16) string {
	switch n {
	case 1:
		return "icmp"
	case 2:
		return "igmp"
	case 6:
		return "tcp"
	case 17:
		return "udp"
	case 47:
		return "gre"
	case 50:
		return "esp"
	case 58:
		return "ipv6-icmp"
	case 89:
		return "ospf"
	case 112:
		return "vrrp"
	case 132:
		return "sctp"
	case 255:
		return "raw" // IPPROTO_RAW: to send only
	default:
		return strconv.Itoa(int(n))
	}
}
