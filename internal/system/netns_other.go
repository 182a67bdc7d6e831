//go:build !linux

package system

import (
	"context"
	"errors"
	"iter"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// noNamespace is a network namespace where there are none.
type noNamespace struct{ name string }

func entrances(string, string) func(name string) Netns {
	return func(name string) Netns { return noNamespace{name} }
}

// Do implements [probe.Netns].
func (n noNamespace) Do(context.Context, func() error) error {
	return &probe.NetnsError{Name: n.name, Err: errors.ErrUnsupported}
}

// Ask implements [Netns].
func (n noNamespace) Ask(ctx context.Context, f func() error) error { return n.Do(ctx, f) }

// Source implements [Netns].
func (n noNamespace) Source(context.Context) socket.Source { return n }

// Name implements [Netns].
func (n noNamespace) Name() string { return "" }

// Sockets implements [socket.Source].
func (n noNamespace) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) { yield(nil, errors.ErrUnsupported) }
}
