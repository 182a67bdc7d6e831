package probe

import (
	"context"
	"errors"
	"fmt"
)

// Netns is a network namespace of this host from which a probe is made, in place of
// our own. The context of a probe carries it, so that no prober can forget it.
type Netns interface {
	// Do runs f on a thread that is in the namespace, and has left it when Do returns. f
	// makes a socket, or asks the kernel something, and must not wait. The error is a
	// [*NetnsError] if the namespace cannot be entered, else that of f or of ctx.
	Do(ctx context.Context, f func() error) error
}

// MaxNetns is how long the name of a namespace may be, in bytes: of pods namespace/pod.
const MaxNetns = 512

type netnsKey struct{}

// WithNetns returns a context whose probes are made from a namespace; nil is our own.
func WithNetns(ctx context.Context, n Netns) context.Context {
	if n == nil {
		return ctx
	}
	return context.WithValue(ctx, netnsKey{}, n)
}

// NetnsOf returns the namespace from which the probes of a context are made; nil if it is
// our own.
func NetnsOf(ctx context.Context) Netns {
	n, _ := ctx.Value(netnsKey{}).(Netns)
	return n
}

// Inside runs f in the namespace from which the probes of a context are made, on the
// caller's thread if that is our own.
func Inside(ctx context.Context, f func() error) error {
	if n := NetnsOf(ctx); n != nil {
		return n.Do(ctx, f)
	}
	return f()
}

// NetnsError says that a probe could not enter its network namespace.
type NetnsError struct {
	Name string
	// Gone reports that there is no such namespace. Otherwise that is unknown, or it may
	// not be entered.
	Gone bool
	Err  error
}

// Error implements error.
func (e *NetnsError) Error() string { return fmt.Sprintf("network namespace %s: %v", e.Name, e.Err) }

// Unwrap returns why.
func (e *NetnsError) Unwrap() error { return e.Err }

// Outcome says what it means. What is to be probed in a namespace cannot be reached if the
// namespace is gone; that it may not be entered is no fault of the target.
func (e *NetnsError) Outcome() Outcome {
	if e.Gone {
		return Unreachable
	}
	return LocalError
}

// enter reports why the namespace of a context cannot be entered; nil if it can.
func enter(ctx context.Context) *Result {
	err := Inside(ctx, func() error { return nil })
	if err == nil {
		return nil
	}
	result := &Result{Outcome: NotRun, Phase: PhaseConnect, Origin: OriginLocal, Err: err}
	if refused, ok := errors.AsType[*NetnsError](err); ok {
		result.Outcome = refused.Outcome()
	}
	return result
}
