package route

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// Get returns the route to an address, from a source address of this host or, if it is
// invalid, from the one that the kernel chooses. It needs no privilege. A route that
// leads nowhere is no error. With a device it is the route of sockets that are bound to it
// (dial.BindToDevice).
func Get(to, from netip.Addr, device string) (Route, error) {
	to = to.Unmap()
	options := &netlink.RouteGetOptions{}
	if from.IsValid() {
		options.SrcAddr = from.Unmap().AsSlice()
	}
	if dial.IsOwn(to) {
		device = ""
	}
	options.Oif = cmp.Or(to.Zone(), device)
	found, err := netlink.RouteGetWithOptions(to.WithZone("").AsSlice(), options)
	if err != nil && from.IsValid() && !dial.IsOwn(from) { // ENETUNREACH, or EINVAL
		return Route{}, fmt.Errorf("route to %s: %s is not an address of this host: %w", to, from, err)
	}
	if kind, ok := TypeOf(err); ok {
		return Route{Type: kind, By: decider(to.WithZone(""), from.Unmap(), device, kind)}, nil
	}
	if err != nil || len(found) == 0 {
		return Route{}, fmt.Errorf("route to %s: %w", to, cmp.Or(err, errors.ErrUnsupported))
	}
	r := describe(to, &found[0])
	if device != "" && r.Type == Unicast && !r.Gateway.IsValid() {
		options.FIBMatch = true
		_, err := netlink.RouteGetWithOptions(to.WithZone("").AsSlice(), options)
		r.Assumed = err != nil
	}
	if from.IsValid() {
		r.Source = from.Unmap()
	}
	return r, nil
}

func describe(to netip.Addr, of *netlink.Route) Route {
	r := Route{Type: typeName(of.Type), Table: of.Table, MTU: of.MTU}
	r.Gateway, _ = netip.AddrFromSlice(of.Gw)
	r.Source, _ = netip.AddrFromSlice(of.Src)
	r.Gateway, r.Source = r.Gateway.Unmap(), r.Source.Unmap()
	link, err := netlink.LinkByIndex(of.LinkIndex)
	if err != nil {
		return r
	}
	r.Device = link.Attrs().Name
	r.MTU = cmp.Or(r.MTU, link.Attrs().MTU)
	switch flags := link.Attrs().RawFlags; {
	case flags&unix.IFF_UP == 0:
		r.Down = "is down"
	case flags&unix.IFF_LOWER_UP == 0:
		r.Down = "has no carrier"
	}
	if r.Type == Unicast && link.Attrs().RawFlags&unix.IFF_NOARP == 0 {
		r.Neighbour = neighbour(of.LinkIndex, r.NextHop(to.WithZone("")))
	}
	return r
}

// typeName names a type of linux/rtnetlink.h (RTN_*).
func typeName(kind int) string {
	switch kind {
	case unix.RTN_UNICAST:
		return Unicast
	case unix.RTN_LOCAL:
		return Local
	case unix.RTN_BROADCAST:
		return Broadcast
	case unix.RTN_MULTICAST:
		return Multicast
	case unix.RTN_BLACKHOLE:
		return Blackhole
	case unix.RTN_UNREACHABLE:
		return Unreachable
	case unix.RTN_PROHIBIT:
		return Prohibit
	case unix.RTN_THROW:
		return Throw
	default:
		return fmt.Sprintf("type %d", kind)
	}
}

// neighbour returns the state of a next hop.
func neighbour(link int, hop netip.Addr) string {
	family := unix.AF_INET
	if hop.Is6() {
		family = unix.AF_INET6
	}
	entries, err := netlink.NeighList(link, family)
	if err != nil {
		return ""
	}
	for i := range entries {
		if addr, _ := netip.AddrFromSlice(entries[i].IP); addr.Unmap() == hop {
			return stateName(entries[i].State)
		}
	}
	return "none"
}

