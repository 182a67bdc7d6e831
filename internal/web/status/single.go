package status

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// fact is a line of a page about one thing.
type fact struct {
	Name  string
	Text  []string
	Marks []mark
}

// facts are those of a page.
type facts []fact

// add adds a fact, unless its text is empty.
func (f *facts) add(name string, text ...string) {
	if strings.Join(text, "") != "" {
		*f = append(*f, fact{Name: name, Text: text})
	}
}

// listenerPage is the page of one listener.
type listenerPage struct {
	head
	Heading  string
	Sentence string
	Queue    *queue
	Facts    facts
	States   []stateCount
}

// Listener serves the page of one listener.
func (s *Server) Listener(w http.ResponseWriter, r *http.Request) {
	id, err := parseListener(r.URL.Query())
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusBadRequest)
		return
	}
	v, ok := s.look(w, r)
	if !ok {
		return
	}
	status, page := v.listenerPage(id)
	s.render(w, status, "listener.html", page)
}

// parseListener reads the labels that identify a listener.
func parseListener(query url.Values) (id socket.ListenerID, err error) {
	id.Netns, id.Interface = query.Get("netns"), query.Get("interface")
	protocols := socket.Protocols()
	i := slices.IndexFunc(protocols, func(p socket.Protocol) bool { return p.String() == query.Get("protocol") })
	if i < 0 {
		return id, fmt.Errorf("parameter protocol: unknown value %q\nhint: tcp, udp or udplite", query.Get("protocol"))
	}
	id.Protocol = protocols[i]
	if id.Address, err = netip.ParseAddr(query.Get("address")); err != nil || id.Address.Zone() != "" {
		return id, fmt.Errorf("parameter address: %q is not an IP address\nhint: address=0.0.0.0", query.Get("address"))
	}
	port, err := strconv.ParseUint(query.Get("port"), 10, 16)
	if err != nil && query.Get("port") != "ephemeral" {
		return id, fmt.Errorf("parameter port: %q is not a port\nhint: a number from 1 to 65535, or ephemeral", query.Get("port"))
	}
	id.Port = uint16(port)
	return id, nil
}

func (v *sight) listenerPage(id socket.ListenerID) (status int, p listenerPage) {
	name := fmt.Sprintf("%s %s", id.Protocol, place(id))
	p = listenerPage{head: v.head(name), Heading: name}
	if v.view.Listeners == nil {
		p.Sentence = unread("The listeners", v.view.ListenersErr)
		return http.StatusOK, p
	}
	l := v.seen(id)
	if l == nil {
		p.Sentence = "Nothing listens there now."
		return http.StatusNotFound, p
	}
	p.Queue, p.Facts = queueOf(l), v.factsOf(l)
	if flow := v.flows[id]; flow != nil {
		p.States = states(flow)
	}
	return http.StatusOK, p
}

func (v *sight) factsOf(l *collector.SeenListener) (all facts) {
	if l.Judged {
		all = append(all, fact{Name: "Verdict", Marks: []mark{{verdictTone(l.Verdict.Kind), l.Verdict.Kind.String()}}, Text: []string{v.reason(l)}})
	}
	if odd := notes(l); len(odd) > 0 {
		all = append(all, fact{Name: "To note", Marks: odd})
	}
	all.add("Reached from", reachOf(l))
	if m := firewallMark(l.Firewall); m != nil {
		all = append(all, fact{Name: "Firewall", Marks: []mark{*m}, Text: []string{l.Firewall.Rule.String()}})
	}
	all.add("Network namespace", plain.Name(l.Netns))
	if id, other := v.view.Listeners.Namespaces[l.Netns]; other {
		all.add("Runs there", runs(&id)...)
	}
	for _, o := range ownersText(l.Owners) {
		all.add("Process", o.Process)
		all.add("Unit", o.Unit)
		all.add("Container", o.Container)
		all.add("User", o.User)
	}
	if len(ownersText(l.Owners)) == 0 {
		all.add("Process", "unknown")
	}
	for _, o := range l.Owners {
		if v.local && o.PID != 0 {
			all.add("PID and executable", strconv.Itoa(int(o.PID)), plain.Name(o.Executable))
		}
	}
	all.add("Sockets", count(l.Sockets))
	if l.Known.Has(socket.KnowsDrops) {
		all.add("Drops", number(l.Drops)+" since it was first seen")
	}
	if flow := v.flows[l.ListenerID]; flow != nil && !flow.QueuesUnknown {
		all.add("Bytes waiting", size(float64(flow.ReceiveQueue))+" to be read", size(float64(flow.SendQueue))+" to be acknowledged")
	}
	if l.Ephemeral {
		all.add("Port", "is one that the kernel gives to clients")
	}
	if l.MayBeClient {
		all.add("Kind", "may be a client: nothing proves that it is a service")
	}
	first := momentOf(l.FirstSeen, v.now)
	all.add("First seen", first.Text, first.Ago+" ago")
	all.add("Metrics", series(l.ListenerID))
	return all
}

