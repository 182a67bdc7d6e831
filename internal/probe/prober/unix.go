package prober

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// Unix connects to a unix-domain stream socket by its path, or by @name in the
// abstract namespace of Linux, and says and hears there what its module asks
// for.
//
// Only the own kernel answers, so the errors of connect(2) mean (unix(7)):
//
//	ECONNREFUSED     refused (target)       no listener behind the path
//	ENOENT, ENOTDIR  unreachable (local)    there is no such path
//	EACCES, EPERM    prohibited (local)     its permissions keep the exporter out
//	EPROTOTYPE       protocol (target)      a socket of another type: SOCK_DGRAM
//	EAGAIN           timeout (none)         its queue was full for all the time
//
// A path is no address that [probe.Request].Allow could be asked for, and who may
// reach a host may not yet reach the sockets of this one: a request with an
// Allow is denied.
type Unix struct {
	Conversation
}

// unixRetry is how often a full queue is tried again. The kernel reports that it
// is full immediately, and would only wait in a blocking socket.
const unixRetry = 10 * time.Millisecond

// Probe implements [probe.Prober].
func (p *Unix) Probe(ctx context.Context, r probe.Request) probe.Result {
	if r.Allow != nil {
		err := probe.Deny(errors.New("unix-domain sockets are for configured targets"))
		return probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Err: err}
	}
	found := probe.NewSamples()
	start := time.Now()
	conn, err := dialUnix(ctx, r.Address)
	found.Set(unixDuration, time.Since(start).Seconds(), probe.PhaseConnect.Labels()...)
	var result probe.Result
	if err != nil {
		result.Outcome, result.Origin = classifyUnix(err)
		result.Phase, result.Err, result.Samples = probe.PhaseConnect, err, found
		return result
	}
	s := session{
		Conversation: &p.Conversation, conn: conn, serverName: probe.ASCIIHost(r.Hostname),
		duration: unixDuration, samples: found, log: r.Log,
	}
	s.run(ctx, &result)
	return result
}

func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(unixRetry):
		}
	}
}

// classifyUnix is the table above.
func classifyUnix(err error) (probe.Outcome, probe.Origin) {
	outcome, origin := dial.Classify(err, dial.Evidence{Sent: true})
	switch {
	case outcome == probe.LocalError && errors.Is(err, syscall.EAGAIN):
		return probe.Timeout, probe.OriginNone
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENOTDIR):
		return probe.Unreachable, probe.OriginLocal
	case errors.Is(err, syscall.EPROTOTYPE):
		return probe.Protocol, probe.OriginTarget
	case outcome == probe.Refused:
		return probe.Refused, probe.OriginTarget
	case outcome == probe.Prohibited:
		return probe.Prohibited, probe.OriginLocal
	}
	return outcome, origin
}
