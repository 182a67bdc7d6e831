package status

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// sight is the host at the moment of a request.
type sight struct {
	*Server
	view  *collector.View
	pasts []schedule.Past
	own   *ownhost.Snapshot
	local bool // the client may see the details of probes
	now   time.Time
	flows map[socket.ListenerID]*socket.Flow // of TCP listeners; nil where the connections are unknown
}

func newSight(s *Server, view *collector.View, local bool) *sight {
	v := &sight{Server: s, view: view, pasts: s.Targets(), local: local, now: s.Now()}
	v.own = ownhost.New(s.Addresses, func() (*socket.Table, error) {
		if view.Listeners == nil {
			return nil, view.ListenersErr
		}
		return view.Listeners.Table, nil
	})
	if view.Listeners != nil && view.Traffic != nil {
		v.flows = map[socket.ListenerID]*socket.Flow{}
		for i, l := range view.Listeners.Table.Listeners {
			if l.Protocol == socket.TCP {
				v.flows[l.ListenerID] = &view.Traffic.Inbound[i]
			}
		}
	}
	return v
}

// seen returns the listener with that ID of those that were read; nil if there is none.
func (v *sight) seen(id socket.ListenerID) *collector.SeenListener {
	for i := range v.view.Listeners.Seen {
		if l := &v.view.Listeners.Seen[i]; l.ListenerID == id {
			return l
		}
	}
	return nil
}

// head is what all pages have.
type head struct {
	Title, Host, Base, Assets string
	Refresh                   int
	Started, Read             moment
	Version                   string
}

func (v *sight) head(title string) head {
	h := v.Server.head(title, v.now)
	h.Read = momentOf(v.view.Began, v.now)
	return h
}

func (s *Server) head(title string, now time.Time) head {
	host := plain.Name(s.Hostname)
	if title == "" {
		title = host
	} else {
		title += " – " + host
	}
	return head{
		Title: title + " – port_exporter", Host: host, Base: s.base, Assets: s.version,
		Started: momentOf(s.Started, now), Read: momentOf(now, now), Version: plain.Line(s.Version),
	}
}

// link returns the address of another page, with parameters. Empty ones are left out.
func (s *Server) link(path string, parameters ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		if parameters[i+1] != "" {
			values.Set(parameters[i], parameters[i+1])
		}
	}
	if len(values) == 0 {
		return s.base + path
	}
	return s.base + path + "?" + values.Encode()
}

// unread says why a part of the page is empty.
func unread(what string, err error) string {
	if _, off := errors.AsType[*collector.DisabledError](err); off {
		return fmt.Sprintf("%s are not shown: %v.", what, plain.Line(err.Error()))
	}
	return fmt.Sprintf("%s could not be read: %s.", what, plain.Line(err.Error()))
}

// overview is the host at a glance.
type overview struct {
	head
	Verdict   []clause
	Form      form
	Listeners listenersPart
	Published publishedPart
	Targets   targetsPart
	Piles     pilesPart
	Limits    limitsPart
	Unseen    []string
	Links     []pageLink
}

// clause is a part of the verdict.
type clause struct {
	mark
	Href string // of the part of the page that has the details
}

type pageLink struct{ Href, Text, Note string }

func (v *sight) overview(f filter) overview {
	p := overview{head: v.head("")}
	p.Refresh = f.refresh
	p.Form = f.form(v.view.Listeners != nil && v.view.Listeners.HasPolicy)
	p.Listeners = v.listeners(f)
	p.Published = v.published(f)
	p.Targets = v.targets(f)
	p.Piles = v.piles()
	p.Limits = v.limits()
	p.Unseen = v.unseen()
	p.Links = v.links()
	p.Verdict = append(p.Verdict, v.listenersVerdict()...)
	p.Verdict = append(p.Verdict, v.targetsVerdict()...)
	p.Verdict = append(p.Verdict, p.Limits.verdict()...)
	if slices.ContainsFunc(p.Verdict, func(c clause) bool { return c.Tone == bad }) {
		p.Title = bad.symbol() + " " + p.Title // for who has the page in a tab behind others
	}
	return p
}

// links are those that the client can follow.
func (v *sight) links() []pageLink {
	metrics := strings.TrimPrefix(v.MetricsPath, "/")
	links := []pageLink{
		{v.link(metrics), "Metrics", "for Prometheus"},
		{v.link(metrics, "collect[]", "listeners"), "Metrics of listeners", ""},
	}
	if len(v.pasts) > 0 {
		links = append(links, pageLink{v.link(metrics, "collect[]", "probes"), "Metrics of targets", "probes those without an interval"})
	}
	links = append(links,
		pageLink{v.link("sd/listeners"), "Listeners for service discovery", ""},
		pageLink{v.link("sd/probes"), "Targets for service discovery", ""},
		pageLink{v.link("config"), "Configuration", "in force, defaults included"},
		pageLink{v.link("-/healthy"), "Health", ""},
		pageLink{v.link("-/ready"), "Readiness", ""},
	)
	if v.local {
		links = append(links, pageLink{v.link("logs"), "Recent probes", "with their logs, for clients on this host"})
	}
	return links
}

// place returns an address as people write it, and its device.
func place(id socket.ListenerID) string {
	port := portOf(id)
	text := netip.AddrPortFrom(id.Address, id.Port).String()
	if id.Port == 0 {
		text = strings.TrimSuffix(text, ":0") + ":" + port
	}
	if id.Interface != "" {
		text += "%" + plain.Name(id.Interface)
	}
	return text
}

// portOf returns a port as it stands in labels.
func portOf(id socket.ListenerID) string {
	if id.Port == 0 { // of a client that has many
		return "ephemeral"
	}
	return fmt.Sprint(id.Port)
}
