package socket

import "time"

// TCPInfo is what the kernel knows of the path of a TCP connection (struct tcp_info,
// tcp(7)).
type TCPInfo struct {
	// Established says that the connection was established at some time.
	Established bool
	// Received are the bytes received, a FIN included. Sent are the bytes of data sent,
	// each counted once, and SentAgain those that were retransmitted.
	Received, Sent, SentAgain uint64
	// Unsent are the bytes that the program has written and that were not sent yet.
	Unsent uint32
	// Segments are those with and without data; DataSegments are sent ones with data,
	// retransmissions included.
	SegmentsReceived, SegmentsSent, DataSegments uint32
	// SegmentsRetransmitted were sent again, and Spurious are those of them that the peer
	// had already.
	SegmentsRetransmitted, Spurious uint32
	// Stalled is the time in retransmission timeouts, if KnowsStalled.
	Stalled      time.Duration
	KnowsStalled bool
	// Busy is the time in which there was data to send or to be acknowledged.
	// LimitedByReceiver and LimitedBySendBuffer are the parts of it without room for the
	// data at the peer or in the send buffer.
	Busy, LimitedByReceiver, LimitedBySendBuffer time.Duration
	// RoundTrip is the smoothed round trip time, and MinRoundTrip the least of the last
	// minutes; zero if none was measured.
	RoundTrip, MinRoundTrip time.Duration
	// DeliveryRate is how fast data reached the peer when that was measured last, in
	// bytes per second; zero if the program limited it, by having nothing to send.
	DeliveryRate uint64
	// Congestion is the congestion control algorithm; zero where it was not asked for.
	Congestion CongestionControl
}

// CongestionControl is the name of a congestion control algorithm as the kernel has it,
// up to a zero (TCP_CA_NAME_MAX in include/net/tcp.h).
type CongestionControl [16]byte

// String returns the name.
func (c CongestionControl) String() string {
	for i, b := range c {
		if b == 0 {
			return string(c[:i])
		}
	}
	return string(c[:])
}
