package sockdiag

import (
	"encoding/hex"
	"errors"
	"slices"
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

// Rows that Linux 6.1 wrote in an emulated machine (make vm): vsock listeners on port
// 22 of any context, on 70000 of this machine and on a port that the kernel chose;
// raw sockets of IPPROTO_RAW, of protocol 200 with a peer and bound to lo, of ICMP and
// of ICMPv6. They are of a little-endian machine.
var (
	realVsock = []string{
		"28010a00ffffffff16000000ffffffffffffffffb00000000110000000000000",
		"28010a000100000070110100ffffffffffffffffb10000000310000000000000",
		"28010a00ffffffff81675d8cffffffffffffffffb20000000210000000000000",
	}
	realRaw = []string{
		"0207000000ff0000000000000000000000000000000000000000000000000000000000000000000000000000041000000000000000000000000000000000000000000000c8000000050008000000000008000f00000000000c0015000100000000000000060016005800000005000a00ff000000",
		"0201000000c800007f0000010000000000000000000000007f00000900000000000000000000000001000000051000000000000000000000000000000000000000000000c6000000050008000000000008000f00000000000c0015000100000000000000060016005000000005000a00c8000000",
		"0207000000010000000000000000000000000000000000000000000000000000000000000000000000000000061000000000000000000000000000000000000000000000c5000000050008000000000008000f00000000000c0015000100000000000000060016005000000005000a0001000000",
		"0a070000003a0000000000000000000000000000000000000000000000000000000000000000000000000000071000000000000000000000000000000000000000000000c7000000050008000000000005000b000000000008000f00000000000c0015000100000000000000060016001000000005000a003a000000",
	}
)

// unhex returns the bytes of rows.
func unhex(t testing.TB, rows []string) (out [][]byte) {
	t.Helper()
	for _, text := range rows {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

func TestDecodeRealVsock(t *testing.T) {
	if bigEndian {
		t.Skip("SKIP-ENDIAN: the rows are of a little-endian machine")
	}
	rows := unhex(t, realVsock)
	for i, want := range []struct {
		address       string
		port          uint16
		scope         socket.Scope
		inode, cookie uint64
	}{{"any:22", 22, socket.ScopeAny, 0xb0, 0x1001}, {"1:70000", 0, socket.ScopeLoopback, 0xb1, 0x1003}, {"any:2354931585", 0, socket.ScopeAny, 0xb2, 0x1002}} {
		l, err := decodeVsock(rows[i])
		if err != nil || l.Vsock.String() != want.address || l.Port != want.port || l.Scope != want.scope || l.Protocol != socket.Vsock {
			t.Errorf("%d: %+v, %v", i, l, err)
		}
		if diff := cmp.Diff([]socket.Member{{Inode: want.inode, Cookie: want.cookie}}, l.Members); diff != "" {
			t.Errorf("%d (-want +got):\n%s", i, diff)
		}
	}
	connected := slices.Clone(rows[0])
	connected[2] = 1
	for name, b := range map[string][]byte{"nothing": nil, "one byte short": rows[0][:vsockDiagMsgLen-1], "another family": append([]byte{familyINET}, rows[0][1:]...), "a connection": connected} {
		if row, err := decodeVsock(b); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, row, err)
		}
	}
}

func TestDecodeRealRaw(t *testing.T) {
	if bigEndian {
		t.Skip("SKIP-ENDIAN: the rows are of a little-endian machine")
	}
	rows := unhex(t, realRaw)
	for i, want := range []struct {
		address  string
		protocol uint16
		ifindex  uint32
		inode    uint64
	}{{"0.0.0.0", 255, 0, 0xc8}, {"127.0.0.1", 200, 1, 0xc6}, {"0.0.0.0", 1, 0, 0xc5}, {"::", 58, 0, 0xc7}} {
		l, err := decodeRaw(rows[i])
		if err != nil || l.Address.String() != want.address || l.Port != want.protocol || l.ifindex != want.ifindex || l.Members[0].Inode != want.inode || l.Members[0].CgroupID != 1 {
			t.Errorf("%d: %+v, %v", i, l, err)
		}
		if _, err := decodeRaw(rows[i][:inetDiagMsgLen-1]); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%d, one byte short: %v", i, err)
		}
	}
}

func FuzzDecodeVsock(f *testing.F) {
	for _, b := range unhex(f, realVsock) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if row, err := decodeVsock(b); err == nil && (len(row.Members) != 1 || row.Vsock.Port < 1<<16 && row.Vsock.Port != uint32(row.Port)) {
			t.Errorf("%+v", row)
		}
	})
}

func FuzzDecodeRaw(f *testing.F) {
	for _, b := range unhex(f, realRaw) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if row, err := decodeRaw(b); err == nil && (len(row.Members) != 1 || !row.Address.IsValid() || row.Address.Is4In6()) {
			t.Errorf("%+v", row)
		}
	})
}

func FuzzDecodePacket(f *testing.F) {
	f.Add(packetMessage(3, packetAttribute(attrPacketFilter, 1, 2, 3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if row, err := decodePacket(b); err == nil && len(row.Members) != 1 {
			t.Errorf("%+v", row)
		}
	})
}
