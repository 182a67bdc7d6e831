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

// appendPacketRequest appends the request for all packet sockets, struct
// packet_diag_req.
func appendPacketRequest(b []byte, seq uint32) []byte {
	const length = nlmsgHeaderLen + 20
	b = native.AppendUint32(b, length)
	b = native.AppendUint16(b, sockDiagByFamily)
	b = native.AppendUint16(b, nlmRequest|nlmDump)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, familyPacket, 0, 0, 0)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint32(b, packetShowInfo|packetShowFilter)
	return append(b, make([]byte, 8)...)
}

// packets parses the datagrams of a dump of packet sockets.
type packets struct {
	reader // for its end and errors
	rows   []packetRow
	bad    int
}

// packetRow is one packet socket, before its device has a name.
type packetRow struct {
	socket.Listener
	ifindex uint32
}

// parse adds the rows of a datagram, up to a limit. It returns done at the end of
// the dump.
func (p *packets) parse(datagram []byte, limit int) (done bool, err error) {
	for len(datagram) > 0 {
		if len(datagram) < nlmsgHeaderLen {
			return true, errTruncated
		}
		length := uint64(native.Uint32(datagram))
		if length < nlmsgHeaderLen || length > uint64(len(datagram)) {
			return true, errTruncated
		}
		kind, flags, seq := native.Uint16(datagram[4:]), native.Uint16(datagram[6:]), native.Uint32(datagram[8:])
		payload := datagram[nlmsgHeaderLen:length]
		datagram = datagram[min(align4(length), uint64(len(datagram))):]
		if seq != p.seq {
			continue
		}
		p.interrupted = p.interrupted || flags&nlmDumpIntr != 0
		switch kind {
		case sockDiagByFamily:
			p.add(payload, limit)
		case nlmsgDone:
			return true, p.end(payload)
		case nlmsgError:
			return true, errorOf(payload)
		case nlmsgOverrun:
			return true, errOverrun
		}
	}
	return false, nil
}

func (p *packets) add(payload []byte, limit int) {
	row, err := decodePacket(payload)
	if err != nil {
		p.bad++
	} else if len(p.rows) < limit {
		p.rows = append(p.rows, row)
	}
}

// decodePacket reads one struct packet_diag_msg with its attributes. The kernel
// answers with an empty filter to those who lack CAP_NET_ADMIN, and with none where
// there is none (sock_diag_put_filterinfo in net/core/sock_diag.c).
func decodePacket(b []byte) (packetRow, error) {
	if len(b) < packetDiagMsgLen || b[0] != familyPacket {
		return packetRow{}, errPacketRow
	}
	var r packetRow
	r.Protocol, r.Port, r.PacketType = socket.Packet, native.Uint16(b[2:]), socket.KernelPacketType(b[1])
	r.Sockets, r.Filter = 1, socket.NoFilter
	m := socket.Member{Inode: uint64(native.Uint32(b[4:])), Cookie: uint64(native.Uint32(b[8:])) | uint64(native.Uint32(b[12:]))<<32}
	b = b[packetDiagMsgLen:]
	const headerLen = 4
	for len(b) >= headerLen {
		length := uint64(native.Uint16(b))
		if length < headerLen || length > uint64(len(b)) {
			return packetRow{}, errPacketRow
		}
		value := b[headerLen:length]
		switch kind := native.Uint16(b[2:]); {
		case kind == attrPacketInfo && len(value) >= 4:
			r.ifindex = native.Uint32(value)
		case kind == attrPacketUID && len(value) >= 4:
			m.UID, r.Known = native.Uint32(value), socket.KnowsUID
		case kind == attrPacketFilter && len(value) > 0:
			r.Filter = socket.HasFilter
		case kind == attrPacketFilter:
			r.Filter = socket.FilterUnknown
		}
		b = b[min(align4(length), uint64(len(b))):]
	}
	r.Members = []socket.Member{m}
	return r, nil
}
