package check

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// Firewall is what the rules of this host do with a connection to the target.
type Firewall struct {
	// Out is about this connection. If the target is this host, it is about what arrives
	// too.
	Out firewall.Decision
	// In is about connections from other hosts, if the target is this host.
	In *firewall.Decision
	// Hidden reports that the rules cannot be read without CAP_NET_ADMIN.
	Hidden bool
	// Late reports that they could not be read in time.
	Late bool
}

// firewall returns what the rules do; nil if there are none, or that is unknown.
func (h *Host) firewall(ctx context.Context, r *Report) *Firewall {
	protocol, ok := transport(r.Target.Module.Kind)
	to := r.Result.Peer
	if h.Firewall == nil || !ok || !to.IsValid() || r.Route == nil || !r.Route.IsOut() || r.Result.Proxy != "" {
		return nil
	}
	rules, err := h.Firewall(ctx)
	if errors.Is(err, firewall.ErrPrivilege) {
		return &Firewall{Hidden: true}
	}
	if errors.Is(err, firewall.ErrLate) {
		return &Firewall{Late: true}
	}
	if err != nil || rules.IsEmpty() {
		return nil
	}
	out := firewall.Departure{
		Protocol: protocol, To: to.Addr(), Port: to.Port(), From: r.Route.Source, Interface: r.Route.Device, FromPorts: h.fromPorts(),
	}
	if r.Route.Type != route.Local {
		return &Firewall{Out: rules.Output(out)}
	}
	out.Interface = "lo"
	f := &Firewall{Out: rules.Output(out)}
	if !to.Addr().IsLoopback() {
		in := rules.Input(firewall.Arrival{Protocol: protocol, To: to.Addr(), Port: to.Port()})
		f.In = &in
	}
	return f
}

// fromPorts returns the range of ports that the kernel connects from; zero if unknown.
func (h *Host) fromPorts() (first [2]uint16) {
	if h.EphemeralPorts == nil {
		return first
	}
	ports, err := h.EphemeralPorts()
	if err != nil {
		return first
	}
	return [2]uint16{ports.First, ports.Last}
}

// transport returns the protocol of a kind of prober, if it has one.
func transport(kind string) (firewall.Protocol, bool) {
	switch {
	case isStream(kind):
		return firewall.TCP, true
	case kind == probe.KindUDP || kind == probe.KindSTUN:
		return firewall.UDP, true
	default:
		return 0, false
	}
}

// rule returns the rule that decides, if it is known and one that refuses.
func (f *Firewall) rule() *verdict.Rule {
	if f == nil || f.Out.Verdict != firewall.Drop && f.Out.Verdict != firewall.Reject {
		return nil
	}
	return &verdict.Rule{Drops: f.Out.Verdict == firewall.Drop, Where: f.Out.Rule.String()}
}

// sent returns where a rule sends the connection, if one does.
func (f *Firewall) sent(from netip.AddrPort) *verdict.Sent {
	if f == nil || f.Out.Verdict != firewall.Translated {
		return nil
	}
	to := f.Out.To
	sent := &verdict.Sent{To: to.String(), Where: f.Out.Rule.String()}
	if check, ok := to.Of(from); ok {
		sent.Check = check.String()
		if to.IsHere() {
			sent.To += " of this host"
		}
	}
	return sent
}

// rules is about the firewall of this host.
func (r *Report) rules() []Evidence {
	const topic = "firewall"
	f := r.Firewall
	switch {
	case f == nil:
		return nil
	case (f.Hidden || f.Late) && r.Success:
		return nil
	case f.Late:
		return []Evidence{{Unknown, topic, "what the rules of this host do is unknown: they could not be read in time"}}
	case f.Hidden:
		return []Evidence{{Unknown, topic, "what the rules of this host do is unknown without CAP_NET_ADMIN"}}
	}
	mark := markOfRules(f.Out.Verdict)
	if mark == Failed && r.connected() { // sets of addresses change with each packet
		mark = Unknown
	}
	all := []Evidence{{mark, topic, "rules of this host: " + f.Out.String()}}
	if f.In != nil {
		all = append(all, Evidence{markOfRules(f.In.Verdict), topic, "for other hosts: " + f.In.String()})
	}
	return all
}

// connected reports whether a connection was made to the address that decides.
func (r *Report) connected() bool {
	return slices.ContainsFunc(r.Connections, func(c probe.Connection) bool { return c.Err == nil && c.To == r.Result.Peer })
}

func markOfRules(v firewall.Verdict) Mark {
	switch v {
	case firewall.Accept, firewall.Limited, firewall.Translated:
		return OK
	case firewall.Drop, firewall.Reject:
		return Failed
	default:
		return Unknown
	}
}
