//go:build !linux

package trace

import (
	"context"
	"errors"
)

// wire sends nothing where the error queue of a socket cannot be read.
type wire struct{ packets, mtu int }

func newWire(context.Context, *Options) (*wire, error) { return nil, errors.ErrUnsupported }

func (*wire) close() {}

func (*wire) exchange(context.Context, []*question, func([]*question) []*question) error {
	return errors.ErrUnsupported
}
