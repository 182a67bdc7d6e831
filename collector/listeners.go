package collector

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strconv"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// listenerLabels are the identity of a listener. It holds no pid and no inode,
// so a restart of the service keeps its series.
var listenerLabels = []string{"netns", "protocol", "address", "port", "interface"}

var (
	unreadListeners = gauge("port_listener_sockets_unread",
		"Sockets not read because there are too many.", "netns", "protocol")
	listenerInfo = gauge("port_listener_info",
		"Listening address and port, with its scope and owner; always 1.",
		bind(listenerLabels, "scope", "dual_stack", "process", "user", "unit", "container", "ephemeral")...)
	listenerSockets = gauge("port_listener_sockets",
		"Listening sockets of a listener (size of its SO_REUSEPORT group).", listenerLabels...)
	acceptQueueLength = gauge("port_listener_accept_queue_length",
		"Connections waiting to be accepted.", listenerLabels...)
	acceptQueueLimit = gauge("port_listener_accept_queue_limit",
		"Accept queue limit (backlog capped by net.core.somaxconn).", listenerLabels...)
	acceptQueueFull = gauge("port_listener_accept_queue_full_sockets",
		"Sockets of a listener whose accept queue is full.", listenerLabels...)
	acceptQueueDrops = counter("port_listener_accept_queue_drops_total",
		"Connections dropped by a listener, for example because of a full accept queue.", listenerLabels...)
	udpReceiveQueue = gauge("port_udp_receive_queue_bytes",
		"Memory used by datagrams in a UDP listener's receive buffers, in bytes.", listenerLabels...)
	udpReceiveDrops = counter("port_udp_receive_drops_total",
		"Datagrams dropped by a UDP listener, for example because of a full buffer.", listenerLabels...)
	firstSeen = gauge("port_listener_first_seen_timestamp_seconds",
		"When this exporter process first saw the listener, in seconds since the epoch.", listenerLabels...)
	addressAbsent = gauge("port_listener_address_absent",
		"Listener bound to an address that this host does not have; always 1.", listenerLabels...)
	executableDeleted = gauge("port_listener_executable_deleted",
		"Listener whose owner's executable was deleted or replaced on disk; always 1.", listenerLabels...)
	listenerConflict = gauge("port_listener_conflict",
		"Port with overlapping listeners of different owners; always 1.", "netns", "protocol", "port")
	unattributed = gauge("port_listeners_unattributed",
		"Listeners with a socket whose process is unknown.", "netns")
	privilegeMissing = gauge("port_privilege_missing",
		"Whether a missing privilege hides owners, socket filters or namespaces (1 or 0).", "privilege")
	ownerSearches = counter("port_owner_searches_total",
		"Searches of all processes for unknown owners of listeners.")
	listenerChanges = counter("port_listener_changes_total",
		"Listeners opened and closed between scrapes.",
		"netns", "protocol", "change")
)

// listeners exports each listener.
type listeners struct {
	protocols []socket.Protocol
}

func (listeners) Name() string { return "listeners" }

func (listeners) Families() []*Family {
	return []*Family{listenerInfo, listenerSockets, unreadListeners, acceptQueueLength, acceptQueueLimit, acceptQueueFull, acceptQueueDrops,
		udpReceiveQueue, udpReceiveDrops, firstSeen, listenerChanges, addressAbsent, executableDeleted, listenerConflict,
		unattributed, privilegeMissing, ownerSearches}
}

func (c listeners) Collect(_ context.Context, host *Snapshot, out *Output) error {
	shown, err := host.Shown()
	if err != nil {
		return err
	}
	history, err := host.History()
	if err != nil {
		return err
	}
	for i, l := range shown.listeners {
		if !shown.series[l.ListenerID] {
			continue
		}
		id := out.set(listenerSockets, labelsOf(l.ListenerID)...)
		out.addSet(listenerSockets, float64(l.Sockets), id)
		if l.Absent {
			out.addSet(addressAbsent, 1, id)
		}
		out.addSet(firstSeen, float64(history.FirstSeen[i].UnixMilli())/1000, id)
		if l.Protocol == socket.TCP {
			addAcceptQueue(out, l, history.Drops[i], id)
		} else {
			addDatagramQueue(out, l, history.Drops[i], id)
		}
	}
	table, err := host.Listening()
	if err != nil {
		return err
	}
	for _, p := range c.protocols {
		out.add(unreadListeners, float64(table.Unread[p]), hostNetns, p.String())
		out.add(listenerChanges, float64(history.Changes[p].Opened), hostNetns, p.String(), "opened")
		out.add(listenerChanges, float64(history.Changes[p].Closed), hostNetns, p.String(), "closed")
	}
	out.fold(listenerInfo, shown.rest)
	return addOwners(out, host)
}

