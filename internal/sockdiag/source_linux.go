package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// bufferSize is what the kernel fills at most in one receive
// (netlink_recvmsg in net/netlink/af_netlink.c).
const bufferSize = 32 << 10

// pollInterval is how long a receive may block before the context is looked at.
const pollInterval = 100 * time.Millisecond

// Source reads the network namespace of the thread that calls it. It holds no
// descriptor between reads and is safe for concurrent use.
type Source struct {
	oneWalk bool
	in      func(open func() error) error // runs open in another namespace; nil for none
	without func(socket.Protocol) bool    // protocols that are not read; nil for none
}

// In returns a source of another network namespace, in which enter runs a function.
// Only the netlink socket is opened there: it belongs to that namespace for as long as
// it is open. Protocols that without names are not read.
func (s *Source) In(enter func(open func() error) error, without func(socket.Protocol) bool) *Source {
	return &Source{oneWalk: s.oneWalk, in: enter, without: without}
}

// New returns a source, after it has asked the kernel for its listeners. The
// error is errors.ErrUnsupported where sock_diag is missing: no netlink (a
// sandbox or seccomp filter), or no tcp_diag module.
//
// It listens on a loopback address for a moment, to see whether this kernel
// gives the sockets of both families in one walk of its table.
func New(ctx context.Context) (*Source, error) {
	s := &Source{}
	for _, err := range s.Sockets(ctx, socket.Listening) {
		if err != nil && !errors.Is(err, socket.ErrMalformed) && !errors.Is(err, socket.ErrInterrupted) && !errors.Is(err, socket.ErrIncomplete) {
			return nil, err
		}
	}
	s.oneWalk = givesBothFamilies(ctx)
	return s, nil
}

// OneWalk reports whether both families are read in one walk.
func (s *Source) OneWalk() bool { return s.oneWalk }

// Sockets implements [socket.Source].
func (s *Source) Sockets(ctx context.Context, want socket.StateSet) iter.Seq2[*socket.Socket, error] {
	return func(yield func(*socket.Socket, error) bool) {
		c, err := s.dial()
		if err != nil {
			yield(nil, err)
			return
		}
		defer c.close()
		for _, req := range s.requests(want) {
			if s.without != nil && s.without(req.protocol) {
				continue
			}
			stopped, err := c.sockets(ctx, req, yield)
			if stopped {
				return
			}
			if errors.Is(err, unix.ENOENT) && req.protocol == socket.UDPLite {
				continue // this kernel was built without UDP-Lite
			}
			if err != nil && !yield(nil, fmt.Errorf("sockdiag: dump %v: %w", req.protocol, unsupported(err))) {
				return
			}
			if err != nil && !errors.Is(err, errDumpIntr) {
				return // the socket may hold the rest of this dump
			}
		}
	}
}

// requests returns the dumps that give the wanted states. The attributes that
// cost are asked of LISTEN and UDP sockets only.
func (s *Source) requests(want socket.StateSet) []request {
	var requests []request
	tcpFamilies := []uint8{familyINET, familyINET6}
	if s.oneWalk {
		tcpFamilies = []uint8{familyUnspec}
	}
	const listen = socket.StateSet(1 << socket.Listen)
	for _, family := range tcpFamilies {
		if want&listen != 0 {
			requests = append(requests, request{protocol: socket.TCP, family: family, states: uint32(listen), memInfo: true})
		}
		if rest := want & socket.TCPStates &^ listen; rest != 0 {
			requests = append(requests, request{protocol: socket.TCP, family: family, states: uint32(rest), info: want&socket.WithInfo != 0})
		}
	}
	if states := udpMask(want); states != 0 {
		for _, protocol := range []socket.Protocol{socket.UDP, socket.UDPLite} {
			for _, family := range []uint8{familyINET, familyINET6} {
				requests = append(requests, request{protocol: protocol, family: family, states: states, memInfo: true})
			}
		}
	}
	return requests
}

// udpMask returns the kernel states of the wanted UDP states: UDP uses
// TCP_ESTABLISHED for a socket with a peer and TCP_CLOSE for one without.
func udpMask(want socket.StateSet) uint32 {
	var mask uint32
	if want.Has(socket.Connected) {
		mask |= 1 << socket.Established
	}
	if want.Has(socket.Unconnected) {
		mask |= 1 << socket.Close
	}
	return mask
}

// conn is a netlink socket that talks to the kernel only.
type conn struct {
	fd  int
	seq uint32
	buf []byte
	// names caches interface names by index, for one read.
	names map[uint32]string
}

