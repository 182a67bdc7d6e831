package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// withInfo gives a socket a TCP_INFO.
func withInfo(change func(*socket.TCPInfo)) func(*socket.Socket) {
	return func(s *socket.Socket) {
		s.Info = &socket.TCPInfo{Established: true, KnowsStalled: true}
		copy(s.Info.Congestion[:], "cubic")
		change(s.Info)
	}
}

// storyOpen has connections of two listeners, of a port without one, and to more remote
// ports than have series, one of which is watched.
func storyOpen() porttest.Sockets {
	quick := withInfo(func(i *socket.TCPInfo) {
		i.RoundTrip, i.MinRoundTrip, i.Sent, i.DataSegments, i.Busy = 700*time.Microsecond, 300*time.Microsecond, 20, 1, time.Millisecond
	})
	return porttest.Sockets{
		made(socket.TCP, socket.Listen, "0.0.0.0:443", ""),
		made(socket.TCP, socket.Listen, "[::]:22", ""), // without connections
		made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.7:50000", withInfo(func(i *socket.TCPInfo) {
			i.RoundTrip, i.MinRoundTrip = 40*time.Millisecond, 20*time.Millisecond
			i.Sent, i.SentAgain, i.Unsent = 100_000, 3000, 7000
			i.DataSegments, i.SegmentsRetransmitted, i.Spurious = 80, 3, 1
			i.Stalled, i.Busy, i.LimitedByReceiver, i.LimitedBySendBuffer = 1500*time.Millisecond, 9*time.Second, 2*time.Second, 250*time.Millisecond
			i.DeliveryRate = 1_000_000
		})),
		made(socket.TCP, socket.CloseWait, "10.0.0.5:443", "192.0.2.7:50001", quick),
		made(socket.TCP, socket.Established, "10.0.0.5:443", "192.0.2.7:50002", withInfo(func(i *socket.TCPInfo) {
			i.Congestion = socket.CongestionControl{'b', 'b', 'r'}
			i.DeliveryRate = 500_000
		})),
		made(socket.TCP, socket.TimeWait, "10.0.0.5:443", "192.0.2.7:50003"),
		made(socket.TCP, socket.Established, "10.0.0.5:9090", "192.0.2.7:50002", quick), // without a listener
		made(socket.TCP, socket.Established, "10.0.0.5:40000", "10.0.0.9:80", quick),
		made(socket.TCP, socket.Established, "10.0.0.5:40001", "10.0.0.9:80", withInfo(func(i *socket.TCPInfo) { i.DeliveryRate = 250_000 })),
		made(socket.TCP, socket.Established, "10.0.0.5:40002", "10.0.0.9:81", quick),
		made(socket.TCP, socket.Established, "10.0.0.5:40003", "10.0.0.9:81", quick),
		made(socket.TCP, socket.Established, "10.0.0.5:40004", "10.0.0.9:82", quick),   // less busy than others
		made(socket.TCP, socket.Established, "10.0.0.5:40005", "10.0.0.9:5432", quick), // likewise, and watched
		made(socket.TCP, socket.SynSent, "10.0.0.5:40006", "10.0.0.9:83", withInfo(func(i *socket.TCPInfo) { i.Established = false })),
	}
}

// TestHealthWithoutInfo is a source that has connections and no TCP_INFO of them, and one
// without connections.
func TestHealthWithoutInfo(t *testing.T) {
	for _, tt := range []struct {
		sockets []socket.Socket
		success int
	}{
		{[]socket.Socket{made(socket.TCP, socket.Established, "10.0.0.5:40000", "10.0.0.9:80")}, 0},
		{[]socket.Socket{made(socket.TCP, socket.TimeWait, "10.0.0.5:40000", "10.0.0.9:80")}, 1},
	} {
		o := options(porttest.Sockets(tt.sockets))
		o.Disabled = nil
		got := exposition(t, t.Context(), o, Filter{})
		if !strings.Contains(got, fmt.Sprintf("port_scrape_collector_success{collector=\"health\"} %d", tt.success)) || !strings.Contains(got, `{collector="sockets"} 1`) {
			t.Errorf("want %d, got\n%s", tt.success, got)
		}
	}
}

// TestHealthOfBusierPort has more ports than places in a read: the busiest, seen last, has
// its series from the next scrape on.
func TestHealthOfBusierPort(t *testing.T) {
	var sockets porttest.Sockets
	quick := withInfo(func(i *socket.TCPInfo) { i.RoundTrip = time.Millisecond })
	for port := range 20 {
		sockets = append(sockets, porttest.Times(1+port, made(socket.TCP, socket.Established, "10.0.0.5:40000", fmt.Sprintf("10.0.0.9:%d", 80+port), quick))...)
	}
	o := options(sockets)
	o.Disabled = nil
	for scrape, want := range []string{
		`port_outbound_open_connections{congestion_control="cubic",netns="",protocol="tcp",remote_port="other"} 210`,
		`port_outbound_open_connections{congestion_control="cubic",netns="",protocol="tcp",remote_port="99"} 20`,
	} {
		if got := exposition(t, t.Context(), o, Filter{Collectors: []string{"health"}}); !strings.Contains(got, want+"\n") {
			t.Errorf("scrape %d: no %s in\n%s", scrape, want, got)
		}
	}
}
