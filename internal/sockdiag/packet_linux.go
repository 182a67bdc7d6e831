package sockdiag

import (
	"context"
	"fmt"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Packets returns the packet sockets of the network namespace of the thread that
// calls it, up to a limit, through packet_diag. The error is errors.ErrUnsupported
// where the kernel lacks that.
func Packets(ctx context.Context, limit int) ([]socket.Listener, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	defer c.close()
	c.seq++
	if err := c.write(ctx, appendPacketRequest(nil, c.seq)); err != nil {
		return nil, fmt.Errorf("sockdiag: dump packet sockets: %w", unsupported(err))
	}
	p := &packets{reader: reader{seq: c.seq}}
	for {
		n, err := c.read(ctx)
		if err != nil {
			return nil, fmt.Errorf("sockdiag: dump packet sockets: %w", err)
		}
		done, err := p.parse(c.buf[:n], limit)
		if err != nil {
			return nil, fmt.Errorf("sockdiag: dump packet sockets: %w", unsupported(err))
		}
		if done {
			return c.named(p.rows), nil
		}
	}
}

// named gives the devices of packet sockets their names.
func (c *conn) named(rows []packetRow) []socket.Listener {
	listeners := make([]socket.Listener, len(rows))
	for i, r := range rows {
		if r.ifindex != 0 {
			r.Interface = c.interfaceName(r.ifindex)
		}
		listeners[i] = r.Listener
	}
	return listeners
}
