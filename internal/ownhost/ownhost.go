// Package ownhost holds the result of a probe against the listeners of this
// host, where the target is one of its addresses: from outside a refusal is a
// refusal; from here it can be said why.
package ownhost

import (
	"net/netip"
	"sync"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// Snapshot is this host at one moment. Its parts are read when they are needed
// first, once.
type Snapshot struct {
	addresses func() (map[netip.Addr]string, error)
	table     func() (*socket.Table, error)
}

// New returns a snapshot of a host from what reads its addresses, each with the name of its
// device, and its listeners. It is safe for concurrent use.
func New(addresses func() (map[netip.Addr]string, error), table func() (*socket.Table, error)) *Snapshot {
	return &Snapshot{sync.OnceValues(addresses), sync.OnceValues(table)}
}

// Answer says what the listeners of this host make of the address that a probe
// tried. It is not known for other hosts, nor where the host cannot be read, nor
// behind a redirect: the address is not the target's.
func (h *Snapshot) Answer(r *schedule.Report) (answer socket.Answer, known bool) {
	protocol, ok := protocolOf(r.Target.Module.Kind)
	if !ok || r.Result.Redirect != "" || !r.Result.Peer.IsValid() || r.Result.Peer.Port() == 0 {
		return answer, false
	}
	addr := reached(r.Result.Peer.Addr())
	device, own := h.device(addr)
	if !own {
		return answer, false
	}
	table, err := h.table()
	if err != nil {
		return answer, false
	}
	return table.Answer(protocol, netip.AddrPortFrom(addr, r.Result.Peer.Port()), device)
}

// Facts returns what is known of the result of a probe, with what the listeners of
// this host make of it. Those of another network namespace are not known here.
func (h *Snapshot) Facts(r *schedule.Report) verdict.Facts {
	facts := verdict.Facts{Target: r.Target, Result: &r.Result}
	if r.Target.Netns != "" {
		return facts
	}
	if answer, known := h.Answer(r); known {
		facts.Listener = &answer
	}
	return facts
}

// reached returns the address that a packet to addr goes to: the unspecified
// address is loopback to the kernel.
func reached(addr netip.Addr) netip.Addr {
	switch addr = addr.Unmap().WithZone(""); addr {
	case netip.IPv4Unspecified():
		return loopback
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	default:
		return addr
	}
}

// device returns the device that has an address of this host. The whole of
// 127.0.0.0/8 is the loopback device's.
func (h *Snapshot) device(addr netip.Addr) (name string, own bool) {
	addresses, err := h.addresses()
	if err != nil {
		return "", false
	}
	if name, own = addresses[addr]; !own && addr.IsLoopback() {
		return addresses[loopback], true
	}
	return name, own
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// protocolOf returns what a kind of prober sends over. Of dns it is not known.
func protocolOf(kind string) (socket.Protocol, bool) {
	switch kind {
	case probe.KindTCP, probe.KindHTTP, probe.KindWebSocket, probe.KindGRPC:
		return socket.TCP, true
	case probe.KindUDP, probe.KindSTUN:
		return socket.UDP, true
	default:
		return 0, false
	}
}
