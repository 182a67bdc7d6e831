package porttest

import (
	"context"
	"iter"
	"net/netip"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Sockets is a source of invented sockets.
type Sockets []socket.Socket

// Sockets implements [socket.Source].
func (all Sockets) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(nil, err)
			return
		}
		for i := range all {
			if want.Has(all[i].State) && !yield(&all[i], nil) {
				return
			}
		}
	}
}

// everything is what the best source knows.
const everything = socket.KnowsQueues | socket.KnowsAcceptQueueLimit | socket.KnowsDrops | socket.KnowsV6Only | socket.KnowsUID

// Socket returns a socket; remote may be empty. An IPv4-mapped local address
// makes it an IPv6 socket with IPv4 addresses, as sources give it.
func Socket(p socket.Protocol, state socket.State, local, remote string, change ...func(*socket.Socket)) socket.Socket {
	s := socket.Socket{Protocol: p, State: state, Known: everything}
	address := netip.MustParseAddrPort(local)
	if address.Addr().Is6() {
		s.Family = socket.IPv6
	}
	s.Local = unmap(address)
	if remote != "" {
		s.Remote = unmap(netip.MustParseAddrPort(remote))
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

// Times returns n copies of a socket.
func Times(n int, s socket.Socket) []socket.Socket {
	all := make([]socket.Socket, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
