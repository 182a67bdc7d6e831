// Package psnet reads sockets through gopsutil, for the systems without a
// reader of our own: macOS and FreeBSD (where it runs lsof), OpenBSD (netstat)
// and Windows (GetExtendedTcpTable). It provides the least: addresses and states,
// no queues, no drops, no cgroup. Sockets with the same ends, as those of an
// SO_REUSEPORT group or of processes that share one, are one.
package psnet

import (
	"context"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"strings"
	"syscall"

	"github.com/shirou/gopsutil/v3/net"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Source reads the sockets of the host. It is safe for concurrent use.
type Source struct {
	connections func(ctx context.Context, kind string) ([]net.ConnectionStat, error)
}

// New returns a source.
func New() *Source { return &Source{connections: net.ConnectionsWithContext} }

// Protocols returns what the library can read: not UDP-Lite.
func Protocols() []socket.Protocol { return []socket.Protocol{socket.TCP, socket.UDP} }

// Sockets implements [socket.Source]. The library gathers the whole table
// before the first socket is yielded, so memory grows with it.
func (s *Source) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		stats, err := s.connections(ctx, kindOf(want))
		if err == nil {
			err = ctx.Err() // the library may return what it had by the deadline
		}
		if err != nil {
			yield(nil, fmt.Errorf("gopsutil: %w", err))
			return
		}
		seen := make(map[socket.Socket]bool, len(stats))
		for _, stat := range stats {
			sock, err := convert(stat)
			if err == nil {
				ends := sock
				ends.PID = 0 // of those that share it, the first is named
				if !want.Has(sock.State) || seen[ends] {
					continue
				}
				seen[ends] = true
			}
			if !yield(&sock, err) {
				return
			}
		}
	}
}

// kindOf returns the library's name for the protocols of the wanted states.
func kindOf(want socket.StateSet) string {
	switch {
	case want&socket.UDPStates == 0:
		return "tcp"
	case want&socket.TCPStates == 0:
		return "udp"
	default:
		return "inet"
	}
}

func convert(stat net.ConnectionStat) (socket.Socket, error) {
	s := socket.Socket{Protocol: socket.TCP, Family: socket.IPv4, PID: stat.Pid}
	if stat.Family != syscall.AF_INET {
		s.Family = socket.IPv6
	}
	if stat.Type == syscall.SOCK_DGRAM {
		s.Protocol = socket.UDP
	}
	var err error
	if s.Local, err = address(stat.Laddr, s.Family); err != nil {
		return socket.Socket{}, err
	}
	if s.Remote, err = address(stat.Raddr, s.Family); err != nil {
		return socket.Socket{}, err
	}
	if s.State = stateOf(stat.Status, s); s.State == 0 {
		return socket.Socket{}, fmt.Errorf("%w: status %q", socket.ErrMalformed, stat.Status)
	}
	return s, nil
}

// address parses an address of the library: none, "*" and "" are the wildcard.
func address(a net.Addr, family socket.Family) (netip.AddrPort, error) {
	if a.Port > math.MaxUint16 {
		return netip.AddrPort{}, fmt.Errorf("%w: port %d", socket.ErrMalformed, a.Port)
	}
	addr := netip.IPv4Unspecified()
	if family == socket.IPv6 {
		addr = netip.IPv6Unspecified()
	}
	if a.IP != "" && a.IP != "*" {
		parsed, err := netip.ParseAddr(a.IP)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%w: address %q", socket.ErrMalformed, a.IP)
		}
		addr = parsed.Unmap().WithZone("")
	}
	return netip.AddrPortFrom(addr, uint16(a.Port)), nil
}

// stateOf returns the state for a status as one of the systems spells it:
// FIN_WAIT1 and FIN_WAIT_1, SYN_RECV and SYN_RECEIVED. Zero is unknown.
func stateOf(status string, s socket.Socket) socket.State {
	if s.Protocol == socket.UDP {
		if s.Remote.Port() != 0 {
			return socket.Connected
		}
		return socket.Unconnected
	}
	switch strings.ReplaceAll(status, "_", "") {
	case "ESTABLISHED":
		return socket.Established
	case "SYNSENT":
		return socket.SynSent
	case "SYNRECV", "SYNRECEIVED", "SYNRCVD":
		return socket.SynRecv
	case "FINWAIT1":
		return socket.FinWait1
	case "FINWAIT2":
		return socket.FinWait2
	case "TIMEWAIT", "DELETE": // Windows: the control block is being deleted
		return socket.TimeWait
	case "CLOSE", "CLOSED":
		return socket.Close
	case "CLOSEWAIT":
		return socket.CloseWait
	case "LASTACK":
		return socket.LastAck
	case "LISTEN":
		return socket.Listen
	case "CLOSING":
		return socket.Closing
	default:
		return 0
	}
}
