package status

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// How many rows a table has, and how many when all are asked for.
const (
	shownRows = 100
	mostRows  = 2000
)

// listenersPart is the part of the page about listeners.
type listenersPart struct {
	Error     string
	HasPolicy bool
	Rules     []mark // required rules without a listener
	Groups    []listenerGroup
	Total     int
	Matching  int    // of the filter
	ShowAll   string // where more rows are; empty if there are none
}

// listenerGroup are the listeners of a network namespace. Its heading is empty where there
// is no other one.
type listenerGroup struct {
	Heading, Note string
	Rows          []listenerRow
}

// listenerRow is a listener as the page shows it.
type listenerRow struct {
	Href, Protocol, Place string
	Reach                 string
	Firewall              *mark
	Owners                []ownerText
	Judged                bool
	Verdict               mark
	Rule                  string
	Notes                 []mark
	Queue                 *queue
	Drops                 string // empty if unknown
	States                []stateCount
	Unread                bool // its connections
	FirstSeen             *moment
	Attention             bool
}

// ownerText is an owner as the page shows it.
type ownerText struct{ Process, Unit, Container, User string }

// queue is a gauge: how much of how much.
type queue struct {
	Value, Limit uint64
	HasLimit     bool
	Text         string
}

// Max is the end of the gauge, which must not be 0: a queue takes one more than its limit.
func (q *queue) Max() uint64 { return q.Limit + 1 }

// Shown is the value of the gauge, and Low and High are where its colour changes.
func (q *queue) Shown() uint64 { return min(q.Value, q.Max()) }
func (q *queue) Low() float64  { return float64(q.Max()) / 2 }
func (q *queue) High() float64 { return float64(q.Limit) + .5 }

type stateCount struct{ State, Sockets string }

// rank orders listeners by how much they need attention.
func rank(l *collector.SeenListener) int {
	kind := policy.Expected
	if l.Judged {
		kind = l.Verdict.Kind
	}
	switch {
	case kind == policy.Forbidden, kind == policy.Unexpected:
		return 0
	case l.Full > 0:
		return 1
	case kind == policy.Unverified:
		return 2
	case len(notes(l)) > 0:
		return 3
	case kind == policy.Undecided:
		return 4
	default:
		return 5
	}
}

// needless is the rank from which on a listener needs no attention.
const needless = 4

func (v *sight) listeners(f filter) listenersPart {
	from := v.view.Listeners
	if from == nil {
		return listenersPart{Error: unread("The listeners", v.view.ListenersErr)}
	}
	p := listenersPart{HasPolicy: from.HasPolicy, Total: len(from.Seen)}
	for _, i := range from.Missing {
		p.Rules = append(p.Rules, mark{bad, "missing: no listener for the required rule " + ruleName(&from.Rules[i])})
	}
	for _, i := range from.Unsure {
		p.Rules = append(p.Rules, mark{warn, "unverified: whether the required rule " + ruleName(&from.Rules[i]) + " has a listener is unknown"})
	}
	var chosen []*collector.SeenListener
	for i := range from.Seen {
		if l := &from.Seen[i]; v.matches(f, l) {
			chosen = append(chosen, l)
		}
	}
	p.Matching = len(chosen)
	v.sort(chosen)
	chosen, p.ShowAll = cut(chosen, f)
	for of := range groups(chosen) {
		group := v.group(of[0].Netns)
		for _, l := range of {
			group.Rows = append(group.Rows, v.row(l))
		}
		p.Groups = append(p.Groups, group)
	}
	return p
}

// sort orders listeners by network namespace, those first in which something needs
// attention, and then our own. In each it orders them by how much they need it.
func (v *sight) sort(all []*collector.SeenListener) {
	worst := map[string]int{}
	for _, l := range all {
		if r, known := worst[l.Netns]; !known || rank(l) < r {
			worst[l.Netns] = rank(l)
		}
	}
	slices.SortStableFunc(all, func(a, b *collector.SeenListener) int {
		return cmp.Or(
			cmp.Compare(min(worst[a.Netns], needless), min(worst[b.Netns], needless)),
			cmp.Compare(a.Netns, b.Netns),
			cmp.Compare(rank(a), rank(b)),
			cmp.Compare(a.Scope, b.Scope),
			a.Compare(b.ListenerID),
		)
	})
}

// groups yields the listeners of each network namespace, which stand together.
func groups(all []*collector.SeenListener) iter.Seq[[]*collector.SeenListener] {
	return func(yield func([]*collector.SeenListener) bool) {
		for len(all) > 0 {
			other := func(l *collector.SeenListener) bool { return l.Netns != all[0].Netns }
			end := slices.IndexFunc(all, other)
			if end < 0 {
				end = len(all)
			}
			if !yield(all[:end]) {
				return
			}
			all = all[end:]
		}
	}
}

