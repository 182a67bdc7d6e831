package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	namespaceCount = gauge("port_namespaces",
		"Network namespaces besides the exporter's own, by how far they were read.", "read")
	namespaceSource = gauge("port_netns_source_info",
		"Source of other network namespaces, and why it is not bpf; always 1.", "source", "reason")
	namespaceInfo = gauge("port_netns_info",
		"Network namespace with what runs in it; always 1.",
		"netns", "runtime", "container_id", "container", "pod", "namespace", "pod_uid", "unit")
	namespaceFolded = gauge("port_netns_folded_items",
		"Items of another namespace that a metric aggregates or omits.", "netns", "metric")
)

// Namespaces reads the other network namespaces of the host.
type Namespaces interface {
	Read(ctx context.Context) (netns.Found, error)
	// Missing returns the privileges without which some of them cannot be read.
	Missing() []string
}

// noNamespaces are those of a host where none can be read.
type noNamespaces struct{}

func (noNamespaces) Read(context.Context) (netns.Found, error) { return netns.Found{}, nil }

func (noNamespaces) Missing() []string { return nil }

// lackingForNamespaces returns the privileges without which some namespaces cannot be
// read, if the collector is enabled.
func (e *Exporter) lackingForNamespaces() []string {
	if e.options.Namespaces == nil || !e.enabled(namespaces{}.Name()) {
		return nil
	}
	return e.options.Namespaces.Missing()
}

// namespaces exports the sockets of other network namespaces, in the families of the
// collectors that export those of our own.
type namespaces struct {
	protocols []socket.Protocol
	limits    Limits
	memory    *Memory
}

func (namespaces) Name() string { return "namespaces" }

func (namespaces) Families() []*Family {
	return []*Family{namespaceCount, namespaceSource, namespaceInfo, namespaceFolded}
}

// mayExport reports whether a family of another collector has series of other
// namespaces.
func (namespaces) mayExport(name string) bool {
	shared := slices.Concat(connections{}.Families(), namespaceListeners, []*Family{socketCount, ephemeralPorts, ephemeralPortsUsed})
	return slices.Contains(namespaceLimits, name) || slices.ContainsFunc(shared, func(f *Family) bool { return f.Name == name })
}

// namespaceListeners are the families of listeners.
var namespaceListeners = []*Family{listenerInfo, listenerSockets, unreadListeners, acceptQueueLength, acceptQueueLimit, acceptQueueFull,
	acceptQueueDrops, udpReceiveQueue, udpReceiveDrops, executableDeleted, unattributed}

func (c namespaces) Collect(ctx context.Context, host *Snapshot, out *Output) error {
	e, err := host.elsewhere()
	if err != nil {
		return err
	}
	out.add(privilegeMissing, truth(slices.Contains(e.missing, netns.CapSysAdmin)), netns.CapSysAdmin)
	out.add(namespaceSource, 1, e.Engine, firstLine(e.NotBPF))
	out.fold(namespaceInfo, e.beyond)
	for depth, n := range e.Depths {
		out.add(namespaceCount, float64(n), netns.Depth(depth).String())
	}
	addListenersElsewhere(out, e)
	for i := range e.all {
		c.addNamespace(out, &e.all[i])
		e.all[i].addLimits(ctx, out)
	}
	return nil
}

// addListenersElsewhere adds the listeners of all namespaces.
func addListenersElsewhere(out *Output, e *elsewhere) {
	i := 0
	for _, n := range e.all {
		for _, l := range n.listeners {
			drops := e.history.Drops[i]
			i++
			id := out.set(listenerSockets, labelsOf(l.ListenerID)...)
			out.addSet(listenerSockets, float64(l.Sockets), id)
			if l.Protocol == socket.TCP {
				addAcceptQueue(out, l, drops, id)
			} else {
				addDatagramQueue(out, l, drops, id)
			}
		}
	}
	e.eachShown(func(owned []socket.Owned) { addInfo(out, &owned[0].Listener, owned) })
}

// addNamespace adds everything else of a namespace. What is 0 is left out.
func (c namespaces) addNamespace(out *Output, n *namespace) {
	i := n.Identity
	labels := []string{i.Name, i.Runtime, i.ContainerID, i.Container, i.Pod, i.Namespace, i.PodUID, i.Unit}
	for at := range labels {
		labels[at] = boundValue(labels[at])
	}
	out.add(namespaceInfo, 1, labels...)
	for _, p := range c.protocols {
		n.addSockets(out, p)
		if unread := n.table.Unread[p]; unread > 0 {
			out.add(unreadListeners, float64(unread), i.Name, p.String())
		}
	}
	if n.rest > 0 {
		out.add(namespaceFolded, float64(n.rest), i.Name, listenerInfo.Name)
	}
	if n.traffic != nil {
		limits := c.limits
		limits.Listeners = limits.NamespaceListeners
		flows{out: out, netns: i.Name, limits: limits, rankings: c.memory.namespaces.of(i.Name), sparse: true}.add(n.table, n.traffic)
		c.addEphemeral(out, n)
	}
}

// addLimits adds the limits of a namespace that may be entered.
func (n *namespace) addLimits(ctx context.Context, out *Output) {
	if n.Limits == nil {
		return
	}
	if stats, _ := n.Limits(ctx); stats != nil {
		addNamespaceLimits(out, n.Name, stats)
	}
}

// addSockets counts the sockets of a protocol.
func (n *namespace) addSockets(out *Output, p socket.Protocol) {
	for _, f := range socket.Families() {
		counts := n.table.Totals[p][f]
		if n.traffic != nil {
			counts.Add(n.traffic.Totals[p][f])
		}
		for _, state := range p.States() {
			if counts[state] > 0 {
				out.add(socketCount, float64(counts[state]), n.Name, f.String(), p.String(), state.String())
			}
		}
	}
}

// addEphemeral adds the use of ephemeral ports where a client uses some. Without the range
// the values would be wrong.
func (c namespaces) addEphemeral(out *Output, n *namespace) {
	if n.table.DefaultPorts != nil {
		return
	}
	used := false
	for _, p := range c.protocols {
		if ports := n.traffic.EphemeralUsed[p]; ports > 0 {
			out.add(ephemeralPortsUsed, float64(ports), n.Name, p.String())
			used = true
		}
	}
	if used {
		out.add(ephemeralPorts, float64(n.traffic.EphemeralPorts), n.Name)
	}
}

// namespaceMemory is what is remembered of other namespaces.
type namespaceMemory struct {
	now       func() time.Time
	longLived *socket.LongLived
	history   *socket.History

	mu    sync.Mutex
	known map[string]*choices
}

// choices are those of one namespace.
type choices struct {
	rankings
	seen time.Time
}

func newNamespaceMemory(now func() time.Time) namespaceMemory {
	return namespaceMemory{
		now:       now,
		longLived: socket.NewLongLived(longLivedAge, longLivedLimit, now),
		history:   socket.NewHistory(now),
		known:     map[string]*choices{},
	}
}

// of returns the choices of a namespace.
func (m *namespaceMemory) of(name string) *rankings {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.known[name]
	if c == nil {
		c = &choices{rankings: newRankings(m.now)}
		m.known[name] = c
	}
	c.seen = m.now()
	return &c.rankings
}

// forget drops the choices of namespaces that were not there lately.
func (m *namespaceMemory) forget() {
	const keep = 10 * time.Minute
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, c := range m.known {
		if m.now().Sub(c.seen) > keep {
			delete(m.known, name)
		}
	}
}
