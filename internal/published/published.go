// Package published says what the published ports of a host lead to: which container, and
// which listener in it. What publishes a port is a rule of the firewall, or a process that
// holds it for a container (docker-proxy, conmon). It is pure.
package published

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Port is a port of this host that leads elsewhere.
type Port struct {
	Protocol  socket.Protocol
	Address   string // as of [firewall.Published]; empty is any
	Ports     socket.PortRange
	Interface string // if it is limited to some
	Sources   string // likewise of addresses
	ToAddress string // empty is this host, and of conmon unknown
	ToPorts   string // empty is the same
	Via       string // dnat, redirect, docker-proxy, conmon
	Source    string // family, table and chain of a rule
	Rule      string // with its handle

	// Netns is the other network namespace that it leads to, Container what runs there and
	// Owned the listeners that answer. Empty is another host, our own namespace, or
	// unknown.
	Netns     string
	Container string
	Owned     []socket.Owned

	containerID string
}

// PortText returns one port, or first-last.
func (p *Port) PortText() string {
	if p.Ports.First == p.Ports.Last {
		return strconv.Itoa(int(p.Ports.First))
	}
	return fmt.Sprintf("%d-%d", p.Ports.First, p.Ports.Last)
}

// Place is another network namespace.
type Place struct {
	netns.Identity
	Addresses []netip.Addr
	Owned     []socket.Owned // its listeners
}

// PlaceOf returns a namespace with its addresses and its listeners.
func PlaceOf(ctx context.Context, n *netns.Namespace, owned []socket.Owned) Place {
	p := Place{Identity: n.Identity, Owned: owned}
	if n.Addresses != nil {
		p.Addresses = n.Addresses(ctx)
	}
	return p
}

// OfRules returns what the rules of the firewall publish.
func OfRules(rules []firewall.Published) []Port {
	ports := make([]Port, len(rules))
	for i, p := range rules {
		ports[i] = Port{
			Protocol: protocolOf(p.Protocol), Address: p.Address, Ports: socket.PortRange{First: p.First, Last: p.Last},
			Interface: p.Interface, Sources: p.Sources, ToAddress: p.ToAddress, ToPorts: p.ToPorts,
			Via: p.Via(), Source: p.Rule.Source(), Rule: p.Rule.String(),
		}
	}
	return ports
}

func protocolOf(p firewall.Protocol) socket.Protocol {
	if p == firewall.UDP {
		return socket.UDP
	}
	return socket.TCP
}

// Destination says where a port leads, for people: to an address, empty for this host or
// where only the network namespace is known, and to ports, empty for the same.
func Destination(address, ports, netns string) string {
	to := cmp.Or(address, "this host")
	if address == "" && netns != "" {
		to = "the container"
	}
	if ports != "" {
		to += " port " + ports
	}
	return to
}

// Processes that hold a port for a container.
const (
	dockerProxy = "docker-proxy"
	conmon      = "conmon"
)

// OfProcesses returns what processes hold for containers, by their arguments. Whoever is
// not root may call its program as it likes: it is not believed.
func OfProcesses(listeners []socket.Owned, arguments func(pid int32) []string) (ports []Port) {
	for i := range listeners {
		l := &listeners[i]
		if l.Owner.UserID != "0" || l.Owner.PID == 0 || l.Protocol != socket.TCP && l.Protocol != socket.UDP {
			continue
		}
		p := Port{Protocol: l.Protocol, Ports: socket.PortRange{First: l.Port, Last: l.Port}, Interface: l.Interface, Via: l.Owner.Process}
		if !l.Address.IsUnspecified() {
			p.Address = l.Address.String()
		}
		switch l.Owner.Process {
		case dockerProxy:
			if p.proxied(arguments(l.Owner.PID)) {
				ports = append(ports, p)
			}
		case conmon:
			if p.containerID = value(arguments(l.Owner.PID), "-c", "--cid"); p.containerID != "" {
				ports = append(ports, p)
			}
		}
	}
	return ports
}

