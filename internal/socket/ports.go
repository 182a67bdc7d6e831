package socket

import (
	"math/bits"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

// PortRange is a range of ports, both ends included.
type PortRange = netaddr.PortRange

// EphemeralPorts are the ports that the kernel gives to sockets that ask for
// none: on Linux net.ipv4.ip_local_port_range, for IPv6 too (ip(7)).
type EphemeralPorts struct {
	PortRange
	// Reserved are ports of the range that it does not assign
	// (net.ipv4.ip_local_reserved_ports); they are taken by binding to them.
	Reserved []PortRange
}

// Usable returns the ports that a client can get: those of the range that are
// not reserved.
func (e EphemeralPorts) Usable() *PortSet {
	set := &PortSet{}
	for port := int(e.First); port <= int(e.Last); port++ {
		set.Add(uint16(port))
	}
	for _, r := range e.Reserved {
		for port := int(r.First); port <= int(r.Last); port++ {
			set.remove(uint16(port))
		}
	}
	return set
}

// PortSet is a set of ports, one bit each. Its zero value is empty.
type PortSet [1 << 16 / 64]uint64

// Add adds a port.
func (s *PortSet) Add(port uint16) { s[port/64] |= 1 << (port % 64) }

func (s *PortSet) remove(port uint16) { s[port/64] &^= 1 << (port % 64) }

// Has reports whether a port is in the set.
func (s *PortSet) Has(port uint16) bool { return s[port/64]&(1<<(port%64)) != 0 }

// Len returns how many ports are in the set.
func (s *PortSet) Len() int { return s.in(s) }

// in returns how many ports are in both sets.
func (s *PortSet) in(other *PortSet) int {
	n := 0
	for i, word := range s {
		n += bits.OnesCount64(word & other[i])
	}
	return n
}