// ListenerInfo returns the family port_listener_info, as in a scrape. It
// ends with ctx, as a collector does. That owners could not be looked for is an
// error: without them whoever chooses by owner would find that nothing listens.
func (e *Exporter) ListenerInfo(ctx context.Context) (*dto.MetricFamily, error) {
	_, outcomes, err := e.runAll(ctx, ownership{})
	if err != nil {
		return nil, err
	}
	if err := outcomes[0].err; err != nil {
		return nil, err
	}
	return outcomes[0].out.family(listenerInfo), nil
}

// ownership exports the owners of listeners only.
type ownership struct{ listeners }

var errBusy = errors.New("previous search for owners of listeners is still running")

func (ownership) Collect(_ context.Context, host *Snapshot, out *Output) error {
	owners, err := host.Owners()
	switch {
	case err != nil:
		return err
	case owners.Busy:
		return errBusy
	}
	return addOwners(out, host)
}

func addOwners(out *Output, host *Snapshot) error {
	owners, err := host.Owners()
	if err != nil {
		return err
	}
	shown, err := host.Shown()
	if err != nil {
		return err
	}
	for owned := range byListener(shown.owned) {
		if l := &owned[0].Listener; shown.series[l.ListenerID] {
			addInfo(out, l, owned)
		}
	}
	addConflicts(out, owners.Owned)
	out.add(unattributed, float64(owners.Unattributed), hostNetns)
	lacking := slices.Concat(owners.Missing, host.lacking())
	for _, privilege := range owner.Privileges() {
		out.add(privilegeMissing, truth(slices.Contains(lacking, privilege)), privilege)
	}
	out.add(ownerSearches, float64(owners.Searches))
	return nil
}

// maxConflicts bounds the series of conflicts.
const maxConflicts = 1000

func addConflicts(out *Output, owned []socket.Owned) {
	conflicts := socket.Conflicts(owned)
	named := min(len(conflicts), maxConflicts)
	for _, c := range conflicts[:named] {
		out.add(listenerConflict, 1, c.Netns, c.Protocol.String(), portLabel(c.Port))
	}
	out.fold(listenerConflict, len(conflicts)-named)
}

func addInfo(out *Output, l *socket.Listener, owned []socket.Owned) {
	id := labelsOf(l.ListenerID)
	exported := make([][4]string, 0, 1)
	deleted := false
	for _, o := range owned {
		deleted = deleted || o.Owner.Deleted
		labels := ownerLabels(o.Owner)
		if slices.Contains(exported, labels) { // owners may differ in what is no label
			continue
		}
		exported = append(exported, labels)
		out.add(listenerInfo, 1, bind(id, l.Scope.String(), strconv.FormatBool(l.DualStack),
			labels[0], labels[1], labels[2], labels[3], strconv.FormatBool(l.Ephemeral))...)
	}
	if deleted {
		out.add(executableDeleted, 1, id...)
	}
}

// byListener groups the owners of each listener, which stand together.
func byListener(owned []socket.Owned) iter.Seq[[]socket.Owned] {
	return socket.Groups(owned, func(o *socket.Owned) socket.ListenerID { return o.ListenerID })
}

// ownerLabels returns the labels process, user, unit, container, valid as such:
// names that differ only in what a label cannot hold are one.
func ownerLabels(o socket.Owner) [4]string {
	return [4]string{plain.Line(o.Process), plain.Line(o.User), plain.Line(o.Unit), plain.Line(o.Container)}
}

func addAcceptQueue(out *Output, l socket.Listener, drops uint64, id labelSet) {
	if l.Known.Has(socket.KnowsQueues) {
		out.addSet(acceptQueueLength, float64(l.AcceptQueue), id)
	}
	if l.Known.Has(socket.KnowsAcceptQueueLimit) {
		out.addSet(acceptQueueLimit, float64(l.AcceptQueueLimit), id)
	}
	if l.Known.Has(socket.KnowsQueues | socket.KnowsAcceptQueueLimit) {
		out.addSet(acceptQueueFull, float64(l.Full), id)
	}
	if l.Known.Has(socket.KnowsDrops) {
		out.addSet(acceptQueueDrops, float64(drops), id)
	}
}

func addDatagramQueue(out *Output, l socket.Listener, drops uint64, id labelSet) {
	if l.Known.Has(socket.KnowsQueues) {
		out.addSet(udpReceiveQueue, float64(l.ReceiveQueue), id)
	}
	if l.Known.Has(socket.KnowsDrops) {
		out.addSet(udpReceiveDrops, float64(drops), id)
	}
}

// labelsOf returns the values of listenerLabels.
func labelsOf(id socket.ListenerID) []string {
	port := portLabel(id.Port)
	if id.Port == 0 { // of a client that has many
		port = ephemeralPort
	}
	return []string{id.Netns, id.Protocol.String(), id.Address.String(), port, id.Interface}
}

// ephemeralPort is the port of what a program does on many ephemeral ports.
const ephemeralPort = "ephemeral"

func portLabel(port uint16) string { return strconv.Itoa(int(port)) }
