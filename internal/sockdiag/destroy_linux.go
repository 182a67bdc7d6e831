package sockdiag

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Groups of include/uapi/linux/sock_diag.h, and the option SO_MEMINFO of
// include/uapi/asm-generic/socket.h.
const (
	groupTCPDestroy  = 1
	group6TCPDestroy = 3
)

// How many messages one system call takes, and how long they may be, in bytes:
// those of Linux 6.18 have 380.
const (
	batchSize  = 64
	messageLen = 1024
)

// wantedBuffer is how many bytes of messages may wait, of which the kernel counts
// messageRoom for each, and it takes twice as many as it was asked for.
const (
	wantedBuffer = 4 << 20
	messageRoom  = 1300
)

// Closings receives a message for each TCP socket that the kernel frees in the
// network namespace in which it was opened.
//
// It does not use the poller of the runtime, which each message would wake, also
// while they are left to gather: that costs several times as much.
type Closings struct {
	waiter          sync.Mutex // held during a wait
	waiting, hangup int        // the ends of a pipe: the second is closed to end a wait
	once            sync.Once
	room            int

	mu   sync.Mutex // guards what follows
	over bool       // changes with both locks
	conn
	closedReader
	messages [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	buffers  [batchSize][messageLen]byte
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	length uint32
}

// Subscribe begins to receive. It requires no privilege; with CAP_NET_ADMIN the
// buffer may exceed net.core.rmem_max. The error is errors.ErrUnsupported where the
// kernel does not send such messages (before Linux 4.3), or does not count those
// that were lost (4.12), and in a sandbox without netlink.
func Subscribe() (*Closings, error) { return subscribe(wantedBuffer) }

func subscribe(buffer int) (*Closings, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	room, err := joinGroups(c.fd, buffer)
	if err != nil {
		c.close()
		return nil, fmt.Errorf("sockdiag: subscribe to closed sockets: %w", err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		c.close()
		return nil, fmt.Errorf("sockdiag: subscribe to closed sockets: %w", err)
	}
	s := &Closings{conn: *c, closedReader: closedReader{row: reader{protocol: socket.TCP}}, waiting: pipe[0], hangup: pipe[1], room: room}
	for i := range s.messages {
		s.vectors[i].Base = &s.buffers[i][0]
		s.vectors[i].SetLen(messageLen)
		s.messages[i].header.Iov = &s.vectors[i]
		s.messages[i].header.SetIovlen(1)
	}
	return s, nil
}

// joinGroups sets the socket up, and returns how many messages it has room for. With
// NETLINK_NO_ENOBUFS a full buffer costs only the messages that find no room; else the
// kernel would drop all until it is empty. Their number is that of the socket's drops.
func joinGroups(fd, buffer int) (room int, err error) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return 0, err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return 0, err
	}
	if _, err := drops(fd); err != nil {
		return 0, fmt.Errorf("%w: SO_MEMINFO: %w", errors.ErrUnsupported, err)
	}
	for _, group := range []int{groupTCPDestroy, group6TCPDestroy} {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		if errors.Is(err, unix.EINVAL) { // netlink_setsockopt: no such group
			return 0, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		if err != nil {
			return 0, unsupported(err)
		}
	}
	granted, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return granted / messageRoom, err
}

// drops returns how many messages found no room.
func drops(fd int) (uint32, error) {
	var info [skMemInfoDrops + 1]uint32
	length := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&length)), 0)
	if errno != 0 {
		return 0, errno
	}
	if length < uint32(unsafe.Sizeof(info)) {
		return 0, unix.ENOPROTOOPT
	}
	return info[skMemInfoDrops], nil
}

// Close ends a wait, and all that follows returns os.ErrClosed.
func (c *Closings) Close() error {
	c.once.Do(func() {
		_ = unix.Close(c.hangup)
		c.waiter.Lock()
		defer c.waiter.Unlock()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.over = true
		c.close()
		_ = unix.Close(c.waiting)
	})
	return nil
}

// Room returns how many messages the buffer has room for.
func (c *Closings) Room() int { return c.room }

// Lost returns how many messages found no room in the buffer.
func (c *Closings) Lost() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, os.ErrClosed
	}
	n, err := drops(c.fd)
	return uint64(n), err
}

// Wait waits until there are messages.
func (c *Closings) Wait() error {
	c.waiter.Lock()
	defer c.waiter.Unlock()
	if c.over {
		return os.ErrClosed
	}
	for {
		waiting := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.waiting)}}
		_, err := unix.Poll(waiting, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("sockdiag: wait for closed sockets: %w", err)
		case waiting[1].Revents != 0:
			return os.ErrClosed
		default:
			return nil
		}
	}
}

// Take takes the messages that are there, up to a batch, and calls add with each socket
// of them that ever had a peer. It returns how many messages it took, and how many of
// them could not be parsed.
func (c *Closings) Take(add func(*socket.Closed)) (taken, malformed int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return 0, 0, os.ErrClosed
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&c.messages)), batchSize, unix.MSG_DONTWAIT, 0, 0)
	switch errno {
	case 0:
		return int(n), c.each(int(n), add), nil
	case unix.EINTR, unix.EAGAIN:
		return 0, 0, nil
	default:
		return 0, 0, fmt.Errorf("sockdiag: receive closed sockets: %w", errno)
	}
}

// each calls add with the sockets of n messages.
func (c *Closings) each(n int, add func(*socket.Closed)) (malformed int) {
	for i := range n {
		m := &c.messages[i]
		hadPeer, err := c.decodeClosed(c.buffers[i][:min(m.length, messageLen)])
		switch {
		case err != nil:
			malformed++
		case hadPeer:
			if c.row.ifindex != 0 {
				c.closed.Interface = c.interfaceName(c.row.ifindex)
			}
			add(&c.closed)
		}
	}
	return malformed
}
