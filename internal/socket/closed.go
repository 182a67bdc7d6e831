package socket

import "time"

// Closed is a TCP socket that the kernel has freed, with the final figures of its
// connection. Socket has its two ends and its device; the rest of it is unknown.
type Closed struct {
	Socket
	// Established says that the connection was established at some time. One that
	// was not is a connect() that failed, or that its program gave up.
	Established bool
	// Wiped says that the kernel forgot the remote port and all figures before it
	// freed the socket: after a blocking connect() that failed, or a close() with
	// SO_LINGER and no time to linger (tcp_disconnect in net/ipv4/tcp.c).
	Wiped bool
	// Received and Sent are bytes of data, each counted once.
	Received, Sent uint64
	// Segments are those with and without data.
	SegmentsReceived, SegmentsSent, SegmentsRetransmitted uint32
	// Stalled is the time in retransmission timeouts, if KnowsStalled.
	Stalled      time.Duration
	KnowsStalled bool
	// LimitedByReceiver and LimitedBySendBuffer are the times in which there was
	// data to send, and no room for it at the peer or in the send buffer.
	LimitedByReceiver, LimitedBySendBuffer time.Duration
	// RoundTrip is the smoothed round trip time at the end, and MinRoundTrip the
	// least of the last minutes; zero if none was measured.
	RoundTrip, MinRoundTrip time.Duration
}

// PartyOf returns whose connection a freed socket was: the index of its listener,
// or -1, and without one whether it was made from here. It is a guess where no
// listener of the table has the port and it may be that of one all the same: then
// a newer table decides.
func (t *Table) PartyOf(c *Closed) (listener int, outbound, guess bool) {
	if !c.Established {
		return -1, true, false
	}
	if at := t.Acceptor(&c.Socket); at >= 0 {
		return at, false, false
	}
	if t.unreadPorts[c.Local.Port()] {
		return -1, false, false
	}
	ephemeral := t.criteria.Ephemeral
	if !ephemeral.Contains(c.Local.Port()) {
		return -1, t.isOutbound(&c.Socket), true
	}
	return -1, true, ephemeral.Contains(c.Remote.Port())
}

// IsEphemeral reports whether a port is one that the kernel gives to clients.
func (t *Table) IsEphemeral(port uint16) bool { return t.criteria.Ephemeral.Contains(port) }
