//go:build !(linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64))

package bpfwalk

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var errNotBuilt = fmt.Errorf("bpf: %w: not built for %s/%s", errors.ErrUnsupported, runtime.GOOS, runtime.GOARCH)

// Engine cannot be had here.
type Engine struct{}

// Open returns errors.ErrUnsupported.
func Open(context.Context) (*Engine, error) { return nil, errNotBuilt }

// Close does nothing.
func (*Engine) Close() {}

// Moved returns 0.
func (*Engine) Moved() uint64 { return 0 }

// Name implements [netns.Engine].
func (*Engine) Name() string { return "bpf" }

// Read implements [netns.Engine].
func (*Engine) Read(context.Context, func() netns.Places) ([]netns.Sockets, error) {
	return nil, errNotBuilt
}

// Source returns a source that yields an error.
func (*Engine) Source() *Source { return &Source{} }

// Source reads nothing.
type Source struct{}

// Sockets implements [socket.Source].
func (*Source) Sockets(context.Context, socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) { yield(nil, errNotBuilt) }
}
