package sockdiag

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// tcpInfo returns a struct tcp_info of so many bytes, as Linux 6.18 fills 280.
func tcpInfo(length int) []byte {
	b := make([]byte, 280)
	for at, n := range map[int]uint32{infoRTT: 40_000, infoMinRTT: 20_000, infoTotalRetrans: 3, infoSegsOut: 90, infoSegsIn: 50,
		infoNotSent: 700, infoDataSegsOut: 80, infoDelivered: 77, infoDSACKs: 1, infoRTOTime: 1500} {
		native.PutUint32(b[at:], n)
	}
	for at, n := range map[int]uint64{infoBytesGot: 501, infoBytesSent: 103_000, infoBytesRetrans: 3000, infoRate: 1 << 40,
		infoBusy: 9_000_000, infoRwndLimited: 2_000_000, infoSndbufLimit: 250_000} {
		native.PutUint64(b[at:], n)
	}
	return b[:length]
}

func rowWith(attributes ...[]byte) []byte {
	return row(familyINET, 1, "10.0.0.1:80", "10.0.0.2:9", attributes...)
}

func TestDecodeInfo(t *testing.T) {
	whole := socket.TCPInfo{
		Established: true, Received: 501, Sent: 100_000, SentAgain: 3000, Unsent: 700, SegmentsReceived: 50, SegmentsSent: 90, DataSegments: 80,
		SegmentsRetransmitted: 3, Spurious: 1, Stalled: 1500 * time.Millisecond, KnowsStalled: true, Busy: 9 * time.Second,
		LimitedByReceiver: 2 * time.Second, LimitedBySendBuffer: 250 * time.Millisecond, RoundTrip: 40 * time.Millisecond, MinRoundTrip: 20 * time.Millisecond,
		DeliveryRate: 1 << 40, Congestion: socket.CongestionControl{'c', 'u', 'b', 'i', 'c'},
	}
	changed := func(change func(*socket.TCPInfo)) *socket.TCPInfo {
		i := whole
		change(&i)
		return &i
	}
	limited := tcpInfo(280)
	limited[infoAppLimited] = 1
	if bigEndian {
		limited[infoAppLimited] = 1 << 7
	}
	unmeasured := tcpInfo(280)
	native.PutUint32(unmeasured[infoMinRTT:], math.MaxUint32)
	info := func(b []byte) []byte { return attribute(attrInfo, b...) }
	cubic := attribute(attrCong, []byte("cubic\x00")...)
	for name, tt := range map[string]struct {
		row  []byte
		want *socket.TCPInfo
	}{
		"none":                     {rowWith(cubic), nil},
		"empty":                    {rowWith(info(nil), cubic), nil},
		"one byte short":           {rowWith(info(tcpInfo(infoLeast-1)), cubic), nil},
		"attribute cut short":      {rowWith(info(tcpInfo(280))[:280]), nil},
		"of Linux 4.19":            {rowWith(info(tcpInfo(infoLeast)), cubic), changed(func(i *socket.TCPInfo) { i.Spurious, i.Stalled, i.KnowsStalled = 0, 0, false })},
		"time one byte short":      {rowWith(info(tcpInfo(infoRTOTime+3)), cubic), changed(func(i *socket.TCPInfo) { i.Stalled, i.KnowsStalled = 0, false })},
		"limited by its program":   {rowWith(info(limited), cubic), changed(func(i *socket.TCPInfo) { i.DeliveryRate = 0 })},
		"without a round trip":     {rowWith(info(unmeasured), cubic), changed(func(i *socket.TCPInfo) { i.MinRoundTrip = 0 })},
		"without an algorithm":     {rowWith(info(tcpInfo(280))), changed(func(i *socket.TCPInfo) { i.Congestion = socket.CongestionControl{} })},
		"with a very long name":    {rowWith(info(tcpInfo(280)), attribute(attrCong, []byte("abcdefghijklmnopqrst")...)), changed(func(i *socket.TCPInfo) { copy(i.Congestion[:], "abcdefghijklmnop") })},
		"whole":                    {rowWith(info(tcpInfo(280)), cubic), &whole},
		"whole, and of the future": {rowWith(info(append(tcpInfo(280), make([]byte, 40)...)), cubic), &whole},
	} {
		r := reader{protocol: socket.TCP, withInfo: true}
		if err := r.decode(tt.row); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(tt.want, r.sock.Info); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	r := reader{protocol: socket.TCP}
	if err := r.decode(rowWith(info(tcpInfo(280)))); err != nil || r.sock.Info != nil {
		t.Errorf("unasked: %v, %v", err, r.sock.Info)
	}
}

func TestDecodeInfoAllocates(t *testing.T) {
	b := rowWith(attribute(attrInfo, tcpInfo(280)...), attribute(attrCong, []byte("cubic\x00")...))
	r := reader{protocol: socket.TCP, withInfo: true}
	if n := testing.AllocsPerRun(100, func() { _ = r.decode(b) }); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
}
