//go:build linux && (amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64)

package bpfwalk

// This file is the inner loop of a walk: decode runs once for each socket of the
// machine. It must not allocate, and it must take any record: the kernel changes while
// the programs read it.

import (
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Numbers of the kernel and of walk.bpf.c.
const (
	familyINET  = 2
	familyINET6 = 10

	protoTCP     = 6
	protoUDP     = 17
	protoUDPLite = 136

	flagV6Only      = 1
	flagTransparent = 2
	flagBindNoPort  = 4
	flagZeroWindow  = 8
)

var (
	errFamily = fmt.Errorf("%w: unknown address family", socket.ErrMalformed)
	errProto  = fmt.Errorf("%w: unknown protocol", socket.ErrMalformed)
	errState  = fmt.Errorf("%w: unknown state", socket.ErrMalformed)
)

// decode writes a record into s, but for the name of its interface, with the facts that
// sock_diag has of it. The error is socket.ErrMalformed.
func (r *walkRecord) decode(s *socket.Socket) error {
	*s = socket.Socket{Cookie: r.Cookie, Inode: r.Inode, CgroupID: r.Cgroup, UID: r.Uid}
	switch r.Protocol {
	case protoTCP:
		s.Protocol = socket.TCP
	case protoUDP:
		s.Protocol = socket.UDP
	case protoUDPLite:
		s.Protocol = socket.UDPLite
	default:
		return errProto
	}
	local, remote := r.LocalPort, bits.ReverseBytes16(r.RemotePort)
	switch r.Family {
	case familyINET:
		s.Family = socket.IPv4
		s.Local = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.Local[:4])), local)
		s.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte(r.Remote[:4])), remote)
	case familyINET6:
		s.Family = socket.IPv6
		s.Local = netip.AddrPortFrom(netip.AddrFrom16(r.Local).Unmap(), local)
		s.Remote = netip.AddrPortFrom(netip.AddrFrom16(r.Remote).Unmap(), remote)
	default:
		return errFamily
	}
	s.State = socket.KernelState(s.Protocol, r.State)
	if s.State == 0 {
		return errState
	}
	r.decodeFacts(s)
	return nil
}

// decodeFacts reads what depends on the state.
func (r *walkRecord) decodeFacts(s *socket.Socket) {
	s.Retransmits = r.Retransmits
	s.ZeroWindow = r.Flags&flagZeroWindow != 0
	s.Transparent, s.BindNoPort = r.Flags&flagTransparent != 0, r.Flags&flagBindNoPort != 0
	s.Known = socket.KnowsUID | socket.KnowsQueues
	if s.State == socket.Listen {
		s.AcceptQueue, s.AcceptQueueLimit = r.Receive, r.Send
		s.Known |= socket.KnowsAcceptQueueLimit
	} else {
		s.ReceiveQueue, s.SendQueue = r.Receive, r.Send
	}
	if socket.Listening.Has(s.State) {
		s.Drops = r.Drops
		s.Known |= socket.KnowsDrops
	}
	if s.Family == socket.IPv6 && (s.State == socket.Listen || s.State == socket.Unconnected) {
		s.V6Only = r.Flags&flagV6Only != 0
		s.Known |= socket.KnowsV6Only
	}
}
