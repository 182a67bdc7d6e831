package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// pilesPart is the part of the page about where connections pile up.
type pilesPart struct {
	Error string
	Piles []pile
}

// pile are the connections in one state.
type pile struct {
	State, Sockets, Meaning string
	Rows                    []pileRow
	More                    int
}

type pileRow struct {
	sockets int
	Sockets string
	Where   string
	Href    string
	Owner   string
}

// shownPiles is how many rows each state has.
const shownPiles = 5

func newPile(state, meaning string, rows []pileRow) pile {
	slices.SortStableFunc(rows, func(a, b pileRow) int { return cmp.Compare(b.sockets, a.sockets) })
	p, sum := pile{State: state, Meaning: meaning}, 0
	for i := range rows {
		sum += rows[i].sockets
		rows[i].Sockets = count(rows[i].sockets)
	}
	p.Sockets, p.More = count(sum), max(0, len(rows)-shownPiles)
	p.Rows = rows[:len(rows)-p.More]
	return p
}

func (v *sight) piles() pilesPart {
	t := v.view.Traffic
	if t == nil {
		return pilesPart{Error: unread("The connections", v.view.TrafficErr)}
	}
	byState := func(state socket.State) []pileRow {
		in := func(f *socket.Flow) int { return int(f.States[state]) }
		return slices.Concat(v.inbound(in), outbound(t.Outbound, in))
	}
	var orphaned, unanswered []pileRow
	for i := range t.Orphaned {
		f := &t.Orphaned[i]
		orphaned = append(orphaned, pileRow{sockets: f.Sockets(), Where: fmt.Sprintf("local port %d", f.Port)})
	}
	for _, u := range t.Unanswered {
		unanswered = append(unanswered, pileRow{sockets: u.Sockets, Where: "to " + u.Remote.String()})
	}
	var p pilesPart
	for _, of := range []pile{
		newPile("CLOSE_WAIT", "the peer has closed, and the process has not: a leak if it grows", byState(socket.CloseWait)),
		newPile("TIME_WAIT", "closed from this end first; each keeps its ports for a minute", byState(socket.TimeWait)),
		newPile("SYN_SENT", "connections that are being made from here", byState(socket.SynSent)),
		newPile("unanswered", "the SYN was sent more than once: no answer", unanswered),
		newPile("SYN_RECV", "handshakes that the client has not finished", byState(socket.SynRecv)),
		newPile("orphaned", "no process and no listener: left by a service that is gone", orphaned),
	} {
		if len(of.Rows) > 0 {
			p.Piles = append(p.Piles, of)
		}
	}
	return p
}

func (v *sight) inbound(of func(*socket.Flow) int) []pileRow {
	var rows []pileRow
	if v.view.Listeners == nil {
		return nil
	}
	for i := range v.view.Listeners.Seen {
		l := &v.view.Listeners.Seen[i]
		flow := v.flows[l.ListenerID]
		if flow == nil || of(flow) == 0 {
			continue
		}
		rows = append(rows, pileRow{sockets: of(flow), Where: "to the listener " + place(l.ListenerID), Href: v.listenerLink(l.ListenerID), Owner: strings.Join(ownerNames(l.Owners), ", ")})
	}
	if n := of(&v.view.Traffic.InboundUnread); n > 0 {
		rows = append(rows, pileRow{sockets: n, Where: "to listeners that were not read"})
	}
	return rows
}

// outbound are the rows of connections from here. Those to ephemeral ports, which are
// no services, are one.
func outbound(flows []socket.PortFlow, of func(*socket.Flow) int) []pileRow {
	var rows []pileRow
	others := 0
	for i := range flows {
		f := &flows[i]
		n := of(&f.Flow)
		switch {
		case n == 0:
		case f.Ephemeral && f.Sockets() == 1:
			others += n
		default:
			rows = append(rows, pileRow{sockets: n, Where: fmt.Sprintf("from here to remote port %d", f.Port)})
		}
	}
	if others > 0 {
		rows = append(rows, pileRow{sockets: others, Where: "from here to ephemeral ports"})
	}
	return rows
}

// limitsPart is the part of the page about limits.
type limitsPart struct {
	Errors []string
	Rows   []limitRow
}

// limitRow is a limit with what is used of it.
type limitRow struct {
	Name, Where string
	Used, Limit string
	Percent     int
	State       mark
	share       float64
}

// near is the share of a limit from which on it is near.
const near = 0.8

func (l *limitsPart) add(name, where string, used, limit float64, text func(float64) string) {
	if limit <= 0 {
		return
	}
	r := limitRow{Name: name, Where: where, Used: text(used), Limit: text(limit), share: used / limit}
	r.Percent = min(100, int(100*r.share))
	switch {
	case r.share >= 1:
		r.State = mark{bad, "reached"}
	case r.share >= near:
		r.State = mark{warn, "near"}
	default:
		r.State = mark{good, "far"}
	}
	l.Rows = append(l.Rows, r)
}

// shownDestinations is how many destinations the limits have.
const shownDestinations = 5

