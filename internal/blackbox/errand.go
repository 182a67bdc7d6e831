package blackbox

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// stream is a connection whose two directions end apart: TCP, or TLS over it.
type stream interface {
	net.Conn
	CloseWrite() error
}

// errand is a connection that net/http has the relay make.
type errand struct {
	relay *relay
	route *route
	near  *net.TCPConn
	from  io.Reader // what near says
	to    string    // host:port
	// token says that it goes to a token server, which is the administrator's
	// choice: it is held to nothing, and the watch hears nothing of it.
	token bool
	// scheme is of the URL that is asked for. It is known where it matters.
	scheme string
	// request is what goes to an HTTP proxy whole, instead of what near says.
	request *http.Request
}

// run connects while ctx lasts, and passes bytes until one end or life is over.
func (e *errand) run(ctx, life context.Context, token bool) {
	if e.token = token; token {
		e.relay.watch.wantToken()
	}
	direct := e.route.isDirect(e.to)
	if !direct { // the proxy depends on what will be said
		if _, err := e.near.Write(reply(socksGranted)); err != nil || !e.learnScheme() {
			return
		}
	}
	far, err := e.connect(ctx)
	if err != nil {
		if direct {
			_, _ = e.near.Write(reply(socksFailure))
		}
		return
	}
	stop := context.AfterFunc(life, func() { _ = far.Close() })
	defer stop()
	defer func() { _ = far.Close() }()
	if direct {
		if _, err := e.near.Write(reply(socksGranted)); err != nil {
			return
		}
	}
	if n := e.join(far); !token {
		e.relay.watch.received(n)
	}
}

// recordHandshake is the type of the TLS record that a client begins with: RFC
// 8446, section 5.1. It begins no HTTP method.
const recordHandshake = 22

// learnScheme looks at the first byte that net/http says. SOCKS does not tell.
func (e *errand) learnScheme() bool {
	r := bufio.NewReader(e.near)
	first, err := r.Peek(1)
	if err != nil {
		return false
	}
	e.from, e.scheme = r, "http"
	if first[0] == recordHandshake {
		e.scheme = "https"
	}
	return true
}

// connect makes the far connection, and tells the watch how it went.
func (e *errand) connect(ctx context.Context) (stream, error) {
	w := e.relay.watch
	if !e.token {
		w.enter(probe.PhaseConnect)
	}
	start := time.Now()
	far, err := e.dial(ctx)
	switch {
	case e.token:
	case e.scheme == "":
		w.connected(time.Since(start), err)
	default:
		w.connectedLate(e.scheme, time.Since(start), err)
	}
	return far, err
}

func (e *errand) dial(ctx context.Context) (stream, error) {
	proxy, err := e.route.proxyOf(e.scheme, e.to)
	switch {
	case err != nil:
		return nil, err
	case proxy != nil:
		return e.dialThrough(ctx, proxy)
	case e.token:
		return (&dialler{watch: &watch{}}).dial(ctx, e.to)
	default:
		return (&dialler{watch: e.relay.watch, request: &e.relay.request}).dial(ctx, e.to)
	}
}

// join passes bytes both ways, and returns how many the target sent. A reset of
// the target resets the near end too.
func (e *errand) join(far stream) int64 {
	var up sync.WaitGroup
	up.Go(func() {
		if e.request != nil {
			_ = e.request.WriteProxy(far)
		}
		_, _ = pass(far, e.from)
		_ = far.CloseWrite()
	})
	n, err := pass(e.near, far)
	if errors.Is(err, syscall.ECONNRESET) {
		_ = e.near.SetLinger(0)
		_ = e.near.Close()
	} else {
		_ = e.near.CloseWrite()
	}
	up.Wait()
	return n
}

// pass copies in memory. Between two sockets package net would splice, through a
// pipe each way: four more descriptors, which it keeps for later.
func pass(to io.Writer, from io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{to}, struct{ io.Reader }{from})
}

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 4

// dialler connects to what is allowed only, and tells a watch of each address.
type dialler struct {
	watch   *watch
	request *probe.Request // nil where everything is allowed
}

func (d *dialler) allow() func(netip.AddrPort) error {
	if d.request == nil {
		return nil
	}
	return d.request.Allow
}

// mayResolve asks whether a host may be probed, before it is resolved.
func (d *dialler) mayResolve(host string) error {
	if d.request == nil {
		return nil
	}
	return held(d.watch, d.request.MayResolve(host))
}

// held lets the watch hear of a denial.
func held(w *watch, err error) error {
	if err == nil {
		return nil
	}
	err = &probe.ConnectError{Outcome: probe.Denied, Origin: probe.OriginLocal, Err: err}
	w.tried(netip.AddrPort{}, err)
	return err
}

// dial connects to an address or a name.
func (d *dialler) dial(ctx context.Context, to string) (*net.TCPConn, error) {
	host, service, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil {
		d.watch.enter(probe.PhaseResolve)
	}
	if err := d.mayResolve(host); err != nil {
		return nil, err
	}
	addrs, err := probe.Resolution{}.LookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	d.watch.enter(probe.PhaseConnect)
	addrs = addrs[:min(len(addrs), maxAddresses)]
	var conn *net.TCPConn
	for i, addr := range addrs {
		conn, err = d.try(ctx, netip.AddrPortFrom(addr, uint16(port)), len(addrs)-i)
		if err == nil || d.watch.isDenied() {
			break
		}
	}
	return conn, err
}

// try connects to an address in its share of the time that is left.
func (d *dialler) try(ctx context.Context, to netip.AddrPort, shares int) (*net.TCPConn, error) {
	if deadline, ok := ctx.Deadline(); ok && shares > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	conn, err := probe.Connect(ctx, to, d.allow())
	d.watch.tried(to, err)
	return conn, err
}

// hostPort returns where a URL leads, with the port of its scheme if it has none.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		switch u.Scheme {
		case "https":
			port = "443"
		case "socks5", "socks5h":
			port = "1080"
		default:
			port = "80"
		}
	}
	return net.JoinHostPort(u.Hostname(), port)
}
