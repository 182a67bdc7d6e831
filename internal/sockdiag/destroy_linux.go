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

// wantedBuffer is how many bytes of messages may wait. The kernel counts some 1,300
// for each.
const wantedBuffer = 4 << 20

// Closings receives a message for each TCP socket that the kernel frees in the
// network namespace in which it was opened. One goroutine may read it.
//
// It does not use the poller of the runtime, which each message would wake, also
// while they are left to gather: that costs several times as much.
type Closings struct {
	conn
	closedReader
	waiting, hangup int // the ends of a pipe: the second is closed to end a wait
	once            sync.Once
	mu              sync.Mutex // for closing what Lost asks
	over            bool

	messages [batchSize]mmsghdr
	vectors  [batchSize]unix.Iovec
	buffers  [batchSize][messageLen]byte
	n        int
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
	if err := joinGroups(c.fd, buffer); err != nil {
		c.close()
		return nil, fmt.Errorf("sockdiag: subscribe to closed sockets: %w", err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		c.close()
		return nil, fmt.Errorf("sockdiag: subscribe to closed sockets: %w", err)
	}
	s := &Closings{conn: *c, closedReader: closedReader{row: reader{protocol: socket.TCP}}, waiting: pipe[0], hangup: pipe[1]}
	for i := range s.messages {
		s.vectors[i].Base = &s.buffers[i][0]
		s.vectors[i].SetLen(messageLen)
		s.messages[i].header.Iov = &s.vectors[i]
		s.messages[i].header.SetIovlen(1)
	}
	return s, nil
}

// joinGroups sets the socket up. With NETLINK_NO_ENOBUFS a full buffer costs only the
// messages that find no room; else the kernel would drop all until it is empty. Their
// number is that of the socket's drops.
func joinGroups(fd, buffer int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer); err != nil {
			return err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_NO_ENOBUFS, 1); err != nil {
		return err
	}
	if _, err := drops(fd); err != nil {
		return fmt.Errorf("%w: SO_MEMINFO: %w", errors.ErrUnsupported, err)
	}
	for _, group := range []int{groupTCPDestroy, group6TCPDestroy} {
		err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		if errors.Is(err, unix.EINVAL) { // netlink_setsockopt: no such group
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		if err != nil {
			return unsupported(err)
		}
	}
	return nil
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

// Close ends a wait, and all further ones: the reader then frees what is open.
func (c *Closings) Close() error {
	var err error
	c.once.Do(func() { err = unix.Close(c.hangup) })
	return err
}

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

// Receive waits until a socket is closed and takes the messages that are there, up to
// a batch; full says that it was one, and more may be there. The error is os.ErrClosed
// after Close.
func (c *Closings) Receive() (full bool, err error) {
	for c.n = 0; c.n == 0; {
		if err := c.wait(); err != nil {
			return false, err
		}
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&c.messages)), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			c.n = int(n)
		case unix.EINTR, unix.EAGAIN:
		default:
			return false, fmt.Errorf("sockdiag: receive closed sockets: %w", errno)
		}
	}
	return c.n == batchSize, nil
}

// wait waits for a message.
func (c *Closings) wait() error {
	for {
		waiting := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}, {Fd: int32(c.waiting)}}
		_, err := unix.Poll(waiting, -1)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("sockdiag: wait for closed sockets: %w", err)
		case waiting[1].Revents != 0:
			c.free()
			return os.ErrClosed
		default:
			return nil
		}
	}
}

func (c *Closings) free() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over = true
		c.close()
		_ = unix.Close(c.waiting)
	}
}

// Each calls add with each socket of the batch that ever had a peer, and returns how
// many messages could not be parsed.
func (c *Closings) Each(add func(*socket.Closed)) (malformed int) {
	for i := range c.n {
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
