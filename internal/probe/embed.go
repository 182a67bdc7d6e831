package probe

import (
	"context"
	"net"
	"net/netip"
)

// This file is for the probers of other packages, which have errors of sockets
// but not the sockets, or want a connection that is looked at as tcp does it.

// ConnectError is why [Connect] made no connection.
type ConnectError struct {
	Outcome  Outcome
	Origin   Origin
	Offender netip.Addr // who sent the ICMP error, if one was the reason
	Err      error
}

// Error implements error.
func (e *ConnectError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the socket.
func (e *ConnectError) Unwrap() error { return e.Err }

// Connect makes a TCP connection as the tcp prober does. The address is one that
// allow is asked for, unless it is nil. The error is a [*ConnectError].
func Connect(ctx context.Context, to netip.AddrPort, allow func(netip.AddrPort) error) (*net.TCPConn, error) {
	a := attempt{target: to, allow: allow}
	conn, err := a.dial(ctx, netip.Addr{})
	if err != nil {
		failed := &ConnectError{Offender: a.icmp.offender, Err: err}
		failed.Outcome, failed.Origin = classify(err, a.evidence())
		return nil, failed
	}
	return conn, nil
}

// LookUpPort returns the number of a port or of a service's name, from 1 on. Its
// error is for [Malformed].
func (r Resolution) LookUpPort(ctx context.Context, network, service string) (uint16, error) {
	return r.lookUpPort(ctx, network, service)
}

// Malformed is the result for a target that is none for its prober. Nothing was
// sent; but this host lacks nothing, so it counts as a failure, as in
// blackbox_exporter.
func Malformed(err error) Result {
	return Result{Outcome: Unknown, Phase: PhaseResolve, Origin: OriginLocal, Err: err}
}

// Classify says what an error of a socket means of which nothing else is known.
// A refusal has no origin then: without the error queue of its socket it may be
// the target's, its firewall's or a router's.
func Classify(err error) (Outcome, Origin) {
	outcome, origin := classify(err, evidence{sent: true})
	if outcome == Refused {
		origin = OriginNone
	}
	return outcome, origin
}
