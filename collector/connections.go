package collector

import (
	"context"
	"net/netip"
	"slices"

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
	c.addInbound(out, table, traffic)
	c.addOutbound(out, traffic.Outbound)
	c.addUnanswered(out, traffic.Unanswered)
	c.addUnlistened(out, orphanedConnections, traffic.Orphaned, c.memory.orphaned)
	c.addUnlistened(out, heldConnections, traffic.Held, c.memory.held)
	return nil
}

func (c connections) addInbound(out *Output, table *socket.Table, traffic *socket.Traffic) {
	always := []socket.State{socket.Established, socket.TimeWait, socket.CloseWait, socket.SynRecv}
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
		addStates(out, inboundConnections, flow, always, id)
		if l.Known.Has(socket.KnowsQueues) {
			out.add(inboundReceiveQueue, float64(flow.ReceiveQueue), id...)
			out.add(inboundSendQueue, float64(flow.SendQueue), id...)
			addStalled(out, flow, id)
		}
	}
	if others {
		id := []string{hostNetns, socket.TCP.String(), other, other, ""}
		addStates(out, inboundConnections, rest, always, id)
		if !rest.QueuesUnknown {
			addStalled(out, rest, id)
		}
	}
}

// addStalled adds the connections of a listener whose peer does not answer or does not
// read.
func addStalled(out *Output, flow socket.Flow, id []string) {
	labels := out.set(inboundRetransmitting, id...)
	out.addSet(inboundRetransmitting, float64(flow.Retransmitting), labels)
	out.addSet(inboundZeroWindow, float64(flow.ZeroWindow), labels)
	out.addSet(inboundSynAckRetransmitting, float64(flow.SynAckRetransmitting), labels)
}

func (c connections) addOutbound(out *Output, flows []socket.PortFlow) {
	always := []socket.State{socket.Established, socket.TimeWait, socket.CloseWait, socket.SynSent}
	top, rest, folded := socket.Top(flows, c.limits.OutboundPorts, c.memory.outbound)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		id := []string{hostNetns, socket.TCP.String(), port}
		addStates(out, outboundConnections, flow, always, id)
		if !flow.QueuesUnknown {
			out.add(outboundReceiveQueue, float64(flow.ReceiveQueue), id...)
			out.add(outboundSendQueue, float64(flow.SendQueue), id...)
		}
	})
	out.fold(outboundConnections, folded)

	tcp := socket.TCP.String()
	c.addStalledPorts(out, synRetransmitting, flows, c.memory.silent, func(f *socket.Flow) uint32 { return f.SynRetransmitting })
	c.addStalledPorts(out, outboundRetransmitting, flows, c.memory.retransmitting, func(f *socket.Flow) uint32 { return f.Retransmitting }, tcp)
	c.addStalledPorts(out, outboundZeroWindow, flows, c.memory.zeroWindow, func(f *socket.Flow) uint32 { return f.ZeroWindow }, tcp)
}

// addStalledPorts adds the remote ports that have such sockets, with what stands
// before the port among the labels.
func (c connections) addStalledPorts(out *Output, family *Family, flows []socket.PortFlow, ranking *socket.Ranking[uint16],
	count func(*socket.Flow) uint32, before ...string) {
	top, rest, folded := socket.TopOf(flows, count, c.limits.OutboundPorts, ranking)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		out.add(family, float64(count(&flow)), append(bind([]string{hostNetns}, before...), port)...)
	})
	out.fold(family, folded)
}

func (c connections) addUnanswered(out *Output, all []socket.Unanswered) {
	candidates := make([]socket.Candidate[netip.AddrPort], len(all))
	for i, u := range all {
		candidates[i] = socket.Candidate[netip.AddrPort]{Key: u.Remote, Weight: u.Sockets}
	}
	chosen := c.memory.unanswered.Choose(candidates, c.limits.Destinations)
	for _, u := range all {
		if chosen[u.Remote] {
			out.add(destinationRetransmitting, float64(u.Sockets), hostNetns, u.Remote.Addr().String(), portLabel(u.Remote.Port()))
		}
	}
	out.fold(destinationRetransmitting, len(all)-len(chosen))
}

// addUnlistened adds flows by local port, of ports without a listener.
func (c connections) addUnlistened(out *Output, family *Family, flows []socket.PortFlow, ranking *socket.Ranking[uint16]) {
	top, rest, folded := socket.Top(flows, c.limits.OrphanedPorts, ranking)
	eachPort(top, rest, folded, func(port string, flow socket.Flow) {
		addStates(out, family, flow, nil, []string{hostNetns, socket.TCP.String(), port})
	})
	out.fold(family, folded)
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
