// Package route asks the kernel how this host routes to an address, without sending a
// packet: rtnetlink(7) on Linux.
package route

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
)

// Types of a route, as ip-route(8) names them. Kernels know some more.
const (
	Unicast     = "unicast"
	Local       = "local"
	Broadcast   = "broadcast"
	Multicast   = "multicast"
	Blackhole   = "blackhole"
	Unreachable = "unreachable"
	Prohibit    = "prohibit"
	Throw       = "throw"
	None        = "" // there is no route
)

// Query is what a route is asked for.
type Query struct {
	To netip.Addr
	// From is a source address of this host; invalid where the kernel chooses.
	From netip.Addr
	// Device is the one that sockets are bound to (dial.BindToDevice); empty if none.
	Device string
	// Protocol is the IP protocol, and Port that of the target, by which rules may choose
	// routes (ip-rule(8)); 0 if there is none. Without a protocol the kernel takes UDP for
	// IPv4: inet_rtm_getroute of net/ipv4/route.c.
	Protocol uint8
	Port     uint16
}

// Route is the way to one address.
type Route struct {
	Type string
	// Gateway is the next hop; invalid where the address is on the link.
	Gateway netip.Addr
	Device  string
	// Assumed reports that there is no route by the device that was asked for, and that the
	// kernel takes the address for one on its link: ip_route_output_key_hash_rcu of
	// net/ipv4/route.c.
	Assumed bool
	// Source is the address that the kernel would connect from; invalid if unknown.
	Source netip.Addr
	MTU    int // of the route, else of the device, in bytes; 0 if unknown
	Table  int // routing table; 0 if unknown
	// By is the rule or route that decides where Type is no way out, as ip(8) prints
	// it; empty if it was not found.
	By string
	// Down says why the device sends nothing: "is down" or "has no carrier"; empty if it
	// does.
	Down string
	// Neighbour is the state of the next hop in ARP or ND: reachable, stale, delay,
	// probe, incomplete, failed, permanent, noarp; none where there is no entry yet;
	// empty where the device has no neighbours.
	Neighbour string
}

// TypeOf returns the type of a route that answers with an error, to rtnetlink(7) as to
// connect(2): fib_props of net/ipv4/fib_semantics.c, ip6_route_info_create of
// net/ipv6/route.c.
func TypeOf(err error) (kind string, known bool) {
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.EINVAL:
		return Blackhole, true
	case syscall.EHOSTUNREACH:
		return Unreachable, true
	case syscall.EACCES:
		return Prohibit, true
	case syscall.ENETUNREACH:
		return None, true
	default:
		return "", false
	}
}

// NextHop returns the address that ARP or ND is asked for.
func (r *Route) NextHop(to netip.Addr) netip.Addr {
	if r.Gateway.IsValid() {
		return r.Gateway
	}
	return to
}

// NeighbourSilent reports whether the next hop did not answer ARP or ND, so that no
// packet has left yet.
func (r *Route) NeighbourSilent() bool { return r.Neighbour == "failed" || r.Neighbour == "incomplete" }

// IsOut reports whether packets leave by the route, or stay on this host.
func (r *Route) IsOut() bool {
	switch r.Type {
	case Blackhole, Unreachable, Prohibit, Throw, None:
		return false
	default:
		return true
	}
}

// String returns the route as a person reads it: "via 10.0.0.1 on eth0, from 10.0.0.7".
func (r *Route) String() string {
	switch {
	case r.Type == None:
		return "no route"
	case !r.IsOut() && r.By != "":
		return r.By
	case !r.IsOut():
		return "a route of type " + r.Type
	}
	var parts []string
	switch {
	case r.Type == Local:
		parts = append(parts, "an address of this host")
	case r.Type == Broadcast:
		parts = append(parts, "the broadcast address of a network on "+r.Device)
	case r.Gateway.IsValid():
		parts = append(parts, fmt.Sprintf("via %s on %s", r.Gateway, r.Device))
	case r.Assumed:
		parts = append(parts, "no route, so it is assumed to be directly on "+r.Device)
	default:
		parts = append(parts, "directly on "+r.Device)
	}
	if r.Source.IsValid() {
		parts = append(parts, "from "+r.Source.String())
	}
	if r.MTU > 0 {
		parts = append(parts, fmt.Sprintf("MTU %d", r.MTU))
	}
	return strings.Join(parts, ", ")
}
