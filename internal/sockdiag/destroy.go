package sockdiag

// This file is the inner loop of the collector closed: decodeClosed runs once for
// each TCP socket that the kernel frees. It must not allocate, and it must take any
// bytes.

import (
	"fmt"
	"math"

	"github.com/port-exporter/port_exporter/internal/socket"
)

const attrProtocol = 10

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
	fillInfo(&c.TCPInfo, info)
	c.Received -= min(c.Received, 1)
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
