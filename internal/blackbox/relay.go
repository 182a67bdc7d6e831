package blackbox

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// relay makes the connections of one http probe. The prober takes no dialler,
// and the one it has is of no use to us: since Go 1.23 net/http goes on dialling
// after the request is over, so that each probe of a filtered port would keep a
// socket and three goroutines for two minutes (tcp_syn_retries), and nothing can
// come between its look-up of a redirect's name and the connecting. A proxy is
// what the prober does take: so this is a SOCKS5 server (RFC 1928) on loopback,
// for the time of the probe and for who knows its password (RFC 1929).
type relay struct {
	watch    *watch
	allow    func(netip.AddrPort) error
	listener net.Listener
	closed   func() // the listener is no service of this host's
	password string
	cancel   context.CancelFunc
	serving  sync.WaitGroup
}

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 4

func newRelay(ctx context.Context, w *watch, request probe.Request) (*relay, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("blackbox: listen on loopback for the prober: %w", err)
	}
	r := &relay{watch: w, allow: request.Allow, listener: l, closed: request.Own.Add(l), password: rand.Text()}
	// The connections stay until the prober is done: to it, one that ends at the
	// deadline could be the end of an answer.
	var life context.Context
	life, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.serving.Go(func() { r.accept(ctx, life) })
	return r, nil
}

// proxy returns where the relay is, for net/http.
func (r *relay) proxy() *url.URL {
	return &url.URL{Scheme: "socks5", User: url.UserPassword("probe", r.password), Host: r.listener.Addr().String()}
}

// close ends all connections, and returns when nothing of the relay is left.
func (r *relay) close() {
	r.cancel()
	_ = r.listener.Close()
	r.closed()
	r.serving.Wait()
}

func (r *relay) accept(ctx, life context.Context) {
	for range 2 * maxConnections { // strangers may come in too
		c, err := r.listener.Accept()
		if err != nil {
			r.fail(err)
			return
		}
		r.serving.Go(func() { r.serve(ctx, life, c.(*net.TCPConn)) })
	}
}

// fail notes that the relay cannot go on, as without descriptors, and ends what
// waits for it.
func (r *relay) fail(err error) {
	if errors.Is(err, net.ErrClosed) {
		return
	}
	_ = r.listener.Close()
	r.watch.mu.Lock()
	defer r.watch.mu.Unlock()
	r.watch.relayErr = err
}

// serve makes the connection that one of net/http's asks for, while ctx lasts,
// and passes bytes between them until one ends or life does.
func (r *relay) serve(ctx, life context.Context, near *net.TCPConn) {
	stop := context.AfterFunc(life, func() { _ = near.Close() })
	defer stop()
	defer func() { _ = near.Close() }()
	to, err := greet(near, r.password)
	if err != nil {
		return // not the prober, or one that went away
	}
	far, err := r.connect(ctx, to)
	if err != nil {
		_, _ = near.Write(reply(socksFailure))
		return
	}
	stopFar := context.AfterFunc(life, func() { _ = far.Close() })
	defer stopFar()
	defer func() { _ = far.Close() }()
	if _, err := near.Write(reply(socksGranted)); err != nil {
		return
	}
	r.watch.received(join(near, far))
}

// join passes bytes both ways, and returns how many the target sent. A reset of
// the target resets the near end too.
func join(near, far *net.TCPConn) int64 {
	var up sync.WaitGroup
	up.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.CloseWrite()
	})
	n, err := io.Copy(near, far)
	if errors.Is(err, syscall.ECONNRESET) {
		_ = near.SetLinger(0)
		_ = near.Close()
	} else {
		_ = near.CloseWrite()
	}
	up.Wait()
	return n
}

// connect connects to an address or a name, to what is allowed only, and tells
// the watch how it went.
func (r *relay) connect(ctx context.Context, to string) (*net.TCPConn, error) {
	start := time.Now()
	conn, err := r.tryEach(ctx, to)
	r.watch.mu.Lock()
	defer r.watch.mu.Unlock()
	r.watch.connectErr, r.watch.connectTime = err, time.Since(start)
	return conn, err
}

