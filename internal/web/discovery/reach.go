package discovery

import (
	"net/netip"
	"slices"
)

// listener is what the labels of port_listener_info say of where it is.
type listener struct {
	address   netip.Addr
	port      string
	device    string
	scope     string
	dualStack bool
}

func listenerOf(labels map[string]string) listener {
	address, _ := netip.ParseAddr(labels[metaPrefix+"address"])
	return listener{
		address:   address,
		port:      labels[metaPrefix+"port"],
		device:    labels[metaPrefix+"interface"],
		scope:     labels[metaPrefix+"scope"],
		dualStack: labels[metaPrefix+"dual_stack"] == "true",
	}
}

// host returns how the client reaches the listener, who calls this host asked, and
// false where it cannot: a multicast or broadcast address, a link-local one, whose
// zone is the client's to know, an address that is not here, or a wildcard of the
// other IP version. Own has the addresses of this host with their devices; nil is
// unknown.
func (l listener) host(asked string, own map[netip.Addr]string) (host string, ok bool) {
	switch {
	case l.port == "ephemeral", !l.address.IsValid():
		return "", false
	case l.scope == "any":
		return l.onAny(asked, own)
	case l.address.IsMulticast(), l.address.Is6() && l.address.IsLinkLocalUnicast():
		return "", false
	case l.address.IsLoopback(), own == nil:
		return l.address.String(), true
	}
	_, here := own[l.address]
	return l.address.String(), here
}

// onAny returns the host of a listener on every address: as it was asked for, if
// that is an address that the listener takes or a name, else the first address
// that it takes.
func (l listener) onAny(asked string, own map[netip.Addr]string) (host string, ok bool) {
	addr, err := netip.ParseAddr(asked)
	isName := err != nil
	if l.device == "" && (isName || l.takes(addr)) {
		return asked, true
	}
	if !isName && own[addr.Unmap().WithZone("")] == l.device && l.takes(addr) {
		return asked, true
	}
	var fit []netip.Addr
	for a, device := range own {
		if (l.device == "" || device == l.device) && l.takes(a) && !a.IsLinkLocalUnicast() && (!a.IsLoopback() || l.device == "lo") {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return "", false
	}
	return slices.MinFunc(fit, netip.Addr.Compare).String(), true
}

// takes reports whether a wildcard takes an address, by its IP version.
func (l listener) takes(addr netip.Addr) bool {
	return l.address.Is4() == addr.Unmap().Is4() || l.dualStack
}
