package prober

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// startTLS makes a handshake and notes what the certificates say, those that
// are not to be trusted included. What was read before in plain text and not
// asked for is dropped: it is not what the peer says under TLS.
func (s *session) startTLS() error {
	config, err := s.tlsConfig()
	if err != nil {
		return &probe.ConfigError{Err: err}
	}
	conn, start := tls.Client(ownDeadline{s.conn}, s.watched(config)), time.Now()
	err = conn.Handshake()
	s.details.AddHandshake(agreed(conn, config.ServerName, s.wantsOurs, time.Since(start), err))
	if err != nil {
		if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			noteCertificates(&s.samples, bad.UnverifiedCertificates)
		}
		return err
	}
	s.conn, s.isTLS, s.in = conn, true, nil
	if s.log != nil {
		s.log.Debug("tls handshake done")
	}
	state := conn.ConnectionState()
	noteChains(&s.samples, state.VerifiedChains)
	s.samples.Set(tlsVersion, 1, versionName(state.Version))
	return nil
}

// agreed returns what a handshake came to.
func agreed(conn *tls.Conn, name string, asked bool, took time.Duration, err error) probe.Handshake {
	h := probe.Handshake{ServerName: name, AskedForOurs: asked, Duration: took, Err: err}
	if bad, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		h.Certificates = bad.UnverifiedCertificates
	}
	if err == nil {
		state := conn.ConnectionState()
		h.Version, h.Cipher, h.Protocol, h.Certificates = state.Version, state.CipherSuite, state.NegotiatedProtocol, state.PeerCertificates
	}
	return h
}

// rejectionTime is how long the rejection of a handshake is waited for: longer than
// it takes to any server within reach.
const rejectionTime = 500 * time.Millisecond

// confirm waits a moment for the rejection of a server that asked for a certificate
// and got none. In TLS 1.3 the handshake is over before the server sees that (RFC
// 8446, section 4.4.2.4), so that a connection without a step would seem open.
func (s *session) confirm() error {
	if !s.isTLS || !s.wantsOurs || s.in != nil {
		return nil
	}
	return s.timed(probe.PhaseTLS, func() error {
		_ = s.conn.SetReadDeadline(time.Now().Add(rejectionTime))
		_, err := s.conn.Read(make([]byte, 1))
		if dial.IsTimeout(err) || errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
}

// watched notes what a server sends and asks for in a handshake, however it ends.
func (s *session) watched(config *tls.Config) *tls.Config {
	config = config.Clone()
	watch(config, func() { s.wantsOurs = true }, func(sent []*x509.Certificate) { noteCertificates(&s.samples, sent) })
	return config
}

// watch has a handshake say that the server asks for a certificate where there is none
// to give, and which ones it sent.
func watch(config *tls.Config, asked func(), came func([]*x509.Certificate)) {
	if config.GetClientCertificate == nil && len(config.Certificates) == 0 {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked()
			return &tls.Certificate{}, nil
		}
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		came(state.PeerCertificates)
		return nil
	}
}

// errNoCertificate adds what the server asked for.
func errNoCertificate(err error) error {
	return &probe.NoClientCertificateError{Err: err}
}

func (s *session) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{}
	if s.TLSConfig != nil {
		var err error
		if config, err = s.TLSConfig(s.serverName); err != nil {
			return nil, err
		}
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = s.serverName
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		return nil, errors.New("no name to verify the certificate against\nset server_name in tls_config, or hostname")
	}
	return config, nil
}

// ownDeadline keeps the deadline of the probe: [tls.Conn.Close] would give the
// peer five seconds more to take its goodbye.
type ownDeadline struct{ net.Conn }

func (ownDeadline) SetWriteDeadline(time.Time) error { return nil }

// classifyTLS says whether an error is one of TLS, and of which kind.
func classifyTLS(err error) (probe.Outcome, bool) {
	if _, ok := errors.AsType[*probe.ConfigError](err); ok {
		return probe.LocalError, true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return probe.TLSCertificate, true
	}
	return probe.Unknown, false
}

func originOfTLS(o probe.Outcome) probe.Origin {
	if o == probe.LocalError {
		return probe.OriginLocal
	}
	return probe.OriginTarget
}

// noteCertificates notes when the first of the certificates that were sent expires,
// and what the leaf is.
func noteCertificates(found *probe.Samples, sent []*x509.Certificate) {
	if len(sent) == 0 {
		return
	}
	found.Set(sslEarliestExpiry, unixTime(earliestExpiry(sent)))
	leaf := sent[0]
	fingerprint := sha256.Sum256(leaf.Raw)
	found.Set(sslLastChainInfo, 1,
		hex.EncodeToString(fingerprint[:]), leaf.Subject.String(), leaf.Issuer.String(),
		strings.Join(leaf.DNSNames, ","), hex.EncodeToString(leaf.SerialNumber.Bytes()))
}

func earliestExpiry(certificates []*x509.Certificate) time.Time {
	var earliest time.Time
	for _, c := range certificates {
		if earliest.IsZero() || c.NotAfter.Before(earliest) {
			earliest = c.NotAfter
		}
	}
	return earliest
}

// noteChains notes when the last of the verified chains expires. Without verification
// there is none.
func noteChains(found *probe.Samples, chains [][]*x509.Certificate) {
	var last time.Time
	for _, chain := range chains {
		if expiry := earliestExpiry(chain); expiry.After(last) {
			last = expiry
		}
	}
	if !last.IsZero() {
		found.Set(sslLastChainExpiry, unixTime(last))
	}
}

func unixTime(t time.Time) float64 { return float64(t.Unix()) }

// versionName names a version of TLS as blackbox_exporter does.
func versionName(version uint16) string {
	switch version {
	case tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13:
		return tls.VersionName(version)
	}
	return "unknown"
}

// Certificate is what the samples of a probe say of the certificates that were sent.
type Certificate struct {
	// Expiry is when the first of them expires, in seconds since the epoch.
	Expiry float64
	// Subject, Issuer and SHA256, which is the fingerprint in hexadecimal digits, are
	// those of the leaf. They are the words of whoever issued it.
	Subject, Issuer, SHA256 string
	// Version is that of TLS; empty if the handshake failed after they were sent.
	Version string
}

// CertificateOf returns the certificate among samples, and false if none was sent.
func CertificateOf(samples []probe.Sample) (c Certificate, sent bool) {
	for _, s := range samples {
		switch s.Metric {
		case sslEarliestExpiry:
			c.Expiry, sent = s.Value, true
		case sslLastChainInfo:
			c.SHA256, c.Subject, c.Issuer = s.Labels[0], s.Labels[1], s.Labels[2]
		case tlsVersion:
			c.Version = s.Labels[0]
		}
	}
	return c, sent
}
