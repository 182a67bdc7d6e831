package collector

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	inboundConnections = gauge("port_inbound_connections",
		"TCP connections to a listener by state.",
		bind(listenerLabels, "state")...)
	outboundConnections = gauge("port_outbound_connections",
		"TCP connections from this host by remote port and state.",
		"netns", "protocol", "remote_port", "state")
	orphanedConnections = gauge("port_orphaned_connections",
		"TCP sockets without a process, on a non-ephemeral local port without a listener.",
		"netns", "protocol", "port", "state")
	heldConnections = gauge("port_held_connections",
		"TCP sockets of a process, on a non-ephemeral local port without a listener.",
		"netns", "protocol", "port", "state")
	synRetransmitting = gauge("port_syn_sent_retransmitting",
		"Outbound sockets that have retransmitted their SYN, by remote port.", "netns", "remote_port")
	destinationRetransmitting = gauge("port_destination_syn_sent_retransmitting",
		"Outbound sockets that have retransmitted their SYN, by destination.", "netns", "remote_address", "remote_port")
	inboundRetransmitting = gauge("port_inbound_retransmitting_connections",
		"Connections of a listener whose retransmissions are not acknowledged.", listenerLabels...)
	inboundZeroWindow = gauge("port_inbound_zero_window_connections",
		"Connections of a listener that wait for the peer to read (zero window).", listenerLabels...)
	inboundSynAckRetransmitting = gauge("port_inbound_syn_ack_retransmitting",
		"Incoming connections whose retransmitted SYN-ACK is not answered.", listenerLabels...)
	outboundRetransmitting = gauge("port_outbound_retransmitting_connections",
		"Outbound connections whose retransmissions are not acknowledged, by remote port.", "netns", "protocol", "remote_port")
	outboundZeroWindow = gauge("port_outbound_zero_window_connections",
		"Outbound connections that wait for the peer to read, by remote port.", "netns", "protocol", "remote_port")
	inboundReceiveQueue = gauge("port_inbound_receive_queue_bytes",
		"Bytes received but not yet read, over all connections of a listener.", listenerLabels...)
	inboundSendQueue = gauge("port_inbound_send_queue_bytes",
		"Bytes written but not yet acknowledged, over all connections of a listener.", listenerLabels...)
	outboundReceiveQueue = gauge("port_outbound_receive_queue_bytes",
		"Bytes received but not yet read, over outbound connections by remote port.", "netns", "protocol", "remote_port")
	outboundSendQueue = gauge("port_outbound_send_queue_bytes",
		"Bytes written but not yet acknowledged, over outbound connections by remote port.", "netns", "protocol", "remote_port")
)

// connections exports the TCP sockets that do not listen, by service.
type connections struct {
	limits Limits
	memory *Memory
}

func (connections) Name() string { return "connections" }

func (connections) Families() []*Family {
	return []*Family{inboundConnections, outboundConnections, orphanedConnections, heldConnections, synRetransmitting, destinationRetransmitting,
		inboundReceiveQueue, inboundSendQueue, outboundReceiveQueue, outboundSendQueue,
		inboundRetransmitting, inboundZeroWindow, inboundSynAckRetransmitting, outboundRetransmitting, outboundZeroWindow}
}

func (c connections) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	flows{out: out, netns: hostNetns, limits: c.limits, rankings: &c.memory.rankings}.add(table, traffic)
	return nil
}

// flows exports the connections of one namespace.
type flows struct {
	out      *Output
	netns    string
	limits   Limits
	rankings *rankings
	sparse   bool // leaves out what is 0
}

// rankings are stable choices of what has its own series in one namespace.
type rankings struct {
	outbound, orphaned, held           *socket.Ranking[uint16]
	silent, retransmitting, zeroWindow *socket.Ranking[uint16]
	unanswered                         *socket.Ranking[netip.AddrPort]
}

func newRankings(now func() time.Time) rankings {
	return rankings{
		outbound:       socket.NewRanking[uint16](now),
		orphaned:       socket.NewRanking[uint16](now),
		held:           socket.NewRanking[uint16](now),
		silent:         socket.NewRanking[uint16](now),
		retransmitting: socket.NewRanking[uint16](now),
		zeroWindow:     socket.NewRanking[uint16](now),
		unanswered:     socket.NewRanking[netip.AddrPort](now),
	}
}

func (c flows) add(table *socket.Table, traffic *socket.Traffic) {
	c.addInbound(table, traffic)
	c.addOutbound(traffic.Outbound)
	c.addUnanswered(traffic.Unanswered)
	c.addUnlistened(orphanedConnections, traffic.Orphaned, c.rankings.orphaned)
	c.addUnlistened(heldConnections, traffic.Held, c.rankings.held)
}

// states returns the states that are exported at 0, too.
func (c flows) states(always ...socket.State) []socket.State {
	if c.sparse {
		return nil
	}
	return always
}

// addTo adds a value that may be left out.
func (c flows) addTo(f *Family, value float64, id labelSet) {
	if value != 0 || !c.sparse {
		c.out.addSet(f, value, id)
	}
}

// fold counts what was folded: port_folded_items has no namespace.
func (c flows) fold(f *Family, n int) {
	switch {
	case c.netns == hostNetns:
		c.out.fold(f, n)
	case n > 0:
		c.out.add(namespaceFolded, float64(n), c.netns, f.Name)
	}
}

