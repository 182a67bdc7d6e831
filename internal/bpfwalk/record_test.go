//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
	"unsafe"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestMalformedRecords(t *testing.T) {
	good := walkRecord{Family: familyINET, Protocol: protoTCP, State: uint8(socket.Established)}
	for name, change := range map[string]func(*walkRecord){
		"a family that is none":   func(r *walkRecord) { r.Family = 1 },
		"a protocol that is none": func(r *walkRecord) { r.Protocol = 1 },
		"no state":                func(r *walkRecord) { r.State = 0 },
		"a state too high":        func(r *walkRecord) { r.State = 200 },
		"zeros":                   func(r *walkRecord) { *r = walkRecord{} },
	} {
		r := good
		change(&r)
		var s socket.Socket
		if err := r.decode(&s); !errors.Is(err, socket.ErrMalformed) {
			t.Errorf("%s: %v and %+v", name, err, s)
		}
	}
}

func TestRecord(t *testing.T) {
	r := walkRecord{
		Family: familyINET6, Protocol: protoUDP, State: uint8(socket.Close), Flags: flagV6Only | flagTransparent,
		Local: netip.MustParseAddr("::ffff:192.0.2.1").As16(), LocalPort: 53, Remote: netip.IPv6Unspecified().As16(),
		Receive: 1, Send: 2, Drops: 3, Uid: 4, Inode: 5, Cookie: 6, Cgroup: 7,
	}
	want := socket.Socket{
		Protocol: socket.UDP, Family: socket.IPv6, State: socket.Unconnected,
		Known: socket.KnowsUID | socket.KnowsQueues | socket.KnowsDrops | socket.KnowsV6Only,
		Local: netip.MustParseAddrPort("192.0.2.1:53"), Remote: netip.MustParseAddrPort("[::]:0"),
		ReceiveQueue: 1, SendQueue: 2, Drops: 3, UID: 4, Inode: 5, Cookie: 6, CgroupID: 7, V6Only: true, Transparent: true,
	}
	var got socket.Socket
	if err := r.decode(&got); err != nil || got != want {
		t.Errorf("%v: %s", err, difference(want, got))
	}
	if n := testing.AllocsPerRun(100, func() { _ = r.decode(&got) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzRecord decodes any record: the kernel changes while the programs read it.
func FuzzRecord(f *testing.F) {
	for _, r := range []walkRecord{
		{},
		{Family: familyINET, Protocol: protoTCP, State: uint8(socket.Listen), Receive: 1, Send: 2},
		{Family: familyINET6, Protocol: protoUDPLite, State: uint8(socket.Close), Flags: 0xff},
		{Family: familyINET6, Protocol: protoTCP, State: 12, Retransmits: 3, LocalPort: 80, RemotePort: 0x1234},
	} {
		var b bytes.Buffer
		if err := binary.Write(&b, binary.LittleEndian, &r); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var r walkRecord
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r)), b)
		var s socket.Socket
		err := r.decode(&s)
		switch {
		case err != nil && !errors.Is(err, socket.ErrMalformed):
			t.Errorf("an error of another kind: %v", err)
		case err == nil && (!s.Local.IsValid() || !s.Remote.IsValid() || !(socket.Listening | socket.Connections).Has(s.State)):
			t.Errorf("not a socket: %+v", s)
		case err == nil && s.State != socket.Listen && (s.AcceptQueue != 0 || s.AcceptQueueLimit != 0):
			t.Errorf("a queue of connections: %+v", s)
		}
	})
}
