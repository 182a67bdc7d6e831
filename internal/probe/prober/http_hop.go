package prober

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// exchange is one probe: a request and those that redirects make of it.
type exchange struct {
	*HTTP
	request   probe.Request
	ctx       context.Context // of the probe
	life      context.Context // of its requests and dials, which end before
	cancel    context.CancelFunc
	target    *url.URL
	resolved  []netip.Addr // of the target: one; empty where a proxy looks it up
	addresses []netip.Addr // all that its name has
	tls       *tls.Config
	client    *http.Client
	named     http.RoundTripper // adds credentials
	found     probe.Samples
	duration  *probe.Metric // takes the time of each phase
	tunnels   bool          // proxies are asked for connections only

	redirects int
	left      bool // a redirect led to a host that the configuration does not name

	dials sync.WaitGroup
	ends  []func()

	mu          sync.Mutex // guards the rest, and what is in hops
	over        bool       // nothing may be dialled any more
	hops        []*hop
	connections int
	tooMany     bool
	wantsToken  bool // a token server was dialled, and the target not yet
}

// hop is one request of an exchange, with the connections that it takes.
type hop struct {
	x     *exchange
	url   *url.URL
	proxy *url.URL // nil if there is none

	phase        probe.Phase
	peer         netip.AddrPort // that was tried last, if it is the URL's own
	failed       *probe.Result  // why there is no connection
	answered     bool           // a byte of an answer came
	isTLS        bool
	certificates []*x509.Certificate // that the server sent
	wantsOurs    bool                // the server asked for a certificate, and there is none

	resolve, connect, handshake time.Duration
	gotConn, firstByte, end     time.Time
}

var errOver = errors.New("the probe is over")

// onEnd has something done when the probe is over.
func (x *exchange) onEnd(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ends = append(x.ends, f)
}

// enter begins a dial, unless the probe is over: net/http dials in a goroutine
// that no request waits for.
func (x *exchange) enter() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return errOver
	}
	x.dials.Add(1)
	return nil
}

// wait ends what still dials, now that an answer or its lack is known.
func (x *exchange) wait() {
	x.mu.Lock()
	x.over = true
	x.mu.Unlock()
	x.cancel()
	x.dials.Wait()
}

// end leaves nothing behind.
func (x *exchange) end() {
	x.wait()
	for _, f := range x.ends {
		f()
	}
}

// hop returns the current one, or nil before the first. The caller holds mu.
func (x *exchange) hop() *hop {
	if len(x.hops) == 0 {
		return nil
	}
	return x.hops[len(x.hops)-1]
}

// chooser sends requests to the hosts that the configuration names with
// credentials, and others without.
type chooser struct{ x *exchange }

// RoundTrip implements [http.RoundTripper].
func (c chooser) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.x.left {
		return connector(c).RoundTrip(r)
	}
	if r.Response != nil { // by which prometheus/common knows a redirect, and judges for itself
		r = r.WithContext(r.Context())
		r.Response = nil
	}
	return c.x.named.RoundTrip(r)
}

// connector makes a hop of each request.
type connector struct{ x *exchange }

// RoundTrip implements [http.RoundTripper].
func (c connector) RoundTrip(r *http.Request) (*http.Response, error) {
	h := &hop{x: c.x, url: r.URL, phase: probe.PhaseConnect}
	c.x.mu.Lock()
	c.x.hops, c.x.wantsToken = append(c.x.hops, h), false
	c.x.mu.Unlock()
	if log := c.x.request.Log; log != nil {
		log.Debug("request", "method", r.Method, "url", withoutSecrets(r.URL))
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		err := fmt.Errorf("the redirect leads to the scheme %q", r.URL.Scheme)
		return nil, h.fail(probe.Result{Outcome: probe.Protocol, Phase: probe.PhaseExchange, Origin: probe.OriginTarget, Err: err})
	}
	if err := c.x.request.Resolvable(r.URL.Hostname()); err != nil {
		return nil, h.fail(probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Err: err})
	}
	if c.x.HTTP3 {
		return h.overQUIC(r)
	}
	if err := h.chooseProxy(); err != nil {
		return nil, h.fail(probe.Result{Outcome: probe.LocalError, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Err: err})
	}
	sent, err := h.forProxy(r)
	if err != nil {
		return nil, err
	}
	response, err := h.transport().RoundTrip(sent)
	if err != nil {
		return nil, h.judgeHeader(err)
	}
	response.Request = r
	return response, nil
}

// MaxHeader is what is read of the header of an answer, in bytes.
// A line of two bytes takes more than a hundred of memory: 1 MiB of them takes 27.
const MaxHeader = 64 << 10

var errLargeHeader = fmt.Errorf("the header of the answer is larger than %d kB", MaxHeader>>10)

