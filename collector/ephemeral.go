package collector

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	ephemeralPorts = gauge("port_ephemeral_ports",
		"Local ports that a client can get: net.ipv4.ip_local_port_range less ip_local_reserved_ports. Each destination has all of them.",
		"netns")
	ephemeralPortsUsed = gauge("port_ephemeral_ports_used",
		"Distinct ports of port_ephemeral_ports that sockets of a protocol have, towards whatever destination. "+
			"TCP can use a port again for another destination: what runs out is port_ephemeral_destination_ports_used.",
		"netns", "protocol")
	destinationPortsUsed = gauge("port_ephemeral_destination_ports_used",
		"Distinct ports of port_ephemeral_ports that TCP sockets, those in TIME_WAIT included, have towards one destination: at "+
			"port_ephemeral_ports the next connect() fails with EADDRNOTAVAIL. Where there are connections from several local addresses, "+
			"of the one that has the most. Those destinations that use the most, and those that the configuration watches.",
		"netns", "remote_address", "remote_port")
	destinationUndercount = gauge("port_ephemeral_destination_undercount_ports",
		"By how much port_ephemeral_destination_ports_used may be too low for a destination that is not watched: "+
			"0 unless there are more than 16384 destinations.", "netns")
	destinationLookup = gauge("port_ephemeral_destination_lookup_success",
		"Whether the last lookup of a watched host name succeeded (1) or not (0); then its last known addresses are watched.", "hostname")
)

// ephemeral tells how much of the ephemeral ports is used, and towards whom.
type ephemeral struct {
	protocols []socket.Protocol
	limits    Limits
	memory    *Memory
}

func (ephemeral) Name() string { return "ephemeral" }

func (ephemeral) Families() []*Family {
	return []*Family{ephemeralPorts, ephemeralPortsUsed, destinationPortsUsed, destinationUndercount, destinationLookup}
}

func (c ephemeral) Collect(_ context.Context, host *Snapshot, out *Output) error {
	if _, err := host.EphemeralPorts(); errors.Is(err, fs.ErrNotExist) {
		return nil // a system that does not tell its range
	} else if err != nil {
		return err // the figures would be of a range that does not hold
	}
	_, traffic, err := host.Connections()
	if err != nil {
		return err
	}
	out.add(ephemeralPorts, float64(traffic.EphemeralPorts), hostNetns)
	for _, p := range c.protocols {
		out.add(ephemeralPortsUsed, float64(traffic.EphemeralUsed[p]), hostNetns, p.String())
	}
	watched := host.Watched()
	folded := c.addTop(out, traffic) + c.addWatched(out, traffic.Destinations, watched.Destinations)
	out.fold(destinationPortsUsed, folded)
	for _, name := range slices.Sorted(maps.Keys(watched.Lookups)) {
		out.add(destinationLookup, truth(watched.Lookups[name]), name)
	}
	out.add(destinationUndercount, float64(traffic.DestinationsUndercounted), hostNetns)
	return nil
}

// addTop adds the destinations that use the most. It returns how many more
// there are above the share.
func (c ephemeral) addTop(out *Output, traffic *socket.Traffic) (folded int) {
	floor := max(1, int(c.limits.DestinationShare*float64(traffic.EphemeralPorts)))
	var candidates []socket.Candidate[netip.AddrPort]
	for _, use := range traffic.Destinations {
		if !use.Watched {
			candidates = append(candidates, socket.Candidate[netip.AddrPort]{Key: use.Remote, Weight: use.Ports, Floor: floor})
		}
	}
	chosen := c.memory.destinations.Choose(candidates, c.limits.Destinations)
	for _, use := range traffic.Destinations {
		switch {
		case chosen[use.Remote]:
			addDestination(out, use)
		case !use.Watched && use.Ports >= floor:
			folded++
		}
	}
	return folded
}

// addWatched adds the watched destinations that are in use, and at 0 the others
// that are named one by one. It returns how many are beyond the limit.
func (c ephemeral) addWatched(out *Output, uses []socket.DestinationUse, watched []socket.Watched) (folded int) {
	told := map[netip.AddrPort]bool{}
	add := func(use socket.DestinationUse) {
		switch {
		case told[use.Remote]:
		case len(told) == c.limits.WatchedDestinations:
			folded++
		default:
			told[use.Remote] = true
			addDestination(out, use)
		}
	}
	for _, use := range uses {
		if use.Watched {
			add(use)
		}
	}
	for _, w := range watched {
		if remote, single := w.Single(); single {
			add(socket.DestinationUse{Remote: remote})
		}
	}
	return folded
}

func addDestination(out *Output, use socket.DestinationUse) {
	out.add(destinationPortsUsed, float64(use.Ports), hostNetns, use.Remote.Addr().String(), portLabel(use.Remote.Port()))
}