func (c flows) addInbound(table *socket.Table, traffic *socket.Traffic) {
	always := c.states(socket.Established, socket.TimeWait, socket.CloseWait, socket.SynRecv)
	series, _ := socket.MostExposed(table.Listeners, c.limits.Listeners)
	rest, others := traffic.InboundUnread, table.Unread[socket.TCP] > 0
	for i, l := range table.Listeners {
		if l.Protocol != socket.TCP {
			continue
		}
		flow := traffic.Inbound[i]
		if !series[l.ListenerID] {
			rest.Add(flow)
			rest.QueuesUnknown = rest.QueuesUnknown || !l.Known.Has(socket.KnowsQueues)
			others = true
			continue
		}
		id := labelsOf(l.ListenerID)
		addStates(c.out, inboundConnections, flow, always, id)
		if l.Known.Has(socket.KnowsQueues) {
			labels := c.out.set(inboundReceiveQueue, id...)
			c.addTo(inboundReceiveQueue, float64(flow.ReceiveQueue), labels)
			c.addTo(inboundSendQueue, float64(flow.SendQueue), labels)
			c.addStalled(flow, labels)
		}
	}
	if others {
		id := []string{c.netns, socket.TCP.String(), other, other, ""}
		addStates(c.out, inboundConnections, rest, always, id)
		if !rest.QueuesUnknown {
			c.addStalled(rest, c.out.set(inboundRetransmitting, id...))
		}
	}
}

// addStalled adds the connections of a listener whose peer does not answer or does not
// read.
func (c flows) addStalled(flow socket.Flow, labels labelSet) {
	c.addTo(inboundRetransmitting, float64(flow.Retransmitting), labels)
	c.addTo(inboundZeroWindow, float64(flow.ZeroWindow), labels)
	c.addTo(inboundSynAckRetransmitting, float64(flow.SynAckRetransmitting), labels)
}

func (c flows) addOutbound(ports []socket.PortFlow) {
	always := c.states(socket.Established, socket.TimeWait, socket.CloseWait, socket.SynSent)
	top, rest, folded := socket.Top(ports, c.limits.OutboundPorts, c.rankings.outbound)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		id := []string{c.netns, socket.TCP.String(), port}
		addStates(c.out, outboundConnections, flow, always, id)
		if !flow.QueuesUnknown {
			labels := c.out.set(outboundReceiveQueue, id...)
			c.addTo(outboundReceiveQueue, float64(flow.ReceiveQueue), labels)
			c.addTo(outboundSendQueue, float64(flow.SendQueue), labels)
		}
	})
	c.fold(outboundConnections, folded)

	tcp := socket.TCP.String()
	c.addStalledPorts(synRetransmitting, ports, c.rankings.silent, func(f *socket.Flow) uint32 { return f.SynRetransmitting })
	c.addStalledPorts(outboundRetransmitting, ports, c.rankings.retransmitting, func(f *socket.Flow) uint32 { return f.Retransmitting }, tcp)
	c.addStalledPorts(outboundZeroWindow, ports, c.rankings.zeroWindow, func(f *socket.Flow) uint32 { return f.ZeroWindow }, tcp)
}

// addStalledPorts adds the remote ports that have such sockets, with what stands
// before the port among the labels.
func (c flows) addStalledPorts(family *Family, ports []socket.PortFlow, ranking *socket.Ranking[uint16],
	count func(*socket.Flow) uint32, before ...string) {
	top, rest, folded := socket.TopOf(ports, count, c.limits.OutboundPorts, ranking)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		c.out.add(family, float64(count(&flow)), append(bind([]string{c.netns}, before...), port)...)
	})
	c.fold(family, folded)
}

func (c flows) addUnanswered(all []socket.Unanswered) {
	candidates := make([]socket.Candidate[netip.AddrPort], len(all))
	for i, u := range all {
		candidates[i] = socket.Candidate[netip.AddrPort]{Key: u.Remote, Weight: u.Sockets}
	}
	chosen := c.rankings.unanswered.Choose(candidates, c.limits.Destinations)
	for _, u := range all {
		if chosen[u.Remote] {
			c.out.add(destinationRetransmitting, float64(u.Sockets), c.netns, u.Remote.Addr().String(), portLabel(u.Remote.Port()))
		}
	}
	c.fold(destinationRetransmitting, len(all)-len(chosen))
}

// addUnlistened adds flows by local port, of ports without a listener.
func (c flows) addUnlistened(family *Family, ports []socket.PortFlow, ranking *socket.Ranking[uint16]) {
	top, rest, folded := socket.Top(ports, c.limits.OrphanedPorts, ranking)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		addStates(c.out, family, flow, nil, []string{c.netns, socket.TCP.String(), port})
	})
	c.fold(family, folded)
}

// eachPort calls add for each port, and for "other" if some were folded.
func eachPort(top []socket.PortFlow, rest socket.Flow, folded int, add func(port string, flow socket.Flow)) {
	for _, f := range top {
		add(portLabel(f.Port), f.Flow)
	}
	if folded > 0 {
		add(other, rest)
	}
}

// addStates adds a flow's count for each state that is always exported, and for
// each other one that is not zero.
func addStates(out *Output, f *Family, flow socket.Flow, always []socket.State, id []string) {
	for _, state := range socket.TCP.States() {
		if n := flow.States[state]; n > 0 || slices.Contains(always, state) {
			out.add(f, float64(n), bind(id, state.String())...)
		}
	}
}