// stateName names a state of linux/neighbour.h (NUD_*).
func stateName(state int) string {
	names := map[int]string{
		unix.NUD_INCOMPLETE: "incomplete", unix.NUD_REACHABLE: "reachable", unix.NUD_STALE: "stale", unix.NUD_DELAY: "delay",
		unix.NUD_PROBE: "probe", unix.NUD_FAILED: "failed", unix.NUD_NOARP: "noarp", unix.NUD_PERMANENT: "permanent",
	}
	return cmp.Or(names[state], "none")
}

// maxRoutes bounds how many routes are looked through: a router of the Internet has a
// million.
const maxRoutes = 20_000

// decider returns the rule or route of a type that an address meets first, which the
// kernel does not name. It looks at rules as the kernel does (fib_rules_lookup),
// as far as they ask for source and destination only.
func decider(to, from netip.Addr, device, kind string) string {
	family := netlink.FAMILY_V4
	if to.Is6() {
		family = netlink.FAMILY_V6
	}
	rules, err := netlink.RuleList(family)
	if kind == None || err != nil {
		return ""
	}
	entries, whole := entriesFor(to, family)
	if !whole {
		return ""
	}
	for i := range rules {
		rule := &rules[i]
		if !matches(rule, to, from, device) {
			continue
		}
		entry, found := entries[rule.Table]
		switch {
		case rule.Table <= 0:
			return fmt.Sprintf("rule %d: from %s to %s %s", rule.Priority, everything(rule.Src), everything(rule.Dst), kind)
		case !found || entry.kind == Throw:
			continue
		case entry.kind == kind:
			return fmt.Sprintf("route %s %s, table %s", kind, everything(entry.network), tableName(rule.Table))
		default:
			return ""
		}
	}
	return ""
}

// matches reports whether a rule is for what this host sends from one address to
// another, by sockets that are bound to a device, if it is not empty.
func matches(rule *netlink.Rule, to, from netip.Addr, device string) bool {
	simple := rule.Goto < 0 && rule.IifName == "" && (rule.OifName == "" || rule.OifName == device) && rule.Mark == 0 && !rule.Invert &&
		rule.Dport == nil && rule.Sport == nil && rule.UIDRange == nil && rule.IPProto == 0
	return simple && contains(rule.Dst, to) && contains(rule.Src, from)
}

// entry is the longest match of an address in a routing table.
type entry struct {
	network *net.IPNet
	bits    int
	kind    string
}

// entriesFor returns the longest match of each table. It is not whole if there are more
// routes than are looked through.
func entriesFor(to netip.Addr, family int) (entries map[int]entry, whole bool) {
	seen, entries := 0, map[int]entry{}
	all := &netlink.Route{Table: unix.RT_TABLE_UNSPEC}
	_ = netlink.RouteListFilteredIter(family, all, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		seen++
		bits := 0
		if r.Dst != nil {
			bits, _ = r.Dst.Mask.Size()
		}
		if best, ok := entries[r.Table]; contains(r.Dst, to) && (!ok || bits > best.bits) {
			entries[r.Table] = entry{r.Dst, bits, typeName(r.Type)}
		}
		return seen <= maxRoutes
	})
	return entries, seen <= maxRoutes
}

// contains reports whether an address is in a network; nil is every network.
func contains(n *net.IPNet, addr netip.Addr) bool {
	return n == nil || addr.IsValid() && n.Contains(addr.AsSlice())
}

func everything(n *net.IPNet) string {
	if n == nil || n.IP.IsUnspecified() {
		return "all"
	}
	return n.String()
}

// tableName names a table of linux/rtnetlink.h (RT_TABLE_*).
func tableName(table int) string {
	names := map[int]string{unix.RT_TABLE_MAIN: "main", unix.RT_TABLE_LOCAL: "local", unix.RT_TABLE_DEFAULT: "default"}
	return cmp.Or(names[table], strconv.Itoa(table))
}
