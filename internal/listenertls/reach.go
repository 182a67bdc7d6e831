package listenertls

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// reach returns an address of this host at which a listener, and no other on its
// port, takes connections; loopback, if it listens there. It is invalid if there is
// none: the address is not of this host, or others take every address before it.
func reach(l *socket.Listener, table *socket.Table, own map[netip.Addr]string) netip.AddrPort {
	for _, addr := range candidates(l, own) {
		device := own[addr]
		if addr.IsLoopback() && device == "" {
			device = own[loopback4] // of all of 127.0.0.0/8
		}
		to := netip.AddrPortFrom(addr, l.Port)
		answer, known := table.Answer(socket.TCP, to, device)
		if !known || !answer.Taken() || answer.Listener.ListenerID != l.ListenerID {
			continue
		}
		if addr.Is6() && addr.IsLinkLocalUnicast() {
			to = netip.AddrPortFrom(addr.WithZone(device), l.Port)
		}
		return to
	}
	return netip.AddrPort{}
}

var loopback4, loopback6 = netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()

// candidates returns the addresses of this host at which a listener may be.
func candidates(l *socket.Listener, own map[netip.Addr]string) []netip.Addr {
	_, here := own[l.Address]
	switch {
	case l.Absent || l.Scope == socket.ScopeMulticast:
		return nil
	case l.Scope != socket.ScopeAny && (here || l.Address.IsLoopback()):
		return []netip.Addr{l.Address}
	case l.Scope != socket.ScopeAny:
		return nil
	}
	all := slices.SortedFunc(maps.Keys(own), netip.Addr.Compare)
	for _, first := range []netip.Addr{loopback6, loopback4} {
		if _, up := own[first]; up {
			all = slices.Insert(all, 0, first)
		}
	}
	return all
}
