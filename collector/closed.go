package collector

import (
	"context"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/closed"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Closed counts the connections that end, between the scrapes too.
type Closed interface {
	// Walk begins to count open connections by the listeners of a table; nil if that is
	// not possible now.
	Walk(table *socket.Table) *closed.Walk
	// Scrape calls show with what was counted so far.
	Scrape(ctx context.Context, table *socket.Table, limits closed.Limits, watched []socket.Watched, show func(*closed.Report)) error
}

// closedFamilies are the families of one direction.
type closedFamilies struct {
	connections, received, sent, segments, retransmitted, stalled, limited, roundTrip, minRoundTrip *Family
}

var (
	outboundLabels = []string{"netns", "protocol", "remote_port"}

	inboundClosed  = newClosedFamilies("inbound", "of a listener", listenerLabels)
	outboundClosed = newClosedFamilies("outbound", "by remote port", outboundLabels)

	connectsFailed = counter("port_outbound_connects_failed_total",
		"Outbound connections closed before they were established, by remote port.", "netns", "remote_port", "outcome")
	destinationConnectsFailed = counter("port_destination_connects_failed_total",
		"Outbound connections closed before they were established, by destination.", "netns", "remote_address", "remote_port", "outcome")
	closedLost = counter("port_closed_connections_lost_total",
		"Closed sockets whose final values were lost because the buffer was full.")
	closedUntracked = gauge("port_closed_connections_untracked",
		"Open connections beyond the limit: they count only when they close.")
	closedMalformed = counter("port_closed_connections_malformed_total",
		"Closed sockets whose final values could not be parsed.")
)

func newClosedFamilies(direction, whose string, labels []string) closedFamilies {
	name := func(what string) string { return "port_" + direction + "_connections_" + what }
	return closedFamilies{
		connections:   counter(name("closed_total"), "Closed TCP connections "+whose+".", labels...),
		received:      counter(name("received_bytes_total"), "Bytes received over connections "+whose+".", labels...),
		sent:          counter(name("sent_bytes_total"), "Bytes sent over connections "+whose+", without retransmitted ones.", labels...),
		segments:      counter(name("segments_sent_total"), "Segments sent over connections "+whose+".", labels...),
		retransmitted: counter(name("segments_retransmitted_total"), "Segments retransmitted over connections "+whose+".", labels...),
		stalled:       counter(name("stalled_seconds_total"), "Time connections "+whose+" spent in retransmission timeouts, in seconds.", labels...),
		limited:       counter(name("limited_seconds_total"), "Time connections "+whose+" could not send, in seconds.", bind(labels, "by")...),
		roundTrip:     histogram(name("round_trip_seconds"), "Smoothed round trip time of closed connections "+whose+", in seconds.", labels...),
		minRoundTrip:  histogram(name("minimum_round_trip_seconds"), "Minimum round trip time of closed connections "+whose+", in seconds.", labels...),
	}
}

func (f *closedFamilies) all() []*Family {
	return []*Family{f.connections, f.received, f.sent, f.segments, f.retransmitted, f.stalled, f.limited, f.roundTrip, f.minRoundTrip}
}

// unknownPort is the remote port of sockets that the kernel freed without it.
const unknownPort = "unknown"

// The values of by.
const (
	limitedByReceiver   = "receiver"
	limitedBySendBuffer = "send_buffer"
)

// The values of outcome.
const (
	outcomeUnanswered = "unanswered"
	outcomeOther      = "other"
	outcomeUnknown    = "unknown"
)

// closedConnections exports what the connections that ended add up to.
type closedConnections struct {
	open   func() (Closed, error)
	limits Limits
}

func (closedConnections) Name() string { return "closed" }

func (closedConnections) Families() []*Family {
	families := append(inboundClosed.all(), outboundClosed.all()...)
	return append(families, connectsFailed, destinationConnectsFailed, closedLost, closedMalformed, closedUntracked)
}

func (c closedConnections) Collect(ctx context.Context, host *Snapshot, out *Output) error {
	recorder, err := c.open()
	if err != nil {
		return err
	}
	table, err := host.Listening()
	if err != nil {
		return err
	}
	if host.wants.health { // after its read, so that open connections are counted up to now
		_, _, _ = host.Connections() // other collectors report its error
	}
	limits := closed.Limits{
		Listeners:           c.limits.Listeners,
		OutboundPorts:       c.limits.OutboundPorts,
		Destinations:        c.limits.Destinations,
		WatchedDestinations: c.limits.WatchedDestinations,
	}
	return recorder.Scrape(ctx, table, limits, host.Watched().Destinations, func(r *closed.Report) {
		addClosedInbound(out, r)
		addClosedOutbound(out, r)
		addFailures(out, r)
		out.add(closedLost, float64(r.Lost))
		out.add(closedMalformed, float64(r.Malformed))
		if r.Walked {
			out.add(closedUntracked, float64(r.Untracked))
		}
	})
}

func addClosedInbound(out *Output, r *closed.Report) {
	none := &closed.Counters{}
	for _, l := range r.Inbound {
		counters := l.Counters
		if counters == nil { // at 0 from the start, so that the first increase counts
			counters = none
		}
		addClosed(out, &inboundClosed, counters, r.KnowsStalled, labelsOf(l.ListenerID)...)
	}
	if !r.OtherInbound.IsZero() {
		addClosed(out, &inboundClosed, r.OtherInbound, r.KnowsStalled, hostNetns, socket.TCP.String(), other, other, "")
	}
}

func addClosedOutbound(out *Output, r *closed.Report) {
	for _, p := range r.Outbound {
		addClosed(out, &outboundClosed, p.Counters, r.KnowsStalled, hostNetns, socket.TCP.String(), portLabel(p.Port))
	}
	if !r.OtherOutbound.IsZero() {
		addClosed(out, &outboundClosed, r.OtherOutbound, r.KnowsStalled, hostNetns, socket.TCP.String(), other)
	}
	if r.Wiped.Connections > 0 { // of which nothing else is known
		out.add(outboundClosed.connections, float64(r.Wiped.Connections), hostNetns, socket.TCP.String(), unknownPort)
	}
	out.fold(outboundClosed.connections, r.OutboundFolded)
}

// addClosed adds the counters of one service. A histogram without values is absent.
func addClosed(out *Output, f *closedFamilies, n *closed.Counters, stalled bool, id ...string) {
	labels := out.set(f.connections, id...)
	out.addSet(f.connections, float64(n.Connections), labels)
	out.addSet(f.received, float64(n.Received), labels)
	out.addSet(f.sent, float64(n.Sent), labels)
	out.addSet(f.segments, float64(n.SegmentsSent), labels)
	out.addSet(f.retransmitted, float64(n.SegmentsRetransmitted), labels)
	if stalled {
		out.addSet(f.stalled, n.Stalled.Seconds(), labels)
	}
	out.add(f.limited, n.LimitedByReceiver.Seconds(), bind(id, limitedByReceiver)...)
	out.add(f.limited, n.LimitedByBuffer.Seconds(), bind(id, limitedBySendBuffer)...)
	out.addHistogram(f.roundTrip, &n.RoundTrip, labels)
	out.addHistogram(f.minRoundTrip, &n.MinRoundTrip, labels)
}

func addFailures(out *Output, r *closed.Report) {
	add := func(f *Family, failures closed.Failures, id ...string) {
		out.add(f, float64(failures.Unanswered), bind(id, outcomeUnanswered)...)
		out.add(f, float64(failures.Other), bind(id, outcomeOther)...)
	}
	for _, p := range r.Failed {
		add(connectsFailed, *p.Failures, hostNetns, portLabel(p.Port))
	}
	if *r.OtherFailed != (closed.Failures{}) {
		add(connectsFailed, *r.OtherFailed, hostNetns, other)
	}
	out.add(connectsFailed, float64(r.WipedFailures), hostNetns, unknownPort, outcomeUnknown)
	out.fold(connectsFailed, r.FailedFolded)
	for _, d := range r.Destinations {
		add(destinationConnectsFailed, d.Failures, hostNetns, d.Remote.Addr().String(), portLabel(d.Remote.Port()))
	}
	out.fold(destinationConnectsFailed, r.DestinationsFolded)
}

// addHistogram adds a histogram, native with a few classic buckets.
func (o *Output) addHistogram(f *Family, h *closed.Histogram, labels labelSet) {
	if h.Count == 0 {
		return
	}
	sum, zero, schema, threshold := h.Sum.Seconds(), uint64(0), int32(closed.Schema), float64(0)
	count := h.Count // h goes on counting
	m := &dto.Histogram{SampleCount: &count, SampleSum: &sum, Schema: &schema, ZeroCount: &zero, ZeroThreshold: &threshold}
	for i, bound := range closed.Classic {
		below := h.Classic[i]
		m.Bucket = append(m.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: &below})
	}
	m.PositiveSpan, m.PositiveDelta = spans(h.Native[:])
	family := o.family(f)
	family.Metric = append(family.Metric, &dto.Metric{Label: labels, Histogram: m})
}

// spans returns the buckets that are not empty, as native histograms have them: runs,
// and the difference of each from the one before.
func spans(buckets []uint64) (spans []*dto.BucketSpan, deltas []int64) {
	last, before := 0, uint64(0) // the end of the last run, and the count of the last bucket
	for i, n := range buckets {
		if n == 0 {
			continue
		}
		gap := int32(i - last)
		if spans == nil {
			gap += closed.FirstBucket
		}
		if spans == nil || gap > 0 {
			spans = append(spans, &dto.BucketSpan{Offset: &gap, Length: new(uint32)})
		}
		*spans[len(spans)-1].Length++
		deltas = append(deltas, int64(n)-int64(before))
		last, before = i+1, n
	}
	return spans, deltas
}
