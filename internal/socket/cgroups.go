package socket

// Part of the inner loop of a scrape: count runs once for each connection. It
// allocates for new cgroups and ports only, up to the limits.

import (
	"cmp"
	"slices"
)

// So many cgroups, and pairs of a cgroup and a remote port, are counted apart, and so
// many remote ports of one cgroup: a program that calls many ports takes no room from
// others.
const (
	maxCgroups     = 4096
	maxCgroupPorts = 16_384
	maxPortsOfOne  = 1024
)

// CgroupFlow has the connections whose sockets were made in one cgroup.
type CgroupFlow struct {
	// ID is the cgroup; zero stands for all beyond the limit.
	ID uint64
	// Inbound has those whose local port is a service's, Outbound the others.
	Inbound, Outbound StateCounts
	// Ports has those of Outbound by remote port, sorted. Port zero stands for all
	// beyond the limit.
	Ports []CgroupPort

	ports int // how many are counted apart
}

// CgroupPort says how many connections go to a remote port.
type CgroupPort struct {
	Port      uint16
	Ephemeral bool // the port is one that the kernel gives to clients
	Sockets   int
}

// cgroupFlows holds a flow for each cgroup that was seen.
type cgroupFlows struct {
	index map[uint64]uint64 // into flows, by ID
	flows []CgroupFlow
	last  uint64            // the flow of the last socket: the next one is often of the same
	ports map[uint64]uint64 // into sockets, by flow and port
	// sockets counts those of a pair.
	sockets []uint32
}

func newCgroupFlows() *cgroupFlows {
	return &cgroupFlows{index: map[uint64]uint64{}, flows: make([]CgroupFlow, 1, 64), ports: map[uint64]uint64{}}
}

func (c *cgroupFlows) count(s *Socket, outbound bool) {
	at := c.of(s.CgroupID)
	if !outbound {
		c.flows[at].Inbound[s.State]++
		return
	}
	c.flows[at].Outbound[s.State]++
	c.sockets[c.portOf(at, s.Remote.Port())]++
}

// of returns the flow of a cgroup. The first is that of all beyond the limit.
func (c *cgroupFlows) of(id uint64) uint64 {
	if c.flows[c.last].ID == id {
		return c.last
	}
	at, known := c.index[id]
	if !known {
		if len(c.flows) > maxCgroups {
			return 0
		}
		at = uint64(len(c.flows))
		c.index[id] = at
		c.flows = append(c.flows, CgroupFlow{ID: id})
	}
	c.last = at
	return at
}

// portOf returns the counter of a remote port of a flow.
func (c *cgroupFlows) portOf(flow uint64, port uint16) uint64 {
	key := flow<<16 | uint64(port)
	at, known := c.ports[key]
	if known {
		return at
	}
	if f := &c.flows[flow]; port != 0 {
		if f.ports == maxPortsOfOne || len(c.ports) >= maxCgroupPorts {
			return c.portOf(flow, 0)
		}
		f.ports++
	}
	at = uint64(len(c.sockets))
	c.ports[key] = at
	c.sockets = append(c.sockets, 0)
	return at
}

// sorted returns the flows by ID.
func (c *cgroupFlows) sorted(ephemeral EphemeralPorts) []CgroupFlow {
	for key, at := range c.ports {
		f, port := &c.flows[key>>16], uint16(key)
		f.Ports = append(f.Ports, CgroupPort{port, ephemeral.Contains(port), int(c.sockets[at])})
	}
	flows := c.flows
	if flows[0].Sockets() == 0 {
		flows = flows[1:]
	}
	if len(flows) == 0 {
		return nil
	}
	for i := range flows {
		slices.SortFunc(flows[i].Ports, func(a, b CgroupPort) int { return cmp.Compare(a.Port, b.Port) })
	}
	slices.SortFunc(flows, func(a, b CgroupFlow) int { return cmp.Compare(a.ID, b.ID) })
	return flows
}

// Sockets returns how many connections there are.
func (f *CgroupFlow) Sockets() int { return f.Inbound.Sum() + f.Outbound.Sum() }
