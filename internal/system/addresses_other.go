//go:build !linux

package system

import (
	"net"
	"net/netip"
)

// addresses returns no names of devices: nothing here knows to which of them a
// socket is bound.
func addresses() (map[netip.Addr]string, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]string{}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own[prefix.Addr().Unmap().WithZone("")] = ""
		}
	}
	return own, nil
}
