package prober

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
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// The proxies are the administrator's choice: where they are is not checked.
// What they are asked for is, and it is the target: an address that was checked,
// or the name where the proxy may resolve it.

// chooseProxy chooses as net/http does: the target by the address that its name
// led to, as blackbox_exporter has it.
func (h *hop) chooseProxy() error {
	if h.x.Proxy == nil {
		return nil
	}
	shown := *h.url
	if addr := addrOf(h.knownAddresses()); addr.IsValid() {
		shown.Host = joinHost(addr, h.url.Port())
	}
	var err error
	h.proxy, err = h.x.Proxy(&http.Request{URL: &shown})
	if err != nil || h.proxy == nil {
		return err
	}
	return CheckProxy(h.proxy)
}

// CheckProxy reports why a proxy cannot be used.
func CheckProxy(u *url.URL) error {
	switch u.Scheme {
	case "http", "https":
		return nil
	case "socks5", "socks5h":
		return checkSOCKSUser(u)
	default:
		return fmt.Errorf("the proxy %s: its scheme must be http, https, socks5 or socks5h", u.Host)
	}
}

// joinHost writes an address as the host of a URL, with a port if it has one.
func joinHost(addr netip.Addr, port string) string {
	switch {
	case port != "":
		return net.JoinHostPort(addr.String(), port)
	case addr.Is6():
		return "[" + addr.String() + "]"
	default:
		return addr.String()
	}
}

// isWhole reports whether the proxy is sent the request itself, with the whole
// URL: HTTP over an HTTP proxy (RFC 9112, section 3.2.2).
func (h *hop) isWhole() bool {
	return h.proxy != nil && h.url.Scheme == "http" && !h.x.tunnels && !strings.HasPrefix(h.proxy.Scheme, "socks5")
}

// forProxy returns the request as it is sent, which a proxy that gets it whole
// wants in another form.
func (h *hop) forProxy(r *http.Request) (*http.Request, error) {
	if !h.isWhole() {
		return r, nil
	}
	asked := r.Host
	if asked == "" {
		asked = h.url.Host
	}
	if err := h.checkAsked(asked); err != nil {
		outcome, origin := dial.Classify(err, dial.Evidence{})
		return nil, h.fail(probe.Result{Outcome: outcome, Phase: probe.PhaseConnect, Origin: origin, Err: err})
	}
	sent := r.Clone(r.Context())
	sent.URL.Opaque = "//" + asked + sent.URL.EscapedPath()
	if sent.URL.Path == "" {
		sent.URL.Opaque += "/"
	}
	if h.proxy.User != nil {
		sent.Header.Set("Proxy-Authorization", basicAuth(h.proxy.User))
	}
	return sent, nil
}

// checkAsked says whether an HTTP proxy may be asked for a host: it is allowed,
// and no client chose it.
func (h *hop) checkAsked(host string) error {
	if h.x.request.IsAsked() && hostOnly(host) == hostOnly(h.x.request.Hostname) && hostOnly(host) != hostOnly(h.x.target.Host) {
		return &probe.DeniedError{
			Reason: fmt.Sprintf("the proxy of the module would go to the hostname %s and not to the target", host),
			Hint:   "the hostname of a configured target is allowed",
		}
	}
	allow := h.x.request.Allow
	if allow == nil {
		return nil
	}
	at, err := netip.ParseAddrPort(hostPort(&url.URL{Host: host}))
	if err != nil {
		at = netip.AddrPort{}
	}
	for _, to := range []netip.AddrPort{h.direction(), at} {
		if err := allow(netip.AddrPortFrom(to.Addr().Unmap(), to.Port())); err != nil {
			return probe.Deny(err)
		}
	}
	return nil
}

// direction returns the address that the URL is known to lead to; the zero value
// if the proxy resolves it.
func (h *hop) direction() netip.AddrPort {
	if addr := addrOf(h.knownAddresses()); addr.IsValid() {
		to := hostPort(&url.URL{Scheme: h.url.Scheme, Host: joinHost(addr, h.url.Port())})
		at, _ := netip.ParseAddrPort(to)
		return at
	}
	at, _ := netip.ParseAddrPort(hostPort(h.url))
	return at
}

