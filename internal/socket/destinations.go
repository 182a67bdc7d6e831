package socket

// Part of the inner loop of a scrape: count runs once for each outbound socket.
// It allocates for new destinations only, up to the limit.

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Destinations are told apart exactly up to maxDestinations of them (pairs of
// a local address and a remote end). Beyond that the counters are those of the
// Misra–Gries summary (J. Misra, D. Gries: Finding repeated elements, 1982):
// no figure is above the true one, nor below it by more than
// sockets/(maxDestinations+1), which is 61 ports at a million sockets.
// Watched destinations are exact up to maxWatched of them.
const (
	maxDestinations = 16_384
	maxWatched      = 4096
)

// DestinationUse says how many local ports are in use towards one remote end.
type DestinationUse struct {
	Remote netip.AddrPort
	// Ports is the number of distinct local ports that a new connection cannot
	// have: those of the local address that has the most, since each local
	// address has all ports to itself.
	Ports int
	// Watched says that the figure is exact, and told whatever it is.
	Watched bool
}

// destinations counts the ephemeral ports in use by destination. Connections
// with the same local address and remote end differ in their local port, so
// that counting them is counting ports.
type destinations struct {
	watched func(netip.AddrPort) bool // may be nil

	index        map[destination]int32 // into counters
	counters     []destinationCounter
	watching     int // counters that are watched
	undercounted int // by how much a counter may be too low
}

// destination is a local address and a remote end, IPv4 as IPv4-mapped IPv6, in
// words that are cheap to compare.
type destination struct {
	local, remote [2]uint64
	port          uint64 // so that the key has no padding, and is hashed in one piece
}

type destinationCounter struct {
	destination
	ports   int32
	watched bool
}

func newDestinations(watched func(netip.AddrPort) bool) *destinations {
	return &destinations{watched: watched, index: map[destination]int32{}}
}

func words(a netip.Addr) [2]uint64 {
	b := a.As16()
	return [2]uint64{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (d destination) remoteAddrPort() netip.AddrPort {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], d.remote[0])
	binary.BigEndian.PutUint64(b[8:], d.remote[1])
	return netip.AddrPortFrom(netip.AddrFrom16(b).Unmap(), uint16(d.port))
}

func (d *destinations) count(s *Socket) {
	key := destination{words(s.Local.Addr()), words(s.Remote.Addr()), uint64(s.Remote.Port())}
	if at, known := d.index[key]; known {
		d.counters[at].ports++
		return
	}
	watched := d.watched != nil && d.watching < maxWatched && d.watched(s.Remote)
	if !watched && len(d.counters)-d.watching == maxDestinations {
		d.decrement()
		return
	}
	if watched {
		d.watching++
	}
	d.index[key] = int32(len(d.counters))
	d.counters = append(d.counters, destinationCounter{key, 1, watched})
}

// decrement takes one from every counter, which stands for the one that found
// no place, and gives up those that come to nothing.
func (d *destinations) decrement() {
	d.undercounted++
	kept := d.counters[:0]
	for _, c := range d.counters {
		if !c.watched {
			c.ports--
		}
		if c.ports == 0 {
			delete(d.index, c.destination)
			continue
		}
		d.index[c.destination] = int32(len(kept))
		kept = append(kept, c)
	}
	d.counters = kept
}

// atLeast returns the watched destinations and those with so many ports, by
// remote end.
func (d *destinations) atLeast(ports int) []DestinationUse {
	var uses []DestinationUse
	for _, c := range d.counters {
		if c.watched || int(c.ports) >= ports {
			uses = append(uses, DestinationUse{c.remoteAddrPort(), int(c.ports), c.watched})
		}
	}
	slices.SortFunc(uses, func(a, b DestinationUse) int {
		return cmp.Or(a.Remote.Compare(b.Remote), b.Ports-a.Ports) // the most first
	})
	return slices.CompactFunc(uses, func(a, b DestinationUse) bool { return a.Remote == b.Remote })
}

// Watched is a set of destinations that are counted exactly.
type Watched struct {
	Network netip.Prefix
	Ports   []PortRange // none means every port
}

// Has reports whether a destination is in the set.
func (w Watched) Has(remote netip.AddrPort) bool {
	return w.Network.Contains(remote.Addr()) &&
		(len(w.Ports) == 0 || slices.ContainsFunc(w.Ports, func(r PortRange) bool { return r.Contains(remote.Port()) }))
}

// Single returns the destination when there is just one in the set.
func (w Watched) Single() (netip.AddrPort, bool) {
	one := w.Network.IsSingleIP() && len(w.Ports) == 1 && w.Ports[0].First == w.Ports[0].Last
	if !one {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(w.Network.Addr(), w.Ports[0].First), true
}
