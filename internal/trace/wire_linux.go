package trace

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// wire sends packets from a socket each and waits for their answers, all on one thread:
// a socket is of the network namespace of the thread that makes it.
type wire struct {
	source  netip.Addr
	device  string
	ctx     context.Context // has the network namespace of the sockets
	allow   func(netip.AddrPort) error
	wake    int // an eventfd(2): ctx has ended
	flights []flight
	packets int
	mtu     int // what the kernel holds for the path to the target; 0 if unknown
}

// flight is a packet whose answer is to come.
type flight struct {
	fd        int
	of        *question
	sent, end time.Time
}

func newWire(ctx context.Context, o *Options) (*wire, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, os.NewSyscallError("eventfd", err)
	}
	return &wire{ctx: ctx, source: o.Source, device: o.Device, allow: o.Allow, wake: wake}, nil
}

func (w *wire) close() {
	w.land(func(*flight) bool { return true })
	_ = unix.Close(w.wake)
}

// land closes the sockets of flights that are over.
func (w *wire) land(over func(*flight) bool) {
	kept := w.flights[:0]
	for i := range w.flights {
		if over(&w.flights[i]) {
			_ = unix.Close(w.flights[i].fd)
			continue
		}
		kept = append(kept, w.flights[i])
	}
	w.flights = kept
}

