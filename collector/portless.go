package collector

import (
	"context"
	"errors"

	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	rawSockets = gauge("port_raw_sockets",
		"Raw sockets (raw(7)) by address family and IP protocol.", "netns", "family", "protocol")
	packetSockets = gauge("port_packet_sockets",
		"Packet sockets (packet(7)) by type and whether they have a classic BPF filter; unknown requires CAP_NET_ADMIN.",
		"netns", "type", "filter")
	unexpectedPortless = gauge("port_policy_unexpected_portless_socket",
		"1 for each raw or packet socket and owner no rule of the policy expects.",
		"netns", "kind", "protocol", "address", "interface", "packet_type", "filter", "process", "user", "unit", "container")
)

// portless tells of what takes packets without a port.
type portless struct{}

func (portless) Name() string { return "portless" }

func (portless) Families() []*Family { return []*Family{rawSockets, packetSockets} }

// Collect leaves out what could not be read.
func (portless) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, err := host.Portless()
	if err != nil && !table.Raw && !table.Packets {
		return err
	}
	if table.Raw {
		addRaw(out, table.Listeners)
	}
	if table.Packets {
		addPackets(out, table.Listeners)
	}
	return nil
}

func addRaw(out *Output, listeners []socket.Listener) {
	counts := map[[2]string]int{}
	for _, l := range listeners {
		if l.Protocol == socket.Raw {
			counts[[2]string{familyOf(&l), socket.IPProtocolName(l.Port)}] += l.Sockets
		}
	}
	for key, n := range counts {
		out.add(rawSockets, float64(n), hostNetns, key[0], key[1])
	}
}

func familyOf(l *socket.Listener) string {
	if l.Address.Is4() {
		return socket.IPv4.String()
	}
	return socket.IPv6.String()
}

// addPackets adds each type with and without a filter, 0 included, and what is
// unknown where there is any.
func addPackets(out *Output, listeners []socket.Listener) {
	type form struct {
		kind   socket.PacketType
		filter socket.Filter
	}
	counts := map[form]int{}
	for _, l := range listeners {
		if l.Protocol == socket.Packet {
			counts[form{l.PacketType, l.Filter}] += l.Sockets
		}
	}
	for _, kind := range socket.PacketTypes() {
		for _, filter := range socket.Filters() {
			n := counts[form{kind, filter}]
			always := kind != socket.PacketOther && filter != socket.FilterUnknown
			if always || n > 0 {
				out.add(packetSockets, float64(n), hostNetns, kind.String(), filter.String())
			}
		}
	}
}

// addUnexpectedPortless names what the policy does not expect.
func addUnexpectedPortless(out *Output, owned []socket.Owned, verdicts []policy.Verdict, limit int) {
	named := map[[10]string]bool{}
	for i := range owned {
		o := &owned[i]
		if !verdicts[i].Broken() {
			continue
		}
		owner := ownerLabels(o.Owner)
		labels := [10]string{o.Protocol.String(), portlessProtocol(&o.Listener), addressOf(&o.Listener), o.Interface,
			o.PacketType.String(), filterOf(&o.Listener), owner[0], owner[1], owner[2], owner[3]}
		if !named[labels] && len(named) < limit {
			named[labels] = true
			out.add(unexpectedPortless, 1, bind([]string{hostNetns}, labels[:]...)...)
		}
	}
}

// portlessProtocol returns the IP protocol of a raw socket.
func portlessProtocol(l *socket.Listener) string {
	if l.Protocol == socket.Raw {
		return socket.IPProtocolName(l.Port)
	}
	return ""
}

func addressOf(l *socket.Listener) string {
	if l.Address.IsValid() {
		return l.Address.String()
	}
	return ""
}

func filterOf(l *socket.Listener) string {
	if l.Protocol == socket.Packet {
		return l.Filter.String()
	}
	return ""
}

var errNoPortless = errors.New("raw and packet sockets cannot be read here")

func (r *reading) readPortless() (socket.PortlessTable, error) {
	if r.Portless == nil {
		return socket.PortlessTable{}, errNoPortless
	}
	table, err := r.Portless(r.ctx)
	if err != nil {
		r.Logger.Debug("cannot read all sockets without a port", "err", err)
	}
	return table, err
}

// findPortlessOwners returns what has no port with its owners. What cannot be read
// is left out: the collector portless says so.
func (r *reading) findPortlessOwners() []socket.Owned {
	table, _ := r.Snapshot.Portless()
	if len(table.Listeners) == 0 {
		return nil
	}
	return r.PortlessOwners.Owners(r.ctx, table.Listeners).Owned
}
