package check

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/system"
)

// In returns what can be asked of a network namespace of this host by its name; an empty
// one is our own. What cannot be read there is unknown: nothing of our own takes its place.
func (h *Host) In(ctx context.Context, name string) *Host {
	if name == "" {
		return h
	}
	n := h.netns(name)
	ephemeral := func() (socket.EphemeralPorts, error) { return answered(ctx, n, h.EphemeralPorts) }
	reader := socket.Reader{Source: n.Source(ctx), Netns: name, EphemeralPorts: ephemeral}
	return &Host{
		in:             n,
		Addresses:      func() (map[netip.Addr]string, error) { return answered(ctx, n, h.Addresses) },
		Listening:      reader.Listening,
		Owners:         h.namespaceOwners,
		Sockets:        reader.Source,
		EphemeralPorts: ephemeral,
		Route: func(q route.Query) (route.Route, error) {
			return answered(ctx, n, func() (route.Route, error) { return h.Route(q) })
		},
		Firewall: func(ctx context.Context) (*firewall.Ruleset, error) {
			return answered(ctx, n, func() (*firewall.Ruleset, error) { return h.foreignFirewall(ctx) })
		},
	}
}

// answered asks something in a network namespace. That of the probe may have no time left.
func answered[T any](ctx context.Context, n system.Netns, question func() (T, error)) (answer T, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readLimit)
	defer cancel()
	err = n.Ask(ctx, func() (err error) {
		answer, err = question()
		return err
	})
	return answer, err
}

// counters returns those of the network namespace, all 0 where they are unknown.
func (h *Host) counters(ctx context.Context) counters {
	if h.in == nil {
		return readCounters()
	}
	c, _ := answered(ctx, h.in, func() (counters, error) { return readCounters(), nil })
	return c
}

// from is about the network namespace from which the target was probed.
func (r *Report) from() []Evidence {
	const topic = "netns"
	if r.Target.Netns == "" {
		return nil
	}
	if _, refused := errors.AsType[*probe.NetnsError](r.Result.Err); refused {
		return []Evidence{{Failed, topic, "network namespace " + r.Target.Netns + " was not entered"}}
	}
	text := "from network namespace " + r.Target.Netns
	if r.netns != "" && r.netns != r.Target.Netns {
		text += ", which is " + r.netns
	}
	all := []Evidence{{OK, topic, text}}
	if len(r.Lookups) > 0 {
		all[0].Text += "; names are resolved in that of port_exporter"
	}
	if r.Route == nil && r.Result.Peer.IsValid() && r.Result.Proxy == "" {
		all = append(all, Evidence{Unknown, "route", fmt.Sprintf("the route to %s in that namespace is unknown", r.Result.Peer.Addr())})
	}
	return all
}

// ofNetns says of facts of this host that they are those of a network namespace of it.
func (r *Report) ofNetns(all []Evidence) []Evidence {
	if r.Target.Netns == "" {
		return all
	}
	for i := range all {
		switch all[i].Topic {
		case "route", "listener", "owner", "firewall", "filter":
			all[i].Text = strings.ReplaceAll(all[i].Text, "this host", "that namespace")
		}
	}
	return all
}
