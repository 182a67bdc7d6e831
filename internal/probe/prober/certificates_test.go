package prober

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// authority signs the certificates of a test.
type authority struct{ *porttest.Authority }

func newAuthority(t testing.TB) *authority { return &authority{porttest.NewAuthority(t)} }

// issue makes a certificate for a name and 127.0.0.1.
func (a *authority) issue(t testing.TB, name string, expires time.Time) tls.Certificate {
	t.Helper()
	return a.Issue(t, forName(name, expires))
}

func forName(name string, expires time.Time) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.NotAfter = name, []string{name}, expires
	}
}

// trusting returns the TLSConfig of a prober that trusts the authority.
func (a *authority) trusting() func(string) (*tls.Config, error) { return trusting(a.Certificate) }

func trusting(c *x509.Certificate) func(string) (*tls.Config, error) {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return func(serverName string) (*tls.Config, error) {
		return &tls.Config{RootCAs: pool, ServerName: serverName}, nil
	}
}
