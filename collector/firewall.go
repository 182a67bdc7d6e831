package collector

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	firewallRead = gauge("port_firewall_read",
		"Whether the rules of the host's firewall could be read (1 or 0).", "netns")
	publishedInfo = gauge("port_published_info",
		"Port that a firewall rule sends elsewhere, without a listener; always 1.",
		"netns", "protocol", "address", "port", "interface", "to_address", "to_port", "via", "source", "ephemeral")
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
type rules struct {
	read func(ctx context.Context) (Rules, error)
}

func (rules) Name() string { return "firewall" }

func (rules) Families() []*Family {
	return []*Family{firewallRead, publishedInfo, publishedUnclear, listenerFirewall}
}

// Collect exports that the rules cannot be read where a privilege is missing: that is
// no failure.
func (c rules) Collect(ctx context.Context, host *Snapshot, out *Output) error {
	read, err := c.read(ctx)
	if err != nil && !errors.Is(err, firewall.ErrPrivilege) {
		return err
	}
	out.add(firewallRead, truth(err == nil), hostNetns)
	if err != nil {
		return nil
	}
	addPublished(out, host, read)
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

func addPublished(out *Output, host *Snapshot, read Rules) {
	published, unclear := read.Published()
	ephemeral, _ := host.EphemeralPorts() // beside an error the default
	named := min(len(published), maxPublished)
	exported := map[[9]string]bool{}
	for _, p := range published[:named] {
		labels := [9]string{p.Protocol.String(), cmp.Or(p.Address, socket.ScopeAny.String()), p.Ports(), p.Interface, p.ToAddress, p.ToPorts, p.Via(), p.Rule.Source(),
			strconv.FormatBool(ephemeral.First <= p.Last && p.First <= ephemeral.Last)}
		if !exported[labels] { // they may differ in what is no label
			exported[labels] = true
			out.add(publishedInfo, 1, bind([]string{hostNetns}, labels[:]...)...)
		}
	}
	out.fold(publishedInfo, len(published)-named)
	out.add(publishedUnclear, float64(unclear), hostNetns)
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
