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
)

// firewallRow is what the rules of the host do with new connections to a listener.
type firewallRow struct {
	Verdict string   `json:"verdict"`
	Rule    string   `json:"rule,omitempty"` // as nft names it
	From    []string `json:"from,omitempty"` // what a limited verdict accepts
	To      string   `json:"to,omitempty"`   // of a translated one
	Why     string   `json:"why,omitempty"`  // of an unknown one
}

// publishedRow is a port that a rule sends elsewhere, without a listener.
type publishedRow struct {
	Protocol  string `json:"protocol"`
	Address   string `json:"address"` // empty is any
	Port      string `json:"port"`    // one, or first-last
	Interface string `json:"interface"`
	From      string `json:"from,omitempty"` // the addresses that it is limited to
	ToAddress string `json:"to_address"`     // empty is this host
	ToPort    string `json:"to_port"`        // empty is the same
	Via       string `json:"via"`
	Rule      string `json:"rule"`
}

// to returns where the port leads.
func (p *publishedRow) to() string {
	to := cmp.Or(p.ToAddress, "this host")
	if p.ToPort != "" {
		to += " port " + p.ToPort
	}
	return fmt.Sprintf("to %s (%s)", to, plain.Name(p.Rule))
}

// addFirewall adds what the rules of the host do; nothing where there are none. What is
// unknown is reported on standard error.
func (h *Command) addFirewall(ctx context.Context, j *judged) {
	if h.System == nil || h.System.Firewall == nil {
		return
	}
	const unknown = "published ports, and what the firewall accepts, are unknown"
	rules, err := withinLimit(ctx, "read the firewall", h.System.Firewall)
	switch {
	case errors.Is(err, firewall.ErrPrivilege):
		j.firewallUnknown = unknown
		if !slices.Contains(j.read.Missing, owner.UserNamespace) { // where it would not count
			j.firewallUnknown += ": reading them requires " + owner.CapNetAdmin
		}
		return
	case err != nil:
		j.firewallUnknown = unknown + ": " + err.Error()
		return
	case rules.IsEmpty():
		return
	}
	for i := range j.read.Owned { // they are the first rows
		if at, ok := collector.ArrivalAt(&j.read.Owned[i].Listener); ok {
			d := rules.Listener(at, j.read.Owned[i].DualStack)
			j.rows[i].Firewall = &firewallRow{d.Verdict.String(), d.Rule.String(), d.From, d.To.String(), d.Why}
		}
	}
	published, unclear := rules.Published()
	for _, p := range published {
		j.published = append(j.published, publishedRow{
			p.Protocol.String(), p.Address, p.Ports(), p.Interface, p.Sources, p.ToAddress, p.ToPorts, p.Via(), p.Rule.String(),
		})
	}
	if unclear > 0 {
		j.firewallUnknown = fmt.Sprintf("%d firewall rules that may publish ports are not understood\nhint: nft list ruleset", unclear)
	}
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
