package blackbox

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"regexp/syntax"

	"golang.org/x/net/http2"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// classify says what an error of a known type means, or Unknown.
func classify(err error) (probe.Outcome, probe.Origin) {
	var (
		connect *probe.ConnectError
		lookup  *net.DNSError
		file    *fs.PathError
		regex   *syntax.Error
		stream  http2.StreamError
	)
	switch {
	case errors.As(err, &connect):
		return connect.Outcome, connect.Origin
	case errors.As(err, &lookup):
		return probe.ClassifyLookup(err)
	case isNoAddress(err):
		return probe.DNSNotFound, probe.OriginNone
	case isCertificate(err):
		return probe.TLSCertificate, probe.OriginTarget
	case isTLS(err):
		return probe.TLSHandshake, probe.OriginTarget
	case errors.As(err, &stream):
		return probe.Reset, probe.OriginTarget
	case errors.As(err, &file), errors.As(err, &regex): // of the module: a body, a key, a token, a validator
		return probe.LocalError, probe.OriginLocal
	default:
		return probe.Classify(err)
	}
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
