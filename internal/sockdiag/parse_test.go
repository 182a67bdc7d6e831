package sockdiag

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"syscall"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

const seq = 7

// message is a netlink message with a payload.
func message(kind, flags uint16, payload []byte) []byte {
	b := native.AppendUint32(nil, uint32(nlmsgHeaderLen+len(payload)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, flags)
	b = native.AppendUint32(b, seq)
	b = native.AppendUint32(b, 0)
	b = append(b, payload...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// row is a struct inet_diag_msg with attributes behind it.
func row(family, state uint8, local, remote string, attributes ...[]byte) []byte {
	b := make([]byte, inetDiagMsgLen)
	b[0], b[1], b[2], b[3] = family, state, 1, 5
	l, r := netip.MustParseAddrPort(local), netip.MustParseAddrPort(remote)
	binary.BigEndian.PutUint16(b[4:], l.Port())
	binary.BigEndian.PutUint16(b[6:], r.Port())
	copy(b[8:24], l.Addr().AsSlice())
	copy(b[24:40], r.Addr().AsSlice())
	native.PutUint32(b[40:], 3)
	native.PutUint32(b[44:], 0xdeadbeef)
	native.PutUint32(b[48:], 1)
	native.PutUint32(b[56:], 11)
	native.PutUint32(b[60:], 22)
	native.PutUint32(b[64:], 1000)
	native.PutUint32(b[68:], 4242)
	return join(append([][]byte{b}, attributes...)...)
}

// timed is a row with another timer.
func timed(row []byte, timer byte) []byte {
	row[2] = timer
	return row
}

func attribute(kind uint16, value ...byte) []byte {
	b := native.AppendUint16(nil, uint16(4+len(value)))
	b = append(native.AppendUint16(b, kind), value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func u64(n uint64) []byte { return native.AppendUint64(nil, n) }

func memInfo(drops uint32) []byte {
	value := make([]byte, 4*(skMemInfoDrops+1))
	native.PutUint32(value[4*skMemInfoDrops:], drops)
	return attribute(attrSKMemInfo, value...)
}

// inBit is a byte with one bit field set.
func inBit(n int) byte {
	if bigEndian {
		n = 7 - n
	}
	return 1 << n
}

func errno(n int32) []byte { return native.AppendUint32(nil, uint32(n)) }

func join(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// listen4 and busy6 are rows of the kind that the kernel sends.
var (
	listen4 = row(familyINET, 10, "127.0.0.1:80", "0.0.0.0:0", attribute(8, 0), memInfo(9), attribute(attrCgroupID, u64(77)...))
	busy6   = row(familyINET6, 1, "[2001:db8::1]:80", "[2001:db8::2]:40000", attribute(8, 0))
)

func TestParse(t *testing.T) {
	done := message(nlmsgDone, 0, errno(0))
	withSeq := func(b []byte, seq uint32) []byte {
		b = join(b)
		native.PutUint32(b[8:], seq)
		return b
	}
	withLength := func(b []byte, length uint32) []byte {
		b = join(b)
		native.PutUint32(b, length)
		return b
	}
	for _, tt := range []struct {
		name            string
		datagram        []byte
		good, malformed int
		done            bool
		err             error
	}{
		{name: "header one byte short", datagram: make([]byte, nlmsgHeaderLen-1), done: true, err: errTruncated},
		{name: "length zero", datagram: withLength(done, 0), done: true, err: errTruncated},
		{name: "length below the header", datagram: withLength(done, 15), done: true, err: errTruncated},
		{name: "length beyond the datagram", datagram: withLength(done, 21), done: true, err: errTruncated},
		{name: "length of 4 GiB", datagram: withLength(done, math.MaxUint32), done: true, err: errTruncated},
		{name: "second message cut", datagram: join(message(sockDiagByFamily, 0, busy6), done[:10]), good: 1, done: true, err: errTruncated},
		{name: "error without a code", datagram: message(nlmsgError, 0, nil), done: true, err: errTruncated},
		{name: "error", datagram: message(nlmsgError, 0, errno(-2)), done: true, err: syscall.ENOENT},
		{name: "done with an error", datagram: message(nlmsgDone, 0, errno(-105)), done: true, err: syscall.ENOBUFS},
		{name: "overrun", datagram: message(nlmsgOverrun, 0, nil), done: true, err: socket.ErrIncomplete},
		{name: "interrupted row", datagram: join(message(sockDiagByFamily, nlmDumpIntr, busy6), done), good: 1, done: true, err: socket.ErrInterrupted},
		{name: "interrupted end", datagram: message(nlmsgDone, nlmDumpIntr, errno(0)), done: true, err: socket.ErrInterrupted},

		{name: "row one byte short", datagram: message(sockDiagByFamily, 0, busy6[:inetDiagMsgLen-1]), malformed: 1},
		{name: "row without a body", datagram: message(sockDiagByFamily, 0, nil), malformed: 1},
		{name: "unknown family", datagram: message(sockDiagByFamily, 0, row(1, 1, "0.0.0.0:1", "0.0.0.0:2")), malformed: 1},
		{name: "state 0", datagram: message(sockDiagByFamily, 0, row(familyINET, 0, "0.0.0.0:1", "0.0.0.0:2")), malformed: 1},
		{name: "state 13", datagram: message(sockDiagByFamily, 0, row(familyINET, 13, "0.0.0.0:1", "0.0.0.0:2")), malformed: 1},
		{name: "state 255", datagram: message(sockDiagByFamily, 0, row(familyINET, 255, "0.0.0.0:1", "0.0.0.0:2")), malformed: 1},

		{name: "empty"},
		{name: "no more yet", datagram: message(sockDiagByFamily, 0, busy6), good: 1},
		{name: "unknown kind", datagram: join(message(99, 0, busy6), done), done: true},
		{name: "no-op", datagram: join(message(nlmsgNoop, 0, nil), done), done: true},
		{name: "another dump's rows", datagram: join(withSeq(message(sockDiagByFamily, 0, busy6), 6), done), done: true},
		{name: "another dump's end", datagram: withSeq(done, 6)},
		{name: "done without a code", datagram: message(nlmsgDone, 0, nil), done: true},
		{name: "legacy reply", datagram: join(message(tcpDiagGetSock, 0, listen4), message(tcpDiagGetSock, 0, busy6), done), good: 2, done: true},
		{name: "what follows the end", datagram: join(done, message(sockDiagByFamily, 0, busy6)), done: true},
		{name: "oversized row", datagram: message(sockDiagByFamily, 0, append(join(busy6), make([]byte, 60_000)...)), good: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, r := dump{seq: seq}, reader{}
			good, malformed := 0, 0
			done, err := r.parse(&d, tt.datagram, func(err error) bool {
				switch {
				case err == nil:
					good++
				case errors.Is(err, socket.ErrMalformed):
					malformed++
				default:
					t.Errorf("row error %v", err)
				}
				return true
			})
			rows := 0
			each := dump{seq: seq}
			eachDone, eachErr := each.parse(tt.datagram, func([]byte) bool { rows++; return true })
			if rows != good+malformed || eachDone != done || !errors.Is(eachErr, tt.err) {
				t.Errorf("dump.parse: %d rows, done %v, %v", rows, eachDone, eachErr)
			}
			if good != tt.good || malformed != tt.malformed || done != tt.done || !errors.Is(err, tt.err) {
				t.Errorf("%d good, %d malformed, done %v, error %v; want %d, %d, %v, %v",
					good, malformed, done, err, tt.good, tt.malformed, tt.done, tt.err)
			}
		})
	}
}

func TestParseStopsWhenToldTo(t *testing.T) {
	d, r := dump{seq: seq}, reader{}
	rows := 0
	done, err := r.parse(&d, join(message(sockDiagByFamily, 0, busy6), message(sockDiagByFamily, 0, busy6)), func(error) bool {
		rows++
		return false
	})
	if rows != 1 || !done || err != nil {
		t.Errorf("%d rows, done %v, %v", rows, done, err)
	}
}

func TestDecode(t *testing.T) {
	common := socket.Socket{Retransmits: 5, Known: socket.KnowsUID | socket.KnowsQueues, UID: 1000, Inode: 4242, Cookie: 1<<32 | 0xdeadbeef}
	with := func(change func(*socket.Socket)) socket.Socket {
		s := common
		change(&s)
		return s
	}
	for _, tt := range []struct {
		name     string
		protocol socket.Protocol
		row      []byte
		want     socket.Socket
	}{
		{name: "listen", row: listen4, want: with(func(s *socket.Socket) {
			s.State, s.AcceptQueue, s.AcceptQueueLimit, s.Drops, s.CgroupID = socket.Listen, 11, 22, 9, 77
			s.Known |= socket.KnowsAcceptQueueLimit | socket.KnowsDrops
			s.Local, s.Remote = netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("0.0.0.0:0")
		})},
		{name: "v6only", row: row(familyINET6, 10, "[::]:80", "[::]:0", attribute(attrSKV6Only, 1)), want: with(func(s *socket.Socket) {
			s.Family, s.State, s.AcceptQueue, s.AcceptQueueLimit, s.V6Only = socket.IPv6, socket.Listen, 11, 22, true
			s.Known |= socket.KnowsAcceptQueueLimit | socket.KnowsV6Only
			s.Local, s.Remote = netip.MustParseAddrPort("[::]:80"), netip.MustParseAddrPort("[::]:0")
		})},
		{name: "request socket of a mapped connection", row: row(familyINET6, 12, "[::ffff:10.0.0.1]:80", "[::ffff:10.0.0.2]:9"), want: with(func(s *socket.Socket) {
			s.Family, s.State, s.ReceiveQueue, s.SendQueue = socket.IPv6, socket.SynRecv, 11, 22
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "zero window", row: timed(row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9"), 4), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue, s.Retransmits, s.ZeroWindow = socket.Established, 11, 22, 0, true
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "keepalive", row: timed(row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9"), 2), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue, s.Retransmits = socket.Established, 11, 22, 0
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "a connection as the kernel sends it, with CAP_NET_ADMIN", row: row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9", attribute(8, 0), attribute(15, 1, 2, 3, 4), attribute(attrCgroupID, u64(1<<40)...), attribute(attrSockOpt, 0, inBit(0))), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue, s.CgroupID, s.BindNoPort = socket.Established, 11, 22, 1<<40, true
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "a connection whose cgroup is a byte short", row: row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9", attribute(8, 0), attribute(attrCgroupID, u64(77)...)[:11]), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue = socket.Established, 11, 22
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "accepted by a transparent listener", row: row(familyINET, 1, "203.0.113.9:443", "10.0.0.2:9", attribute(8, 0), attribute(attrSockOpt, inBit(5), 0)), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue, s.Transparent = socket.Established, 11, 22, true
			s.Local, s.Remote = netip.MustParseAddrPort("203.0.113.9:443"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "a transparent listener", row: row(familyINET, 10, "0.0.0.0:80", "0.0.0.0:0", attribute(attrSockOpt, inBit(5), inBit(0))), want: with(func(s *socket.Socket) {
			s.State, s.AcceptQueue, s.AcceptQueueLimit, s.Transparent, s.BindNoPort = socket.Listen, 11, 22, true, true
			s.Known |= socket.KnowsAcceptQueueLimit
			s.Local, s.Remote = netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("0.0.0.0:0")
		})},
		{name: "options cut short, a length that is none", row: row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9", attribute(attrSockOpt, 0xff)[:5], []byte{1, 0, 0}), want: with(func(s *socket.Socket) {
			s.State, s.ReceiveQueue, s.SendQueue = socket.Established, 11, 22
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:80"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "udp", protocol: socket.UDP, row: row(familyINET, 7, "0.0.0.0:53", "0.0.0.0:0", memInfo(5)), want: with(func(s *socket.Socket) {
			s.Protocol, s.State, s.ReceiveQueue, s.SendQueue, s.Drops = socket.UDP, socket.Unconnected, 11, 22, 5
			s.Known |= socket.KnowsDrops
			s.Local, s.Remote = netip.MustParseAddrPort("0.0.0.0:53"), netip.MustParseAddrPort("0.0.0.0:0")
		})},
		{name: "connected udp", protocol: socket.UDP, row: row(familyINET, 1, "10.0.0.1:53", "10.0.0.2:9"), want: with(func(s *socket.Socket) {
			s.Protocol, s.State, s.ReceiveQueue, s.SendQueue = socket.UDP, socket.Connected, 11, 22
			s.Local, s.Remote = netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:9")
		})},
		{name: "attributes cut short, empty, too long", row: join(
			row(familyINET, 10, "0.0.0.0:80", "0.0.0.0:0", attribute(attrSKMemInfo, 1, 2, 3, 4), attribute(attrSKV6Only), attribute(attrCgroupID, 1, 2)),
			native.AppendUint16(native.AppendUint16(nil, 400), attrCgroupID), []byte{1, 2, 3}),
			want: with(func(s *socket.Socket) {
				s.State, s.AcceptQueue, s.AcceptQueueLimit = socket.Listen, 11, 22
				s.Known |= socket.KnowsAcceptQueueLimit
				s.Local, s.Remote = netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("0.0.0.0:0")
			})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := reader{protocol: tt.protocol}
			if err := r.decode(tt.row); err != nil {
				t.Fatal(err)
			}
			if r.sock != tt.want || r.ifindex != 3 {
				t.Errorf("\n got %+v on %d\nwant %+v on 3", r.sock, r.ifindex, tt.want)
			}
		})
	}
}

// TestRequest compares requests with bytes written down from the headers.
func TestRequest(t *testing.T) {
	v2 := request{socket.UDPLite, familyINET6, 0x82, true, false}.appendTo(nil, seq)
	if len(v2) != 16+56 || native.Uint32(v2) != 72 || native.Uint16(v2[4:]) != 20 || native.Uint16(v2[6:]) != 0x301 ||
		v2[16] != 10 || v2[17] != 136 || v2[18] != 0x40 || native.Uint32(v2[20:]) != 0x82 {
		t.Errorf("struct inet_diag_req_v2: % x", v2)
	}
	legacy := request{socket.TCP, familyUnspec, 0xfff, false, false}.appendTo(nil, seq)
	if len(legacy) != 16+60 || native.Uint32(legacy) != 76 || native.Uint16(legacy[4:]) != 18 || native.Uint32(legacy[8:]) != seq ||
		legacy[16] != 0 || legacy[19] != 0 || native.Uint32(legacy[16+52:]) != 0xfff {
		t.Errorf("struct inet_diag_req: % x", legacy)
	}
}

func TestParsingDoesNotAllocate(t *testing.T) {
	datagram := join(message(tcpDiagGetSock, 0, listen4), message(tcpDiagGetSock, 0, busy6), message(tcpDiagGetSock, 0, busy6[:40]))
	d, r := dump{seq: seq}, reader{}
	row := func(error) bool { return true }
	if allocs := testing.AllocsPerRun(100, func() { _, _ = r.parse(&d, datagram, row) }); allocs != 0 {
		t.Errorf("%v allocations for three rows", allocs)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(join(message(sockDiagByFamily, 0, listen4), message(sockDiagByFamily, 0, busy6), message(nlmsgDone, 0, errno(0))), uint8(0))
	f.Add(message(nlmsgError, 0, errno(-2)), uint8(1))
	f.Add(message(tcpDiagGetSock, nlmDumpIntr, listen4), uint8(2))
	f.Add(listen4, uint8(0))
	f.Add(message(tcpDiagGetSock, 0, timed(row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9", attribute(attrCgroupID, u64(77)...), attribute(attrSockOpt, 0xff, 0xff)), timerProbe)), uint8(0))
	f.Add(message(tcpDiagGetSock, 0, row(familyINET, 12, "10.0.0.1:80", "10.0.0.2:9", attribute(attrCgroupID, u64(77)...)[:11])), uint8(0))
	f.Add(message(tcpDiagGetSock, 0, rowWith(attribute(attrInfo, tcpInfo(280)...), attribute(attrCong, 'b', 'b', 'r', 0))), uint8(0))
	f.Add(message(tcpDiagGetSock, 0, rowWith(attribute(attrInfo, tcpInfo(infoLeast-1)...))), uint8(0))
	f.Fuzz(func(t *testing.T, datagram []byte, protocol uint8) {
		d, r := dump{seq: seq}, reader{protocol: socket.Protocol(protocol % 3), withInfo: true}
		rows := 0
		_, _ = r.parse(&d, datagram, func(err error) bool {
			rows++
			if err == nil && (r.sock.State == 0 || !r.sock.Local.IsValid() || r.sock.Local.Addr().Is4In6()) {
				t.Errorf("decoded %+v", r.sock)
			}
			return true
		})
		if rows > len(datagram)/nlmsgHeaderLen {
			t.Errorf("%d rows out of %d bytes", rows, len(datagram))
		}
	})
}

// BenchmarkParse parses datagrams of connections, as full as the kernel makes them.
func BenchmarkParse(b *testing.B) {
	busy := message(tcpDiagGetSock, 0, row(familyINET6, 1, "[2001:db8::1]:80", "[2001:db8::2]:40000", attribute(8, 0), attribute(attrCgroupID, u64(77)...), attribute(attrSockOpt, 0, 0)))
	var datagram []byte
	for len(datagram)+len(busy) <= 32<<10 {
		datagram = append(datagram, busy...)
	}
	d, r := dump{seq: seq}, reader{}
	rows := 0
	row := func(err error) bool {
		rows++
		return err == nil
	}
	for b.Loop() {
		if done, err := r.parse(&d, datagram, row); done {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(rows), "ns/row")
}