// proxied reads the arguments of docker-proxy (cmd/docker-proxy of moby), which are those of
// another port if they say so.
func (p *Port) proxied(arguments []string) bool {
	of := func(name string) string { return value(arguments, "-"+name, "--"+name) }
	to, err := netip.ParseAddr(of("container-ip"))
	if err != nil || of("proto") != p.Protocol.String() || of("host-port") != strconv.Itoa(int(p.Ports.First)) {
		return false
	}
	if _, err := strconv.ParseUint(of("container-port"), 10, 16); err != nil {
		return false
	}
	p.ToAddress, p.ToPorts = to.String(), of("container-port")
	return true
}

// value returns that of a flag.
func value(arguments []string, names ...string) string {
	for i, argument := range arguments {
		for _, name := range names {
			if argument == name && i+1 < len(arguments) {
				return arguments[i+1]
			}
			if rest := len(name) + 1; len(argument) > rest && argument[:rest] == name+"=" {
				return argument[rest:]
			}
		}
	}
	return ""
}

// Join returns ports with what they lead to. What a rule and a process publish alike is
// one: that of the rule, which decides about what comes from other hosts.
func Join(ports []Port, places []Place) []Port {
	var joined []Port
	for _, p := range ports {
		p.find(places)
		if at := slices.IndexFunc(joined, p.isIn); at >= 0 {
			joined[at].Container = cmp.Or(joined[at].Container, p.Container)
			continue
		}
		joined = append(joined, p)
	}
	return joined
}

// isIn reports whether a rule publishes what a process does, and at least at the same
// address.
func (p *Port) isIn(rule Port) bool {
	held := p.Via == dockerProxy || p.Via == conmon
	same := p.Via == conmon || p.ToAddress == rule.ToAddress && (p.ToPorts == rule.ToPorts || rule.ToPorts == "")
	return held && rule.Rule != "" && rule.Protocol == p.Protocol && rule.Ports.Contains(p.Ports.First) && same &&
		(rule.Address == "" || rule.Address == p.Address)
}

// find finds the namespace by the address or by the container, and the listener in it. An
// address that several namespaces have is of none.
func (p *Port) find(places []Place) {
	to, _ := netip.ParseAddr(p.ToAddress)
	var place *Place
	for i := range places {
		at := &places[i]
		if p.containerID != "" && at.ContainerID == p.containerID || to.IsValid() && slices.Contains(at.Addresses, to) {
			if place != nil {
				return
			}
			place = at
		}
	}
	if place == nil {
		return
	}
	p.Netns = place.Name
	if place.PodUID == "" && place.ContainerID != "" {
		p.Container = place.Name
	}
	port, err := strconv.ParseUint(cmp.Or(p.ToPorts, strconv.Itoa(int(p.Ports.First))), 10, 16)
	if err != nil || !to.IsValid() || p.ToPorts == "" && p.Ports.First != p.Ports.Last {
		return
	}
	p.Owned = answering(place.Owned, p.Protocol, netip.AddrPortFrom(to, uint16(port)))
	if len(p.Owned) > 0 {
		p.Container = cmp.Or(p.Owned[0].Owner.Container, p.Container)
	}
}

// answering returns the listener that takes what arrives at an address: an exact one before
// the wildcard.
func answering(owned []socket.Owned, protocol socket.Protocol, to netip.AddrPort) (found []socket.Owned) {
	exact := false
	for _, o := range owned {
		if o.Protocol != protocol || o.Port != to.Port() {
			continue
		}
		switch wildcard := o.Address.IsUnspecified() && (o.Address.Is4() == to.Addr().Is4() || o.DualStack); {
		case o.Address == to.Addr() && !exact:
			found, exact = []socket.Owned{o}, true
		case o.Address == to.Addr(), wildcard && !exact:
			found = append(found, o)
		}
	}
	return found
}
