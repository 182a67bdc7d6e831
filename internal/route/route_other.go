//go:build !linux

package route

import (
	"errors"
	"net/netip"
)

// Get is not known here.
func Get(netip.Addr, netip.Addr, string) (Route, error) { return Route{}, errors.ErrUnsupported }
