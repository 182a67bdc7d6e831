package socket

import (
	"cmp"
	"slices"
	"strconv"
)

// What takes packets without a port. Rules name these like protocols; they have no
// place in [Totals].
const (
	Raw    Protocol = numProtocols + iota // packets of an IP protocol, raw(7)
	Packet                                // frames of a device, packet(7)
)

// Portless returns what takes packets without a port.
func Portless() []Protocol { return []Protocol{Raw, Packet} }

// Judged returns everything that rules can name: the protocols with ports, and what
// has none.
func Judged() []Protocol { return append(Protocols(), Portless()...) }

// IsPortless reports whether the listener has no port: its Port is then the number
// of an IP protocol, or an EtherType.
func (l *Listener) IsPortless() bool { return slices.Contains(Portless(), l.Protocol) }

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

// PortlessTable is what takes packets without a port at one moment.
type PortlessTable struct {
	Listeners []Listener // sorted
	// Raw and Packets say which could be read.
	Raw, Packets bool
}

// FoldPortless puts sockets together that differ in nothing but their members, and
// sorts them.
func FoldPortless(sockets []Listener) []Listener {
	order := func(a, b Listener) int {
		return cmp.Or(a.Compare(b.ListenerID), cmp.Compare(a.PacketType, b.PacketType), cmp.Compare(a.Filter, b.Filter))
	}
	slices.SortStableFunc(sockets, order)
	var folded []Listener
	for _, s := range sockets {
		if last := len(folded) - 1; last >= 0 && order(folded[last], s) == 0 {
			folded[last].Sockets += s.Sockets
			folded[last].Members = append(folded[last].Members, s.Members...)
			continue
		}
		folded = append(folded, s)
	}
	return folded
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
