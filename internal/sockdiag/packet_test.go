package sockdiag

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// packetMessage is a struct packet_diag_msg with attributes.
func packetMessage(kind byte, attributes ...[]byte) []byte {
	b := []byte{familyPacket, kind}
	b = native.AppendUint16(b, 3)
	for _, n := range []uint32{77, 5, 6} { // inode, cookie
		b = native.AppendUint32(b, n)
	}
	for _, a := range attributes {
		b = append(b, a...)
	}
	return b
}

func packetAttribute(kind uint16, value ...byte) []byte {
	b := native.AppendUint16(nil, uint16(4+len(value)))
	b = native.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, int(align4(uint64(len(value))))-len(value))...)
}

func TestDecodePacket(t *testing.T) {
	device := packetAttribute(attrPacketInfo, native.AppendUint32(nil, 2)...)
	uid := packetAttribute(attrPacketUID, native.AppendUint32(nil, 1000)...)
	whole := packetMessage(3, device, uid, packetAttribute(attrPacketFilter, 6, 0, 0, 0, 255, 255, 0, 0))
	for name, b := range map[string][]byte{
		"nothing": nil, "one byte short": packetMessage(3)[:packetDiagMsgLen-1], "another family": append([]byte{familyINET}, packetMessage(3)[1:]...),
		"attribute beyond the end": whole[:len(whole)-1], "attribute without its header": packetMessage(3, []byte{2, 0, 0, 0}),
	} {
		if row, err := decodePacket(b); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, row, err)
		}
	}
	for name, tt := range map[string]struct {
		message []byte
		kind    socket.PacketType
		filter  socket.Filter
		ifindex uint32
		uid     uint32
	}{
		"with a filter":     {whole, socket.PacketRaw, socket.HasFilter, 2, 1000},
		"without a filter":  {packetMessage(2, device, uid), socket.PacketDgram, socket.NoFilter, 2, 1000},
		"filter not shown":  {packetMessage(10, packetAttribute(attrPacketFilter)), socket.PacketOther, socket.FilterUnknown, 0, 0},
		"without attribute": {packetMessage(3), socket.PacketRaw, socket.NoFilter, 0, 0},
	} {
		got, err := decodePacket(tt.message)
		if err != nil || got.PacketType != tt.kind || got.Filter != tt.filter || got.ifindex != tt.ifindex || got.Protocol != socket.Packet || got.Port != 3 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		want := []socket.Member{{Inode: 77, Cookie: 6<<32 | 5, UID: tt.uid}}
		if diff := cmp.Diff(want, got.Members); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func FuzzDecodePacket(f *testing.F) {
	f.Add(packetMessage(3, packetAttribute(attrPacketFilter, 1, 2, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if row, err := decodePacket(b); err == nil && len(row.Members) != 1 {
			t.Errorf("%+v", row)
		}
	})
}