// exchange asks questions until each is answered or its time is up. After each answer,
// grow may add and withdraw some. Its error is a shortage of this host, or that of ctx.
func (w *wire) exchange(ctx context.Context, questions []*question, grow func([]*question) []*question) error {
	stop := context.AfterFunc(ctx, func() {
		_, _ = unix.Write(w.wake, binary.NativeEndian.AppendUint64(nil, 1))
	})
	defer stop()
	defer w.land(func(*flight) bool { return true })
	for {
		questions = grow(questions)
		if err := w.sendDue(questions); err != nil {
			return err
		}
		now := time.Now()
		w.wait(time.Time{}) // an answer that came in time counts, however late this thread is
		questions = grow(questions)
		w.land(func(f *flight) bool { return !f.of.isOpen() || !f.end.After(now) })
		next, waiting := w.next(questions)
		if !waiting {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		w.wait(next)
	}
}

// next returns when there is something to do again; false if all is done.
func (w *wire) next(questions []*question) (next time.Time, waiting bool) {
	sooner := func(t time.Time) {
		if !waiting || t.Before(next) {
			next, waiting = t, true
		}
	}
	for _, q := range questions {
		if t, ok := q.due(); ok {
			sooner(t)
		}
	}
	for i := range w.flights {
		sooner(w.flights[i].end)
	}
	return next, waiting
}

// sendDue sends what is due. A question whose packet cannot be sent is answered so.
func (w *wire) sendDue(questions []*question) error {
	for _, q := range questions {
		due, ok := q.due()
		if !ok || due.After(time.Now()) {
			continue
		}
		if w.packets >= MaxPackets {
			q.tries = q.tries[:q.sent] // no more of it
			continue
		}
		if err := w.send(q); err != nil {
			return err
		}
		w.wait(time.Time{}) // what was answered meanwhile, so that its round trip does not count the sending of others
	}
	return nil
}

// send sends the packet of a question. The error is a shortage of this host.
func (w *wire) send(q *question) error {
	if err := dial.Allowed(w.allow, q.to.String()); err != nil {
		q.withdrawn = true
		return nil
	}
	fd, err := w.open(q)
	if errno, ok := errors.AsType[syscall.Errno](err); ok && probe.IsShortage(errno) {
		return err
	}
	if err != nil {
		q.answer = &answer{err: err} // no right to ping, or the source is not of this host
		return nil
	}
	now := time.Now()
	if q.sent++; q.sent == 1 {
		q.began = now
	}
	f := flight{fd: fd, of: q, sent: now, end: now.Add(cmp.Or(q.life, usualLife))}
	w.flights = append(w.flights, f)
	if err := f.launch(); err != nil {
		q.answer = f.failed(err)
	}
	if q.answer == nil || q.answer.sent {
		w.packets++
	}
	if w.mtu == 0 {
		w.mtu = min(f.mtu(), maxPacket)
	}
	return nil
}

// maxPacket is the largest packet of IP.
const maxPacket = 65535

// open makes the socket of a question. It is connected, so that it gets the answers of
// its target only.
func (w *wire) open(q *question) (fd int, err error) {
	v6 := q.to.Addr().Is6()
	family, kind, protocol := unix.AF_INET, unix.SOCK_DGRAM, 0
	if v6 {
		family = unix.AF_INET6
	}
	switch {
	case q.method == syn:
		kind = unix.SOCK_STREAM
	case q.method == echo && v6:
		protocol = unix.IPPROTO_ICMPV6
	case q.method == echo:
		protocol = unix.IPPROTO_ICMP
	}
	if fd, err = dial.Socket(w.ctx, family, kind, protocol); err != nil {
		return -1, err
	}
	if err = w.prepare(uintptr(fd), q); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// prepare sets the options of the socket of a question and binds it.
func (w *wire) prepare(fd uintptr, q *question) error {
	v6 := q.to.Addr().Is6()
	err := errors.Join(dial.KeepErrors(fd, v6), dial.BindToDevice(probe.NetnsOf(w.ctx), fd, w.device, q.to.Addr()))
	if q.ttl > 0 {
		err = errors.Join(err, dial.SetTTL(fd, v6, q.ttl))
	}
	if q.method == syn {
		// A connection ends with an RST, and leaves no socket in TIME_WAIT.
		err = errors.Join(err, unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	} else {
		err = errors.Join(err, dial.ForbidFragments(fd, v6))
	}
	if err != nil || !w.source.IsValid() {
		return err
	}
	if q.method != echo {
		err = dial.BindLate(fd)
	}
	return errors.Join(err, os.NewSyscallError("bind", unix.Bind(int(fd), dial.SocketAddress(netip.AddrPortFrom(w.source, 0)))))
}

// launch sends the packet. The error is that of the system call.
func (f *flight) launch() error {
	q := f.of
	err := unix.Connect(f.fd, dial.SocketAddress(q.to))
	if q.method == syn {
		if errors.Is(err, unix.EINPROGRESS) || err == nil {
			return nil
		}
		return os.NewSyscallError("connect", err)
	}
	if err != nil {
		return os.NewSyscallError("connect", err)
	}
	_, err = unix.Write(f.fd, q.message())
	return os.NewSyscallError("write", err)
}

// message is what a datagram or an echo request has behind its header of IP, without
// the header of UDP.
func (q *question) message() []byte {
	data := q.data
	if room := q.size - ipHeader(q.to.Addr()) - transportHeader; room > len(data) {
		data = make([]byte, room)
		copy(data, q.data)
	}
	if q.method == datagram {
		return data
	}
	m := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{Seq: 1, Data: data}} // the id is the kernel's
	if q.to.Addr().Is6() {
		m.Type = ipv6.ICMPTypeEchoRequest
	}
	packet, _ := m.Marshal(nil) // it fails for other bodies only
	return packet
}

// transportHeader is the length of the header of UDP, and of an echo request.
const transportHeader = 8

// wait waits for answers until a time, or until ctx ends. It does not wait for the zero
// time.
func (w *wire) wait(until time.Time) {
	polled := []unix.PollFd{{Fd: int32(w.wake), Events: unix.POLLIN}}
	for i := range w.flights {
		events := int16(unix.POLLIN)
		if w.flights[i].of.method == syn {
			events = unix.POLLOUT
		}
		polled = append(polled, unix.PollFd{Fd: int32(w.flights[i].fd), Events: events})
	}
	timeout := unix.NsecToTimespec(max(time.Until(until), 0).Nanoseconds())
	if n, err := unix.Ppoll(polled, &timeout, nil); n <= 0 || err != nil {
		return // the time is up, or a signal came
	}
	now := time.Now()
	for i := range w.flights {
		f := &w.flights[i]
		if polled[i+1].Revents == 0 || !f.of.isOpen() {
			continue
		}
		if a := f.receive(); a != nil {
			a.roundTrip = now.Sub(f.sent)
			f.of.answer = a
		}
	}
}

// receive returns the answer that a socket has; nil if it is none.
func (f *flight) receive() *answer {
	errno, err := unix.GetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		return nil
	case errno != 0:
		return f.failed(os.NewSyscallError(f.of.method.call(), syscall.Errno(errno)))
	case f.of.method == syn:
		handshake, _ := dial.ReadHandshake(uintptr(f.fd))
		return &answer{sent: true, segment: handshake.MSS}
	}
	if _, err := unix.Read(f.fd, make([]byte, 1)); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			return nil
		}
		return f.failed(os.NewSyscallError("read", err))
	}
	return &answer{sent: true}
}

func (m method) call() string {
	if m == syn {
		return "connect"
	}
	return "read"
}

// failed returns the answer that an error of the socket is.
func (f *flight) failed(err error) *answer {
	a := &answer{err: err, sent: f.of.method != syn, mtu: f.mtu()}
	a.icmp, _ = dial.ReadError(uintptr(f.fd))
	if f.of.method == syn {
		handshake, known := dial.ReadHandshake(uintptr(f.fd))
		a.sent = !known || handshake.Sent
	} else if !a.icmp.Offender.IsValid() {
		errno, _ := errors.AsType[syscall.Errno](err)
		a.sent = errno == unix.ECONNREFUSED
	}
	return a
}

func (f *flight) mtu() int { return dial.PathMTU(uintptr(f.fd), f.of.to.Addr().Is6()) }
