// Package sockdiag reads the sockets of a Linux network namespace from the
// kernel's NETLINK_SOCK_DIAG interface, sock_diag(7).
//
// parse.go turns bytes into sockets and performs no I/O; what talks to the
// kernel is in the files named _linux.go.
package sockdiag

// This file holds the inner loop of a dump: decode runs once for each socket
// of the host. It must not allocate, and it must take any bytes.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Numbers of include/uapi/linux/netlink.h, sock_diag.h and inet_diag.h.
const (
	nlmsgHeaderLen = 16

	nlmsgNoop    = 1
	nlmsgError   = 2
	nlmsgDone    = 3
	nlmsgOverrun = 4

	tcpDiagGetSock   = 18 // the legacy request, which can ask for every family
	sockDiagByFamily = 20

	nlmRequest  = 0x001
	nlmDump     = 0x300 // NLM_F_ROOT | NLM_F_MATCH
	nlmDumpIntr = 0x010

	familyUnspec = 0
	familyINET   = 2
	familyINET6  = 10

	protoTCP     = 6
	protoUDP     = 17
	protoUDPLite = 136

	inetDiagMsgLen = 72
	attrHeaderLen  = 4 // struct nlattr

	attrInfo      = 2
	attrCong      = 4
	attrSKMemInfo = 7
	attrSKV6Only  = 11
	attrCgroupID  = 21 // comes unasked with full sockets, as the next does
	attrSockOpt   = 22

	// The bits of the two bytes of struct inet_diag_sockopt, counted as a
	// little-endian host lays out bit fields.
	sockOptTransparent = 5
	sockOptBindNoPort  = 0 // of the second byte

	// Values of idiag_timer (inet_sk_diag_fill, net/ipv4/inet_diag.c). idiag_retrans
	// belongs to it.
	timerRetransmit = 1
	timerProbe      = 4

	skMemInfoDrops = 8 // the index of SK_MEMINFO_DROPS, in words
)

var (
	native    = binary.NativeEndian
	bigEndian = native.Uint16([]byte{0, 1}) == 1
)

var (
	errTruncated = errors.New("truncated netlink message")
	errShortRow  = fmt.Errorf("%w: shorter than struct inet_diag_msg", socket.ErrMalformed)
	errFamily    = fmt.Errorf("%w: unknown address family", socket.ErrMalformed)
	errState     = fmt.Errorf("%w: unknown state", socket.ErrMalformed)
	errOverrun   = fmt.Errorf("%w: the kernel reports an overrun", socket.ErrIncomplete)
	errDumpIntr  = fmt.Errorf("%w: NLM_F_DUMP_INTR", socket.ErrInterrupted)
)

// request is one dump to ask of the kernel.
type request struct {
	protocol socket.Protocol
	family   uint8  // familyUnspec makes it the legacy request, TCP only
	states   uint32 // a mask of kernel states
	memInfo  bool   // ask for SKMEMINFO, where the drops are
	info     bool   // ask for INFO and CONG
}

// appendTo appends the request as a netlink message: struct inet_diag_req_v2,
// or struct inet_diag_req when it is for every family.
func (r request) appendTo(b []byte, seq uint32) []byte {
	var ext uint8
	if r.memInfo {
		ext = 1 << (attrSKMemInfo - 1)
	}
	if r.info {
		ext |= 1<<(attrInfo-1) | 1<<(attrCong-1)
	}
	kind, body := uint16(sockDiagByFamily), [60]byte{}
	const sockIDLen = 48
	length := 8 + sockIDLen
	if r.family == familyUnspec {
		kind, length = tcpDiagGetSock, 60
		body[3] = ext
		native.PutUint32(body[4+sockIDLen:], r.states)
	} else {
		body[0], body[1], body[2] = r.family, kernelProtocol(r.protocol), ext
		native.PutUint32(body[4:], r.states)
	}
	return append(appendHeader(b, kind, length, seq), body[:length]...)
}

