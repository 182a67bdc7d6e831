// Package closed adds up what the TCP connections of this host were, as the kernel
// frees them: between two scrapes none is missed. The kernel's messages come from a
// [Stream]; [Book] counts them by listener, by remote port and by destination. A [Walk]
// counts what those did that are still open.
package closed

import (
	"cmp"
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// This file holds the inner loop: add runs once for each connection that ends. It
// must not allocate but for what gets counters of its own.

// Counters are what the connections of one service add up to. Connections and the round
// trips are of closed ones.
type Counters struct {
	Connections uint64
	// Received and Sent are bytes of data.
	Received, Sent                              uint64
	SegmentsSent, SegmentsRetransmitted         uint64
	Stalled, LimitedByReceiver, LimitedByBuffer time.Duration
	RoundTrip, MinRoundTrip                     Histogram
}

// IsZero reports whether nothing was counted, of open connections neither.
func (n *Counters) IsZero() bool { return *n == Counters{} }

// add adds a connection, of which some was counted if it was seen open.
func (n *Counters) add(c *socket.Closed, counted *figures, wasOpen bool) {
	n.Connections++
	if !c.Wiped { // else it has no figures
		n.advance(counted, &c.TCPInfo, wasOpen)
	}
	if c.RoundTrip > 0 {
		n.RoundTrip.Observe(c.RoundTrip)
	}
	if c.MinRoundTrip > 0 {
		n.MinRoundTrip.Observe(c.MinRoundTrip)
	}
}

// Failures are connections from here that were never established. Unanswered are
// those to which nothing came back, Other those to which something did.
type Failures struct{ Unanswered, Other uint64 }

func (f *Failures) add(c *socket.Closed) {
	if c.SegmentsReceived == 0 {
		f.Unanswered++
	} else {
		f.Other++
	}
}

// Limits bound the counters.
type Limits struct {
	Listeners, OutboundPorts, Destinations, WatchedDestinations int
}

// The listeners are read for a port that is unknown, but the pause after it is at
// least leastPause, and readShare times as long as the read took: it costs 1 % at most.
const (
	leastPause = 10 * time.Millisecond
	readShare  = 100
)

// Book counts closed connections. It is safe for concurrent use.
type Book struct {
	read func(context.Context) (*socket.Table, error)
	now  func() time.Time

	mu            sync.Mutex
	limits        Limits
	view          view
	nextRead      time.Time
	listeners     map[socket.ListenerID]*Counters
	goneAt        map[socket.ListenerID]time.Time // of those that are not in the table
	otherInbound  Counters
	outbound      *slots[uint16, Counters]
	wiped         Counters // outbound, the remote port unknown
	failed        *slots[uint16, Failures]
	wipedFailures uint64 // remote port and outcome unknown
	destinations  *slots[netip.AddrPort, Failures]
	watched       *slots[netip.AddrPort, Failures]
	isWatched     func(netip.AddrPort) bool
	knowsStalled  bool
	malformed     uint64

	tracked   map[uint64]figures // of open connections, by cookie
	walk      *Walk              // nil between walks
	walked    bool               // whether there was one
	untracked int                // connections of the last walk that found no room
}

// New returns an empty book that reads the listeners and the time from functions.
func New(limits Limits, read func(context.Context) (*socket.Table, error), now func() time.Time) *Book {
	b := &Book{
		read:         read,
		now:          now,
		listeners:    map[socket.ListenerID]*Counters{},
		goneAt:       map[socket.ListenerID]time.Time{},
		tracked:      map[uint64]figures{},
		outbound:     newSlots[uint16, Counters](cmp.Compare, now),
		failed:       newSlots[uint16, Failures](cmp.Compare, now),
		destinations: newSlots[netip.AddrPort, Failures](netip.AddrPort.Compare, now),
		watched:      newSlots[netip.AddrPort, Failures](netip.AddrPort.Compare, now),
	}
	b.choose(limits)
	b.isWatched = socket.Watching(nil)
	return b
}

// batch adds the connections of a batch, under one lock.
func (b *Book) batch(ctx context.Context, stream Stream) (taken int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	taken, malformed, err := stream.Take(func(c *socket.Closed) { b.add(ctx, c, now) })
	b.malformed += uint64(malformed)
	return taken, err
}

// add adds one connection.
func (b *Book) add(ctx context.Context, c *socket.Closed, now time.Time) {
	b.knowsStalled = b.knowsStalled || c.KnowsStalled
	counted, wasOpen := b.take(c.Cookie)
	if !c.Established && !wasOpen {
		b.addFailure(c, now)
		return
	}
	if b.view.table == nil {
		b.readAgain(ctx, now)
	}
	at, outbound, guess := b.view.partyOf(c)
	if guess && b.view.gone[c.Local.Port()] == nil && b.readAgain(ctx, now) {
		at, outbound, _ = b.view.partyOf(c)
	}
	b.countersOf(c, at, outbound, now).add(c, &counted, wasOpen)
}

// countersOf returns the counters of a connection.
func (b *Book) countersOf(c *socket.Closed, at int, outbound bool, now time.Time) *Counters {
	if at >= 0 {
		return b.ofListener(at)
	}
	gone := b.goneListener(c)
	switch {
	case gone != nil:
		return gone
	case !outbound:
		return &b.otherInbound
	case c.Wiped:
		return &b.wiped
	}
	port := c.Remote.Port()
	return b.outbound.count(port, b.view.isEphemeral(port), now)
}

func (b *Book) addFailure(c *socket.Closed, now time.Time) {
	if c.Wiped {
		b.wipedFailures++
		return
	}
	port := c.Remote.Port()
	b.failed.count(port, b.view.isEphemeral(port), now).add(c)
	to := b.destinations
	if b.isWatched(c.Remote) {
		to = b.watched
	}
	to.count(c.Remote, false, now).add(c)
}

// readAgain reads the listeners, if that was not done just now.
func (b *Book) readAgain(ctx context.Context, now time.Time) bool {
	if now.Before(b.nextRead) {
		return false
	}
	table, err := b.read(ctx)
	after := b.now()
	b.nextRead = after.Add(max(leastPause, readShare*after.Sub(now)))
	if err != nil { // the next scrape reads them too, and reports what is wrong
		return false
	}
	b.use(table)
	return true
}
