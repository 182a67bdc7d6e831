package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// ownedBy returns the TCP listeners of a systemd unit, a container or a process of this
// host as targets. UDP services are left out: they would have to be sent something.
func (h *Command) ownedBy(ctx context.Context, name string) ([]*probe.Target, error) {
	owners, err := h.read(ctx)
	if err != nil {
		return nil, err
	}
	tcp, err := h.module("tcp_connect")
	if err != nil {
		return nil, err
	}
	var found []*probe.Target
	for i := range owners.Owned {
		l := &owners.Owned[i]
		if l.Protocol != socket.TCP || !slices.Contains([]string{l.Owner.Unit, l.Owner.Container, l.Owner.Process}, name) {
			continue
		}
		address := netip.AddrPortFrom(reachable(l.Address), l.Port).String()
		if !slices.ContainsFunc(found, func(t *probe.Target) bool { return t.Address == address }) {
			found = append(found, &probe.Target{Address: address, Module: tcp})
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case isUnit(name):
		h.sayMissing(owners)
		return nil, fmt.Errorf("%s has no TCP listener on this host, or it is unknown\nhint: port_exporter listeners shows what listens, and whose it is", name)
	default:
		return nil, fmt.Errorf("%q has no port, and there is no module\nhint: %s:443 is probed by tcp; --module=icmp pings; a unit or container of this host with a TCP listener is probed by its name", name, name)
	}
}

func isUnit(name string) bool {
	return strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".socket") || strings.HasSuffix(name, ".scope")
}

// reachable returns an address at which a listener can be reached from this host.
func reachable(a netip.Addr) netip.Addr {
	switch a {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	default:
		return a
	}
}

// source returns the address of this host that --from means, for a target in its network
// namespace, and the interface, if it names one.
func (h *Command) source(ctx context.Context, from string, t *probe.Target) (addr netip.Addr, device string, err error) {
	if from == "" {
		return addr, "", nil
	}
	if addr, err := netip.ParseAddr(from); err == nil {
		return addr.Unmap(), "", nil
	}
	addresses, err := check.Of(h.System).In(ctx, t.Netns).Addresses()
	if err != nil {
		return addr, "", fmt.Errorf("--from=%s: cannot read the addresses of this host: %w", from, err)
	}
	var candidates []netip.Addr
	for addr, device := range addresses {
		if device == from {
			candidates = append(candidates, addr)
		}
	}
	if len(candidates) == 0 {
		devices := slices.Compact(slices.Sorted(maps.Values(addresses)))
		return addr, "", fmt.Errorf("--from=%s: neither an address nor an interface with an address\nhint: one of %s", from, strings.Join(devices, ", "))
	}
	to, _ := probe.ParseAddress(t.Module.Kind, t.Address)
	target, _ := netip.ParseAddr(to.Host)
	slices.SortFunc(candidates, func(a, b netip.Addr) int {
		return cmp.Or(cmp.Compare(rank(a, target), rank(b, target)), a.Compare(b))
	})
	return candidates[0], from, nil
}

// rank orders the addresses of an interface by how fit they are to reach a target, an
// invalid one if it has a name: first the same version of IP, IPv4 for a name, then
// those that are not link-local.
func rank(a, target netip.Addr) int {
	version := 0
	if wants4 := !target.IsValid() || target.Unmap().Is4(); a.Is4() != wants4 {
		version = 2
	}
	if a.IsLinkLocalUnicast() != target.IsLinkLocalUnicast() {
		version++
	}
	return version
}

// isTerminal reports whether what is written is shown on a terminal that takes colours:
// no-color.org.
func isTerminal(w io.Writer) bool {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	file, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}
