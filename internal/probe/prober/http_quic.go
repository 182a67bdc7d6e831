package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// overQUIC asks by HTTP/3. It takes no proxy, as in blackbox_exporter.
func (h *hop) overQUIC(r *http.Request) (*http.Response, error) {
	config := h.tlsConfig()
	config.MinVersion = max(config.MinVersion, tls.VersionTLS13)
	t := &http3.Transport{
		TLSClientConfig: config, QUICConfig: &quic.Config{}, Dial: h.dialQUIC, MaxResponseHeaderBytes: MaxHeader,
	}
	h.x.onEnd(func() { _ = t.Close() })
	response, err := t.RoundTrip(r)
	if err != nil {
		return nil, h.judgeHeader(err)
	}
	return response, nil
}

// dialQUIC connects from a socket of its own, to an address that was checked.
func (h *hop) dialQUIC(_ context.Context, to string, config *tls.Config, settings *quic.Config) (*quic.Conn, error) {
	if err := h.begin(); err != nil {
		return nil, err
	}
	defer h.x.dials.Done()
	start := time.Now()
	d, failed := h.bindQUIC(to)
	if failed != nil {
		return nil, h.fail(*failed)
	}
	socket := &quicSocket{Datagrams: d}
	transport := &quic.Transport{Conn: socket}
	h.x.onEnd(func() { _ = transport.Close(); _ = socket.Close() })
	h.x.mu.Lock()
	h.phase, h.isTLS = probe.PhaseTLS, true
	h.connect += time.Since(start) - h.resolve
	h.x.mu.Unlock()
	start = time.Now()
	conn, err := transport.DialEarly(h.x.life, net.UDPAddrFromAddrPort(d.Target), config, settings)
	h.x.mu.Lock()
	h.handshake += time.Since(start)
	h.x.mu.Unlock()
	if err != nil {
		return nil, h.failQUIC(socket, err)
	}
	return conn, nil
}

// bindQUIC makes the socket. No packet is sent.
func (h *hop) bindQUIC(to string) (*dial.Datagrams, *probe.Result) {
	host, port, err := splitPort(h.x.life, to)
	if err != nil {
		return nil, probe.Malformed(err)
	}
	addrs := h.knownAddresses()
	if addrs == nil {
		if addrs, err = h.lookUp(host); err != nil {
			return nil, dial.FailedLookup(err)
		}
	}
	d := &dial.Datagrams{Target: netip.AddrPortFrom(addrs[0], port), Source: h.x.request.Source, Device: h.x.request.Device, Allow: h.x.request.Allow}
	h.x.mu.Lock()
	h.peer = d.Target
	h.x.mu.Unlock()
	if err := d.Connect(h.x.life); err != nil {
		failed := d.Failed(probe.PhaseConnect, err)
		return nil, &failed
	}
	return d, nil
}

// failQUIC says why there is no connection. An ICMP error is in the socket's
// queue.
func (h *hop) failQUIC(socket *quicSocket, err error) error {
	if socket.hasError() {
		failed := socket.Failed(probe.PhaseConnect, syscall.ECONNREFUSED)
		return h.fail(failed)
	}
	if h.x.life.Err() != nil {
		err = h.x.life.Err()
	}
	return h.failTLS(err)
}

// quicSocket is a connected socket for who wants to name its peer with each
// datagram.
type quicSocket struct {
	*dial.Datagrams
	mu sync.Mutex // guards icmp of datagrams, which the reader and the writer set
}

// hasError reports whether an ICMP error came, and keeps it in icmp. The kernel
// reports each once: to the read or to the write that comes first.
func (s *quicSocket) hasError() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ICMP.Offender.IsValid() {
		s.ICMP = dial.QueuedError(s.Conn)
	}
	return s.ICMP.Offender.IsValid()
}

// ReadFrom implements [net.PacketConn].
func (s *quicSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := s.Conn.Read(b)
	if err != nil && !dial.IsTimeout(err) {
		s.hasError()
	}
	return n, net.UDPAddrFromAddrPort(s.Target), err
}

// WriteTo implements [net.PacketConn]. A datagram that cannot be sent for another
// reason than an ICMP error is one that is lost.
func (s *quicSocket) WriteTo(b []byte, _ net.Addr) (int, error) {
	n, err := s.Conn.Write(b)
	if errors.Is(err, syscall.EMSGSIZE) || err != nil && !s.hasError() {
		return len(b), nil
	}
	return n, err
}

// Close implements [net.PacketConn].
func (s *quicSocket) Close() error { return s.Conn.Close() }

// LocalAddr implements [net.PacketConn].
func (s *quicSocket) LocalAddr() net.Addr { return s.Conn.LocalAddr() }

// SetDeadline implements [net.PacketConn].
func (s *quicSocket) SetDeadline(t time.Time) error { return s.Conn.SetDeadline(t) }

// SetReadDeadline implements [net.PacketConn].
func (s *quicSocket) SetReadDeadline(t time.Time) error { return s.Conn.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn].
func (s *quicSocket) SetWriteDeadline(t time.Time) error { return s.Conn.SetWriteDeadline(t) }

// SetReadBuffer lets QUIC choose.
func (s *quicSocket) SetReadBuffer(n int) error { return s.Conn.SetReadBuffer(n) }

// SetWriteBuffer lets QUIC choose.
func (s *quicSocket) SetWriteBuffer(n int) error { return s.Conn.SetWriteBuffer(n) }

// SyscallConn implements [syscall.Conn].
func (s *quicSocket) SyscallConn() (syscall.RawConn, error) { return s.Conn.SyscallConn() }
