package collector

import (
	"cmp"
	"context"
	"slices"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	ownerConnections = gauge("port_owner_connections",
		"TCP connections by unit, container, direction and state.",
		"netns", "unit", "container", "direction", "state")
	ownerOutbound = gauge("port_owner_outbound_connections",
		"Outbound TCP connections by unit, container and remote port.",
		"netns", "unit", "container", "remote_port")
	ownersUnattributed = gauge("port_owner_connections_unattributed",
		"TCP connections whose cgroup is unknown, for example because it was removed.", "netns")
	ownersRead = gauge("port_owner_connections_read",
		"Whether the owners of connections could be read (1 or 0).", "netns")
)

// Groups returns the units and containers of cgroups; those that are unknown are not
// in it.
type Groups func(ctx context.Context, ids []uint64) map[uint64]owner.Group

// ownedConnections exports the connections by the cgroup that made their sockets.
type ownedConnections struct {
	groups Groups // nil where there is no cgroup v2
	limit  int
	memory *Memory
}

func (ownedConnections) Name() string { return "owners" }

func (ownedConnections) Families() []*Family {
	return []*Family{ownerConnections, ownerOutbound, ownersUnattributed, ownersRead}
}

func (c ownedConnections) Collect(ctx context.Context, host *Snapshot, out *Output) error {
	table, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	readable := c.groups != nil && (len(traffic.Cgroups) > 0 || table.HasCgroups())
	out.add(ownersRead, truth(readable), hostNetns)
	if !readable {
		return nil
	}
	flows, unattributed := c.byGroup(ctx, traffic.Cgroups)
	out.add(ownersUnattributed, float64(unattributed), hostNetns)
	flows = c.choose(out, flows)
	for i := range flows {
		flows[i].add(out)
	}
	c.addPorts(out, flows)
	return nil
}

// otherGroup takes what is beyond the limit.
var otherGroup = owner.Group{Unit: other, Container: other}

// groupFlow has the connections of one unit and container.
type groupFlow struct {
	owner.Group
	inbound, outbound socket.StateCounts
	ports             []socket.CgroupPort // sorted, each once
}

func (f *groupFlow) labels(more ...string) []string {
	return append([]string{hostNetns, f.Unit, f.Container}, more...)
}

// sumPorts sorts ports, and adds up those that several cgroups have.
func sumPorts(ports []socket.CgroupPort) []socket.CgroupPort {
	slices.SortFunc(ports, func(a, b socket.CgroupPort) int { return cmp.Compare(a.Port, b.Port) })
	sums := ports[:0]
	for _, p := range ports {
		if last := len(sums) - 1; last >= 0 && sums[last].Port == p.Port {
			sums[last].Sockets += p.Sockets
			continue
		}
		sums = append(sums, p)
	}
	return sums
}

// add adds the directions in which there are connections. A count of zero stands for
// the states that matter: a leak that ends is no series that ends.
func (f *groupFlow) add(out *Output) {
	always := []socket.State{socket.Established, socket.CloseWait}
	for _, d := range []struct {
		name   string
		counts socket.StateCounts
	}{{"inbound", f.inbound}, {"outbound", f.outbound}} {
		if d.counts.Sum() > 0 {
			addStates(out, ownerConnections, socket.Flow{States: d.counts}, always, f.labels(d.name))
		}
	}
}

// byGroup adds up the cgroups of each group, and counts the connections of those that
// are unknown. A service may have many cgroups.
func (c ownedConnections) byGroup(ctx context.Context, cgroups []socket.CgroupFlow) (flows []groupFlow, unattributed int) {
	ids := make([]uint64, 0, len(cgroups))
	for i := range cgroups {
		ids = append(ids, cgroups[i].ID)
	}
	groups, index := c.groups(ctx, ids), map[owner.Group]int{}
	for i := range cgroups {
		from := &cgroups[i]
		group, known := groups[from.ID]
		if !known {
			unattributed += from.Sockets()
		}
		group.Unit, group.Container = plain.Line(group.Unit), plain.Line(group.Container) // names with the same label are one
		at, seen := index[group]
		if !seen {
			at = len(flows)
			index[group] = at
			flows = append(flows, groupFlow{Group: group})
		}
		to := &flows[at]
		to.inbound.Add(from.Inbound)
		to.outbound.Add(from.Outbound)
		to.ports = append(to.ports, from.Ports...)
	}
	for i := range flows {
		flows[i].ports = sumPorts(flows[i].ports)
	}
	slices.SortFunc(flows, func(a, b groupFlow) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Container, b.Container))
	})
	return flows, unattributed
}

// choose returns the flows with series of their own, and at last the sum of the rest.
func (c ownedConnections) choose(out *Output, flows []groupFlow) []groupFlow {
	candidates := make([]socket.Candidate[owner.Group], len(flows))
	for i := range flows {
		candidates[i] = socket.Candidate[owner.Group]{Key: flows[i].Group, Weight: flows[i].inbound.Sum() + flows[i].outbound.Sum()}
	}
	chosen := c.memory.owners.Choose(candidates, c.limit)
	rest := groupFlow{Group: otherGroup}
	folded := 0
	kept := make([]groupFlow, 0, len(chosen)+1)
	for _, f := range flows {
		if chosen[f.Group] {
			kept = append(kept, f)
			continue
		}
		rest.inbound.Add(f.inbound)
		rest.outbound.Add(f.outbound)
		folded++
	}
	out.fold(ownerConnections, folded)
	if folded > 0 {
		kept = append(kept, rest)
	}
	return kept
}

// groupPort is a remote port of a group.
type groupPort struct {
	owner.Group
	port uint16
}

// portsPerOwner is how many remote ports there are on average for each owner with
// series of its own.
const portsPerOwner = 4

// addPorts adds the busiest remote ports of the owners, and for each owner the rest.
func (c ownedConnections) addPorts(out *Output, flows []groupFlow) {
	var candidates []socket.Candidate[groupPort]
	passing := 0
	for i := range flows {
		for _, p := range flows[i].ports {
			candidate := socket.Candidate[groupPort]{Key: groupPort{flows[i].Group, p.Port}, Weight: p.Sockets}
			if p.Ephemeral && p.Sockets == 1 { // of a passing client of a service that is gone
				candidate.Floor = 2
				passing++
			}
			if p.Port != 0 {
				candidates = append(candidates, candidate)
			}
		}
	}
	chosen := c.memory.ownerPorts.Choose(candidates, portsPerOwner*c.limit)
	for i := range flows {
		flows[i].addPorts(out, chosen)
	}
	out.fold(ownerOutbound, max(0, len(candidates)-len(chosen)-passing))
}

func (f *groupFlow) addPorts(out *Output, chosen map[groupPort]bool) {
	rest := f.outbound.Sum()
	for _, p := range f.ports {
		if chosen[groupPort{f.Group, p.Port}] {
			out.add(ownerOutbound, float64(p.Sockets), f.labels(portLabel(p.Port))...)
			rest -= p.Sockets
		}
	}
	if rest > 0 {
		out.add(ownerOutbound, float64(rest), f.labels(other)...)
	}
}
