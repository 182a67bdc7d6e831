package blackbox

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	pconfig "github.com/prometheus/common/config"
	"golang.org/x/net/proxy"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// route is how a client of net/http would go by itself: straight, or through a
// proxy. The proxies are the administrator's choice, and where they are is held
// to nothing.
type route struct {
	choose func(*http.Request) (*url.URL, error) // nil if there is no proxy
	header http.Header                           // for CONNECT
	tls    pconfig.TLSConfig                     // for proxies with the scheme https
}

func newRoute(p pconfig.ProxyConfig, t pconfig.TLSConfig) *route {
	return &route{choose: p.Proxy(), header: p.GetProxyConnectHeader(), tls: t}
}

// proxyOf returns the proxy for a URL with a scheme and host:port, or nil where
// it is reached directly: by proxy_url and no_proxy, or by the environment.
func (r *route) proxyOf(scheme, to string) (*url.URL, error) {
	if r.choose == nil {
		return nil, nil
	}
	u, err := r.choose(&http.Request{URL: &url.URL{Scheme: scheme, Host: to}})
	if err != nil {
		return nil, &probe.ConnectError{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	return u, nil
}

// isDirect reports whether no URL with that host:port goes through a proxy.
func (r *route) isDirect(to string) bool {
	for _, scheme := range []string{"http", "https"} {
		if u, err := r.proxyOf(scheme, to); u != nil || err != nil {
			return false
		}
	}
	return true
}

// dialThrough connects to a proxy, and has it go on to the target.
func (e *errand) dialThrough(ctx context.Context, u *url.URL) (stream, error) {
	to, err := e.held(ctx, e.to)
	if err != nil {
		return nil, err
	}
	whole := e.scheme == "http" && (u.Scheme == "http" || u.Scheme == "https")
	if whole {
		if err := e.readRequest(u); err != nil {
			return nil, err
		}
	}
	conn, err := (&dialler{watch: &watch{}}).dial(ctx, hostPort(u))
	if err != nil {
		return nil, faultOf(u, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	far, err := e.introduce(ctx, conn, u, to, whole)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, faultOf(u, err)
	}
	return far, nil
}

// introduce says to a proxy where to go, as its scheme wants it.
func (e *errand) introduce(ctx context.Context, conn *net.TCPConn, u *url.URL, to string, whole bool) (stream, error) {
	var far stream = conn
	switch u.Scheme {
	case "socks5", "socks5h":
		return conn, socks(ctx, conn, u, to)
	case "https":
		secure, err := e.route.secure(ctx, conn, u)
		if err != nil {
			return nil, err
		}
		far = secure
	case "http":
	default:
		err := errors.New("its scheme must be http, https, socks5 or socks5h")
		return nil, &probe.ConnectError{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	if whole {
		return far, nil
	}
	return far, tunnel(far, u, to, e.route.header)
}

// held returns what a proxy is told. An address is held to what is allowed. A
// name may be left to the proxy where the target is a configured one, since the
// host of the exporter may have no DNS; else it is looked up and becomes an
// address, for to the proxy it may have another.
func (e *errand) held(ctx context.Context, to string) (string, error) {
	if e.allow() == nil {
		return to, nil
	}
	at, err := parseAddress(to)
	if err != nil {
		if e.allow()(netip.AddrPort{}) == nil {
			return to, nil
		}
		if at, err = e.lookUp(ctx, to); err != nil {
			return "", err
		}
	}
	return at.String(), e.check(at)
}

// allow is what the far end is held to, if not nil.
func (e *errand) allow() func(netip.AddrPort) error {
	if e.token {
		return nil
	}
	return e.relay.request.Allow
}

// check holds an address to what is allowed, and the watch hears of a denial.
func (e *errand) check(at netip.AddrPort) error {
	err := e.allow()(at)
	if err == nil {
		return nil
	}
	err = &probe.ConnectError{Outcome: probe.Denied, Origin: probe.OriginLocal, Err: err}
	e.relay.watch.tried(at, err)
	return err
}

func (e *errand) lookUp(ctx context.Context, to string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return netip.AddrPort{}, err
	}
	e.relay.watch.enter(probe.PhaseResolve)
	if err := held(e.relay.watch, e.relay.request.MayResolve(host)); err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := probe.Resolution{}.LookUp(ctx, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	e.relay.watch.enter(probe.PhaseConnect)
	return parseAddress(net.JoinHostPort(addrs[0].String(), port))
}

// readRequest reads what net/http asks of the target, so that it is asked of an
// HTTP proxy: with the scheme and the host in its first line, where the proxy
// goes by (RFC 9112, section 3.2.2). That host is the one of the header Host, and
// so it is held to what is allowed itself.
func (e *errand) readRequest(u *url.URL) error {
	req, err := http.ReadRequest(bufio.NewReader(e.from))
	if err != nil {
		return err
	}
	if e.allow() != nil {
		at, err := parseAddress(hostPort(&url.URL{Host: req.Host}))
		if err != nil {
			at = netip.AddrPort{}
		}
		if err := e.check(at); err != nil {
			return err
		}
	}
	req.URL.Scheme, req.URL.Host = "http", req.Host
	if _, named := req.Header["User-Agent"]; !named {
		req.Header.Set("User-Agent", "") // none, instead of net/http's
	}
	if u.User != nil {
		req.Header.Set("Proxy-Authorization", basic(u.User))
	}
	e.request = req
	return nil
}

func basic(u *url.Userinfo) string {
	password, _ := u.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password))
}

// secure makes a TLS connection to a proxy. The name in its certificate is that
// of the proxy, if the module does not name one.
func (r *route) secure(ctx context.Context, conn net.Conn, u *url.URL) (*tls.Conn, error) {
	config, err := pconfig.NewTLSConfig(&r.tls)
	if err != nil {
		return nil, &probe.ConnectError{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	c := tls.Client(conn, config)
	return c, c.HandshakeContext(ctx)
}

// maxAnswer is what is read of a proxy's answer to CONNECT, in bytes.
const maxAnswer = 64 << 10

// tunnel asks an HTTP proxy for a connection: RFC 9110, section 9.3.6. What may
// come behind the answer is nothing: the target waits for a ClientHello.
func tunnel(conn net.Conn, u *url.URL, to string, header http.Header) error {
	if header = header.Clone(); header == nil {
		header = http.Header{}
	}
	if u.User != nil {
		header.Set("Proxy-Authorization", basic(u.User))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to}, Host: to, Header: header}
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxAnswer)), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &probe.ConnectError{Outcome: probe.Status, Err: fmt.Errorf("it answers CONNECT with %s", resp.Status)}
	}
	return nil
}

// made is a connection that was made already, as something that dials.
type made struct{ net.Conn }

func (m made) Dial(string, string) (net.Conn, error) { return m.Conn, nil }

func (m made) DialContext(context.Context, string, string) (net.Conn, error) { return m.Conn, nil }

// socks asks a SOCKS5 proxy for a connection.
func socks(ctx context.Context, conn net.Conn, u *url.URL, to string) error {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", conn.RemoteAddr().String(), auth, made{conn})
	if err != nil {
		return err
	}
	_, err = d.(proxy.ContextDialer).DialContext(ctx, "tcp", to)
	return err
}

// faultOf says that an error is a proxy's: no target said anything. What has no
// type of its own is the answer of a SOCKS proxy, or one that is none.
func faultOf(u *url.URL, err error) error {
	fault := &probe.ConnectError{Err: fmt.Errorf("the proxy %s: %w", u.Host, err)}
	fault.Outcome, fault.Origin = classify(err)
	if connect, ok := errors.AsType[*probe.ConnectError](err); ok {
		fault.Offender = connect.Offender
	}
	switch {
	case fault.Outcome == probe.Unknown:
		fault.Outcome = probe.Status
	case fault.Origin == probe.OriginTarget:
		fault.Origin = probe.OriginNone
	case fault.Origin == probe.OriginTargetFirewall:
		fault.Origin = probe.OriginNetwork
	}
	return fault
}
