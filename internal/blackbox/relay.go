package blackbox

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	pconfig "github.com/prometheus/common/config"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// relay makes the connections of one http probe. The prober takes no dialler,
// and the one it has is of no use to us: since Go 1.23 net/http goes on dialling
// after the request is over, so that each probe of a filtered port would keep a
// socket and three goroutines for two minutes (tcp_syn_retries), and nothing can
// come between its look-up of a redirect's name and the connecting. A proxy is
// what the prober does take: so this is a SOCKS5 server (RFC 1928) on loopback,
// for the time of the probe and for who knows its password (RFC 1929). It is in
// the place of every proxy that the module has, and goes to those itself.
type relay struct {
	watch    *watch
	request  probe.Request
	listener net.Listener
	closed   func() // the listener is no service of this host's
	password string
	routes   map[string]*route // by user name
	cancel   context.CancelFunc
	serving  sync.WaitGroup
	lobby    lobby
	known    atomic.Int32 // connections that showed the password
}

// The user names, which tell what a connection is for.
const (
	forTarget = "probe"
	forToken  = "token" // of the server that oauth2 has tokens from
)

const (
	// maxKnown bounds what net/http asks for: the connections to the target, and
	// as many to a token server.
	maxKnown = 2 * maxConnections
	// maxStrangers is how many connections may be about to show the password.
	maxStrangers = 64
	// greeting is how long a connection has for that. net/http takes no time.
	greeting = 2 * time.Second
)

// newRelay starts a relay for a module, whose clients are made to come to it.
func newRelay(ctx context.Context, w *watch, request probe.Request, m *Module) (*relay, error) {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // of an MPTCP listener the table shows a socket with another cookie
	l, err := config.Listen(context.WithoutCancel(ctx), "tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("blackbox: listen on loopback for the prober: %w", err)
	}
	r := &relay{watch: w, request: request, listener: l, closed: request.Own.Add(l), password: rand.Text()}
	w.relayed = true
	r.attract(m)
	// The connections stay until the prober is done: to it, one that ends at the
	// deadline could be the end of an answer.
	var life context.Context
	life, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	r.serving.Go(func() { r.accept(ctx, life) })
	return r, nil
}

// attract puts the relay in the place of the proxies of a module.
func (r *relay) attract(m *Module) {
	c := &m.HTTP.HTTPClientConfig
	r.routes = map[string]*route{forTarget: newRoute(c.ProxyConfig, c.TLSConfig)}
	c.ProxyConfig = r.proxy(forTarget)
	if c.OAuth2 != nil {
		o := *c.OAuth2 // the module's own is that of other probes too
		r.routes[forToken] = newRoute(o.ProxyConfig, o.TLSConfig)
		o.ProxyConfig = r.proxy(forToken)
		c.OAuth2 = &o
	}
}

// proxy returns where the relay is, for a client of net/http.
func (r *relay) proxy(user string) pconfig.ProxyConfig {
	u := &url.URL{Scheme: "socks5", User: url.UserPassword(user, r.password), Host: r.listener.Addr().String()}
	return pconfig.ProxyConfig{ProxyURL: pconfig.URL{URL: u}}
}

// close ends all connections, and returns when nothing of the relay is left.
func (r *relay) close() {
	r.cancel()
	_ = r.listener.Close()
	r.closed()
	r.serving.Wait()
}

func (r *relay) accept(ctx, life context.Context) {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			r.fail(err)
			return
		}
		r.lobby.enter(c)
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
	_ = near.SetDeadline(time.Now().Add(greeting))
	user, to, err := greet(near, r.password)
	r.lobby.leave(near)
	if err != nil || r.routes[user] == nil || r.known.Add(1) > maxKnown {
		return // not the prober, or one that went away
	}
	_ = near.SetDeadline(time.Time{})
	e := &errand{relay: r, route: r.routes[user], near: near, from: near, to: to}
	if user == forToken { // nothing but this ends it: it is asked for without a context
		life = ctx
		stopNear := context.AfterFunc(life, func() { _ = near.Close() })
		defer stopNear()
	}
	e.run(ctx, life, user == forToken)
}

// lobby is where connections are that have not shown the password. Every process
// of this host can make some, and reads in /proc/net/tcp where to. The first
// that came goes when there are too many: net/http shows the password at once.
type lobby struct {
	mu      sync.Mutex
	waiting []net.Conn // in the order they came
}

func (l *lobby) enter(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.waiting) == maxStrangers {
		_ = l.waiting[0].Close()
		l.waiting = l.waiting[1:]
	}
	l.waiting = append(l.waiting, c)
}

func (l *lobby) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w net.Conn) bool { return w == c })
}
