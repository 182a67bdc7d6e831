package sockdiag

import (
	"github.com/port-exporter/port_exporter/internal/socket"
)

// protoRaw is IPPROTO_RAW, by which raw_diag is asked for the raw sockets of every
// IP protocol (net/ipv4/raw_diag.c, Linux 4.10).
const protoRaw = 255

// allStates asks for sockets with and without a peer.
const allStates = 1<<32 - 1

// decodeRaw reads one struct inet_diag_msg of a raw socket. Its local port is the
// number of the IP protocol: inet_create in net/ipv4/af_inet.c sets inet_num to it.
func decodeRaw(b []byte) (portlessRow, error) {
	r := reader{protocol: socket.Raw}
	if err := r.decode(b); err != nil {
		return portlessRow{}, err
	}
	s := &r.sock
	row := portlessRow{socket.Listener{Scope: socket.ScopeOf(s.Local.Addr()), Sockets: 1, Known: s.Known}, r.ifindex}
	row.Protocol, row.Address, row.Port = socket.Raw, s.Local.Addr(), s.Local.Port()
	row.Members = []socket.Member{{Inode: s.Inode, Cookie: s.Cookie, CgroupID: s.CgroupID, UID: s.UID, Drops: s.Drops}}
	return row, nil
}
