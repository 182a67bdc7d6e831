package prober

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"regexp/syntax"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// secure makes the handshake of the hop. What fails keeps its type, and the
// certificates that the server sent.
func (h *hop) secure(raw net.Conn) (net.Conn, error) {
	h.x.mu.Lock()
	h.phase, h.isTLS = probe.PhaseTLS, true
	h.x.mu.Unlock()
	start := time.Now()
	config := h.tlsConfig()
	conn := tls.Client(raw, config)
	err := conn.HandshakeContext(h.x.life)
	h.x.mu.Lock()
	h.handshake += time.Since(start)
	asked := h.wantsOurs
	h.x.mu.Unlock()
	probe.DetailsOf(h.x.life).AddHandshake(agreed(conn, config.ServerName, asked, time.Since(start), err))
	if err != nil {
		_ = raw.Close()
		return nil, h.failTLS(err)
	}
	return conn, nil
}

func (h *hop) failTLS(err error) error {
	outcome, origin := classifyHTTP(err)
	if outcome == probe.Unknown {
		outcome, origin = probe.TLSHandshake, probe.OriginTarget
	}
	if outcome == probe.TLSHandshake {
		err = h.explainTLS(err)
	}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		h.x.mu.Lock()
		h.certificates = bad.UnverifiedCertificates
		h.x.mu.Unlock()
	}
	return h.fail(probe.Result{Outcome: outcome, Phase: probe.PhaseTLS, Origin: origin, Err: err})
}

// tlsConfig returns the configuration for the hop. What the module says of the
// server's name is of the target; our certificate is for the hosts that the
// configuration names.
func (h *hop) tlsConfig() *tls.Config {
	config := h.x.tls.Clone()
	if h.url.Host != h.x.target.Host {
		config.ServerName = ""
	} else if config.ServerName == "" {
		config.ServerName = h.x.calledName()
	}
	if config.ServerName == "" {
		config.ServerName = h.url.Hostname()
	}
	if h.x.left {
		config.GetClientCertificate, config.Certificates = nil, nil
	}
	if h.x.HTTP2 {
		config.NextProtos = []string{protocolHTTP2, "http/1.1"}
	}
	h.watch(config)
	return config
}

// calledName returns what the target is called towards it, if not by its own
// name.
func (x *exchange) calledName() string {
	name := x.askedHost()
	if name == "" {
		return ""
	}
	return (&url.URL{Host: name}).Hostname()
}

// watch notes what a server sends and asks for in a handshake, however it ends.
func (h *hop) watch(config *tls.Config) {
	note := func(set func()) {
		h.x.mu.Lock()
		defer h.x.mu.Unlock()
		set()
	}
	watch(config, func() { note(func() { h.wantsOurs = true }) }, func(sent []*x509.Certificate) { note(func() { h.certificates = sent }) })
}

// classifyHTTP says what an error of a known type means, or Unknown.
func classifyHTTP(err error) (probe.Outcome, probe.Origin) {
	var (
		connect *dial.Failure
		lookup  *net.DNSError
		config  *probe.ConfigError
		file    *fs.PathError
		regex   *syntax.Error
		stream  http2.StreamError
	)
	switch {
	case errors.As(err, &connect):
		return connect.Outcome, connect.Origin
	case errors.As(err, &lookup):
		return dial.ClassifyLookup(err)
	case errors.As(err, &config), errors.As(err, &file), errors.As(err, &regex): // of the module: a body, a key, a token, a validator
		return probe.LocalError, probe.OriginLocal
	case isCertificate(err):
		return probe.TLSCertificate, probe.OriginTarget
	case isTLS(err):
		return probe.TLSHandshake, probe.OriginTarget
	case errors.As(err, &stream):
		return probe.Reset, probe.OriginTarget
	default:
		return classifySocket(err)
	}
}

// classifySocket says what an error of a socket means of which nothing else is
// known. A refusal has no origin then: without the error queue of its socket it
// may be the target's, its firewall's or a router's.
func classifySocket(err error) (probe.Outcome, probe.Origin) {
	outcome, origin := dial.Classify(err, dial.Evidence{Sent: true})
	if outcome == probe.Refused {
		origin = probe.OriginNone
	}
	return outcome, origin
}

// isCertificate reports whether a certificate was not to be trusted.
func isCertificate(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		invalid      x509.CertificateInvalidError
		hostname     x509.HostnameError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &invalid) || errors.As(err, &hostname)
}

// isTLS reports whether TLS itself failed: an alert, which package tls gives as
// an operation of the connection, or what is no TLS at all.
func isTLS(err error) bool {
	var (
		header tls.RecordHeaderError
		op     *net.OpError
		peer   *quic.TransportError
	)
	return errors.As(err, &header) || errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") ||
		errors.As(err, &peer) && peer.ErrorCode.IsCryptoError()
}

// isOver reports whether the time of a context was up when something failed.
func isOver(ctx context.Context, err error) bool { return ctx.Err() != nil && dial.IsTimeout(err) }
