package collector

import (
	"context"
	"strconv"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// listenerLabels are the identity of a listener. It holds no pid and no inode,
// so a restart of the service keeps its series.
var listenerLabels = []string{"netns", "protocol", "address", "port", "interface"}

var (
	listenerInfo = gauge("port_listener_info",
		"1 for each address and port that is listened on. scope: any, public, private, link_local, loopback, multicast. "+
			"dual_stack: an IPv6 wildcard that takes IPv4 too. ephemeral: the port is in the range of client ports. "+
			"An empty owner label is not known.",
		bind(listenerLabels, "scope", "dual_stack", "process", "user", "unit", "container", "ephemeral")...)
	listenerSockets = gauge("port_listener_sockets",
		"Listening sockets behind a listener: the size of its SO_REUSEPORT group.", listenerLabels...)
	acceptQueueLength = gauge("port_listener_accept_queue_length",
		"Connections that wait for accept(), over all sockets of the listener.", listenerLabels...)
	acceptQueueLimit = gauge("port_listener_accept_queue_limit",
		"Accept queue limit in force (the backlog after net.core.somaxconn), over all sockets of the listener. "+
			"The kernel lets each queue hold one more.", listenerLabels...)
	acceptQueueDrops = counter("port_listener_accept_queue_drops_total",
		"Connections that the listener dropped, as when its accept queue was full (sk_drops of the LISTEN sockets, "+
			"closed ones of its group included).", listenerLabels...)
	udpReceiveQueue = gauge("port_udp_receive_queue_bytes",
		"Memory of datagrams that wait in the receive buffer of a UDP listener, in bytes.", listenerLabels...)
	udpReceiveDrops = counter("port_udp_receive_drops_total",
		"Datagrams that a UDP listener dropped, as when its receive buffer was full.", listenerLabels...)
	firstSeen = gauge("port_listener_first_seen_timestamp_seconds",
		"When this process of the exporter first saw the listener, in seconds since the epoch.", listenerLabels...)
	listenerChanges = counter("port_listener_changes_total",
		"Listeners that came (opened) and went (closed) between scrapes. Those of the first scrape are not counted.",
		"netns", "protocol", "change")
)

// listeners tells of each listener.
type listeners struct{ protocols []socket.Protocol }

func (listeners) Name() string { return "listeners" }

func (listeners) Families() []*Family {
	return []*Family{listenerInfo, listenerSockets, acceptQueueLength, acceptQueueLimit, acceptQueueDrops,
		udpReceiveQueue, udpReceiveDrops, firstSeen, listenerChanges}
}

func (c listeners) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, err := host.Listening()
	if err != nil {
		return err
	}
	history, err := host.History()
	if err != nil {
		return err
	}
	for i, l := range table.Listeners {
		id := labelsOf(l.ListenerID)
		const process, user, unit, container = "", "", "", ""
		out.add(listenerInfo, 1, bind(id, l.Scope.String(), strconv.FormatBool(l.DualStack),
			process, user, unit, container, strconv.FormatBool(l.Ephemeral))...)
		out.add(listenerSockets, float64(l.Sockets), bind(id)...)
		out.add(firstSeen, float64(history.FirstSeen[i].UnixMilli())/1000, bind(id)...)
		if l.Protocol == socket.TCP {
			addAcceptQueue(out, l, history.Drops[i], id)
		} else {
			addDatagramQueue(out, l, history.Drops[i], id)
		}
	}
	for _, p := range c.protocols {
		out.add(listenerChanges, float64(history.Changes[p].Opened), hostNetns, p.String(), "opened")
		out.add(listenerChanges, float64(history.Changes[p].Closed), hostNetns, p.String(), "closed")
	}
	out.fold(listenerInfo, table.Folded)
	return nil
}

func addAcceptQueue(out *Output, l socket.Listener, drops uint64, id []string) {
	if l.Known.Has(socket.KnowsQueues) {
		out.add(acceptQueueLength, float64(l.AcceptQueue), bind(id)...)
	}
	if l.Known.Has(socket.KnowsAcceptQueueLimit) {
		out.add(acceptQueueLimit, float64(l.AcceptQueueLimit), bind(id)...)
	}
	if l.Known.Has(socket.KnowsDrops) {
		out.add(acceptQueueDrops, float64(drops), bind(id)...)
	}
}

func addDatagramQueue(out *Output, l socket.Listener, drops uint64, id []string) {
	if l.Known.Has(socket.KnowsQueues) {
		out.add(udpReceiveQueue, float64(l.ReceiveQueue), bind(id)...)
	}
	if l.Known.Has(socket.KnowsDrops) {
		out.add(udpReceiveDrops, float64(drops), bind(id)...)
	}
}

// labelsOf returns the values of listenerLabels.
func labelsOf(id socket.ListenerID) []string {
	return []string{id.Netns, id.Protocol.String(), id.Address.String(), portLabel(id.Port), id.Interface}
}

func portLabel(port uint16) string { return strconv.Itoa(int(port)) }
