package collector

import (
	"context"
	"errors"

	"github.com/port-exporter/port_exporter/internal/health"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// openFamilies are the families of one direction.
type openFamilies struct {
	connections, roundTrip, minRoundTrip, unsent *Family
	sent, sentAgain                              *Family
	segments, retransmitted, spurious            *Family
	stalled, limited, busy                       *Family
	rate, delivering                             *Family
}

var (
	inboundOpen  = newOpenFamilies("inbound", "of a listener", listenerLabels)
	outboundOpen = newOpenFamilies("outbound", "by remote port", outboundLabels)
)

func newOpenFamilies(direction, whose string, labels []string) openFamilies {
	name := func(what string) string { return "port_" + direction + "_open_connections_" + what }
	return openFamilies{
		connections:   gauge("port_"+direction+"_open_connections", "Open TCP connections "+whose+" with a congestion control algorithm.", bind(labels, "congestion_control")...),
		roundTrip:     gaugeHistogram(name("round_trip_seconds"), "Smoothed round trip time of open connections "+whose+", in seconds.", labels...),
		minRoundTrip:  gaugeHistogram(name("minimum_round_trip_seconds"), "Minimum round trip time of open connections "+whose+", in seconds.", labels...),
		unsent:        gauge(name("unsent_bytes"), "Bytes written but not yet sent, over open connections "+whose+".", labels...),
		sent:          gauge(name("sent_bytes"), "Bytes sent over open connections "+whose+", without retransmitted ones.", labels...),
		sentAgain:     gauge(name("retransmitted_bytes"), "Bytes retransmitted over open connections "+whose+".", labels...),
		segments:      gauge(name("data_segments_sent"), "Segments with data sent over open connections "+whose+".", labels...),
		retransmitted: gauge(name("segments_retransmitted"), "Segments retransmitted over open connections "+whose+".", labels...),
		spurious:      gauge(name("segments_spuriously_retransmitted"), "Segments of open connections "+whose+" retransmitted without need.", labels...),
		stalled:       gauge(name("stalled_seconds"), "Time open connections "+whose+" spent in retransmission timeouts, in seconds.", labels...),
		limited:       gauge(name("limited_seconds"), "Time open connections "+whose+" could not send, in seconds.", bind(labels, "by")...),
		busy:          gauge(name("busy_seconds"), "Time open connections "+whose+" had data to send, in seconds.", labels...),
		rate:          gauge(name("delivery_rate_bytes_per_second"), "Sum of delivery rates of open connections "+whose+", in bytes per second.", labels...),
		delivering:    gauge(name("delivery_rate_measured"), "Open connections "+whose+" that are in the sum of delivery rates.", labels...),
	}
}

func (f *openFamilies) all() []*Family {
	return []*Family{f.connections, f.roundTrip, f.minRoundTrip, f.unsent, f.sent, f.sentAgain, f.segments, f.retransmitted,
		f.spurious, f.stalled, f.limited, f.busy, f.rate, f.delivering}
}

// openConnections exports what the kernel knows of the paths of the connections there are.
type openConnections struct {
	limits Limits
	memory *Memory
}

func (openConnections) Name() string { return healthName }

const healthName = "health"

func (openConnections) Families() []*Family { return append(inboundOpen.all(), outboundOpen.all()...) }

// errNoInfo says that connections were read without TCP_INFO.
var errNoInfo = errors.New("the source does not provide TCP_INFO\nhint: requires sock_diag and Linux 4.19 or later")

func (c openConnections) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	fold, err := host.Health()
	if err != nil {
		return err
	}
	if lacksInfo(traffic, fold) {
		return errNoInfo
	}
	c.addInbound(out, table, fold)
	c.addOutbound(out, host, traffic, fold)
	return nil
}

// lacksInfo reports whether there are connections in states that always have TCP_INFO,
// and none of them had it.
func lacksInfo(traffic *socket.Traffic, fold *health.Fold) bool {
	full := 0
	for _, states := range traffic.Totals[socket.TCP] {
		full += int(states[socket.Established] + states[socket.CloseWait])
	}
	return full > 0 && fold.Observed == 0
}

