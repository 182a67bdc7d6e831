package probe

import (
	"fmt"
	"net/netip"
)

// ICMPError is an ICMP error as the kernel keeps it for the socket that caused
// it (struct sock_extended_err of linux/errqueue.h).
type ICMPError struct {
	Offender   netip.Addr // who sent it; invalid if there was no error
	V6         bool       // whether kind and code are those of ICMPv6
	Type, Code uint8
	MTU        uint32 // that of the next hop, where the packet was too large; 0 if it is not known
}

// ICMP types and codes: RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section
// 5.2.7.1, RFC 4443 section 3.
const (
	icmp4TimeExceeded           = 11
	icmp4Unreachable            = 3
	icmp4NetworkUnreachable     = 0
	icmp4HostUnreachable        = 1
	icmp4PortUnreachable        = 3
	icmp4FragmentationNeeded    = 4
	icmp4NetworkProhibited      = 9
	icmp4HostProhibited         = 10
	icmp4AdminProhibited        = 13
	icmp6TimeExceeded           = 3
	icmp6PacketTooBig           = 2
	icmp6Unreachable            = 1
	icmp6NoRoute                = 0
	icmp6AddressUnreachable     = 3
	icmp6AdminProhibited        = 1
	icmp6PortUnreachable        = 4
	icmp6SourceAddressForbidden = 5
	icmp6RejectRoute            = 6
)

// TooLarge reports whether a packet was larger than a router may forward: RFC 1191,
// RFC 4443 section 3.2.
func (e ICMPError) TooLarge() bool {
	if e.V6 {
		return e.Type == icmp6PacketTooBig
	}
	return e.Type == icmp4Unreachable && e.Code == icmp4FragmentationNeeded
}

// Expired reports whether a packet was dropped because its TTL or hop limit ran
// out.
func (e ICMPError) Expired() bool {
	if e.V6 {
		return e.Type == icmp6TimeExceeded && e.Code == 0
	}
	return e.Type == icmp4TimeExceeded && e.Code == 0
}

// String says in words what an ICMP error reports.
func (e ICMPError) String() string {
	known := icmp4Words()
	if e.V6 {
		known = icmp6Words()
	}
	number := fmt.Sprintf("ICMP type %d code %d", e.Type, e.Code)
	if words, ok := known[[2]uint8{e.Type, e.Code}]; ok {
		return fmt.Sprintf("%s (%s)", words, number)
	}
	return number
}

func icmp4Words() map[[2]uint8]string {
	return map[[2]uint8]string{
		{icmp4Unreachable, icmp4NetworkUnreachable}: "network unreachable", {icmp4Unreachable, icmp4HostUnreachable}: "host unreachable",
		{icmp4Unreachable, 2}: "protocol unreachable", {icmp4Unreachable, icmp4PortUnreachable}: "port unreachable",
		{icmp4Unreachable, icmp4FragmentationNeeded}: "packet too large", {icmp4Unreachable, icmp4NetworkProhibited}: "network prohibited",
		{icmp4Unreachable, icmp4HostProhibited}: "host prohibited", {icmp4Unreachable, icmp4AdminProhibited}: "administratively prohibited",
		{icmp4TimeExceeded, 0}: "the TTL ran out", {icmp4TimeExceeded, 1}: "a fragment is missing",
	}
}

func icmp6Words() map[[2]uint8]string {
	return map[[2]uint8]string{
		{icmp6Unreachable, icmp6NoRoute}: "no route", {icmp6Unreachable, icmp6AdminProhibited}: "administratively prohibited",
		{icmp6Unreachable, icmp6AddressUnreachable}: "address unreachable", {icmp6Unreachable, icmp6PortUnreachable}: "port unreachable",
		{icmp6Unreachable, icmp6SourceAddressForbidden}: "source address prohibited", {icmp6Unreachable, icmp6RejectRoute}: "route rejected",
		{icmp6PacketTooBig, 0}: "packet too large", {icmp6TimeExceeded, 0}: "the hop limit ran out", {icmp6TimeExceeded, 1}: "a fragment is missing",
	}
}

// Outcome says what an ICMP error means. What is neither a refusal nor a
// prohibition, a TTL that ran out among them, is a target out of reach.
func (e ICMPError) Outcome() Outcome {
	switch {
	case !e.V6 && e.Type == icmp4Unreachable:
		switch e.Code {
		case icmp4PortUnreachable:
			return Refused
		case icmp4NetworkProhibited, icmp4HostProhibited, icmp4AdminProhibited:
			return Prohibited
		}
	case e.V6 && e.Type == icmp6Unreachable:
		switch e.Code {
		case icmp6PortUnreachable:
			return Refused
		case icmp6AdminProhibited, icmp6SourceAddressForbidden, icmp6RejectRoute:
			return Prohibited
		}
	}
	return Unreachable
}

// NoWay reports whether an ICMP error says that there is no way to a host or
// its network.
func (e ICMPError) NoWay() bool { return e.TimeExceeded() || e.NoNetwork() || e.NoHost() }

// TimeExceeded reports whether the TTL, or the hop limit, ran out.
func (e ICMPError) TimeExceeded() bool {
	if e.V6 {
		return e.Type == icmp6TimeExceeded
	}
	return e.Type == icmp4TimeExceeded
}

// NoNetwork reports whether a router has no route.
func (e ICMPError) NoNetwork() bool {
	if e.V6 {
		return e.Type == icmp6Unreachable && e.Code == icmp6NoRoute
	}
	return e.Type == icmp4Unreachable && e.Code == icmp4NetworkUnreachable
}

// NoHost reports whether a router does not reach the host.
func (e ICMPError) NoHost() bool {
	if e.V6 {
		return e.Type == icmp6Unreachable && e.Code == icmp6AddressUnreachable
	}
	return e.Type == icmp4Unreachable && e.Code == icmp4HostUnreachable
}
