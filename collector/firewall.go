package collector

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/published"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	firewallRead = gauge("port_firewall_read",
		"Whether the rules of the host's firewall could be read (1 or 0).", "netns")
	publishedInfo = gauge("port_published_info",
		"Port that a firewall rule or a container's proxy sends elsewhere; always 1.",
		"netns", "protocol", "address", "port", "interface", "to_netns", "to_address", "to_port", "container", "via", "source", "ephemeral")
	publishedUnclear = gauge("port_published_unclear_rules",
		"Rules that may publish ports and are not understood.", "netns")
	listenerFirewall = gauge("port_listener_firewall_info",
		"What the host's firewall does with new connections to a listener; always 1.",
		bind(listenerLabels, "verdict")...)
)

// Rules are those of a firewall.
type Rules interface {
	Published() (ports []firewall.Published, unclear int)
	Listener(a firewall.Arrival, dualStack bool) firewall.Decision
}

// rules exports what the host's firewall does with what arrives.
type rules struct{}

func (rules) Name() string { return "firewall" }

func (rules) Families() []*Family {
	return []*Family{firewallRead, publishedInfo, publishedUnclear, listenerFirewall}
}

// Collect exports that the rules cannot be read where a privilege is missing: that is
// no failure.
func (rules) Collect(_ context.Context, host *Snapshot, out *Output) error {
	p, err := host.published()
	if err != nil {
		return err
	}
	addPublished(out, host, p)
	read, err := host.Rules()
	out.add(firewallRead, truth(err == nil), hostNetns)
	if err != nil {
		return nil
	}
	out.add(publishedUnclear, float64(p.unclear), hostNetns)
	shown, err := host.Shown()
	if err != nil {
		return err
	}
	began, late := time.Now(), 0
	for i := range shown.listeners {
		l := &shown.listeners[i]
		arrival, ok := ArrivalAt(l)
		switch {
		case !ok || !shown.series[l.ListenerID]:
			continue
		case time.Since(began) > maxDeciding: // the next scrape goes on: decisions are kept
			late++
			continue
		}
		verdict := read.Listener(arrival, l.DualStack).Verdict
		out.add(listenerFirewall, 1, bind(labelsOf(l.ListenerID), verdict.String())...)
	}
	out.fold(listenerFirewall, late)
	return nil
}

// maxDeciding bounds the time of a scrape for decisions: with thousands of rules one may
// take a second.
const maxDeciding = time.Second

// maxPublished bounds the series of published ports.
const maxPublished = 512

func addPublished(out *Output, host *Snapshot, p *publishedPorts) {
	ephemeral, _ := host.EphemeralPorts() // beside an error the default
	named := min(len(p.ports), maxPublished)
	exported := map[[11]string]bool{}
	for _, p := range p.ports[:named] {
		labels := [11]string{p.Protocol.String(), cmp.Or(p.Address, socket.ScopeAny.String()), p.PortText(), p.Interface, p.Netns, p.ToAddress, p.ToPorts, p.Container, p.Via, p.Source,
			strconv.FormatBool(ephemeral.First <= p.Ports.Last && p.Ports.First <= ephemeral.Last)}
		if !exported[labels] { // they may differ in what is no label
			exported[labels] = true
			out.add(publishedInfo, 1, bind([]string{hostNetns}, labels[:]...)...)
		}
	}
	out.fold(publishedInfo, len(p.ports)-named)
}

// publishedPorts are the published ports, and how many rules may publish others.
type publishedPorts struct {
	ports   []published.Port
	unclear int
	places  bool // the other network namespaces are known
}

func (r *reading) readRules() (Rules, error) {
	switch name := (rules{}).Name(); {
	case r.Firewall == nil:
		return nil, errNoFirewall
	case slices.Contains(r.Disabled, name):
		return nil, &DisabledError{name}
	}
	return r.Firewall(r.ctx)
}

var errNoFirewall = errors.New("the firewall cannot be read on this system")

// readPublished finds what is published by rules, as far as those may be read, and by
// processes.
func (r *reading) readPublished() (*publishedPorts, error) {
	p := &publishedPorts{}
	var ports []published.Port
	read, err := r.Snapshot.rules()
	switch {
	case err == nil:
		var all []firewall.Published
		all, p.unclear = read.Published()
		ports = published.OfRules(all)
	case !errors.Is(err, firewall.ErrPrivilege):
		return nil, err
	}
	owners, err := r.Snapshot.owners()
	if err != nil {
		return nil, err
	}
	if r.Arguments != nil {
		arguments := func(pid int32) []string { return r.Arguments(r.ctx, pid) }
		ports = append(ports, published.OfProcesses(owners.Owned, arguments)...)
	}
	var places []published.Place
	if len(ports) > 0 {
		places, p.places = r.places()
	}
	p.ports = published.Join(ports, places)
	return p, nil
}

// places returns the other network namespaces, if they are read.
func (r *reading) places() (places []published.Place, known bool) {
	e, err := r.Snapshot.elsewhere()
	if err != nil {
		return nil, false
	}
	owned := map[string][]socket.Owned{}
	for of := range socket.Groups(e.owned, func(o *socket.Owned) string { return o.Netns }) {
		owned[of[0].Netns] = of
	}
	for _, n := range e.all {
		places = append(places, published.PlaceOf(r.ctx, n.Namespace, owned[n.Name]))
	}
	return places, true
}

// ArrivalAt returns a new connection to a listener; ok is false for one that no other
// host reaches, or that has no port of its own.
func ArrivalAt(l *socket.Listener) (a firewall.Arrival, ok bool) {
	switch l.Protocol {
	case socket.TCP:
		a.Protocol = firewall.TCP
	case socket.UDP:
		a.Protocol = firewall.UDP
	default:
		return a, false
	}
	a.To, a.Port, a.Interface = l.Address, l.Port, l.Interface
	return a, l.Port != 0 && l.Scope != socket.ScopeLoopback && l.Scope != socket.ScopeMulticast
}
