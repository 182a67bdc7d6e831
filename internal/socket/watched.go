package socket

import (
	"net/netip"
	"slices"
)

// Watched is a set of destinations that are counted exactly.
type Watched struct {
	Network netip.Prefix
	Ports   []PortRange // none means every port
}

// Single returns the destination when there is just one in the set.
func (w Watched) Single() (netip.AddrPort, bool) {
	one := w.Network.IsSingleIP() && len(w.Ports) == 1 && w.Ports[0].First == w.Ports[0].Last
	if !one {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(w.Network.Addr(), w.Ports[0].First), true
}

func (w Watched) hasPort(port uint16) bool {
	return len(w.Ports) == 0 || slices.ContainsFunc(w.Ports, func(r PortRange) bool { return r.Contains(port) })
}

// The ways in which a destination may be watched.
const (
	named = iota // one by one
	inNetwork
	numWatches
)

// watchedSet finds a destination among the watched ones in a time that grows
// with the number of different lengths of their networks, not with that of the
// networks: it is asked for each new destination.
type watchedSet struct {
	named    map[netip.AddrPort]bool
	networks map[netip.Prefix][]Watched
	bits     map[int][]int // the lengths of networks, by that of their addresses
}

func newWatchedSet(all []Watched) *watchedSet {
	s := &watchedSet{named: map[netip.AddrPort]bool{}, networks: map[netip.Prefix][]Watched{}, bits: map[int][]int{}}
	for _, w := range all {
		if remote, single := w.Single(); single {
			s.named[remote] = true
			continue
		}
		network := w.Network.Masked()
		s.networks[network] = append(s.networks[network], w)
		length := network.Addr().BitLen()
		if !slices.Contains(s.bits[length], network.Bits()) {
			s.bits[length] = append(s.bits[length], network.Bits())
		}
	}
	return s
}

func (s *watchedSet) has(remote netip.AddrPort) bool { return s.named[remote] || s.inNetwork(remote) }

func (s *watchedSet) inNetwork(remote netip.AddrPort) bool {
	for _, bits := range s.bits[remote.Addr().BitLen()] {
		network := netip.PrefixFrom(remote.Addr(), bits).Masked()
		for _, w := range s.networks[network] {
			if w.hasPort(remote.Port()) {
				return true
			}
		}
	}
	return false
}

// Watching returns what reports whether a destination is one of the watched.
func Watching(all []Watched) func(netip.AddrPort) bool { return newWatchedSet(all).has }
