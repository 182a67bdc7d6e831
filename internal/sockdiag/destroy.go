package sockdiag

// This file is the inner loop of the collector closed: decodeClosed runs once for
// each TCP socket that the kernel frees. It must not allocate, and it must take any
// bytes.

import (
	"fmt"
	"math"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

const (
	attrInfo     = 2
	attrProtocol = 10
)

// Offsets in struct tcp_info of include/uapi/linux/tcp.h, of which newer kernels
// send more. Those before infoLeast are there since Linux 4.19.
const (
	infoRTT          = 68  // µs
	infoTotalRetrans = 100 // segments
	infoBytesAcked   = 120 // the SYN that was sent included
	infoBytesGot     = 128 // a FIN included
	infoSegsOut      = 136
	infoSegsIn       = 140
	infoMinRTT       = 148 // µs; all ones is none
	infoRwndLimited  = 176 // µs
	infoSndbufLimit  = 184 // µs
	infoDelivered    = 192 // segments, the SYN included
	infoBytesSent    = 200 // retransmitted ones included
	infoBytesRetrans = 208
	infoLeast        = 216
	infoRTOTime      = 244 // ms, since Linux 6.7
)

// wqueueOfFailure is the send queue of a socket whose first connect() failed and
// was wiped: its SYN, and the two that tcp_disconnect adds to the sequence.
const wqueueOfFailure = 3

var (
	errNoInfo  = fmt.Errorf("%w: no struct tcp_info", socket.ErrMalformed)
	errNotTCP  = fmt.Errorf("%w: not a TCP socket", socket.ErrMalformed)
	errNotOurs = fmt.Errorf("%w: not a message about a socket", socket.ErrMalformed)
)

// closedReader decodes messages about freed sockets into the socket that it holds.
type closedReader struct {
	row    reader
	closed socket.Closed
}

// decodeClosed reads one message of the groups SKNLGRP_INET_TCP_DESTROY and
// SKNLGRP_INET6_TCP_DESTROY into r.closed and r.row.ifindex: a struct inet_diag_msg,
// which lacks owner and state, and the attributes INET_DIAG_PROTOCOL and
// INET_DIAG_INFO (inet_diag_handler_get_info in net/ipv4/inet_diag.c). It reports
// whether the socket ever had a peer: a listener and a socket that was only bound
// had none. The error is socket.ErrMalformed.
func (r *closedReader) decodeClosed(datagram []byte) (hadPeer bool, err error) {
	d := dump{}
	payload, _, is, err := d.next(datagram)
	if err != nil || is != aRow {
		return false, errNotOurs
	}
	if err := r.row.decode(payload); err != nil {
		return false, err
	}
	info, err := infoOf(payload[inetDiagMsgLen:])
	if err != nil {
		return false, err
	}
	r.closed = socket.Closed{Socket: r.row.sock}
	c := &r.closed
	if c.Remote.Port() == 0 {
		return r.decodeWiped(info), nil
	}
	fillClosed(c, info)
	return true, nil
}

// decodeWiped reads what is left of a socket that has no remote port. One that was
// connected once has sequence numbers, and thus a send queue.
func (r *closedReader) decodeWiped(info []byte) (hadPeer bool) {
	c := &r.closed
	if c.SendQueue == 0 {
		return false
	}
	c.Wiped = true
	c.Established = c.SendQueue > wqueueOfFailure || native.Uint32(info[infoMinRTT:]) != math.MaxUint32
	return true
}

// fillClosed reads the figures of a struct tcp_info.
func fillClosed(c *socket.Closed, info []byte) {
	u32 := func(at int) uint32 { return native.Uint32(info[at:]) }
	u64 := func(at int) uint64 { return native.Uint64(info[at:]) }
	received := u64(infoBytesGot)
	c.Established = u32(infoDelivered) > 0 || u64(infoBytesAcked) > 0 || received > 0
	// Which of them had a FIN is unknown. Most do.
	c.Received = received - min(received, 1)
	c.Sent = u64(infoBytesSent) - min(u64(infoBytesSent), u64(infoBytesRetrans))
	c.SegmentsReceived, c.SegmentsSent, c.SegmentsRetransmitted = u32(infoSegsIn), u32(infoSegsOut), u32(infoTotalRetrans)
	c.LimitedByReceiver, c.LimitedBySendBuffer = microseconds(u64(infoRwndLimited)), microseconds(u64(infoSndbufLimit))
	c.RoundTrip = microseconds(uint64(u32(infoRTT)))
	if least := u32(infoMinRTT); least != math.MaxUint32 {
		c.MinRoundTrip = microseconds(uint64(least))
	}
	if len(info) >= infoRTOTime+4 {
		c.Stalled, c.KnowsStalled = time.Duration(u32(infoRTOTime))*time.Millisecond, true
	}
}

// microseconds returns a time that fits.
func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(math.MaxInt64/time.Microsecond))) * time.Microsecond
}

// infoOf returns the struct tcp_info of a message.
func infoOf(b []byte) (info []byte, err error) {
	for len(b) >= attrHeaderLen {
		kind, value, rest, ok := nextAttribute(b)
		if !ok {
			return nil, errNoInfo
		}
		switch kind {
		case attrProtocol:
			if len(value) < 1 || value[0] != protoTCP {
				return nil, errNotTCP
			}
		case attrInfo:
			info = value
		}
		b = rest
	}
	if len(info) < infoLeast {
		return nil, errNoInfo
	}
	return info, nil
}
