package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/published"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// View is a host for people: what the metrics are made of, from the same snapshot, with
// the same verdicts. A part that is nil could not be read, for the reason beside it.
type View struct {
	Began  time.Time
	Source string // sock_diag, procfs or gopsutil

	Listeners    *Listeners
	ListenersErr error
	// Traffic has the connections; Inbound is in the order of Listeners.Table.
	Traffic    *socket.Traffic
	TrafficErr error
	// PortsErr says why the range of ephemeral ports is unknown.
	PortsErr error
	// Published are the published ports, if the collector firewall runs. FirewallErr says why
	// they, and what the firewall does with connections to listeners, are unknown.
	Published   []published.Port
	FirewallErr error
	// Kernel has the limits of the kernel. Its error may be of single files only.
	Kernel    *kernel.Stats
	KernelErr error
}

// Listeners are the listeners of a view.
type Listeners struct {
	// Seen has them in the order of the metrics: those with ports, where there is a
	// policy what has none, and those of other network namespaces.
	Seen []SeenListener
	// Namespaces are the other network namespaces by their names, where they are read.
	Namespaces map[string]netns.Identity
	// NamespacesErr says why they could not be read, and UnreadNamespaces how many of them
	// were not.
	NamespacesErr    error
	UnreadNamespaces int
	// HasPolicy says that there are verdicts, by the indices of Rules.
	HasPolicy bool
	Rules     []policy.Rule
	// Missing are the required rules without a listener, and Unsure those of which
	// that is not known.
	Missing, Unsure []int

	Table  *socket.Table // as it was read
	Owners owner.Result
	// FiltersHidden says that it is unknown whether packet sockets have a filter.
	FiltersHidden bool
	// PortlessErr says why what has no port could not be read.
	PortlessErr error
}

// SeenListener is a listener with what is known of it. Port 0 is that of a client with
// many ephemeral ports.
type SeenListener struct {
	socket.Listener
	Owners    []socket.Owner
	Judged    bool // by a policy that is about it
	Verdict   policy.Verdict
	FirstSeen time.Time // zero of what has no port
	Drops     uint64    // since it was first seen
	// Firewall is what the firewall does with new connections from other hosts; nil where that
	// is not known, or there are none.
	Firewall *firewall.Decision
	// Conflict says that another owner covers the port on an overlapping address.
	Conflict bool
}

// DisabledError says that a part is not read because a collector is disabled.
type DisabledError struct{ Name string }

func (e *DisabledError) Error() string { return fmt.Sprintf("the collector %s is disabled", e.Name) }

// part is a part of a view, which runs as a collector does.
type part struct {
	name    string
	enabled bool
	read    func(*Snapshot) error
}

func (p part) Name() string { return p.name }

func (part) Families() []*Family { return nil }

func (p part) Collect(_ context.Context, host *Snapshot, _ *Output) error {
	if !p.enabled {
		return &DisabledError{p.name}
	}
	return p.read(host)
}

// View reads the host once, as a scrape does, and ends with ctx. It probes nothing. Its
// error is a [BusyError].
func (e *Exporter) View(ctx context.Context) (*View, error) {
	var listeners *Listeners
	var traffic *socket.Traffic
	var portsErr, filesErr, rulesErr error
	var ports []published.Port
	var decisions map[socket.ListenerID]firewall.Decision
	var stats *kernel.Stats
	host, outcomes, err := e.runAll(ctx,
		part{"listeners", e.enabled("listeners"), func(host *Snapshot) (err error) { listeners, err = e.viewListeners(host); return err }},
		// Several collectors read the connections.
		part{"connections", e.enabled("connections") || e.enabled("sockets") || e.enabled("ephemeral"), func(host *Snapshot) (err error) {
			_, portsErr = host.EphemeralPorts()
			_, traffic, err = host.Connections()
			return err
		}},
		part{rules{}.Name(), e.options.Firewall != nil && e.enabled(rules{}.Name()), func(host *Snapshot) (err error) {
			ports, decisions, rulesErr, err = viewFirewall(host)
			return err
		}},
		part{"limits", e.enabled("limits"), func(*Snapshot) error { stats, filesErr = e.viewKernel(); return nil }},
	)
	if err != nil {
		return nil, err
	}

	// What a part that was left behind has written is not looked at.
	v := &View{Began: host.Began(), Source: e.options.SourceName, ListenersErr: outcomes[0].err, TrafficErr: outcomes[1].err, FirewallErr: outcomes[2].err, KernelErr: outcomes[3].err}
	if v.ListenersErr == nil {
		v.Listeners = listeners
	}
	if v.FirewallErr == nil {
		v.Published, v.FirewallErr = ports, rulesErr
		v.addDecisions(decisions)
	}
	if v.TrafficErr == nil {
		v.Traffic, v.PortsErr = traffic, portsErr
	}
	if v.KernelErr == nil {
		v.Kernel, v.KernelErr = stats, filesErr
	}
	return v, nil
}

// viewFirewall returns what is published, and what the firewall does with connections to
// listeners as far as there is time to decide. rulesErr says that the rules may not be read.
func viewFirewall(host *Snapshot) (ports []published.Port, decisions map[socket.ListenerID]firewall.Decision, rulesErr, err error) {
	p, err := host.published()
	if err != nil {
		return nil, nil, nil, err
	}
	read, rulesErr := host.Rules()
	shown, err := host.Shown()
	if err != nil || rulesErr != nil {
		return p.ports, nil, rulesErr, err
	}
	decisions = map[socket.ListenerID]firewall.Decision{}
	began := time.Now()
	for i := range shown.listeners {
		l := &shown.listeners[i]
		if arrival, ok := ArrivalAt(l); ok && shown.series[l.ListenerID] && time.Since(began) < maxDeciding {
			decisions[l.ListenerID] = read.Listener(arrival, l.DualStack)
		}
	}
	return p.ports, decisions, nil, nil
}