func (c openConnections) addInbound(out *Output, table *socket.Table, fold *health.Fold) {
	for i := range table.Listeners {
		if service := fold.Inbound[i]; service != nil {
			addOpen(out, &inboundOpen, fold, service, labelsOf(table.Listeners[i].ListenerID)...)
		}
	}
	if fold.OtherInbound.Connections() > 0 {
		addOpen(out, &inboundOpen, fold, &fold.OtherInbound, hostNetns, socket.TCP.String(), other, other, "")
	}
}

func (c openConnections) addOutbound(out *Output, host *Snapshot, traffic *socket.Traffic, fold *health.Fold) {
	chosen := c.choose(host, traffic)
	rest, folded := &fold.OtherOutbound, 0
	for _, f := range traffic.Outbound {
		switch service := fold.Outbound[f.Port]; {
		case open(&f) == 0:
		case service != nil && chosen[f.Port]:
			addOpen(out, &outboundOpen, fold, service, hostNetns, socket.TCP.String(), portLabel(f.Port))
		case service != nil:
			rest.Add(service)
			folded++
		default:
			folded++
		}
	}
	if rest.Connections() > 0 {
		addOpen(out, &outboundOpen, fold, rest, hostNetns, socket.TCP.String(), other)
	}
	out.fold(outboundOpen.connections, folded)
}

// choose returns the remote ports with series of their own: the watched ones, and those
// with most connections. They have a place in the next read.
func (c openConnections) choose(host *Snapshot, traffic *socket.Traffic) map[uint16]bool {
	var candidates []socket.Candidate[uint16]
	for i := range traffic.Outbound {
		f := &traffic.Outbound[i]
		candidate := socket.Candidate[uint16]{Key: f.Port, Weight: open(f)}
		if f.Ephemeral {
			candidate.Floor = 2
		}
		if candidate.Weight > 0 {
			candidates = append(candidates, candidate)
		}
	}
	chosen := c.memory.open.Choose(candidates, c.limits.OutboundPorts)
	for port := range watchedPorts(host.Watched().Destinations, c.limits.WatchedDestinations) {
		chosen[port] = true
	}
	c.memory.openPorts.Store(&chosen)
	return chosen
}

// open returns how many connections of a flow may have TCP_INFO.
func open(f *socket.PortFlow) (n int) {
	for _, state := range []socket.State{socket.Established, socket.FinWait1, socket.FinWait2, socket.CloseWait, socket.LastAck, socket.Closing} {
		n += int(f.States[state])
	}
	return n
}

// watchedPorts returns the single ports of watched destinations, up to a limit.
func watchedPorts(watched []socket.Watched, limit int) map[uint16]bool {
	ports := map[uint16]bool{}
	for _, w := range watched {
		for _, r := range w.Ports {
			if r.First == r.Last && len(ports) < limit {
				ports[r.First] = true
			}
		}
	}
	return ports
}

// addOpen adds the figures of one service.
func addOpen(out *Output, f *openFamilies, fold *health.Fold, s *health.Service, id ...string) {
	for i, n := range s.Algorithms {
		if n > 0 {
			out.add(f.connections, float64(n), bind(id, algorithmName(fold, i))...)
		}
	}
	labels := out.set(f.unsent, id...)
	out.addHistogram(f.roundTrip, &s.RoundTrip, labels)
	out.addHistogram(f.minRoundTrip, &s.MinRoundTrip, labels)
	out.addSet(f.unsent, float64(s.Unsent), labels)
	out.addSet(f.sent, float64(s.Sent), labels)
	out.addSet(f.sentAgain, float64(s.SentAgain), labels)
	out.addSet(f.segments, float64(s.DataSegments), labels)
	out.addSet(f.retransmitted, float64(s.Retransmitted), labels)
	out.addSet(f.spurious, float64(s.Spurious), labels)
	if s.KnowsStalled {
		out.addSet(f.stalled, s.Stalled.Seconds(), labels)
	}
	out.add(f.limited, s.LimitedByReceiver.Seconds(), bind(id, limitedByReceiver)...)
	out.add(f.limited, s.LimitedBySendBuffer.Seconds(), bind(id, limitedBySendBuffer)...)
	out.addSet(f.busy, s.Busy.Seconds(), labels)
	if s.Delivering > 0 {
		out.addSet(f.rate, float64(s.DeliveryRate), labels)
	}
	out.addSet(f.delivering, float64(s.Delivering), labels)
}

func algorithmName(fold *health.Fold, i int) string {
	if name := fold.Algorithms[i].String(); name != "" {
		return name
	}
	return other
}
