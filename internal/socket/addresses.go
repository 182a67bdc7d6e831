package socket

import "net/netip"

// AddressKind is what an address is to this host.
type AddressKind uint8

// The kinds of addresses.
const (
	AddressUnknown   AddressKind = iota
	AddressHere                  // it is one of this host's, or routed to it
	AddressElsewhere             // what is sent to it does not arrive here
	AddressBroadcast             // of a network of this host
)

// locate asks what the addresses of listeners are, where that is not plain from the
// address.
func (t *Table) locate(kinds func([]netip.Addr) map[netip.Addr]AddressKind) {
	var asked []netip.Addr
	seen := map[netip.Addr]bool{}
	for _, listeners := range [][]Listener{t.Listeners, t.Young} {
		for _, l := range listeners {
			if (l.Scope == ScopePublic || l.Scope == ScopePrivate) && !seen[l.Address] {
				seen[l.Address] = true
				asked = append(asked, l.Address)
			}
		}
	}
	if kinds == nil || len(asked) == 0 {
		return
	}
	known := kinds(asked)
	for _, listeners := range [][]Listener{t.Listeners, t.Young} {
		for i := range listeners {
			listeners[i].locate(known[listeners[i].Address])
		}
	}
}

// locate takes a broadcast address for what it is: no router passes it on (RFC 1812,
// 5.3.5). Of a socket that is bound to a device it is not known whether its address
// is there: another table of routes may have it.
func (l *Listener) locate(kind AddressKind) {
	switch kind {
	case AddressBroadcast:
		l.Scope = ScopeLinkLocal
	case AddressElsewhere:
		l.Absent = l.Interface == ""
	case AddressUnknown, AddressHere:
	}
}