// dial returns a connection to the namespace of the source.
func (s *Source) dial() (c *conn, err error) {
	if s.in == nil {
		return dial()
	}
	err = s.in(func() error {
		c, err = dial()
		return err
	})
	return c, err
}

func dial() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("sockdiag: open netlink socket: %w", unsupported(err))
	}
	c := &conn{fd: fd, buf: make([]byte, bufferSize)}
	if err := c.configure(); err != nil {
		c.close()
		return nil, fmt.Errorf("sockdiag: set up netlink socket: %w", err)
	}
	return c, nil
}

// configure connects the socket to port 0, the kernel, so that no other
// process can send to it, and lets no receive block for long.
func (c *conn) configure() error {
	if err := unix.Connect(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	timeout := unix.NsecToTimeval(pollInterval.Nanoseconds())
	return unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout)
}

func (c *conn) close() { _ = unix.Close(c.fd) }

// sockets sends one request and yields every row of the answer; stopped says
// that yield wanted no more.
func (c *conn) sockets(ctx context.Context, req request, yield func(*socket.Socket, error) bool) (stopped bool, err error) {
	r := &reader{protocol: req.protocol, withInfo: req.info}
	row := func(err error) bool {
		if err == nil && r.ifindex != 0 {
			r.sock.Interface = c.interfaceName(r.ifindex)
		}
		stopped = !yield(&r.sock, err)
		return !stopped
	}
	err = c.dump(ctx, req, func(d *dump, datagram []byte) (bool, error) { return r.parse(d, datagram, row) })
	return stopped, err
}

// asker is a request of a dump.
type asker interface {
	appendTo(b []byte, seq uint32) []byte
}

// dump sends one request and calls parse with every datagram of the answer, until it
// is done.
//
// The receive is a plain blocking read: through the runtime's poller it costs
// 10 to 20 % more, since the kernel makes the next datagram inside the call.
func (c *conn) dump(ctx context.Context, ask asker, parse func(*dump, []byte) (done bool, err error)) error {
	c.seq++
	if err := c.write(ctx, ask.appendTo(nil, c.seq)); err != nil {
		return err
	}
	d := &dump{seq: c.seq}
	for {
		n, err := c.read(ctx)
		if err != nil {
			return err
		}
		if done, err := parse(d, c.buf[:n]); done {
			return err
		}
	}
}

func (c *conn) write(ctx context.Context, b []byte) error {
	for {
		_, err := unix.Write(c.fd, b)
		if again, err := retry(ctx, err); !again {
			return err
		}
	}
}

func (c *conn) read(ctx context.Context) (int, error) {
	for {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		n, err := unix.Read(c.fd, c.buf)
		if again, err := retry(ctx, err); !again {
			return n, err
		}
	}
}

// retry reports whether a system call that returned err is to be made again.
// ENOBUFS means that the kernel lost a datagram because of a lack of memory: what was
// read is not whole.
func retry(ctx context.Context, err error) (bool, error) {
	switch {
	case err == nil:
		return false, nil
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return ctx.Err() == nil, ctx.Err()
	case errors.Is(err, unix.ENOBUFS):
		return false, fmt.Errorf("%w: %w", socket.ErrIncomplete, err)
	default:
		return false, err
	}
}

// interfaceName returns the name of an interface, or if<index>, as ip(8)
// writes it, for one that is gone.
func (c *conn) interfaceName(index uint32) string {
	if name, ok := c.names[index]; ok {
		return name
	}
	name := c.nameOf(index)
	if c.names == nil {
		c.names = map[uint32]string{}
	}
	c.names[index] = name
	return name
}

// nameOf asks for the name by netdevice(7) in the namespace of the socket, whatever the
// thread's is, and takes no lock that a namespace which is torn down may hold.
func (c *conn) nameOf(index uint32) string {
	if request, err := unix.NewIfreq("lo"); err == nil { // the kernel replaces the name
		request.SetUint32(index)
		if unix.IoctlIfreq(c.fd, unix.SIOCGIFNAME, request) == nil {
			return request.Name()
		}
	}
	return socket.IndexName(index)
}

// DeviceName returns the name of a device in the namespace of the thread, or
// [socket.IndexName] for one that is gone.
func DeviceName(index uint32) string {
	if found, err := net.InterfaceByIndex(int(index)); err == nil {
		return found.Name
	}
	return socket.IndexName(index)
}

// unsupported marks the errors that mean "not available here".
func unsupported(err error) error {
	for _, target := range []syscall.Errno{unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.ENOSYS, unix.ENOENT, unix.EPERM, unix.EACCES} {
		if errors.Is(err, target) {
			return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
	}
	return err
}
