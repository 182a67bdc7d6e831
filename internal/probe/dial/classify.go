package dial

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// This file is the table of docs/diagnosis.md: what an error and the facts of
// its socket say about the target. Texts of errors are never looked at.

// Evidence is what is known about a socket that failed, besides its error.
type Evidence struct {
	ICMP   probe.ICMPError // the ICMP error that ended it; the zero value if none did
	Target netip.Addr      // whom it was to reach
	Own    bool            // icmp.offender is an address of this host
	Sent   bool            // a packet was sent, or that is unknown
}

// Origin says who sent the ICMP error. Where the target is this host itself, it
// is the target's firewall that refuses. No host says of itself that there is
// no way to it: a router that translates addresses said so, and the error bears
// the target's address because it was translated too.
func (e *Evidence) Origin() probe.Origin {
	switch {
	case netaddr.SameHost(e.ICMP.Offender, e.Target) && !e.ICMP.NoWay():
		return probe.OriginTargetFirewall
	case e.Own:
		return probe.OriginLocal
	default:
		return probe.OriginNetwork
	}
}

// Classify says what the error of a socket means, and who is behind it. The
// error is not nil and comes from connecting, reading or writing.
func Classify(err error, e Evidence) (probe.Outcome, probe.Origin) {
	_, isDenied := probe.AsDenied(err)
	fault, isFault := errors.AsType[*probe.Fault](err)
	refused, isRefused := errors.AsType[*probe.NetnsError](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	_, isAddress := errors.AsType[*net.AddrError](err) // a source of another version of IP
	switch {
	case isDenied:
		return probe.Denied, probe.OriginLocal
	case isFault:
		return fault.Outcome, fault.Origin
	case isRefused:
		return refused.Outcome(), probe.OriginLocal
	case errors.Is(err, context.Canceled):
		return probe.NotRun, probe.OriginLocal
	case isErrno && probe.IsShortage(errno), isAddress, errors.Is(err, errNoZone), errors.Is(err, errNoInterface):
		return probe.LocalError, probe.OriginLocal
	case e.ICMP.Offender.IsValid():
		return e.ICMP.Outcome(), e.Origin()
	case IsTimeout(err):
		return probe.Timeout, probe.OriginNone
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return probe.Closed, probe.OriginTarget
	case isErrno:
		outcome := outcomeOf(errno)
		return outcome, e.originWithoutICMP(outcome)
	default:
		return probe.Unknown, probe.OriginNone
	}
}

// ClassifyDatagram is [Classify] for a socket of UDP: there a closed port refuses by the
// same ICMP error as a firewall.
func ClassifyDatagram(err error, e Evidence) (probe.Outcome, probe.Origin) {
	outcome, origin := Classify(err, e)
	if outcome == probe.Refused && origin == probe.OriginTargetFirewall {
		origin = probe.OriginTarget
	}
	return outcome, origin
}

// originWithoutICMP says who is behind an error that no ICMP error explains.
func (e *Evidence) originWithoutICMP(outcome probe.Outcome) probe.Origin {
	switch outcome {
	case probe.Reset, probe.Closed:
		return probe.OriginTarget
	case probe.Refused:
		if namesOffenders { // else it may as well be an ICMP error
			return probe.OriginTarget
		}
	case probe.Unreachable, probe.Prohibited:
		if namesOffenders && !e.Sent {
			return probe.OriginLocal
		}
	default:
	}
	return probe.OriginNone
}

// IsTimeout reports whether time ran out: for a context or for a socket, which
// of the two says so first is a race.
func IsTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
}
