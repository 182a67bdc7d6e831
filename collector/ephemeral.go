package collector

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	ephemeralPorts = gauge("port_ephemeral_ports",
		"Ephemeral ports available to clients.",
		"netns")
	ephemeralPortsUsed = gauge("port_ephemeral_ports_used",
		"Ephemeral ports in use towards any destination.",
		"netns", "protocol")
	destinationPortsUsed = gauge("port_ephemeral_destination_ports_used",
		"Ephemeral ports in use towards a destination; connect() fails when it reaches port_ephemeral_ports.",
		"netns", "remote_address", "remote_port")
	destinationTimeWait = gauge("port_ephemeral_destination_ports_in_time_wait",
		"Ephemeral ports towards a destination that are in TIME_WAIT.",
		"netns", "remote_address", "remote_port")
	destinationUndercount = gauge("port_ephemeral_destination_undercount_ports",
		"Ports by which port_ephemeral_destination_ports_used may be too low.", "netns")
	destinationLookup = gauge("port_ephemeral_destination_lookup_success",
		"Whether the last DNS lookup of a watched host succeeded (1 or 0).", "hostname")
)

// ephemeral exports the use of ephemeral ports, in total and by destination.
type ephemeral struct {
	protocols []socket.Protocol
	limits    Limits
	memory    *Memory
}

func (ephemeral) Name() string { return "ephemeral" }

func (ephemeral) Families() []*Family {
	return []*Family{ephemeralPorts, ephemeralPortsUsed, destinationPortsUsed, destinationTimeWait, destinationUndercount, destinationLookup}
}

func (c ephemeral) Collect(_ context.Context, host *Snapshot, out *Output) error {
	watched := host.Watched()
	for _, name := range slices.Sorted(maps.Keys(watched.Lookups)) {
		out.add(destinationLookup, truth(watched.Lookups[name]), name)
	}
	_, err := host.EphemeralPorts()
	switch { // without the range the values would be wrong
	case errors.Is(err, fs.ErrNotExist):
		return nil // a system that has no such file
	case len(kernel.Files(err)) > 0:
		host.Missing(out, err)
		return nil
	case err != nil:
		return err
	}
	_, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	out.add(ephemeralPorts, float64(traffic.EphemeralPorts), hostNetns)
	for _, p := range c.protocols {
		out.add(ephemeralPortsUsed, float64(traffic.EphemeralUsed[p]), hostNetns, p.String())
	}
	c.addDestinations(out, traffic, watched.Destinations)
	out.add(destinationUndercount, float64(traffic.DestinationsUndercounted), hostNetns)
	return nil
}

// addDestinations adds the destinations that are watched one by one, at 0 when
// they are not used, the first in the list first; then those of the others that
// use the most, and up to the limit of watched ones those of them
// that do. The rest is folded.
func (c ephemeral) addDestinations(out *Output, traffic *socket.Traffic, watched []socket.Watched) {
	shown := map[netip.AddrPort]bool{}
	uses := map[netip.AddrPort]socket.DestinationUse{}
	for _, use := range traffic.Destinations {
		uses[use.Remote] = use
	}
	for _, w := range watched {
		if remote, single := w.Single(); single && !shown[remote] && len(shown) < c.limits.WatchedDestinations {
			shown[remote] = true
			use := uses[remote]
			use.Remote = remote
			addDestination(out, use)
		}
	}
	others := slices.DeleteFunc(slices.Clone(traffic.Destinations), func(use socket.DestinationUse) bool { return shown[use.Remote] })

	floor := max(1, int(c.limits.DestinationShare*float64(traffic.EphemeralPorts)))
	top := choose(c.memory.destinations, others, c.limits.Destinations, floor)
	watchedOthers := slices.DeleteFunc(slices.Clone(others), func(use socket.DestinationUse) bool { return !use.Watched })
	most := choose(c.memory.watched, watchedOthers, c.limits.WatchedDestinations-len(shown), 0)
	folded := 0
	for _, use := range others {
		switch {
		case top[use.Remote], most[use.Remote]:
			addDestination(out, use)
		case use.Watched, use.Ports >= floor:
			folded++
		}
	}
	out.fold(destinationPortsUsed, folded)
}

func choose(ranking *socket.Ranking[netip.AddrPort], uses []socket.DestinationUse, n, floor int) map[netip.AddrPort]bool {
	candidates := make([]socket.Candidate[netip.AddrPort], len(uses))
	for i, use := range uses {
		candidates[i] = socket.Candidate[netip.AddrPort]{Key: use.Remote, Weight: use.Ports, Floor: floor}
	}
	return ranking.Choose(candidates, n)
}

func addDestination(out *Output, use socket.DestinationUse) {
	remote := out.set(destinationPortsUsed, hostNetns, use.Remote.Addr().String(), portLabel(use.Remote.Port()))
	out.addSet(destinationPortsUsed, float64(use.Ports), remote)
	out.addSet(destinationTimeWait, float64(use.TimeWait), remote)
}
