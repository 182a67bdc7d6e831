package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/published"
)

// firewallRow is what the rules of the host do with new connections to a listener.
type firewallRow struct {
	Verdict string   `json:"verdict"`
	Rule    string   `json:"rule,omitempty"` // as nft names it
	From    []string `json:"from,omitempty"` // what a limited verdict accepts
	To      string   `json:"to,omitempty"`   // of a translated one
	Why     string   `json:"why,omitempty"`  // of an unknown one
}

// publishedRow is a port that leads elsewhere, and the listener there.
type publishedRow struct {
	Protocol  string `json:"protocol"`
	Address   string `json:"address"` // empty is any
	Port      string `json:"port"`    // one, or first-last
	Interface string `json:"interface"`
	From      string `json:"from,omitempty"` // the addresses that it is limited to
	ToNetns   string `json:"to_netns"`       // empty is our own, another host, or unknown
	ToAddress string `json:"to_address"`     // empty is this host, and via conmon unknown
	ToPort    string `json:"to_port"`        // empty is the same
	Via       string `json:"via"`
	Rule      string `json:"rule"` // empty without one
	Container string `json:"container"`
	// The owner of the listener that answers, if there is one.
	Listens bool   `json:"listens"`
	Process string `json:"process"`
	User    string `json:"user"`
	Unit    string `json:"unit"`
}

func newPublishedRow(p *published.Port) publishedRow {
	r := publishedRow{
		Protocol: p.Protocol.String(), Address: p.Address, Port: p.PortText(), Interface: p.Interface, From: p.Sources,
		ToNetns: p.Netns, ToAddress: p.ToAddress, ToPort: p.ToPorts, Via: p.Via, Rule: p.Rule, Container: p.Container,
		Listens: len(p.Owned) > 0,
	}
	if r.Listens {
		o := &p.Owned[0].Owner
		r.Process, r.User, r.Unit = o.Process, o.User, o.Unit
	}
	return r
}

// to returns where the port leads, and what listens there.
func (p *publishedRow) to() string {
	to := published.Destination(p.ToAddress, p.ToPort, p.ToNetns)
	switch {
	case p.Process != "":
		to += ": " + plain.Name(p.Process)
	case p.Listens:
		to += ": unknown process"
	case p.ToNetns != "" && p.ToAddress != "":
		to += ": nothing listens there"
	}
	return fmt.Sprintf("to %s (%s)", to, plain.Name(cmp.Or(p.Rule, p.Via)))
}

// cells are those of the columns of a table from the protocol to the container.
func (p *publishedRow) cells() []string {
	return []string{
		p.Protocol, onInterface(cmp.Or(p.Address, "*"), p.Interface), p.Port, "published", "", p.to(), "",
		plain.Name(p.User), plain.Name(p.Unit), plain.Name(p.Container),
	}
}

// valid returns the row in UTF-8.
func (p publishedRow) valid() publishedRow {
	for _, text := range []*string{&p.Interface, &p.ToNetns, &p.Container, &p.Process, &p.User, &p.Unit} {
		*text = plain.Valid(*text)
	}
	return p
}

// addFirewall adds what the rules of the host do; nothing where there are none. What is
// unknown is reported on standard error.
func (h *Command) addFirewall(ctx context.Context, j *judged) {
	if h.System == nil || h.System.Firewall == nil {
		return
	}
	const unknown = "published ports, and what the firewall accepts, are unknown"
	var ports []published.Port
	rules, err := withinLimit(ctx, "read the firewall", h.System.Firewall)
	switch {
	case errors.Is(err, firewall.ErrPrivilege):
		j.firewallUnknown = unknown
		if !slices.Contains(j.read.Missing, owner.UserNamespace) { // where it would not count
			j.firewallUnknown += ": reading them requires " + owner.CapNetAdmin
		}
	case err != nil:
		j.firewallUnknown = unknown + ": " + err.Error()
	case !rules.IsEmpty():
		ports = j.addRules(rules)
	}
	if h.System.Arguments != nil {
		ports = append(ports, published.OfProcesses(j.read.Owned, func(pid int32) []string { return h.System.Arguments(ctx, pid) })...)
	}
	if len(ports) > 0 {
		ports = published.Join(ports, h.places(ctx, j.read))
	}
	for i := range ports {
		j.published = append(j.published, newPublishedRow(&ports[i]))
	}
}

// addRules adds what rules do with connections to listeners, and returns what they publish.
func (j *judged) addRules(rules *firewall.Ruleset) []published.Port {
	for i := range j.read.Owned { // they are the first rows
		if at, ok := collector.ArrivalAt(&j.read.Owned[i].Listener); ok {
			d := rules.Listener(at, j.read.Owned[i].DualStack)
			j.rows[i].Firewall = &firewallRow{d.Verdict.String(), d.Rule.String(), d.From, d.To.String(), d.Why}
		}
	}
	all, unclear := rules.Published()
	if unclear > 0 {
		j.firewallUnknown = fmt.Sprintf("%d firewall rules that may publish ports are not understood\nhint: nft list ruleset", unclear)
	}
	return published.OfRules(all)
}

// places returns the other network namespaces, to which published ports may lead: those that
// were read for their listeners, else they are looked for.
func (h *Command) places(ctx context.Context, r *reading) []published.Place {
	if r.places == nil && h.System.Namespaces != nil {
		found, err := within(ctx, limit, "read network namespaces", func(ctx context.Context) (reading, error) {
			var found reading
			seen, err := h.lookElsewhere(ctx, nil)
			if err == nil {
				h.addForeign(ctx, &found, seen)
			}
			return found, err
		})
		if err != nil {
			fmt.Fprintf(h.Stderr, "what published ports lead to is unknown: %v\n", err)
		}
		return found.places
	}
	return r.places
}

// cell is the verdict in a table.
func (f *firewallRow) cell() string {
	if f == nil {
		return ""
	}
	if len(f.From) > 0 {
		return f.Verdict + ": " + plain.Name(strings.Join(f.From, ", "))
	}
	return f.Verdict
}
