package collector

import (
	"context"
	"errors"
	"fmt"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var (
	rawSockets = gauge("port_raw_sockets",
		"Raw sockets (raw(7)) by address family and IP protocol.", "netns", "family", "protocol")
	packetSockets = gauge("port_packet_sockets",
		"Packet sockets (packet(7)) by type and presence of a BPF filter.",
		"netns", "type", "filter")
	vsockListeners = gauge("port_vsock_listeners",
		"Vsock listeners (vsock(7)) by context identifier and port.", "netns", "cid", "port")
	portlessRead = gauge("port_portless_read",
		"Whether the raw, packet and vsock sockets could be read (1 or 0).", "netns", "protocol")
	unexpectedPortless = gauge("port_policy_unexpected_portless_socket",
		"Raw, packet, vsock or unix socket that no policy rule expects; always 1.",
		"netns", "kind", "protocol", "address", "interface", "packet_type", "filter", "process", "user", "unit", "container")
)

// portless exports what listens without a port.
type portless struct{}

func (portless) Name() string { return "portless" }

func (portless) Families() []*Family {
	return []*Family{rawSockets, packetSockets, vsockListeners, portlessRead}
}

// Collect leaves out what could not be read.
func (portless) Collect(_ context.Context, host *Snapshot, out *Output) error {
	table, err := host.Portless()
	if err != nil && len(table.Unread) == 0 {
		return err
	}
	for _, p := range socket.Portless() {
		out.add(portlessRead, truth(table.Has(p)), hostNetns, p.String())
		if table.Has(p) {
			out.add(unreadListeners, float64(table.Unread[p]), hostNetns, p.String())
		}
	}
	if table.Has(socket.Raw) {
		addRaw(out, table.Listeners)
	}
	if table.Has(socket.Packet) {
		out.add(privilegeMissing, truth(table.FiltersHidden), owner.CapNetAdmin)
		addPackets(out, table.Listeners)
	}
	addVsock(out, table.Listeners)
	return nil
}

// maxVsock bounds the series of vsock listeners.
const maxVsock = 256

func addVsock(out *Output, listeners []socket.Listener) {
	counts := map[[2]string]int{}
	folded := 0
	for _, l := range listeners {
		if l.Protocol != socket.Vsock {
			continue
		}
		key := [2]string{l.Vsock.Context(), "other"}
		if l.Port != 0 {
			key[1] = portLabel(l.Port)
		}
		if _, known := counts[key]; !known && len(counts) == maxVsock {
			folded += l.Sockets
			continue
		}
		counts[key] += l.Sockets
	}
	for key, n := range counts {
		out.add(vsockListeners, float64(n), hostNetns, key[0], key[1])
	}
	out.fold(vsockListeners, folded)
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
	folded := 0
	for i := range owned {
		o := &owned[i]
		if !verdicts[i].Broken() {
			continue
		}
		owner := ownerLabels(o.Owner)
		labels := [10]string{o.Protocol.String(), portlessProtocol(&o.Listener), addressOf(&o.Listener), o.Interface,
			o.PacketType.String(), filterOf(&o.Listener), owner[0], owner[1], owner[2], owner[3]}
		switch {
		case named[labels]:
		case len(named) == limit:
			folded++
		default:
			named[labels] = true
			out.add(unexpectedPortless, 1, bind([]string{hostNetns}, labels[:]...)...)
		}
	}
	out.fold(unexpectedPortless, folded)
}

// portlessProtocol returns the IP protocol of a raw socket.
func portlessProtocol(l *socket.Listener) string {
	if l.Protocol == socket.Raw {
		return socket.IPProtocolName(l.Port)
	}
	return ""
}

// addressOf returns the address, with its port only for a vsock.
func addressOf(l *socket.Listener) string {
	if l.Protocol == socket.Vsock {
		return l.Vsock.String()
	}
	if l.Protocol == socket.Unix {
		return plain.Line(socket.FoldPath(l.Unix.Path))
	}
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

var (
	errNoPortless = errors.New("raw and packet sockets cannot be read on this system")
	errNoUnix     = errors.New("unix listeners cannot be read on this system")
)

func (r *reading) readPortless() (socket.PortlessTable, error) {
	if r.Portless == nil {
		return socket.PortlessTable{}, errNoPortless
	}
	table, err := r.Portless(r.ctx)
	if err != nil {
		r.Logger.Debug("cannot read all raw, packet and vsock sockets", "err", err)
	}
	r.notePortless(&table)
	return table, err
}

func (r *reading) readUnix() (socket.PortlessTable, error) {
	if r.Unix == nil {
		return socket.PortlessTable{}, errNoUnix
	}
	table, err := r.Unix(r.ctx)
	r.notePortless(&table)
	return table, err
}

func (r *reading) notePortless(table *socket.PortlessTable) {
	r.Memory.malformed.Add(uint64(table.Malformed))
	for _, p := range table.Interrupted {
		r.noteInterruption(fmt.Errorf("%v sockets: %w", p, socket.ErrInterrupted))
	}
	for p, n := range table.Unread {
		r.noteUnread(p, n)
	}
}

// findPortlessOwners returns what has no port with its owners. What cannot be read
// is left out: the collector portless says so.
func (r *reading) findPortlessOwners() []socket.Owned {
	table, _ := r.Snapshot.Portless()
	return r.ownersOf(r.PortlessOwners, table)
}

// findUnixOwners does the same for unix listeners.
func (r *reading) findUnixOwners() []socket.Owned {
	table, _ := r.Snapshot.Unix()
	return r.ownersOf(r.UnixOwners, table)
}

func (r *reading) ownersOf(finder Owners, table socket.PortlessTable) []socket.Owned {
	if len(table.Listeners) == 0 {
		return nil
	}
	return finder.Owners(r.ctx, table.Listeners).Owned
}