// group returns the heading of a network namespace.
func (v *sight) group(netns string) listenerGroup {
	others := v.view.Listeners.Namespaces
	id, other := others[netns]
	switch {
	case other:
		return listenerGroup{Heading: plain.Name(netns), Note: strings.Join(runs(&id), ", ")}
	case len(others) > 0:
		return listenerGroup{Heading: "This host"}
	default:
		return listenerGroup{}
	}
}

// runs says what runs in a network namespace.
func runs(id *netns.Identity) (all []string) {
	add := func(what, name string) {
		if name != "" {
			all = append(all, strings.TrimSpace(what+" "+plain.Name(name)))
		}
	}
	add("pod", strings.TrimPrefix(id.Namespace+"/"+id.Pod, "/"))
	add("container", id.Container)
	add("unit", id.Unit)
	add("", id.Runtime)
	return all
}

// cut returns the rows that are shown, and where more are.
func cut[T any](rows []T, f filter) (shown []T, more string) {
	most := shownRows
	if f.all {
		most = mostRows
	}
	if len(rows) <= most {
		return rows, ""
	}
	if !f.all {
		more = f.query(func(f *filter) { f.all = true })
	}
	return rows[:most], more
}

// matches reports whether a listener is what somebody asked for.
func (v *sight) matches(f filter, l *collector.SeenListener) bool {
	if f.scope != "" && f.scope != l.Scope.String() {
		return false
	}
	if f.verdict != "" && v.view.Listeners.HasPolicy {
		if !l.Judged && f.verdict != needsAttention {
			return false
		}
		attention := f.verdict == needsAttention && rank(l) < needless
		if !attention && f.verdict != l.Verdict.Kind.String() {
			return false
		}
	}
	texts := []string{l.Protocol.String(), describe(l), v.ruleOf(l), l.Netns}
	if id, other := v.view.Listeners.Namespaces[l.Netns]; other {
		texts = append(texts, runs(&id)...)
	}
	for _, o := range l.Owners {
		texts = append(texts, o.Process, o.Unit, o.Container, o.User)
	}
	return f.contains(texts...)
}

// describe names a listener by where it listens.
func describe(l *collector.SeenListener) string {
	switch l.Protocol {
	case socket.Raw:
		return fmt.Sprintf("%s protocol %s", l.Address, socket.IPProtocolName(l.Port))
	case socket.Packet:
		return fmt.Sprintf("device %s, EtherType 0x%04x", cmp.Or(plain.Name(l.Interface), "any"), l.Port)
	case socket.Vsock:
		return l.Vsock.String()
	case socket.Unix:
		return plain.Name(l.Unix.Path)
	default:
		return place(l.ListenerID)
	}
}

func (v *sight) row(l *collector.SeenListener) listenerRow {
	r := listenerRow{
		Protocol: l.Protocol.String(), Place: describe(l), Reach: reachOf(l), Firewall: firewallMark(l.Firewall), Owners: ownersText(l.Owners),
		Notes: notes(l), Queue: queueOf(l), Attention: rank(l) < needless,
	}
	if l.Judged {
		r.Judged, r.Verdict, r.Rule = true, mark{verdictTone(l.Verdict.Kind), l.Verdict.Kind.String()}, v.ruleOf(l)
	}
	if l.Known.Has(socket.KnowsDrops) {
		r.Drops = number(l.Drops)
	}
	if !l.IsPortless() {
		r.Href = v.listenerLink(l.ListenerID)
		r.FirstSeen = new(momentOf(l.FirstSeen, v.now))
	}
	if flow := v.flows[l.ListenerID]; flow != nil {
		r.States = states(flow)
	}
	r.Unread = l.Netns != ""
	return r
}

func (v *sight) listenerLink(id socket.ListenerID) string {
	return v.link("listener", "netns", id.Netns, "protocol", id.Protocol.String(), "address", id.Address.String(), "port", portOf(id), "interface", id.Interface)
}

func (v *sight) ruleOf(l *collector.SeenListener) string {
	if from := v.view.Listeners; l.Judged && l.Verdict.Rule >= 0 && l.Verdict.Rule < len(from.Rules) {
		return plain.Name(from.Rules[l.Verdict.Rule].Name)
	}
	return ""
}

// ruleName names a rule with its comment.
func ruleName(r *policy.Rule) string {
	if r.Comment == "" {
		return plain.Name(r.Name)
	}
	return plain.Name(r.Name) + " (" + plain.Line(r.Comment) + ")"
}

func reachOf(l *collector.SeenListener) string {
	if l.IsPortless() && l.Protocol != socket.Raw {
		return ""
	}
	text := reach(l.Scope)
	if l.DualStack {
		text += ", IPv4 too"
	}
	return text
}

