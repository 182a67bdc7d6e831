package system

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/kernel"
	"github.com/port-exporter/port_exporter/internal/procnet"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxPortless bounds the sockets without a port that are read of each protocol.
const maxPortless = 4096

// askAgain is how long a kernel that lacks a module is not asked for it: to be asked,
// it starts modprobe (sock_load_diag_module in net/core/sock_diag.c).
const askAgain = 10 * time.Minute

// portless reads raw sockets, packet sockets, vsock and unix listeners: through
// sock_diag where the kernel has the module, else from procfs. That has no vsock, no
// queues of unix listeners, and does not say which packet sockets have a filter.
type portless struct {
	procfs  string
	netlink bool

	mu     sync.Mutex
	lacked map[socket.Protocol]lack
}

// lack is an error that means "not available here", and when it was.
type lack struct {
	err error
	at  time.Time
}

func newPortless(netlink bool, procfs string) *portless {
	return &portless{procfs: procfs, netlink: netlink, lacked: map[socket.Protocol]lack{}}
}

// read returns what could be read, beside an error for each protocol that could not,
// but for what this kernel does not report.
func (p *portless) read(ctx context.Context) (socket.PortlessTable, error) {
	t := socket.PortlessTable{}
	raw, err := p.either(ctx, socket.Raw, sockdiag.Raw, func() (socket.PortlessRead, error) { return procnet.Raw(p.procfs, maxPortless) })
	rawErr := t.Put(socket.Raw, raw, err)
	packets, err := p.either(ctx, socket.Packet, sockdiag.Packets, func() (socket.PortlessRead, error) {
		return procnet.Packets(p.procfs, maxPortless, func(index int) string { return sockdiag.DeviceName(uint32(index)) })
	})
	packetErr := t.Put(socket.Packet, packets, err)
	vsock, err := p.vsock(ctx)
	vsockErr := t.Put(socket.Vsock, vsock, err)
	t.Listeners = socket.FoldPortless(t.Listeners)
	return t, errors.Join(rawErr, packetErr, vsockErr)
}

// unix returns the unix listeners.
func (p *portless) unix(ctx context.Context) (t socket.PortlessTable, err error) {
	read, err := p.either(ctx, socket.Unix, sockdiag.Unix, func() (socket.PortlessRead, error) {
		read, err := procnet.Unix(p.procfs, maxPortless)
		if errors.Is(err, errors.ErrUnsupported) {
			return read, err
		}
		return read, fileError("net/unix", err)
	})
	err = t.Put(socket.Unix, read, err)
	t.Listeners = socket.FoldPortless(t.Listeners)
	return t, err
}

// either reads through netlink, or else by a fall-back.
func (p *portless) either(ctx context.Context, kind socket.Protocol, netlink func(context.Context, int) (socket.PortlessRead, error), fallback func() (socket.PortlessRead, error)) (socket.PortlessRead, error) {
	read, err := p.ask(ctx, kind, netlink)
	if errors.Is(err, errors.ErrUnsupported) {
		return fallback()
	}
	return read, err
}

// vsock returns the vsock listeners. A kernel without AF_VSOCK has none.
func (p *portless) vsock(ctx context.Context) (socket.PortlessRead, error) {
	// net/protocols lists what proto_register was called for (net/core/sock.c).
	protocols, err := kernel.AppendFile(nil, filepath.Join(p.procfs, "net/protocols"))
	if err == nil && !bytes.Contains(protocols, []byte("AF_VSOCK")) {
		return socket.PortlessRead{}, nil
	}
	return p.ask(ctx, socket.Vsock, sockdiag.Vsock)
}

// ask reads through netlink, unless the kernel said a moment ago that it cannot.
func (p *portless) ask(ctx context.Context, kind socket.Protocol, netlink func(context.Context, int) (socket.PortlessRead, error)) (socket.PortlessRead, error) {
	if !p.netlink {
		return socket.PortlessRead{}, errors.ErrUnsupported
	}
	p.mu.Lock()
	last := p.lacked[kind]
	p.mu.Unlock()
	if last.err != nil && time.Since(last.at) < askAgain {
		return socket.PortlessRead{}, last.err
	}
	read, err := netlink(ctx, maxPortless)
	if errors.Is(err, errors.ErrUnsupported) {
		p.mu.Lock()
		p.lacked[kind] = lack{err, time.Now()}
		p.mu.Unlock()
	}
	return read, err
}
