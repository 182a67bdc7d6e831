package closed

import (
	"fmt"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// link is a connection that is read and ends.
type link struct {
	cookie        uint64
	local, remote string
	info          socket.TCPInfo
}

func (l *link) row(state socket.State) *socket.Socket {
	s := porttest.Socket(socket.TCP, state, l.local, l.remote)
	s.Cookie, s.Info = l.cookie, &l.info
	return &s
}

func newLink(cookie uint64, local, remote string) *link {
	return &link{cookie, local, remote, socket.TCPInfo{Established: true, KnowsStalled: true, RoundTrip: time.Millisecond}}
}

// end closes a connection, with the FIN of its peer.
func (h *host) end(l *link) {
	h.closeAs(l.local, l.remote, func(c *socket.Closed) {
		c.Cookie, c.TCPInfo = l.cookie, l.info
		c.Received -= min(c.Received, 1)
	})
}

// see reads connections in one walk.
func (h *host) see(links ...*link) {
	w := h.begin(h.table())
	for _, l := range links {
		w.Observe(l.row(socket.Established))
	}
	w.End()
}

// sums returns what the counters of port 80 have.
func (h *host) sums() (sum Counters) {
	h.scrape(h.table(), h.limits, nil, func(r *Report) {
		for _, l := range r.Inbound {
			if l.Counters != nil {
				sum = *l.Counters
			}
		}
	})
	return sum
}

func (h *host) wantSums(what string, connections, received, sent uint64, segments uint64) {
	h.t.Helper()
	if got := h.sums(); got.Connections != connections || got.Received != received || got.Sent != sent || got.SegmentsSent != segments {
		h.t.Errorf("%s: %d connections, received %d, sent %d in %d segments; want %d, %d, %d, %d", what,
			got.Connections, got.Received, got.Sent, got.SegmentsSent, connections, received, sent, segments)
	}
}

func newServer(t *testing.T) *host {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 2})
	h.listen("0.0.0.0:80")
	h.counted()
	return h
}

func TestWalk(t *testing.T) {
	h := newServer(t)
	l := newLink(7, "10.0.0.1:80", "192.0.2.1:50000")
	l.info.Received, l.info.Sent, l.info.SegmentsSent, l.info.Stalled = 101, 1000, 3, time.Second
	h.see(l)
	h.wantSums("open", 0, 100, 1000, 3)
	h.see(l)
	h.wantSums("idle", 0, 100, 1000, 3)
	l.info.Received, l.info.SegmentsSent = 151, 5
	h.see(l)
	h.wantSums("busy", 0, 150, 1000, 5)
	h.see()
	h.wantSums("reset, and kept by its program", 0, 150, 1000, 5)
	l.info.Sent, l.info.SegmentsSent = 1200, 7
	h.end(l)
	h.wantSums("ended", 1, 150, 1200, 7)
	if got := h.sums(); got.Stalled != time.Second || got.RoundTrip.Count != 1 {
		t.Errorf("stalled %v, %d round trips", got.Stalled, got.RoundTrip.Count)
	}
	if len(h.tracked) != 0 {
		t.Errorf("%d remembered", len(h.tracked))
	}
}

// TestWalkMeetsEnds has connections that end while the table is read: before their row is
// counted, after it, and without figures.
func TestWalkMeetsEnds(t *testing.T) {
	h := newServer(t)
	early, late, unseen := newLink(1, "10.0.0.1:80", "192.0.2.1:50001"), newLink(2, "10.0.0.1:80", "192.0.2.1:50002"), newLink(3, "10.0.0.1:80", "192.0.2.1:50003")
	for _, l := range []*link{early, late, unseen} {
		l.info.Sent = 10
	}
	w := h.begin(h.table())
	if h.begin(h.table()) != nil {
		t.Error("two walks")
	}
	row := early.row(socket.Established) // read before the end, counted after
	h.end(early)
	w.Observe(row)
	w.Observe(late.row(socket.Established))
	h.end(late)
	h.end(unseen)
	w.End()
	h.wantSums("three", 3, 0, 30, 0)

	half := newLink(4, "10.0.0.1:80", "192.0.2.1:50004")
	half.info.Received, half.info.Sent = 101, 10 // of which one is a FIN
	w = h.begin(h.table())
	w.Observe(half.row(socket.CloseWait))
	w.End()
	h.wantSums("half closed", 3, 100, 40, 0)
	h.closeAs("10.0.0.1:80", "192.0.2.1:0", func(c *socket.Closed) { c.Cookie, c.Wiped = 4, true })
	h.wantSums("wiped", 4, 100, 40, 0)
}

// TestWalkWraps has a counter of 32 bits that begins anew.
func TestWalkWraps(t *testing.T) {
	h := newServer(t)
	l := newLink(7, "10.0.0.1:80", "192.0.2.1:50000")
	l.info.SegmentsSent = 1<<32 - 5
	h.see(l)
	l.info.SegmentsSent = 10
	h.see(l)
	h.wantSums("wrapped", 0, 0, 0, 1<<32+10)
}

// TestWalkOfSocketConnectedAgain has a program connect its socket to a second peer, which
// keeps the cookie: both connections count. One that fails to retransmit counts once: the
// kernel counts what it retransmits before it sends it.
func TestWalkOfSocketConnectedAgain(t *testing.T) {
	h := newServer(t)
	l := newLink(7, "10.0.0.1:80", "192.0.2.1:50000")
	l.info.Received, l.info.Sent, l.info.SegmentsSent = 101, 5000, 9
	h.see(l)
	l.info.Received, l.info.Sent, l.info.SegmentsSent = 0, 300, 9
	h.see(l)
	h.wantSums("sent less", 0, 100, 5300, 18)
	l.info.Received, l.info.Sent, l.info.SegmentsSent = 51, 6000, 20
	h.see(l)
	l.info.Received, l.info.SegmentsSent = 11, 30
	h.see(l)
	h.wantSums("received less", 0, 160, 17_000, 59)
	l.info.Sent, l.info.SentAgain = l.info.Sent-10, 10
	h.see(l)
	h.end(l)
	h.wantSums("retransmission failed", 1, 160, 17_000, 59)
}

// TestWalkIsBounded has more connections than are remembered: the others count when they
// end, and take the place of those whose end was lost.
func TestWalkIsBounded(t *testing.T) {
	h := newServer(t)
	w := h.begin(h.table())
	for i := range maxTracked + 10 {
		l := newLink(uint64(i+1), "10.0.0.1:80", fmt.Sprintf("192.0.2.%d:%d", 1+i>>16, 1+i&0x7fff))
		l.info.Sent = 1
		w.Observe(l.row(socket.Established))
	}
	w.End()
	h.wantSums("open", 0, 0, maxTracked, 0)
	if h.untracked != 10 || len(h.tracked) != maxTracked {
		t.Errorf("%d untracked, %d remembered", h.untracked, len(h.tracked))
	}
	last := newLink(maxTracked+10, "10.0.0.1:80", "192.0.2.1:50000")
	last.info.Sent = 5
	h.end(last)
	h.wantSums("one ended", 1, 0, maxTracked+5, 0)
	h.now = h.now.Add(away + time.Minute)
	h.see()
	if len(h.tracked) != 0 {
		t.Errorf("%d remembered after an hour", len(h.tracked))
	}
}

func TestObserveAllocates(t *testing.T) {
	h := newServer(t)
	l := newLink(7, "10.0.0.1:80", "192.0.2.1:50000")
	row := l.row(socket.Established)
	w := h.begin(h.table())
	if n := testing.AllocsPerRun(100, func() { l.info.Sent++; w.Observe(row) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