// addDecisions adds those on the listeners.
func (v *View) addDecisions(decisions map[socket.ListenerID]firewall.Decision) {
	if v.Listeners == nil {
		return
	}
	for i := range v.Listeners.Seen {
		if d, ok := decisions[v.Listeners.Seen[i].ListenerID]; ok {
			v.Listeners.Seen[i].Firewall = &d
		}
	}
}

var errNoKernelStats = errors.New("this system does not report the limits of the kernel")

func (e *Exporter) viewKernel() (*kernel.Stats, error) {
	if e.options.KernelStats == nil {
		return nil, errNoKernelStats
	}
	return e.options.KernelStats()
}

func (e *Exporter) viewListeners(host *Snapshot) (*Listeners, error) {
	shown, err := host.Shown()
	if err != nil {
		return nil, err
	}
	history, err := host.History()
	if err != nil {
		return nil, err
	}
	v := &Listeners{Rules: e.options.Policy, HasPolicy: e.options.Policy != nil && e.enabled("policy")}
	if v.Table, err = host.Listening(); err != nil {
		return nil, err
	}
	if v.Owners, err = host.Owners(); err != nil {
		return nil, err
	}
	conflicts := map[socket.Conflict]bool{}
	for _, c := range socket.Conflicts(v.Owners.Owned) {
		conflicts[c] = true
	}
	owners := ownersOf(shown.owned)
	for i, l := range shown.listeners {
		v.Seen = append(v.Seen, SeenListener{
			Listener: l, Owners: owners[l.ListenerID], FirstSeen: history.FirstSeen[i], Drops: history.Drops[i],
			Conflict: conflicts[socket.Conflict{Netns: l.Netns, Protocol: l.Protocol, Port: l.Port}],
		})
	}
	if e.options.Portless != nil && e.enabled("portless") {
		table, err := host.Portless()
		v.FiltersHidden, v.PortlessErr = table.FiltersHidden, err
	}
	if e.options.Namespaces != nil && e.enabled(namespaces{}.Name()) {
		v.addElsewhere(host)
	}
	if v.HasPolicy {
		return v, v.judge(host, shown)
	}
	return v, nil
}

// addElsewhere adds the listeners of other network namespaces.
func (v *Listeners) addElsewhere(host *Snapshot) {
	e, err := host.elsewhere()
	if err != nil {
		v.NamespacesErr = err
		return
	}
	v.Namespaces, v.UnreadNamespaces = map[string]netns.Identity{}, e.Depths[netns.Unread]+e.beyond
	owners := ownersOf(e.owned)
	i := 0
	for _, n := range e.all {
		v.Namespaces[n.Name] = n.Identity
		for _, l := range n.listeners {
			v.Seen = append(v.Seen, SeenListener{
				Listener: l, Owners: owners[l.ListenerID], FirstSeen: e.history.FirstSeen[i], Drops: e.history.Drops[i],
			})
			i++
		}
	}
}

// ownersOf returns the owners of each listener, each name once.
func ownersOf(owned []socket.Owned) map[socket.ListenerID][]socket.Owner {
	all := make(map[socket.ListenerID][]socket.Owner, len(owned))
	for of := range byListener(owned) {
		var owners []socket.Owner
		for _, o := range of {
			same := func(other socket.Owner) bool { return other.Identity() == o.Owner.Identity() }
			if !slices.ContainsFunc(owners, same) {
				owners = append(owners, o.Owner)
			}
		}
		all[of[0].ListenerID] = owners
	}
	return all
}

// judge adds the verdicts, and what has no port.
func (v *Listeners) judge(host *Snapshot, shown *Shown) error {
	j, err := findings{rules: v.Rules}.judge(host)
	if err != nil {
		return err
	}
	verdicts := map[socket.ListenerID][]policy.Verdict{}
	eachJudged(j.elsewhere, j.elsewhereVerdicts, func(of []socket.Owned, judged []policy.Verdict) {
		verdicts[of[0].ListenerID] = judged
	})
	eachJudged(j.owned, j.verdicts, func(of []socket.Owned, judged []policy.Verdict) {
		id := of[0].ListenerID
		if shown.folded[id] {
			id.Port = 0
		}
		verdicts[id] = append(verdicts[id], judged...)
	})
	for i := range v.Seen {
		if judged := verdicts[v.Seen[i].ListenerID]; len(judged) > 0 {
			v.Seen[i].Judged, v.Seen[i].Verdict = true, worst(judged)
		}
	}
	for i, o := range j.portless {
		v.Seen = append(v.Seen, SeenListener{Listener: o.Listener, Owners: []socket.Owner{o.Owner}, Judged: true, Verdict: j.portlessVerdicts[i]})
	}
	for i := range v.Rules {
		switch missing := slices.Contains(j.Missing, i); {
		case missing && !j.unsure[i]:
			v.Missing = append(v.Missing, i)
		case missing, v.Rules[i].Required && j.Matches[i] == 0 && j.Unverified[i] > 0:
			v.Unsure = append(v.Unsure, i)
		}
	}
	return nil
}
