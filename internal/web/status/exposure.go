package status

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/published"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// publishedPart is the part of the page about published ports.
type publishedPart struct {
	Rows []publishedRow
	More int
}

// publishedRow is a published port as the page shows it.
type publishedRow struct {
	Port, Limits string
	To           string
	Silent       *mark // nothing listens there
	Owners       []ownerText
	Container    string
	By           string
}

func (v *sight) published(f filter) publishedPart {
	var p publishedPart
	for i := range v.view.Published {
		row := publishedRowOf(&v.view.Published[i])
		if !f.contains(row.texts()...) || f.scope != "" || f.verdict != "" {
			continue
		}
		if len(p.Rows) == shownRows && !f.all {
			p.More++
			continue
		}
		p.Rows = append(p.Rows, row)
	}
	return p
}

func publishedRowOf(p *published.Port) publishedRow {
	r := publishedRow{
		Port: fmt.Sprintf("%v %s:%s", p.Protocol, cmp.Or(p.Address, "*"), p.PortText()), To: published.Destination(p.ToAddress, p.ToPorts, p.Netns),
		Container: plain.Name(p.Container), By: plain.Name(cmp.Or(p.Rule, p.Via)),
	}
	var limits []string
	if p.Interface != "" {
		limits = append(limits, "on "+plain.Name(p.Interface))
	}
	if p.Sources != "" {
		limits = append(limits, "from "+p.Sources)
	}
	r.Limits = strings.Join(limits, ", ")
	for i := range p.Owned {
		r.Owners = append(r.Owners, ownersText([]socket.Owner{p.Owned[i].Owner})...)
	}
	if len(p.Owned) == 0 && p.Netns != "" && p.ToAddress != "" {
		r.Silent = &mark{warn, "nothing listens there"}
	}
	return r
}

// texts are what a filter looks for.
func (r *publishedRow) texts() []string {
	all := []string{r.Port, r.To, r.Container, r.By}
	for _, o := range r.Owners {
		all = append(all, o.Process, o.Unit, o.User)
	}
	return all
}

// firewallMark says what the firewall does with new connections to a listener.
func firewallMark(d *firewall.Decision) *mark {
	if d == nil {
		return nil
	}
	switch d.Verdict {
	case firewall.Accept:
		return &mark{plainly, "the firewall accepts"}
	case firewall.Limited:
		return &mark{plainly, "the firewall accepts from " + plain.Name(strings.Join(d.From, ", "))}
	case firewall.Drop:
		return &mark{plainly, "the firewall drops"}
	case firewall.Reject:
		return &mark{plainly, "the firewall rejects"}
	case firewall.Translated:
		return &mark{plainly, "the firewall sends it to " + d.To.String()}
	case firewall.Unknown:
	}
	return &mark{unknown, "what the firewall does is unknown"}
}

// unseenFirewall says why what the firewall does is unknown; empty if it is known, or was
// not to be read.
func unseenFirewall(err error) string {
	_, off := errors.AsType[*collector.DisabledError](err)
	switch {
	case err == nil, off:
		return ""
	case errors.Is(err, firewall.ErrPrivilege):
		return "What the firewall accepts, and which ports its rules publish, is unknown: reading it requires " + owner.CapNetAdmin + "."
	default:
		return "What the firewall accepts, and which ports its rules publish, is unknown: " + plain.Line(err.Error()) + "."
	}
}
