package system

import (
	"context"
	"errors"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// namespace is a network namespace of the host, for probes and for what they ask.
type namespace struct {
	name string
	at   *netns.Entrance
}

// entrances returns what finds the network namespaces of the host by their names.
func entrances(procfs, rootfs string) func(name string) Netns {
	finder := netns.NewFinder(procfs, rootfs)
	return func(name string) Netns { return namespace{name, finder.Named(name)} }
}

// Do implements [probe.Netns].
func (n namespace) Do(ctx context.Context, f func() error) error { return n.run(ctx, n.at.Do, f) }

// Ask implements [Netns].
func (n namespace) Ask(ctx context.Context, f func() error) error { return n.run(ctx, n.at.Ask, f) }

// Source implements [Netns]. It reads with sock_diag, whatever the source of our own
// namespace is: for one namespace that is the cheapest.
func (n namespace) Source(ctx context.Context) socket.Source {
	enter := func(open func() error) error { return n.Ask(ctx, open) }
	return new(sockdiag.Source).In(enter, nil)
}

// Name implements [Netns].
func (n namespace) Name() string { return n.at.Name() }

// run says of an error whether the namespace was entered.
func (n namespace) run(ctx context.Context, enter func(context.Context, func() error) error, f func() error) error {
	entered := false
	err := enter(ctx, func() error {
		entered = true
		return f()
	})
	if err == nil || entered || ctx.Err() != nil {
		return err
	}
	return &probe.NetnsError{Name: n.name, Gone: errors.Is(err, netns.ErrGone), Err: err}
}
