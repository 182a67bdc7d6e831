package closed

import (
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Report is what was counted up to a scrape. What it points to changes when the call
// that was given it has returned.
type Report struct {
	// Inbound has the TCP listeners that have series of their own, and those that
	// are gone since an hour at most, sorted.
	Inbound []Inbound
	// OtherInbound has the connections of all other listeners, and those of none.
	OtherInbound *Counters
	// Outbound has the remote ports with series of their own, and OutboundFolded says
	// how many were added to OtherOutbound. Wiped are those without a remote port.
	Outbound             []Outbound
	OtherOutbound, Wiped *Counters
	OutboundFolded       int
	Failed               []Failed
	OtherFailed          *Failures
	FailedFolded         int
	// WipedFailures are connects that failed, the port and outcome unknown.
	WipedFailures      uint64
	Destinations       []Destination
	DestinationsFolded int
	// KnowsStalled says that the kernel provides Stalled.
	KnowsStalled bool
	// Walked says that open connections were counted too, but for Untracked ones, which
	// are beyond the limit and count when they end.
	Walked    bool
	Untracked int
	// Lost are messages that found no room, and Malformed those that could not be
	// parsed.
	Lost, Malformed uint64
}

// Inbound has the counters of a listener, nil if it has had no connections.
type Inbound struct {
	socket.ListenerID
	*Counters
}

// Outbound has the counters of a remote port.
type Outbound struct {
	Port uint16
	*Counters
}

// Failed has the failures of a remote port.
type Failed struct {
	Port uint16
	*Failures
}

// Destination has the failures of a destination.
type Destination struct {
	Remote netip.AddrPort
	Failures
}

// scrape puts a table and limits in force, and calls show with what was counted.
func (b *Book) scrape(table *socket.Table, limits Limits, watched []socket.Watched, show func(*Report)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.isWatched = socket.Watching(watched)
	b.choose(limits)
	b.use(table)
	r := &Report{
		OtherInbound:   &b.otherInbound,
		OtherOutbound:  &b.outbound.rest,
		Wiped:          &b.wiped,
		OutboundFolded: b.outbound.folded,
		OtherFailed:    &b.failed.rest,
		FailedFolded:   b.failed.folded,
		WipedFailures:  b.wipedFailures,
		KnowsStalled:   b.knowsStalled,
		Malformed:      b.malformed,
		Walked:         b.walked,
		Untracked:      b.untracked,
	}
	r.Inbound = b.inbound()
	for _, port := range b.outbound.keys() {
		r.Outbound = append(r.Outbound, Outbound{port, &b.outbound.of[port].counters})
	}
	for _, port := range b.failed.keys() {
		r.Failed = append(r.Failed, Failed{port, &b.failed.of[port].counters})
	}
	r.Destinations, r.DestinationsFolded = b.failedDestinations(watched), b.destinations.folded+b.watched.folded
	show(r)
}

// choose puts limits in force.
func (b *Book) choose(limits Limits) {
	b.limits = limits
	now := b.now()
	b.outbound.choose(limits.OutboundPorts, now)
	b.failed.choose(limits.OutboundPorts, now)
	b.destinations.choose(limits.Destinations, now)
	b.watched.choose(limits.WatchedDestinations, now)
}

func (b *Book) inbound() []Inbound {
	var all []Inbound
	for i := range b.view.table.Listeners {
		if l := &b.view.table.Listeners[i]; l.Protocol == socket.TCP && (b.view.at[i] != nil || b.view.series[l.ListenerID]) {
			all = append(all, Inbound{l.ListenerID, b.view.at[i]})
		}
	}
	for id := range b.goneAt {
		all = append(all, Inbound{id, b.listeners[id]})
	}
	slices.SortFunc(all, func(a, b Inbound) int { return a.Compare(b.ListenerID) })
	return all
}

// failedDestinations returns those with counters, and the watched ones that have had
// no failure.
func (b *Book) failedDestinations(watched []socket.Watched) []Destination {
	uses := map[netip.AddrPort]Failures{}
	for _, s := range []*slots[netip.AddrPort, Failures]{b.destinations, b.watched} {
		for remote, slot := range s.of {
			both := uses[remote] // it may be watched since a moment ago
			uses[remote] = Failures{both.Unanswered + slot.counters.Unanswered, both.Other + slot.counters.Other}
		}
	}
	shown := 0
	for _, w := range watched {
		if remote, single := w.Single(); single && shown < b.limits.WatchedDestinations {
			shown++
			uses[remote] = uses[remote] //nolint:staticcheck // it may be new
		}
	}
	all := make([]Destination, 0, len(uses))
	for remote, f := range uses {
		all = append(all, Destination{remote, f})
	}
	slices.SortFunc(all, func(a, b Destination) int { return a.Remote.Compare(b.Remote) })
	return all
}
