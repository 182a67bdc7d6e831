package sockdiag

import (
	"fmt"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Numbers of include/uapi/linux/packet_diag.h.
const (
	familyPacket = 17

	packetShowInfo   = 0x01
	packetShowFilter = 0x20

	packetDiagMsgLen = 16

	attrPacketInfo   = 0
	attrPacketUID    = 5
	attrPacketFilter = 7
)

var errPacketRow = fmt.Errorf("%w: not a struct packet_diag_msg", socket.ErrMalformed)

// packetRequest asks for all packet sockets.
type packetRequest struct{}

// appendTo appends the request as a netlink message, struct packet_diag_req.
func (packetRequest) appendTo(b []byte, seq uint32) []byte {
	b = appendHeader(b, sockDiagByFamily, 20, seq)
	b = append(b, familyPacket, 0, 0, 0)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint32(b, packetShowInfo|packetShowFilter)
	return append(b, make([]byte, 8)...)
}

// portlessRow is one socket without a port, before its device has a name.
type portlessRow struct {
	socket.Listener
	ifindex uint32
}

// decodePacket reads one struct packet_diag_msg with its attributes. The kernel
// answers with an empty filter to those who lack CAP_NET_ADMIN, and with none where
// there is none (sock_diag_put_filterinfo in net/core/sock_diag.c).
func decodePacket(b []byte) (portlessRow, error) {
	if len(b) < packetDiagMsgLen || b[0] != familyPacket {
		return portlessRow{}, errPacketRow
	}
	var r portlessRow
	r.Protocol, r.Port, r.PacketType = socket.Packet, native.Uint16(b[2:]), socket.KernelPacketType(b[1])
	r.Sockets, r.Filter = 1, socket.NoFilter
	m := socket.Member{Inode: uint64(native.Uint32(b[4:])), Cookie: cookieOf(b[8:])}
	b = b[packetDiagMsgLen:]
	for len(b) >= attrHeaderLen {
		kind, value, rest, ok := nextAttribute(b)
		if !ok {
			return portlessRow{}, errPacketRow
		}
		switch {
		case kind == attrPacketInfo && len(value) >= 4:
			r.ifindex = native.Uint32(value)
		case kind == attrPacketUID && len(value) >= 4:
			m.UID, r.Known = native.Uint32(value), socket.KnowsUID
		case kind == attrPacketFilter && len(value) > 0:
			r.Filter = socket.HasFilter
		case kind == attrPacketFilter:
			r.Filter = socket.FilterUnknown
		}
		b = rest
	}
	r.Members = []socket.Member{m}
	return r, nil
}
