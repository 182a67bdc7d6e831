package check

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// TestUsersOf counts the ports that a connection cannot have: those of the local address
// that has the most of them.
func TestUsersOf(t *testing.T) {
	const to = "198.51.100.1:80"
	at := func(local, remote string, change ...func(*socket.Socket)) socket.Socket {
		return porttest.Socket(socket.TCP, socket.Established, local, remote, change...)
	}
	inode := func(s *socket.Socket) { s.Inode = 7 }
	all := porttest.Sockets{
		at("192.0.2.1:50000", to, inode), at("192.0.2.1:50001", to, inode), at("192.0.2.1:50002", to),
		at("192.0.2.9:50000", to, inode),
		at("192.0.2.1:50003", "198.51.100.1:81", inode), at("192.0.2.1:22", to, inode),
	}
	usable := socket.EphemeralPorts{PortRange: socket.PortRange{First: 50000, Last: 50009}}.Usable()
	got, err := usersOf(all.Sockets(t.Context(), socket.Connections), usable, netip.MustParseAddrPort(to))
	if err != nil || got.ports != 3 || len(got.members) != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	broken := func(yield func(*socket.Socket, error) bool) { yield(nil, errors.New("x")) }
	if _, err := usersOf(broken, usable, netip.MustParseAddrPort(to)); err == nil {
		t.Error("an error of the source is lost")
	}
}
