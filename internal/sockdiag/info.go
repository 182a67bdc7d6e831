package sockdiag

// Part of the inner loops of a dump and of the collector closed: fillInfo runs once for
// each connection. It must not allocate.

import (
	"math"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Offsets in struct tcp_info of include/uapi/linux/tcp.h, of which newer kernels
// send more. Those before infoLeast are there since Linux 4.19.
const (
	infoAppLimited   = 7   // the first bit
	infoRTT          = 68  // µs
	infoTotalRetrans = 100 // segments
	infoBytesAcked   = 120 // the SYN that was sent included
	infoBytesGot     = 128 // a FIN included
	infoSegsOut      = 136
	infoSegsIn       = 140
	infoNotSent      = 144 // bytes
	infoMinRTT       = 148 // µs; all ones is none
	infoDataSegsOut  = 156
	infoRate         = 160 // bytes per second
	infoBusy         = 168 // µs
	infoRwndLimited  = 176 // µs
	infoSndbufLimit  = 184 // µs
	infoDelivered    = 192 // segments, the SYN included
	infoBytesSent    = 200 // retransmitted ones included
	infoBytesRetrans = 208
	infoLeast        = 216
	infoDSACKs       = 216 // segments
	infoRTOTime      = 244 // ms, since Linux 6.7
)

// fillInfo reads a struct tcp_info of at least infoLeast bytes.
func fillInfo(i *socket.TCPInfo, info []byte) {
	u32 := func(at int) uint32 { return native.Uint32(info[at:]) }
	u64 := func(at int) uint64 { return native.Uint64(info[at:]) }
	*i = socket.TCPInfo{}
	i.Received, i.SentAgain, i.Unsent = u64(infoBytesGot), u64(infoBytesRetrans), u32(infoNotSent)
	i.Sent = u64(infoBytesSent) - min(u64(infoBytesSent), i.SentAgain)
	i.Established = u32(infoDelivered) > 0 || u64(infoBytesAcked) > 0 || i.Received > 0
	i.SegmentsReceived, i.SegmentsSent, i.DataSegments = u32(infoSegsIn), u32(infoSegsOut), u32(infoDataSegsOut)
	i.SegmentsRetransmitted = u32(infoTotalRetrans)
	i.Busy, i.LimitedByReceiver, i.LimitedBySendBuffer = microseconds(u64(infoBusy)), microseconds(u64(infoRwndLimited)), microseconds(u64(infoSndbufLimit))
	i.RoundTrip = microseconds(uint64(u32(infoRTT)))
	if least := u32(infoMinRTT); least != math.MaxUint32 {
		i.MinRoundTrip = microseconds(uint64(least))
	}
	if !bit(info[infoAppLimited], 0) {
		i.DeliveryRate = u64(infoRate)
	}
	if len(info) >= infoDSACKs+4 {
		i.Spurious = u32(infoDSACKs)
	}
	if len(info) >= infoRTOTime+4 {
		i.Stalled, i.KnowsStalled = time.Duration(u32(infoRTOTime))*time.Millisecond, true
	}
}

// microseconds returns a time that fits.
func microseconds(n uint64) time.Duration {
	return time.Duration(min(n, uint64(math.MaxInt64/time.Microsecond))) * time.Microsecond
}