// ownersText returns the owners that are known.
func ownersText(owners []socket.Owner) []ownerText {
	var all []ownerText
	for _, o := range owners {
		t := ownerText{plain.Name(o.Process), plain.Name(o.Unit), plain.Name(o.Container), plain.Name(o.User)}
		if t != (ownerText{}) && !slices.Contains(all, t) {
			all = append(all, t)
		}
	}
	return all
}

// ownerNames returns the shortest name of each owner that is known.
func ownerNames(owners []socket.Owner) []string {
	var names []string
	for _, o := range ownersText(owners) {
		names = append(names, cmp.Or(o.Process, o.Unit, o.Container, o.User))
	}
	return names
}

// notes are what is odd about a listener, beside its verdict.
func notes(l *collector.SeenListener) []mark {
	var all []mark
	if l.Full > 0 {
		all = append(all, mark{bad, strings.TrimPrefix(l.FullQueues(), "its ")})
	}
	if l.Conflict {
		all = append(all, mark{warn, "another owner has this port as well"})
	}
	if l.Absent {
		all = append(all, mark{warn, "this host does not have the address"})
	}
	if slices.ContainsFunc(l.Owners, func(o socket.Owner) bool { return o.Deleted }) {
		all = append(all, mark{warn, "its executable was deleted or replaced"})
	}
	return all
}

// queueOf returns the accept queue: that of the fullest socket of a group.
func queueOf(l *collector.SeenListener) *queue {
	switch {
	case l.Protocol == socket.UDP || l.Protocol == socket.UDPLite:
		if l.Known.Has(socket.KnowsQueues) {
			return &queue{Text: size(float64(l.ReceiveQueue))}
		}
		return nil
	case l.Protocol != socket.TCP && l.Protocol != socket.Unix, !l.Known.Has(socket.KnowsQueues):
		return nil
	case !l.Known.Has(socket.KnowsAcceptQueueLimit):
		return &queue{Text: number(l.AcceptQueue)}
	}
	q := &queue{Value: uint64(l.Worst.Length), Limit: uint64(l.Worst.Limit), HasLimit: true}
	q.Text = fmt.Sprintf("%s/%s", number(q.Value), number(q.Limit))
	if l.Sockets > 1 {
		q.Text += fmt.Sprintf(" (fullest of %d)", l.Sockets)
	}
	return q
}

// states are the states of connections that there are.
func states(f *socket.Flow) []stateCount {
	var all []stateCount
	for _, s := range socket.TCP.States() {
		if n := f.States[s]; n > 0 {
			all = append(all, stateCount{s.String(), count(n)})
		}
	}
	return all
}

// listenersVerdict is what the verdict of the page says of listeners.
func (v *sight) listenersVerdict() []clause {
	const href = "#listeners"
	from := v.view.Listeners
	if from == nil {
		return []clause{{mark{unknown, "the listeners are unknown"}, href}}
	}
	kinds, full := map[policy.Kind]int{}, 0
	total := 0 // that the policy is about
	for i := range from.Seen {
		full += from.Seen[i].Full
		if from.Seen[i].Judged {
			total++
			kinds[from.Seen[i].Verdict.Kind]++
		}
	}
	var all []clause
	add := func(t tone, n int, format string, args ...any) {
		if n > 0 {
			all = append(all, clause{mark{t, fmt.Sprintf(format, args...)}, href})
		}
	}
	broken := kinds[policy.Unexpected] + kinds[policy.Forbidden]
	switch {
	case !from.HasPolicy:
		all = append(all, clause{mark{plainly, counted(len(from.Seen), "listener") + ", and no policy says which are expected"}, href})
	case broken > 0:
		add(bad, broken, "%s of %s %s unexpected", count(broken), counted(total, "listener"), is(broken))
	case kinds[policy.Expected] == total:
		all = append(all, clause{mark{good, counted(total, "listener") + ", all expected"}, href})
	default:
		all = append(all, clause{mark{good, "none of " + counted(total, "listener") + " is unexpected"}, href})
	}
	if from.HasPolicy {
		add(bad, kinds[policy.Forbidden], "%s of them %s forbidden", count(kinds[policy.Forbidden]), is(kinds[policy.Forbidden]))
		add(warn, kinds[policy.Unverified], "%s cannot be verified", count(kinds[policy.Unverified]))
	}
	add(bad, len(from.Missing), "%d required %s missing", len(from.Missing), is(len(from.Missing)))
	add(warn, len(from.Unsure), "%d required may be missing", len(from.Unsure))
	add(bad, full, "%s %s full", counted(full, "queue"), is(full))
	return all
}