// judgeHeader names what is wrong with the header of an answer. The errors for that
// have no type: net/http and quic-go export none.
func (h *hop) judgeHeader(err error) error {
	text := err.Error()
	about := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case slices.ContainsFunc([]string{"headers exceeded", "header list larger", "HEADERS frame too large", "headers too large"}, about):
		err = errLargeHeader
	case about("connection error: PROTOCOL_ERROR"): // of HTTP/2, found here: a server's own comes with GOAWAY
	default:
		return err
	}
	return h.fail(probe.Result{Outcome: probe.Protocol, Phase: probe.PhaseExchange, Origin: probe.OriginTarget, Err: err})
}

// transport returns what speaks HTTP on the connections of this hop.
func (h *hop) transport() *http.Transport {
	t := &http.Transport{
		DialContext: h.dial, DialTLSContext: h.dialTLS,
		DisableKeepAlives: true, DisableCompression: true,
		MaxResponseHeaderBytes: MaxHeader,
	}
	if h.x.HTTP2 && h.url.Scheme == "https" {
		t.Protocols = &http.Protocols{}
		t.Protocols.SetHTTP1(true)
		t.Protocols.SetHTTP2(true)
	}
	return t
}

// traced returns the context of requests, which notes when things happen.
func (x *exchange) traced() context.Context {
	note := func(f func(*hop)) {
		x.mu.Lock()
		defer x.mu.Unlock()
		f(x.hop())
	}
	return httptrace.WithClientTrace(x.life, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			note(func(h *hop) { h.phase, h.gotConn = probe.PhaseExchange, time.Now() })
		},
		GotFirstResponseByte: func() {
			note(func(h *hop) { h.answered, h.firstByte = true, time.Now() })
		},
	})
}

// begin begins a connection of the hop, of which there may be many: a server may
// end each before it answers.
func (h *hop) begin() error {
	x := h.x
	if err := x.enter(); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.connections++; x.connections > maxConnections {
		x.tooMany = true
		x.dials.Done()
		return errTooMany
	}
	h.phase, h.failed, h.answered, h.isTLS = probe.PhaseConnect, nil, false, false
	return nil
}

func (h *hop) enter(phase probe.Phase) {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	h.phase = phase
}

// fail notes why there is no connection, and returns the error.
func (h *hop) fail(r probe.Result) error {
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	h.failed = &r
	return r.Err
}

// dial connects for http.
func (h *hop) dial(context.Context, string, string) (net.Conn, error) {
	if err := h.begin(); err != nil {
		return nil, err
	}
	defer h.x.dials.Done()
	conn, err := h.reach()
	if err != nil {
		return nil, err
	}
	return &heard{conn, h}, nil
}

// dialTLS connects for https.
func (h *hop) dialTLS(context.Context, string, string) (net.Conn, error) {
	if err := h.begin(); err != nil {
		return nil, err
	}
	defer h.x.dials.Done()
	conn, err := h.reach()
	if err != nil {
		return nil, err
	}
	return h.secure(conn)
}

// reach connects to the host of the URL: directly, or through the proxy.
func (h *hop) reach() (net.Conn, error) {
	start := time.Now()
	var conn net.Conn
	var failed *probe.Result
	if h.proxy != nil {
		conn, failed = h.throughProxy()
	} else {
		conn, failed = h.direct(hostPort(h.url), h.knownAddresses(), h.x.request.Allow)
	}
	h.x.mu.Lock()
	h.connect += time.Since(start) - h.resolve
	h.x.mu.Unlock()
	if failed != nil {
		return nil, h.fail(*failed)
	}
	return conn, nil
}

// knownAddresses returns the address of the target, for a URL of its host.
func (h *hop) knownAddresses() []netip.Addr {
	if h.url.Hostname() == h.x.target.Hostname() {
		return h.x.resolved
	}
	return nil
}

// maxAddresses is how many addresses of a name are tried.
const maxAddresses = 4

// direct connects to host:port, by the addresses of the host if they are known.
func (h *hop) direct(to string, known []netip.Addr, allow func(netip.AddrPort) error) (*net.TCPConn, *probe.Result) {
	host, port, err := splitPort(h.x.life, to)
	if err != nil {
		return nil, probe.Malformed(err)
	}
	if known == nil {
		if known, err = h.lookUp(host); err != nil {
			return nil, dial.FailedLookup(err)
		}
	}
	known = known[:min(len(known), maxAddresses)]
	var failed *probe.Result
	for i, addr := range known {
		conn, why := h.try(netip.AddrPortFrom(addr, port), len(known)-i, allow)
		if why == nil {
			return conn, nil
		}
		result := why.Result(netip.AddrPort{})
		failed = &result
		if why.Outcome == probe.Denied {
			break
		}
	}
	return nil, failed
}