// appendHeader appends the struct nlmsghdr of a request for a dump, before a body of
// some bytes.
func appendHeader(b []byte, kind uint16, body int, seq uint32) []byte {
	b = native.AppendUint32(b, uint32(nlmsgHeaderLen+body))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, nlmRequest|nlmDump)
	b = native.AppendUint32(b, seq)
	return native.AppendUint32(b, 0)
}

// cookieOf returns the cookie that a row has in two words.
func cookieOf(b []byte) uint64 { return uint64(native.Uint32(b)) | uint64(native.Uint32(b[4:]))<<32 }

func kernelProtocol(p socket.Protocol) uint8 {
	switch p {
	case socket.UDP:
		return protoUDP
	case socket.UDPLite:
		return protoUDPLite
	case socket.Raw:
		return protoRaw
	default:
		return protoTCP
	}
}

// dump parses the datagrams of one dump, of whatever rows. Its zero value but for
// the sequence number is ready to use.
type dump struct {
	seq         uint32
	interrupted bool
}

// part is what was cut off a datagram.
type part uint8

const (
	none part = iota // the datagram is used up
	aRow
	theEnd // of the dump
)

// next cuts the next row off a datagram, or the end of the dump with its error.
func (d *dump) next(datagram []byte) (payload, rest []byte, is part, err error) {
	for len(datagram) > 0 {
		if len(datagram) < nlmsgHeaderLen {
			return nil, nil, theEnd, errTruncated
		}
		length := uint64(native.Uint32(datagram))
		if length < nlmsgHeaderLen || length > uint64(len(datagram)) {
			return nil, nil, theEnd, errTruncated
		}
		kind, flags, seq := native.Uint16(datagram[4:]), native.Uint16(datagram[6:]), native.Uint32(datagram[8:])
		payload := datagram[nlmsgHeaderLen:length]
		datagram = datagram[min(align4(length), uint64(len(datagram))):]

		if seq != d.seq {
			continue
		}
		d.interrupted = d.interrupted || flags&nlmDumpIntr != 0
		switch kind {
		case sockDiagByFamily, tcpDiagGetSock:
			return payload, datagram, aRow, nil
		case nlmsgDone:
			return nil, nil, theEnd, d.end(payload)
		case nlmsgError:
			return nil, nil, theEnd, errorOf(payload)
		case nlmsgOverrun:
			return nil, nil, theEnd, errOverrun
		case nlmsgNoop:
		}
	}
	return nil, nil, none, nil
}

// parse calls row with each row of a datagram. It returns done at the end of the
// dump, or when row returns false; the error is then that of the dump.
func (d *dump) parse(datagram []byte, row func(payload []byte) bool) (done bool, err error) {
	for {
		payload, rest, is, err := d.next(datagram)
		if is != aRow {
			return is == theEnd, err
		}
		if !row(payload) {
			return true, nil
		}
		datagram = rest
	}
}

// end returns the error of a finished dump. Since Linux 4.18 NLMSG_DONE
// carries the result of the dump.
func (d *dump) end(payload []byte) error {
	if len(payload) >= 4 {
		if err := errorOf(payload); err != nil {
			return err
		}
	}
	if d.interrupted {
		return errDumpIntr
	}
	return nil
}

// errorOf returns the error of a payload that starts with a negated errno.
func errorOf(payload []byte) error {
	if len(payload) < 4 {
		return errTruncated
	}
	if code := int32(native.Uint32(payload)); code < 0 {
		return syscall.Errno(-int64(code))
	}
	return nil
}

// reader decodes rows of a protocol into the socket that it holds.
type reader struct {
	protocol socket.Protocol
	withInfo bool // decode INFO and CONG

	sock    socket.Socket
	ifindex uint32
	info    socket.TCPInfo // of sock.Info
}

// parse calls yield for each row of a datagram, with r.sock and r.ifindex set, or
// with the error of decode. What it returns is as of [dump.parse], whose function
// for each row would cost some nanoseconds more.
func (r *reader) parse(d *dump, datagram []byte, yield func(error) bool) (done bool, err error) {
	for {
		payload, rest, is, err := d.next(datagram)
		if is != aRow {
			return is == theEnd, err
		}
		if !yield(r.decode(payload)) {
			return true, nil
		}
		datagram = rest
	}
}

