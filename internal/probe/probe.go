// Package probe has the words of probing: what a target, a module, a request and a
// result are, what an outcome is called, and the sentence that says it. It knows
// neither YAML nor Prometheus. docs/diagnosis.md is the table of the outcomes.
//
// How a target is reached is in dial, what is said to it in prober and payload,
// when it is probed in schedule, and who may have it probed in access.
package probe

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// DefaultTimeout is how long a probe may take when its module does not say. A
// host that is down on our own segment is reported after 3.06 s (three unanswered
// ARP requests), so it must be more than that.
const DefaultTimeout = 5 * time.Second

// A Prober reaches targets in one way. It is immutable and safe for concurrent
// use.
type Prober interface {
	// Probe returns when it knows, and soon after ctx ends at the latest. It
	// leaves no goroutine and no descriptor behind.
	Probe(ctx context.Context, r Request) Result
}

// A Tracer is a prober that can find out where on the way to a target packets die.
type Tracer interface {
	// Trace returns the path to the address that a probe tried last; nil if it cannot. It
	// sends to no address that the request does not allow.
	Trace(ctx context.Context, r Request, failed Result) Path
}

// Path is what a [Tracer] found.
type Path interface {
	// Samples returns its measurements.
	Samples() []Sample
}

// Request is what a prober is to reach.
type Request struct {
	// Address is the target as its prober takes it: host:port, a URL, a host,
	// or the path of a unix-domain socket.
	Address string
	// Hostname, if not empty, replaces the target's name towards it: the TLS
	// server name, the Host header.
	Hostname string
	// Source is the address of this host to probe from, in place of the module's; the
	// zero value leaves it to the module. The target's name is then resolved to
	// addresses of the same version of IP.
	Source netip.Addr
	// Device is the interface of this host to probe from; empty leaves it to the routes.
	Device string
	// Allow is asked for each address before a packet is sent to it, after the
	// name was resolved, so that a name cannot lead elsewhere between check and
	// use. Its error makes the outcome Denied. Nil allows everything. The zero
	// value is an address that is not known here: a proxy is given a name, and
	// resolves it itself.
	Allow func(netip.AddrPort) error
	// AllowHost is asked for each host, a name or an address, before it is resolved
	// and before Allow is asked for its addresses: for the target's own, and for
	// each that a redirect leads to. Its error makes the outcome Denied. Nil allows
	// everything.
	AllowHost func(host string) error
	// Bodies bounds the memory for bodies; nil does not.
	Bodies *Bodies
	// Log takes what a person would want to read of this probe (debug=true). It
	// is nil when none does.
	Log *slog.Logger
}

// Result is what one probe found.
type Result struct {
	Outcome Outcome
	Phase   Phase  // where it failed; PhaseNone when it did not
	Origin  Origin // who said so
	// ICMP is the ICMP error that ended it; the zero value if none did.
	ICMP ICMPError
	// Peer is the address that was tried last; the zero value when none was.
	Peer netip.AddrPort
	// Redirect is the URL that redirects led to, without what may be secret in it;
	// empty if there were none.
	Redirect string
	// Proxy is the proxy that was used, as host:port; empty if there was none.
	Proxy string
	Err   error // what failed, for people; nil when nothing did
	// Duration is how long the probe took; [Module.Probe] sets it.
	Duration time.Duration
	// Samples are the prober's own measurements.
	Samples []Sample
}

// Metric is a family of measurements, all of them gauges.
type Metric struct {
	Name, Help string
	Labels     []string
}

// Sample is one measurement.
type Sample struct {
	Metric *Metric
	Value  float64
	Labels []string // the values of Metric.Labels
}

// Module says how to probe: a prober with its settings. It is immutable.
type Module struct {
	Name   string
	Kind   string // the value of prober: tcp, udp, stun, unix, grpc, http, websocket, dns, icmp
	Prober Prober
	// Timeout bounds a probe; zero is [DefaultTimeout].
	Timeout time.Duration
	// Expect is the outcome that is a success. Its zero value is Open; Refused
	// watches a port that must be closed.
	Expect Outcome
	// Credentials says that what proves who we are goes to the target: a password,
	// a token, a client certificate. On request such a module probes only what a
	// rule allows that names it.
	Credentials bool
	// Trace has the path traced to a target that does not answer.
	Trace bool
}

// Tracer returns what traces the path after a probe with this result, or nil: the module
// asks for it, and the target was silent or out of reach.
func (m *Module) Tracer(r Result) Tracer {
	if !m.Trace || r.Outcome == m.Expect || !r.Peer.IsValid() {
		return nil
	}
	switch r.Outcome {
	case Timeout, NoReply, Unreachable:
		tracer, _ := m.Prober.(Tracer)
		return tracer
	default:
		return nil
	}
}

// Success reports whether a result is what the module expects. It is not known
// when the target was not tried.
func (m *Module) Success(r Result) (success, known bool) {
	if !r.Outcome.Tried() {
		return false, false
	}
	return r.Outcome == m.Expect, true
}

// Limit returns how long a probe may take.
func (m *Module) Limit() time.Duration {
	if m.Timeout <= 0 {
		return DefaultTimeout
	}
	return m.Timeout
}

// Probe runs the prober, for the module's timeout at most, from the network namespace of
// ctx. The outcome of one that panics is unknown, and its error a [panics.Error].
func (m *Module) Probe(ctx context.Context, r Request) Result {
	ctx, cancel := context.WithTimeout(ctx, m.Limit())
	defer cancel()
	start := time.Now()
	result := guard(func() Result {
		if refused := enter(ctx); refused != nil {
			return *refused
		}
		return m.Prober.Probe(ctx, r)
	})
	result.Duration = time.Since(start)
	if result.Outcome == Denied {
		return result.withheld()
	}
	return result
}

// withheld returns a denied result without what the probe learned: a client could
// turn the hash of an address back, or compare how long names take to resolve.
func (r Result) withheld() Result {
	return Result{Outcome: r.Outcome, Phase: r.Phase, Origin: r.Origin, Err: r.Err}
}

// IsAsked reports whether a client chose the target: what is configured may call
// any host.
func (r *Request) IsAsked() bool { return r.AllowHost != nil }

// Resolvable asks AllowHost. Its error is for classifyLookup.
func (r *Request) Resolvable(host string) error {
	if r.AllowHost == nil {
		return nil
	}
	if err := r.AllowHost(host); err != nil {
		return Deny(err)
	}
	return nil
}

// Target is a configured target.
type Target struct {
	Name     string // the label target_name; may be empty
	Address  string
	Module   *Module
	Hostname string
	Netns    string  // the network namespace of this host from which it is probed; empty is our own
	Labels   []Label // of its own, sorted by name
	// Interval is how often it is probed in the background; zero is on each
	// scrape.
	Interval time.Duration
}

// Label is a label of a target's own.
type Label struct{ Name, Value string }
