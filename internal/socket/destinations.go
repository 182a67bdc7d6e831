package socket

// Part of the inner loop of a scrape: add runs once for each outbound socket.
// It allocates for new destinations only, up to the limit.

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// Destinations are counted exactly up to maxDestinations of them (pairs of
// a local address and a remote end). Beyond that the counters are those of the
// Misra–Gries summary (J. Misra, D. Gries: Finding repeated elements, 1982):
// no figure is above the true one, nor below it by more than
// sockets/(maxDestinations+1), which is 61 ports at a million sockets.
// Of the watched ones, as many again have a counter that is not given up: those
// that are named one by one, and those of a network or of every port.
const (
	maxDestinations = 16_384
	maxNamed        = 4096
	maxInNetworks   = 4096
)

// DestinationUse says how many local ports are in use towards one remote end.
type DestinationUse struct {
	Remote netip.AddrPort
	// Ports is the number of distinct local ports that a new connection cannot
	// have: those of the local address that has the most, since each local
	// address has all ports to itself.
	Ports int
	// TimeWait is how many of these only sockets in TIME_WAIT hold: where
	// net.ipv4.tcp_tw_reuse says so, a connection can have them all the same.
	TimeWait int
	// Watched says that somebody watches it: the figure is exact, unless there
	// are more watched ones in use than can be.
	Watched bool
}

// destinations counts the ephemeral ports in use by destination. Connections
// with the same local address and remote end differ in their local port, so
// that counting them is counting ports.
type destinations struct {
	watched *watchedSet

	index        map[destination]int32 // into counters
	counters     []destinationCounter
	pinned       [numWatches]int // counters that are not given up, by kind
	undercounted int             // by how much a counter may be too low
}

// destination is a local address and a remote end, IPv4 as IPv4-mapped IPv6, in
// words that are cheap to compare.
type destination struct {
	local, remote [2]uint64
	port          uint64 // so that the key has no padding, and is hashed in one piece
}

type destinationCounter struct {
	destination
	ports    int32
	timeWait int32 // of those that were counted, also when ports is too low
	pinned   bool  // never given up
}

func newDestinations(watched *watchedSet) *destinations {
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

// count counts a socket by its local address and remote end.
func (d *destinations) count(s *Socket) {
	d.add(s, destination{words(s.Local.Addr()), words(s.Remote.Addr()), uint64(s.Remote.Port())})
}

// countRemote counts a socket by its remote end alone. One set of counters is
// for this or for count, not for both.
func (d *destinations) countRemote(s *Socket) {
	d.add(s, destination{remote: words(s.Remote.Addr()), port: uint64(s.Remote.Port())})
}

func (d *destinations) add(s *Socket, key destination) {
	if at, known := d.index[key]; known {
		d.counters[at].ports++
		d.counters[at].timeWait += timeWait(s)
		return
	}
	pinned := d.pin(s.Remote)
	if !pinned && len(d.counters)-d.pinned[named]-d.pinned[inNetwork] == maxDestinations {
		d.decrement()
		return
	}
	d.index[key] = int32(len(d.counters))
	d.counters = append(d.counters, destinationCounter{key, 1, timeWait(s), pinned})
}

func timeWait(s *Socket) int32 {
	if s.State == TimeWait {
		return 1
	}
	return 0
}

// pin reports whether a destination gets a counter that is not given up. Only
// while there is such a counter left is it looked for among the watched.
func (d *destinations) pin(remote netip.AddrPort) bool {
	var kind int
	switch {
	case d.pinned[named] < maxNamed && d.watched.named[remote]:
		kind = named
	case d.pinned[inNetwork] < maxInNetworks && d.watched.inNetwork(remote):
		kind = inNetwork
	default:
		return false
	}
	d.pinned[kind]++
	return true
}

// decrement takes one from every counter, which replaces the one that found
// no place, and gives up those that come to nothing.
func (d *destinations) decrement() {
	d.undercounted++
	kept := d.counters[:0]
	for _, c := range d.counters {
		if !c.pinned {
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
		remote := c.remoteAddrPort()
		watched := c.pinned || int(c.ports) >= ports && d.watched.has(remote)
		if watched || int(c.ports) >= ports {
			uses = append(uses, DestinationUse{remote, int(c.ports), int(min(c.ports, c.timeWait)), watched})
		}
	}
	slices.SortFunc(uses, func(a, b DestinationUse) int {
		return cmp.Or(a.Remote.Compare(b.Remote), b.Ports-a.Ports) // the most first
	})
	return slices.CompactFunc(uses, func(a, b DestinationUse) bool { return a.Remote == b.Remote })
}