func (h *hop) lookUp(host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	h.enter(probe.PhaseResolve)
	start := time.Now()
	addrs, err := dial.Resolution{Resolver: h.x.Resolver}.From(h.x.request.Source).LookUp(h.x.life, host)
	h.x.mu.Lock()
	defer h.x.mu.Unlock()
	h.resolve += time.Since(start)
	if err == nil {
		h.phase = probe.PhaseConnect
	}
	return addrs, err
}

// try connects to an address in its share of the time that is left.
func (h *hop) try(to netip.AddrPort, shares int, allow func(netip.AddrPort) error) (*net.TCPConn, *dial.Failure) {
	ctx := h.x.life
	if deadline, ok := ctx.Deadline(); ok && shares > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(shares))
		defer cancel()
	}
	if h.proxy == nil {
		h.x.mu.Lock()
		h.peer = to
		h.x.mu.Unlock()
	}
	conn, failed := (&dial.Attempt{Target: to, Source: h.x.request.Source, Device: h.x.request.Device, Allow: allow, Exchanges: true}).Connect(ctx)
	if log := h.x.request.Log; log != nil && failed == nil {
		log.Debug("connected", "to", to)
	}
	return conn, failed
}

// splitPort reads host:port of a URL.
func splitPort(ctx context.Context, to string) (string, uint16, error) {
	host, service, err := net.SplitHostPort(to)
	if err != nil {
		return "", 0, err
	}
	port, err := dial.Resolution{}.LookUpPort(ctx, "tcp", service)
	return host, port, err
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

// addrOf returns the first of some addresses, or none.
func addrOf(addrs []netip.Addr) netip.Addr {
	if len(addrs) == 0 {
		return netip.Addr{}
	}
	return addrs[0]
}

// heard notes that a server said something. net/http does not report what comes
// before it has asked.
type heard struct {
	net.Conn
	h *hop
}

// Read implements [net.Conn].
func (c *heard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.h.x.mu.Lock()
		c.h.answered = true
		c.h.x.mu.Unlock()
	}
	return n, err
}

// dialToken connects to a token server, which is the administrator's choice: no
// address is checked, and the probe ends what it is asked without a context.
func (x *exchange) dialToken(_ context.Context, _, address string) (net.Conn, error) {
	if err := x.enter(); err != nil {
		return nil, err
	}
	defer x.dials.Done()
	x.mu.Lock()
	x.wantsToken = true
	x.mu.Unlock()
	h := &hop{x: x, url: x.target}
	conn, failed := h.direct(address, nil, nil)
	if failed != nil {
		return nil, failed.Err
	}
	context.AfterFunc(x.life, func() { _ = conn.Close() })
	return conn, nil
}

// describe adds to a result what the hop knows of where it failed.
func (h *hop) describe(r *probe.Result) {
	r.Peer = h.peer
	if h.x.redirects > 0 && len(h.x.hops) > 1 {
		r.Redirect = withoutSecrets(h.url)
	}
	if h.proxy != nil {
		r.Proxy = h.proxy.Host
	}
}

// byPhase says what an error means whose type says nothing: net/http has many
// that it does not export.
func (h *hop) byPhase() (probe.Outcome, probe.Origin) {
	switch {
	case h.phase == probe.PhaseTLS:
		return probe.TLSHandshake, probe.OriginTarget
	case h.phase == probe.PhaseExchange && !h.answered:
		return probe.Closed, probe.OriginTarget
	case h.phase == probe.PhaseExchange:
		return probe.Protocol, probe.OriginTarget
	default:
		return probe.Unknown, probe.OriginNone
	}
}

// durations notes what each phase took, over all hops. The first look-up is noted
// already.
func (x *exchange) durations() {
	var connect, handshake, processing, transfer time.Duration
	var resolve time.Duration
	for _, h := range x.hops {
		resolve += h.resolve
		if h.gotConn.IsZero() {
			continue
		}
		connect, handshake = connect+h.connect, handshake+h.handshake
		if h.firstByte.IsZero() {
			continue
		}
		processing += h.firstByte.Sub(h.gotConn)
		if !h.end.IsZero() {
			transfer += h.end.Sub(h.firstByte)
		}
	}
	if len(x.hops) == 0 {
		return
	}
	if resolve > 0 {
		x.found.Add(x.duration, resolve.Seconds(), probe.PhaseResolve.Labels()...)
	}
	x.found.Set(x.duration, connect.Seconds(), probe.PhaseConnect.Labels()...)
	x.found.Set(x.duration, handshake.Seconds(), probe.PhaseTLS.Labels()...)
	x.found.Set(x.duration, processing.Seconds(), phaseProcessing...)
	x.found.Set(x.duration, transfer.Seconds(), phaseTransfer...)
}

// explainTLS adds what the server asked for.
func (h *hop) explainTLS(err error) error {
	if h.wantsOurs && h.x.tls.GetClientCertificate == nil {
		return errNoCertificate(err)
	}
	return err
}
