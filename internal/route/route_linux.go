package route

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// Get returns a route. It needs no privilege. A route that leads nowhere is no error. With
// a device it is the route of sockets that are bound to it.
func Get(q Query) (Route, error) {
	q.From = q.From.Unmap()
	to := q.To.Unmap()
	q.To = to.WithZone("")
	if dial.IsOwn(nil, to) {
		q.Device = ""
	}
	bound := q
	bound.Device = cmp.Or(to.Zone(), q.Device)
	found, err := ask(bound, false)
	if err != nil && q.From.IsValid() && !dial.IsOwn(nil, q.From) { // ENETUNREACH, or EINVAL
		return Route{}, fmt.Errorf("route to %s: %s is not an address of this host: %w", to, q.From, err)
	}
	if kind, ok := TypeOf(err); ok {
		return Route{Type: kind, By: decider(&q, kind)}, nil
	}
	if err != nil {
		return Route{}, fmt.Errorf("route to %s: %w", to, err)
	}
	r := describe(q.To, &found)
	if q.Device != "" && r.Type == Unicast && !r.Gateway.IsValid() {
		_, err := ask(bound, true)
		r.Assumed = err != nil
	}
	if q.From.IsValid() {
		r.Source = q.From
	}
	return r, nil
}

// ask asks rtnetlink(7) for a route, as netlink.RouteGetWithOptions does, which knows no
// protocols and ports. With match it is the entry of the table, if there is one.
func ask(q Query, match bool) (netlink.Route, error) {
	request := nl.NewNetlinkRequest(unix.RTM_GETROUTE, unix.NLM_F_REQUEST)
	header := &nl.RtMsg{RtMsg: unix.RtMsg{Family: unix.AF_INET, Dst_len: uint8(q.To.BitLen()), Flags: unix.RTM_F_LOOKUP_TABLE}}
	if q.To.Is6() {
		header.Family = unix.AF_INET6
	}
	if match {
		header.Flags |= unix.RTM_F_FIB_MATCH
	}
	request.AddData(header)
	add := func(kind int, value []byte) { request.AddData(nl.NewRtAttr(kind, value)) }
	add(unix.RTA_DST, q.To.AsSlice())
	if q.From.IsValid() {
		header.Src_len = uint8(q.From.BitLen())
		add(unix.RTA_SRC, q.From.AsSlice())
	}
	if q.Device != "" {
		link, err := netlink.LinkByName(q.Device)
		if err != nil {
			return netlink.Route{}, err
		}
		add(unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(link.Attrs().Index)))
	}
	if q.Protocol != 0 {
		add(unix.RTA_IP_PROTO, []byte{q.Protocol})
	}
	if q.Port != 0 {
		add(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.Port))
	}
	answers, err := request.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWROUTE)
	if err != nil {
		return netlink.Route{}, err
	}
	if len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return netlink.Route{}, errors.ErrUnsupported
	}
	return parse(answers[0])
}

// parse reads the parts of a struct rtmsg and its attributes that are used here.
func parse(answer []byte) (r netlink.Route, err error) {
	header := nl.DeserializeRtMsg(answer)
	attributes, err := nl.ParseRouteAttr(answer[unix.SizeofRtMsg:])
	if err != nil {
		return r, err
	}
	r.Type, r.Table = int(header.Type), int(header.Table)
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_GATEWAY:
			r.Gw = a.Value
		case unix.RTA_VIA: // an address of the other family behind a uint16, struct rtvia
			r.Gw = a.Value[min(len(a.Value), 2):]
		case unix.RTA_PREFSRC:
			r.Src = a.Value
		case unix.RTA_OIF:
			r.LinkIndex = number(a.Value)
		case unix.RTA_TABLE:
			r.Table = number(a.Value)
		case unix.RTA_METRICS:
			r.MTU, err = mtu(a.Value)
		}
	}
	return r, err
}

// mtu returns the MTU of the metrics of a route; 0 if they have none.
func mtu(metrics []byte) (n int, err error) {
	attributes, err := nl.ParseRouteAttr(metrics)
	for _, a := range attributes {
		if a.Attr.Type == unix.RTAX_MTU {
			n = number(a.Value)
		}
	}
	return n, err
}

// number reads a uint32.
func number(value []byte) int {
	if len(value) < 4 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(value))
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
// as far as they ask for addresses, the protocol and the port of the target only.
func decider(q *Query, kind string) string {
	family := netlink.FAMILY_V4
	if q.To.Is6() {
		family = netlink.FAMILY_V6
	}
	rules, err := netlink.RuleList(family)
	if kind == None || err != nil {
		return ""
	}
	entries, whole := entriesFor(q.To, family)
	if !whole {
		return ""
	}
	for i := range rules {
		rule := &rules[i]
		if !matches(rule, q) {
			continue
		}
		entry, found := entries[rule.Table]
		switch {
		case rule.Table <= 0:
			return fmt.Sprintf("rule %d: from %s to %s%s %s", rule.Priority, everything(rule.Src), everything(rule.Dst), selectors(rule), kind)
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

// matches reports whether a rule is for what this host sends to a target.
func matches(rule *netlink.Rule, q *Query) bool {
	simple := rule.Goto < 0 && rule.IifName == "" && (rule.OifName == "" || rule.OifName == q.Device) && rule.Mark == 0 && !rule.Invert &&
		rule.Sport == nil && rule.UIDRange == nil
	port := rule.Dport == nil || rule.Dport.Start <= q.Port && q.Port <= rule.Dport.End
	protocol := rule.IPProto == 0 || rule.IPProto == int(q.Protocol)
	return simple && port && protocol && contains(rule.Dst, q.To) && contains(rule.Src, q.From)
}

// selectors returns what a rule asks for besides addresses, as ip-rule(8) prints it.
func selectors(rule *netlink.Rule) (text string) {
	names := map[int]string{unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "ipv6-icmp"}
	if p := rule.IPProto; p != 0 {
		text += " ipproto " + cmp.Or(names[p], strconv.Itoa(p))
	}
	switch ports := rule.Dport; {
	case ports == nil:
	case ports.Start == ports.End:
		text += fmt.Sprintf(" dport %d", ports.Start)
	default:
		text += fmt.Sprintf(" dport %d-%d", ports.Start, ports.End)
	}
	return text
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