func (r *relay) tryEach(ctx context.Context, to string) (*net.TCPConn, error) {
	host, service, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		r.watch.enter(probe.PhaseResolve)
	}
	addrs, err := probe.Resolution{}.LookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	r.watch.enter(probe.PhaseConnect)
	addrs = addrs[:min(len(addrs), maxAddresses)]
	var conn *net.TCPConn
	for i, addr := range addrs {
		conn, err = r.try(ctx, netip.AddrPortFrom(addr, uint16(port)), len(addrs)-i)
		if err == nil || r.watch.isDenied() {
			break
		}
	}
	return conn, err
}

// try connects to an address in its share of the time that is left.
func (r *relay) try(ctx context.Context, to netip.AddrPort, shares int) (*net.TCPConn, error) {
	if deadline, ok := ctx.Deadline(); ok && shares > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	conn, err := probe.Connect(ctx, to, r.allow)
	r.watch.tried(to, err)
	return conn, err
}

func (w *watch) tried(to netip.AddrPort, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.peer = to
	if failed, ok := errors.AsType[*probe.ConnectError](err); ok && failed.Outcome == probe.Denied {
		w.denied = failed.Err
	}
}

func (w *watch) isDenied() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.denied != nil
}

// Values of SOCKS5: RFC 1928, sections 3 to 6, and RFC 1929.
const (
	socksVersion  = 5
	socksPassword = 2 // the method
	socksConnect  = 1
	socksIPv4     = 1
	socksName     = 3
	socksIPv6     = 4
	socksGranted  = 0
	socksFailure  = 1
)

func reply(code byte) []byte {
	return []byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0}
}

var errSOCKS = errors.New("blackbox: not what net/http says over SOCKS5")

// greet has a client show the password, and returns where it wants to go.
func greet(c io.ReadWriter, password string) (string, error) {
	if _, err := readCounted(c, socksVersion); err != nil { // its methods
		return "", err
	}
	if _, err := c.Write([]byte{socksVersion, socksPassword}); err != nil {
		return "", err
	}
	if _, err := readCounted(c, 1); err != nil { // its user name
		return "", err
	}
	shown, err := readText(c)
	if err != nil {
		return "", err
	}
	if shown != password {
		return "", errSOCKS
	}
	if _, err := c.Write([]byte{1, 0}); err != nil {
		return "", err
	}
	return readDestination(c)
}

// readCounted reads a byte that must be so, a length and as many bytes.
func readCounted(c io.Reader, first byte) (string, error) {
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return "", err
	}
	if b[0] != first {
		return "", errSOCKS
	}
	return readText(c)
}

func readText(c io.Reader) (string, error) {
	var b [256]byte
	if _, err := io.ReadFull(c, b[:1]); err != nil {
		return "", err
	}
	text := b[1 : 1+int(b[0])]
	_, err := io.ReadFull(c, text)
	return string(text), err
}

func readDestination(c io.Reader) (string, error) {
	var b [4]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return "", err
	}
	if b[0] != socksVersion || b[1] != socksConnect {
		return "", errSOCKS
	}
	host, err := readHost(c, b[3])
	if err != nil {
		return "", err
	}
	var port [2]byte
	if _, err := io.ReadFull(c, port[:]); err != nil {
		return "", err
	}
	return net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(port[:])))), nil
}

func readHost(c io.Reader, kind byte) (string, error) {
	var b [16]byte
	addr := b[:4]
	switch kind {
	case socksName:
		return readText(c)
	case socksIPv6:
		addr = b[:16]
	case socksIPv4:
	default:
		return "", errSOCKS
	}
	if _, err := io.ReadFull(c, addr); err != nil {
		return "", err
	}
	a, _ := netip.AddrFromSlice(addr)
	return a.String(), nil
}