// decode reads one struct inet_diag_msg into r.sock and r.ifindex. The error is
// socket.ErrMalformed.
func (r *reader) decode(b []byte) error {
	if len(b) < inetDiagMsgLen {
		return errShortRow
	}
	s := &r.sock
	*s = socket.Socket{Protocol: r.protocol}
	switch b[0] {
	case familyINET:
		s.Family = socket.IPv4
		s.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[8:12])), binary.BigEndian.Uint16(b[4:]))
		s.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[24:28])), binary.BigEndian.Uint16(b[6:]))
	case familyINET6:
		s.Family = socket.IPv6
		s.Local = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])).Unmap(), binary.BigEndian.Uint16(b[4:]))
		s.Remote = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])).Unmap(), binary.BigEndian.Uint16(b[6:]))
	default:
		return errFamily
	}
	s.State = socket.KernelState(r.protocol, b[1])
	if s.State == 0 {
		return errState
	}
	r.ifindex = native.Uint32(b[40:])
	s.Cookie = cookieOf(b[44:])
	s.UID = native.Uint32(b[64:])
	s.Inode = uint64(native.Uint32(b[68:]))
	s.Known = socket.KnowsUID | socket.KnowsQueues

	switch b[2] {
	case timerRetransmit:
		s.Retransmits = b[3]
	case timerProbe:
		s.ZeroWindow = true
	}
	receive, send := native.Uint32(b[56:]), native.Uint32(b[60:])
	if s.State == socket.Listen {
		// Not bytes: sk_ack_backlog and sk_max_ack_backlog (tcp_diag.c).
		s.AcceptQueue, s.AcceptQueueLimit = receive, send
		s.Known |= socket.KnowsAcceptQueueLimit
	} else {
		s.ReceiveQueue, s.SendQueue = receive, send
	}
	r.decodeAttributes(b[inetDiagMsgLen:])
	return nil
}

func setOptions(value []byte, s *socket.Socket) {
	if len(value) >= 2 {
		s.Transparent, s.BindNoPort = bit(value[0], sockOptTransparent), bit(value[1], sockOptBindNoPort)
	}
}

// bit reads a bit field of one bit.
func bit(b byte, n int) bool {
	if bigEndian {
		n = 7 - n
	}
	return b&(1<<n) != 0
}

// decodeAttributes reads the attributes behind a row. What is cut short or
// unknown is left out; its facts stay unknown. Rows in TIME_WAIT and SYN_RECV have
// none.
func (r *reader) decodeAttributes(b []byte) {
	s := &r.sock
	for len(b) >= attrHeaderLen {
		kind, value, rest, ok := nextAttribute(b)
		if !ok {
			return
		}
		switch kind {
		case attrSKMemInfo:
			if len(value) >= 4*(skMemInfoDrops+1) {
				s.Drops = native.Uint32(value[4*skMemInfoDrops:])
				s.Known |= socket.KnowsDrops
			}
		case attrSKV6Only:
			if len(value) >= 1 {
				s.V6Only = value[0] != 0
				s.Known |= socket.KnowsV6Only
			}
		case attrCgroupID:
			if len(value) >= 8 {
				s.CgroupID = native.Uint64(value)
			}
		case attrSockOpt:
			setOptions(value, s)
		case attrInfo:
			if r.withInfo && len(value) >= infoLeast {
				fillInfo(&r.info, value)
				s.Info = &r.info
			}
		case attrCong: // follows INFO
			copy(r.info.Congestion[:], value)
		}
		b = rest
	}
}

// nextAttribute cuts the first attribute off b, which holds its header. It is not ok
// if the attribute is cut short.
func nextAttribute(b []byte) (kind uint16, value, rest []byte, ok bool) {
	length := uint64(native.Uint16(b))
	if length < attrHeaderLen || length > uint64(len(b)) {
		return 0, nil, nil, false
	}
	return native.Uint16(b[2:]), b[attrHeaderLen:length], b[min(align4(length), uint64(len(b))):], true
}

func align4(n uint64) uint64 { return (n + 3) &^ 3 }