// reason says why a listener has its verdict.
func (v *sight) reason(l *collector.SeenListener) string {
	if l.Verdict.Rule < 0 {
		return "no rule of the policy matches"
	}
	r := &v.view.Listeners.Rules[l.Verdict.Rule]
	return "by the rule " + ruleName(r)
}

// series returns a selector of the metrics of a listener.
func series(id socket.ListenerID) string {
	labels := []string{fmt.Sprintf("protocol=%q", id.Protocol), fmt.Sprintf("address=%q", id.Address), fmt.Sprintf("port=%q", portOf(id))}
	if id.Netns != "" {
		labels = append(labels, fmt.Sprintf("netns=%q", plain.Line(id.Netns)))
	}
	if id.Interface != "" {
		labels = append(labels, fmt.Sprintf("interface=%q", plain.Line(id.Interface)))
	}
	return `{__name__=~"port_.+",` + strings.Join(labels, ",") + "}"
}

// targetPage is the page of the targets with one address, module and name.
type targetPage struct {
	head
	Heading string
	Targets []targetDetail
}

// targetDetail is one of them.
type targetDetail struct {
	targetRow
	Facts    facts
	Traced   moment
	Path     []evidence // of the latest trace
	Outcomes []stateCount
	Links    []pageLink
}

// Target serves the page of one target.
func (s *Server) Target(w http.ResponseWriter, r *http.Request) {
	v, ok := s.look(w, r)
	if !ok {
		return
	}
	query := r.URL.Query()
	p := targetPage{head: v.head(plain.Line(query.Get("target"))), Heading: plain.Line(query.Get("target"))}
	for i := range v.pasts {
		t := v.pasts[i].Target
		if t.Redacted() == query.Get("target") && t.Module.Name == query.Get("module") && t.Name == query.Get("name") {
			p.Targets = append(p.Targets, v.detail(&v.pasts[i]))
		}
	}
	status := http.StatusOK
	if len(p.Targets) == 0 {
		status = http.StatusNotFound
	}
	s.render(w, status, "target.html", p)
}

func (v *sight) detail(p *schedule.Past) targetDetail {
	d := targetDetail{targetRow: v.target(p), Links: v.probeLinks(p)}
	m := p.Target.Module
	d.Facts.add("Module", fmt.Sprintf("%s (%s), expects %s", plain.Name(m.Name), m.Kind, m.Expect))
	d.Facts.add("Host name", plain.Line(p.Target.Hostname))
	d.Facts.add("Labels", labelsOf(p.Target))
	if p.Target.Interval > 0 {
		d.Facts.add("Probed", "every "+p.Target.Interval.String())
	} else {
		d.Facts.add("Probed", "at each scrape of the metrics")
	}
	if p.State != schedule.Unknown {
		d.Facts.add("Outcome", p.Result.Outcome.String(), p.Result.Phase.String())
		if p.Result.Origin != probe.OriginNone {
			d.Facts.add("Reported by", strings.ReplaceAll(p.Result.Origin.String(), "_", " "))
		}
	}
	if v.local && p.Result.Peer.IsValid() {
		d.Facts.add("Address tried", p.Result.Peer.String())
	}
	if v.local && p.Result.Err != nil {
		d.Facts.add("Error", strings.Split(plain.Text(probe.Redact(p.Result.Err.Error(), p.Target.Address)), "\n")...)
	}
	if path, at := v.Path(p.Target, &p.Result); v.local && path != nil {
		d.Traced, d.Path = momentOf(at, v.now), evidenceOf(check.PathEvidence(path), p.Target)
	}
	for _, o := range probe.Outcomes() {
		if n := p.Tally.Count(o); n > 0 {
			d.Outcomes = append(d.Outcomes, stateCount{o.String(), number(n)})
		}
	}
	return d
}

// shownLogs is how many logs of probes a page links to.
const shownLogs = 10

// probeLinks are links to a probe of the target, and to what is remembered of recent
// ones. A password stands in none.
func (v *sight) probeLinks(p *schedule.Past) []pageLink {
	t := p.Target
	var all []pageLink
	if check := v.checkLink(t); check != "" {
		debug, text := "", "Probe it now"
		if v.local {
			debug, text = "true", "Probe it now, with the log"
			all = append(all, pageLink{check, "Check it now", "takes the connection apart"})
		}
		all = append(all, pageLink{v.link("probe", "target", t.Address, "module", t.Module.Name, "hostname", t.Hostname, "netns", t.Netns, "debug", debug), text, ""})
	}
	if !v.local {
		return all
	}
	for _, e := range v.History() {
		if e.Target.Address == t.Address && e.Target.Module.Name == t.Module.Name && len(all) < shownLogs {
			when := momentOf(e.At, v.now)
			all = append(all, pageLink{v.link("logs", "id", strconv.FormatUint(e.ID, 10)), "Details of the probe at " + when.Text, e.Result.Outcome.String()})
		}
	}
	return all
}
