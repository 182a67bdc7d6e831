package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Packets returns the packet sockets of the network namespace of the thread that
// calls it, up to a limit, through packet_diag. The error is errors.ErrUnsupported
// where the kernel lacks that; beside a socket.ErrInterrupted it returns what it
// read.
func Packets(ctx context.Context, limit int) (socket.PortlessRead, error) {
	read, err := portless(ctx, "packet sockets", limit, decodePacket, packetRequest{})
	read.FiltersHidden = slices.ContainsFunc(read.Listeners, func(l socket.Listener) bool { return l.Filter == socket.FilterUnknown })
	return read, err
}

// Raw returns the raw sockets through raw_diag, as Packets does.
func Raw(ctx context.Context, limit int) (socket.PortlessRead, error) {
	return portless(ctx, "raw sockets", limit, decodeRaw,
		request{socket.Raw, familyINET, allStates, false, false}, request{socket.Raw, familyINET6, allStates, false, false})
}

// Vsock returns the vsock listeners through vsock_diag, as Packets does.
func Vsock(ctx context.Context, limit int) (socket.PortlessRead, error) {
	return portless(ctx, "vsock listeners", limit, decodeVsock, vsockRequest{})
}

// Unix returns the listeners of AF_UNIX through unix_diag, as Packets does.
func Unix(ctx context.Context, limit int) (socket.PortlessRead, error) {
	return portless(ctx, "unix listeners", limit, decodeUnix, unixRequest{})
}

// portless is conn.portless on a connection of its own.
func portless(ctx context.Context, what string, limit int, decode func([]byte) (portlessRow, error), asks ...asker) (socket.PortlessRead, error) {
	c, err := dial()
	if err != nil {
		return socket.PortlessRead{}, err
	}
	defer c.close()
	read, err := c.portless(ctx, limit, decode, asks)
	if err != nil {
		err = fmt.Errorf("sockdiag: dump %s: %w", what, unsupported(err))
	}
	return read, err
}

// portless makes dumps of sockets without a port, twice after an interruption.
func (c *conn) portless(ctx context.Context, limit int, decode func([]byte) (portlessRow, error), asks []asker) (socket.PortlessRead, error) {
	return socket.Twice(func() (read socket.PortlessRead, interrupted error) {
		add := func(payload []byte) bool {
			row, err := decode(payload)
			if err == nil && row.ifindex != 0 {
				row.Interface = c.interfaceName(row.ifindex)
			}
			read.Add(row.Listener, err, limit)
			return true
		}
		for _, ask := range asks {
			err := c.dump(ctx, ask, func(d *dump, datagram []byte) (bool, error) { return d.parse(datagram, add) })
			if err != nil && !errors.Is(err, errDumpIntr) {
				return read, err
			}
			interrupted = errors.Join(interrupted, err)
		}
		return read, interrupted
	})
}