func (v *sight) limits() limitsPart {
	var p limitsPart
	whole := func(f float64) string { return number(uint64(f)) }
	v.addPorts(&p, whole)
	k := v.view.Kernel
	if v.view.KernelErr != nil {
		p.Errors = append(p.Errors, unread("Limits of the kernel", v.view.KernelErr))
	}
	if k == nil {
		return p
	}
	for _, l := range []struct {
		name, where string
		used, limit *float64
		text        func(float64) string
	}{
		{"Sockets in TIME_WAIT", "", k.TimeWait, k.TimeWaitLimit, whole},
		{"Connections tracked by netfilter", "", k.Conntrack, k.ConntrackLimit, whole},
		{"Orphaned sockets", "whole host", k.Orphans, k.OrphanLimit, whole},
		{"Memory of TCP", "whole host", k.Memory, k.MemoryLimit, size},
	} {
		if l.used != nil && l.limit != nil {
			p.add(l.name, l.where, *l.used, *l.limit, l.text)
		}
	}
	slices.SortStableFunc(p.Rows, func(a, b limitRow) int { return cmp.Compare(b.share, a.share) })
	return p
}

// addPorts adds the ephemeral ports, by the destinations that use the most.
func (v *sight) addPorts(p *limitsPart, text func(float64) string) {
	t := v.view.Traffic
	switch {
	case t == nil:
		return // the part about connections says why
	case v.view.PortsErr != nil:
		p.Errors = append(p.Errors, unread("Ephemeral ports", v.view.PortsErr))
		return
	}
	uses := slices.Clone(t.Destinations)
	free := func(u socket.DestinationUse) int { return u.Ports - v.reusable(u) }
	slices.SortStableFunc(uses, func(a, b socket.DestinationUse) int { return cmp.Compare(free(b), free(a)) })
	for _, u := range uses[:min(len(uses), shownDestinations)] {
		where := "to " + u.Remote.String()
		if n := v.reusable(u); n > 0 {
			where += fmt.Sprintf(" (and %s in TIME_WAIT, which connect() may reuse)", count(n))
		}
		p.add("Ephemeral ports", where, float64(free(u)), float64(t.EphemeralPorts), text)
	}
}

// reusable returns how many ports in TIME_WAIT connect() may take again
// (net.ipv4.tcp_tw_reuse: 1 for all, 2 for loopback).
func (v *sight) reusable(u socket.DestinationUse) int {
	if v.view.Kernel == nil || v.view.Kernel.TimeWaitReuse == nil {
		return 0
	}
	switch *v.view.Kernel.TimeWaitReuse {
	case 1:
		return u.TimeWait
	case 2:
		if u.Remote.Addr().Unmap().IsLoopback() {
			return u.TimeWait
		}
	}
	return 0
}

func (l *limitsPart) verdict() []clause {
	reached, nearly := 0, 0
	for _, r := range l.Rows {
		switch r.State.Tone {
		case bad:
			reached++
		case warn:
			nearly++
		case unknown, plainly, good:
		}
	}
	var all []clause
	if reached > 0 {
		all = append(all, clause{mark{bad, fmt.Sprintf("%s %s reached", counted(reached, "limit"), is(reached))}, "#limits"})
	}
	if nearly > 0 {
		all = append(all, clause{mark{warn, fmt.Sprintf("%s %s near", counted(nearly, "limit"), is(nearly))}, "#limits"})
	}
	return all
}

// unseen says what cannot be seen of the host, and what would help.
func (v *sight) unseen() []string {
	var all []string
	add := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if v.view.Source != "sock_diag" {
		add("The source of the sockets is %s: it does not provide all values of sock_diag (netlink), such as accept queue limits and drops.", v.view.Source)
	}
	for _, f := range kernel.Files(v.view.KernelErr) {
		add("The file %s below /proc could not be read: %s.", plain.Line(f.File), plain.Line(f.Err.Error()))
	}
	if text := unseenFirewall(v.view.FirewallErr); text != "" {
		all = append(all, text)
	}
	l := v.view.Listeners
	if l == nil {
		return all
	}
	missing := l.Owners.Missing
	if n := l.Owners.Unattributed; n > 0 {
		add("The process of %s is unknown.", counted(n, "listener"))
	}
	if l.FiltersHidden {
		add("It is unknown whether packet sockets have a filter.")
		missing = append(slices.Clone(missing), owner.CapNetAdmin)
	}
	for _, hint := range owner.Hints(missing) {
		add("%s.", capital(hint))
	}
	if n := l.Owners.Pending; n > 0 {
		add("The owner of %s may be known later: a process or the name service does not answer.", counted(n, "listener"))
	}
	for _, p := range socket.Protocols() {
		if n := l.Table.Unread[p]; n > 0 {
			add("%s of %v were not read: there are too many.", counted(n, "socket"), p)
		}
	}
	if l.Table.Interrupted != nil {
		add("The table of sockets changed while it was read: figures may be a little wrong.")
	}
	if l.NamespacesErr != nil {
		add("Other network namespaces could not be read: %s.", plain.Line(l.NamespacesErr.Error()))
	}
	if n := l.UnreadNamespaces; n > 0 {
		add("%s %s not read.", counted(n, "network namespace"), was(n))
	}
	if l.PortlessErr != nil {
		add("Raw, packet or vsock sockets could not be read: %s.", plain.Line(l.PortlessErr.Error()))
	}
	return all
}
