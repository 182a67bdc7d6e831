package check

import (
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// lacksPorts reports whether it may be ephemeral ports that a probe lacked. Counting
// them walks the whole table of connections.
func lacksPorts(r *probe.Result) bool {
	errno, ok := errors.AsType[syscall.Errno](r.Err)
	return r.Outcome == probe.LocalError && ok && probe.IsNoPort(errno) && r.Peer.IsValid() && r.Peer.Port() > 0
}

// ports returns the use of ephemeral ports towards an address; nil if it is unknown.
func (h *Host) ports(ctx context.Context, to netip.AddrPort) *verdict.Ports {
	if h.Sockets == nil || h.EphemeralPorts == nil {
		return nil
	}
	ephemeral, err := h.EphemeralPorts()
	if err != nil {
		return nil
	}
	users, err := usersOf(h.Sockets.Sockets(ctx, socket.Connections), ephemeral.Usable(), to)
	if err != nil {
		return nil
	}
	usable := ephemeral.Usable()
	return &verdict.Ports{Used: users.ports, Of: usable.Len(), First: ephemeral.First, Last: ephemeral.Last, By: h.holder(ctx, users.members)}
}

// users are the sockets towards one address.
type users struct {
	ports   int // that a further connection cannot have
	members []socket.Member
}

// maxMembers bounds for how many sockets the owner is searched.
const maxMembers = 512

// usersOf finds the sockets whose ports a connection to an address cannot have. Each
// local address has all ports to itself, so the one with the most counts.
func usersOf(sockets iter.Seq2[*socket.Socket, error], usable *socket.PortSet, to netip.AddrPort) (users, error) {
	var u users
	byLocal := map[netip.Addr]int{}
	for s, err := range sockets {
		switch {
		case err != nil && !errors.Is(err, socket.ErrMalformed) && !errors.Is(err, socket.ErrInterrupted):
			return u, err
		case err != nil || s.Protocol != socket.TCP || s.Remote != to || !usable.Has(s.Local.Port()):
			continue
		}
		byLocal[s.Local.Addr()]++
		u.ports = max(u.ports, byLocal[s.Local.Addr()])
		if len(u.members) < maxMembers && s.Inode != 0 {
			u.members = append(u.members, socket.MemberOf(s))
		}
	}
	return u, nil
}

// holder names the process that holds the most of some sockets; empty if it is unknown.
func (h *Host) holder(ctx context.Context, members []socket.Member) string {
	if h.Owners == nil || len(members) == 0 {
		return ""
	}
	asked := make([]socket.Listener, len(members))
	for i, m := range members {
		asked[i] = socket.Listener{Sockets: 1, Members: []socket.Member{m}}
	}
	count := map[string]int{}
	for _, owned := range h.Owners(ctx, asked).Owned {
		if name := holderName(owned.Owner); name != "" {
			count[name]++
		}
	}
	most := ""
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if most == "" || count[name] > count[most] {
			most = name
		}
	}
	return most
}
