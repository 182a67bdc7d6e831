package closed

import (
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// This file counts what open connections have done, before they end. Each counts what it
// has more than the last time, so no counter falls, and at its end what it has more then:
// in total what it counts at its end if it was never seen open. Observe runs once for each
// connection of the host.

// maxTracked is how many open connections are remembered, with some 200 bytes each. What
// is beyond counts when it ends.
const maxTracked = 32_768

// maxEnded bounds the connections that end during one walk and are remembered.
const maxEnded = 32_768

// figures is what of one connection was counted.
type figures struct {
	received, sent                      uint64
	stalled, byReceiver, bySendBuffer   time.Duration
	segmentsSent, segmentsRetransmitted uint32
	seen                                uint32 // when it was last read, in seconds
}

// advance counts what a connection has more than before, if it is known.
func (n *Counters) advance(f *figures, i *socket.TCPInfo, known bool) {
	if known && f.isOfAnother(i) {
		*f, known = figures{}, false
	}
	n.Received += rise(&f.received, i.Received)
	n.Sent += rise(&f.sent, i.Sent)
	n.Stalled += rise(&f.stalled, i.Stalled)
	n.LimitedByReceiver += rise(&f.byReceiver, i.LimitedByReceiver)
	n.LimitedByBuffer += rise(&f.bySendBuffer, i.LimitedBySendBuffer)
	n.SegmentsSent += wrap(&f.segmentsSent, i.SegmentsSent, known)
	n.SegmentsRetransmitted += wrap(&f.segmentsRetransmitted, i.SegmentsRetransmitted, known)
}

// isOfAnother reports whether the program has connected the same socket anew since, which
// keeps its cookie: neither what was received nor what was sent, retransmissions included,
// falls otherwise.
func (f *figures) isOfAnother(i *socket.TCPInfo) bool {
	return i.Received < f.received || i.Sent+i.SentAgain < f.sent
}

// rise raises a figure and returns by how much.
func rise[T uint64 | time.Duration](figure *T, now T) T {
	by := max(now, *figure) - *figure
	*figure += by
	return by
}

// wrap is rise for the kernel's counters of 32 bits, which begin anew beyond them. Less
// than half of them lie between two reads.
func wrap(figure *uint32, now uint32, known bool) uint64 {
	by := now - *figure
	if known && int32(by) < 0 {
		return 0
	}
	*figure = now
	return uint64(by)
}

// Walk is one read of the table of open connections.
type Walk struct {
	book      *Book
	began     time.Time
	untracked int
	// ended has the connections that ended since it began: their rows may come late.
	ended map[uint64]bool
	row   socket.Closed // the connection that is counted
}

// begin begins a walk, by the listeners of a table. It is nil while another one is
// under way, for the rows of one connection must come in their order.
func (b *Book) begin(table *socket.Table) *Walk {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.walk != nil {
		return nil
	}
	b.use(table)
	b.walk = &Walk{book: b, began: b.now(), ended: map[uint64]bool{}}
	return b.walk
}

// Observe counts an open connection.
func (w *Walk) Observe(s *socket.Socket) {
	if !s.Info.Established || s.Cookie == 0 {
		return
	}
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	if w.ended[s.Cookie] || len(w.ended) >= maxEnded {
		return
	}
	w.book.observe(w, s)
}

func (b *Book) observe(w *Walk, s *socket.Socket) {
	f, known := b.tracked[s.Cookie]
	if !known && len(b.tracked) >= maxTracked {
		w.untracked++
		return
	}
	w.row.Socket, w.row.TCPInfo = *s, *s.Info
	w.row.Received -= min(w.row.Received, 1) // it may be a FIN that has come since the state was read
	at, outbound, _ := b.view.partyOf(&w.row)
	b.countersOf(&w.row, at, outbound, w.began).advance(&f, &w.row.TCPInfo, known)
	b.knowsStalled = b.knowsStalled || s.Info.KnowsStalled
	f.seen = uint32(w.began.Unix())
	b.tracked[s.Cookie] = f
}

// End ends the walk.
func (w *Walk) End() {
	b := w.book
	b.mu.Lock()
	defer b.mu.Unlock()
	b.walk, b.walked, b.untracked = nil, true, w.untracked
	if len(b.tracked) >= maxTracked {
		b.forgetLost(uint32(w.began.Unix()))
	}
}

// forgetLost makes room: a connection that no walk has seen for long ended with a message
// that was lost. One that its program keeps after a reset is in no table either, so it is
// forgotten only if there is no room.
func (b *Book) forgetLost(now uint32) {
	for cookie, f := range b.tracked {
		if time.Duration(now-f.seen)*time.Second > away {
			delete(b.tracked, cookie)
		}
	}
}

// take returns what was counted of a connection that has ended, and forgets it.
func (b *Book) take(cookie uint64) (f figures, known bool) {
	if b.walk != nil && len(b.walk.ended) < maxEnded {
		b.walk.ended[cookie] = true
	}
	f, known = b.tracked[cookie]
	delete(b.tracked, cookie)
	return f, known
}
