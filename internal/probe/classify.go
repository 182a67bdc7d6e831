package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

// This file is the table of docs/diagnosis.md: what an error and the facts of
// its socket say about the target. Texts of errors are never looked at.

// evidence is what is known about a socket that failed, besides its error.
type evidence struct {
	icmp   icmpError  // the ICMP error that ended it; the zero value if none did
	target netip.Addr // whom it was to reach
	own    bool       // icmp.offender is an address of this host
	sent   bool       // a packet was sent, or nobody knows
}

// icmpError is an ICMP error as the kernel keeps it for the socket that caused
// it (struct sock_extended_err of linux/errqueue.h).
type icmpError struct {
	offender   netip.Addr // who sent it; invalid if there was no error
	v6         bool       // whether kind and code are those of ICMPv6
	kind, code uint8
	mtu        uint32 // that of the next hop, where the packet was too large; 0 if it is not known
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

// tooLarge reports whether a packet was larger than a router may forward: RFC 1191,
// RFC 4443 section 3.2.
func (e icmpError) tooLarge() bool {
	if e.v6 {
		return e.kind == icmp6PacketTooBig
	}
	return e.kind == icmp4Unreachable && e.code == icmp4FragmentationNeeded
}

// String says in words what an ICMP error reports.
func (e icmpError) String() string {
	known := icmp4Words()
	if e.v6 {
		known = icmp6Words()
	}
	number := fmt.Sprintf("ICMP type %d code %d", e.kind, e.code)
	if words, ok := known[[2]uint8{e.kind, e.code}]; ok {
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

// outcome says what an ICMP error means. What is neither a refusal nor a
// prohibition, a TTL that ran out among them, is a target out of reach.
func (e icmpError) outcome() Outcome {
	switch {
	case !e.v6 && e.kind == icmp4Unreachable:
		switch e.code {
		case icmp4PortUnreachable:
			return Refused
		case icmp4NetworkProhibited, icmp4HostProhibited, icmp4AdminProhibited:
			return Prohibited
		}
	case e.v6 && e.kind == icmp6Unreachable:
		switch e.code {
		case icmp6PortUnreachable:
			return Refused
		case icmp6AdminProhibited, icmp6SourceAddressForbidden, icmp6RejectRoute:
			return Prohibited
		}
	}
	return Unreachable
}

// origin says who sent the ICMP error. Where the target is this host itself, it
// is the target's firewall that refuses. No host says of itself that there is
// no way to it: a router that translates addresses said so, and the error bears
// the target's address because it was translated too.
func (e *evidence) origin() Origin {
	switch {
	case netaddr.SameHost(e.icmp.offender, e.target) && !e.icmp.noWay():
		return OriginTargetFirewall
	case e.own:
		return OriginLocal
	default:
		return OriginNetwork
	}
}

// noWay reports whether an ICMP error says that there is no way to a host or
// its network.
func (e icmpError) noWay() bool {
	if e.v6 {
		return e.kind == icmp6TimeExceeded ||
			e.kind == icmp6Unreachable && (e.code == icmp6NoRoute || e.code == icmp6AddressUnreachable)
	}
	return e.kind == icmp4TimeExceeded ||
		e.kind == icmp4Unreachable && (e.code == icmp4NetworkUnreachable || e.code == icmp4HostUnreachable)
}

// classify says what the error of a socket means, and who is behind it. The
// error is not nil and comes from connecting, reading or writing.
func classify(err error, e evidence) (Outcome, Origin) {
	_, isDenied := AsDenied(err)
	fault, isFault := errors.AsType[*Fault](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	_, isAddress := errors.AsType[*net.AddrError](err) // a source of another version of IP
	switch {
	case isDenied:
		return Denied, OriginLocal
	case isFault:
		return fault.Outcome, fault.Origin
	case errors.Is(err, context.Canceled):
		return NotRun, OriginLocal
	case isErrno && isShortage(errno), isAddress, errors.Is(err, errNoZone):
		return LocalError, OriginLocal
	case e.icmp.offender.IsValid():
		return e.icmp.outcome(), e.origin()
	case isTimeout(err):
		return Timeout, OriginNone
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return Closed, OriginTarget
	case isErrno:
		outcome := outcomeOf(errno)
		return outcome, e.originWithoutICMP(outcome)
	default:
		return Unknown, OriginNone
	}
}

// originWithoutICMP says who is behind an error that no ICMP error explains.
func (e *evidence) originWithoutICMP(outcome Outcome) Origin {
	switch outcome {
	case Reset, Closed:
		return OriginTarget
	case Refused:
		if namesOffenders { // else it may as well be an ICMP error
			return OriginTarget
		}
	case Unreachable, Prohibited:
		if namesOffenders && !e.sent {
			return OriginLocal
		}
	default:
	}
	return OriginNone
}

// isTimeout reports whether time ran out: for a context or for a socket, which
// of the two says so first is a race.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}
