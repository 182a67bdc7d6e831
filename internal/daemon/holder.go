package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// unknownHolder is what is said of a port whose listener is unknown.
const unknownHolder = "another process"

// holder returns who listens on the port of an error of listen(2), for people.
func (d *daemon) holder(ctx context.Context, err error) string {
	failed, ok := errors.AsType[*net.OpError](err)
	if !ok {
		return unknownHolder
	}
	wanted, ok := failed.Addr.(*net.TCPAddr)
	if !ok {
		return unknownHolder
	}
	addr, _ := netip.AddrFromSlice(wanted.IP)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // as the commands have
	defer cancel()
	table, err := d.system.Reader().Listening(ctx)
	if err != nil {
		return unknownHolder
	}
	var listeners []socket.Listener
	for _, l := range table.Listeners {
		if l.Protocol == socket.TCP && int(l.Port) == wanted.Port && overlaps(l.Address, addr) {
			listeners = append(listeners, l)
		}
	}
	for _, l := range d.system.Owners.Owners(ctx, listeners).Owned {
		if l.Owner.Process == "" {
			continue
		}
		name := plain.Text(l.Owner.Process)
		if l.Owner.Unit != "" {
			return fmt.Sprintf("%s (%s)", name, plain.Text(l.Owner.Unit))
		}
		return name
	}
	return unknownHolder
}

// overlaps reports whether a listener and a socket on an address, invalid for all of them,
// may be in each other's way.
func overlaps(listener, addr netip.Addr) bool {
	return listener.IsUnspecified() || !addr.IsValid() || addr.IsUnspecified() || listener.Unmap() == addr.Unmap()
}