// throughProxy connects to the proxy and, unless it gets the request itself, has
// it connect to the target.
func (h *hop) throughProxy() (net.Conn, *probe.Result) {
	to, denied := h.forTunnel()
	if denied != nil {
		return nil, denied
	}
	conn, failed := h.direct(hostPort(h.proxy), nil, nil)
	if failed != nil {
		return nil, h.blameProxy(*failed)
	}
	stop := context.AfterFunc(h.x.life, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	far, err := h.introduce(conn, to)
	if !stop() && err == nil {
		err = h.x.life.Err()
	}
	if err == nil {
		return far, nil
	}
	_ = conn.Close()
	if isOver(h.x.life, err) {
		err = h.x.life.Err()
	}
	outcome, origin := classifyHTTP(err)
	if refusal, ok := errors.AsType[*probe.ProxyError](err); ok {
		outcome = refusal.Outcome
	}
	phase := probe.PhaseConnect
	if outcome == probe.TLSCertificate || outcome == probe.TLSHandshake {
		phase = probe.PhaseTLS
	}
	return nil, h.blameProxy(probe.Result{Outcome: outcome, Phase: phase, Origin: origin, Err: err})
}

// forTunnel returns what a proxy is asked to connect to. An address is checked. A
// name is left to it where that is allowed: the exporter's host may have no DNS.
// Else it is looked up here, for to the proxy it may have another address.
func (h *hop) forTunnel() (string, *probe.Result) {
	allow := h.x.request.Allow
	at := h.direction()
	if h.isWhole() || allow == nil && !at.IsValid() {
		return hostPort(h.url), nil
	}
	if !at.IsValid() {
		if allow(netip.AddrPort{}) == nil {
			return hostPort(h.url), nil
		}
		host, port, _ := splitPort(h.x.life, hostPort(h.url))
		addrs, err := h.lookUp(host)
		if err != nil {
			return "", dial.FailedLookup(err)
		}
		at = netip.AddrPortFrom(addrs[0], port)
	}
	if err := dial.Allowed(allow, at.String()); err != nil {
		return "", &probe.Result{Outcome: probe.Denied, Phase: probe.PhaseConnect, Origin: probe.OriginLocal, Err: err}
	}
	return at.String(), nil
}

// blameProxy makes of a failure that of the proxy, but for what this host lacked.
func (h *hop) blameProxy(r probe.Result) *probe.Result {
	if r.Outcome.Tried() {
		r.Origin = probe.OriginProxy
	}
	if r.Outcome == probe.Unknown {
		r.Outcome = probe.Protocol
	}
	r.Err = fmt.Errorf("the proxy %s: %w", h.proxy.Host, r.Err)
	return &r
}

// introduce asks the proxy for the target, as its scheme wants it.
func (h *hop) introduce(conn *net.TCPConn, to string) (net.Conn, error) {
	switch h.proxy.Scheme {
	case "socks5", "socks5h":
		return conn, connectSOCKS(conn, h.proxy.User, to)
	case "https":
		secure := tls.Client(conn, h.proxyTLS())
		if err := secure.HandshakeContext(h.x.life); err != nil {
			return nil, err
		}
		return secure, h.tunnel(secure, to)
	default:
		return conn, h.tunnel(conn, to)
	}
}

// proxyTLS returns the configuration of a handshake with the proxy. The name in
// its certificate is that of the proxy, if the module names none.
func (h *hop) proxyTLS() *tls.Config {
	config := h.x.tls.Clone()
	if config.ServerName == "" {
		config.ServerName = h.proxy.Hostname()
	}
	return config
}

// maxProxyAnswer is what is read of the answer to CONNECT, in bytes.
const maxProxyAnswer = 64 << 10

// tunnel asks an HTTP proxy for a connection, if the request needs one: RFC 9110,
// section 9.3.6. Nothing may come behind the answer: the target waits for a
// ClientHello.
func (h *hop) tunnel(conn net.Conn, to string) error {
	if h.isWhole() {
		return nil
	}
	header := h.x.ProxyHeader.Clone()
	if header == nil {
		header = http.Header{}
	}
	if h.proxy.User != nil {
		header.Set("Proxy-Authorization", basicAuth(h.proxy.User))
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to}, Host: to, Header: header}
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxProxyAnswer)), req)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return &probe.ProxyError{Outcome: probe.Status, Text: fmt.Sprintf("answers CONNECT with %s", resp.Status)}
	}
	return nil
}

func basicAuth(u *url.Userinfo) string {
	password, _ := u.Password()
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Username()+":"+password))
}
