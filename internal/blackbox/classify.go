package blackbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp/syntax"
	"syscall"

	"golang.org/x/net/http2"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// classify says what an error of a known type means, or Unknown. The sockets of
// these probers do not tell who sent an ICMP error, so that a refusal may be the
// target's, its firewall's or a router's, and has no origin.
func classify(err error) (probe.Outcome, probe.Origin) {
	var (
		lookup *net.DNSError
		file   *fs.PathError
		regex  *syntax.Error
		stream http2.StreamError
		errno  syscall.Errno
	)
	switch {
	case errors.As(err, &lookup):
		return classifyLookup(lookup)
	case isCertificate(err):
		return probe.TLSCertificate, probe.OriginTarget
	case isTLS(err):
		return probe.TLSHandshake, probe.OriginTarget
	case errors.Is(err, context.Canceled):
		return probe.NotRun, probe.OriginLocal
	case errors.As(err, &stream):
		return probe.Reset, probe.OriginTarget
	case errors.As(err, &file), errors.As(err, &regex): // of the module: a body, a key, a token, a validator
		return probe.LocalError, probe.OriginLocal
	case errors.As(err, &errno) && isShortage(errno):
		return probe.LocalError, probe.OriginLocal
	case isTimeout(err):
		return probe.Timeout, probe.OriginNone
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return probe.Closed, probe.OriginTarget
	case errors.As(err, &errno):
		return classifyErrno(errno)
	default:
		return probe.Unknown, probe.OriginNone
	}
}

func classifyErrno(errno syscall.Errno) (probe.Outcome, probe.Origin) {
	outcome := outcomeOf(errno)
	if outcome == probe.Reset || outcome == probe.Closed {
		return outcome, probe.OriginTarget
	}
	return outcome, probe.OriginNone
}

func classifyLookup(err *net.DNSError) (probe.Outcome, probe.Origin) {
	switch {
	case err.IsNotFound:
		return probe.DNSNotFound, probe.OriginNone
	case err.IsTimeout:
		return probe.DNSTimeout, probe.OriginNone
	default:
		return probe.DNSError, probe.OriginNone
	}
}

// isTimeout reports whether time ran out, for a context or for a socket.
func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded)
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
	)
	return errors.As(err, &header) || errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// withExpiry adds when the first certificate expires, where a certificate is
// what a probe failed for: the prober tells of those it trusts only.
func withExpiry(r probe.Result, errs []error) probe.Result {
	for _, err := range errs {
		var failed *tls.CertificateVerificationError
		if errors.As(err, &failed) && len(failed.UnverifiedCertificates) > 0 {
			expiry := expiryOf(failed.UnverifiedCertificates)
			metric := earliestExpiry
			r.Samples = append(r.Samples, probe.Sample{Metric: &metric, Value: float64(expiry.Unix())})
			return r
		}
	}
	return r
}
