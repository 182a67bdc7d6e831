package porttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"testing"
	"time"
)

// Authority signs the certificates of a test.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority that is not trusted yet.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	c := SelfSigned(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.KeyUsage, c.IsCA, c.BasicConstraintsValid = "Test Authority", x509.KeyUsageCertSign, true, true
		c.NotAfter = time.Now().Add(1000 * time.Hour)
	})
	return &Authority{c.Leaf, c.PrivateKey.(*ecdsa.PrivateKey)}
}

// SelfSigned is [Authority.Issue] without an authority.
func SelfSigned(t testing.TB, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	return (*Authority)(nil).Issue(t, change...)
}

// Issue makes a certificate for server.test, 127.0.0.1 and 127.8.0.1 that expires
// in twelve hours, if nothing changes that.
func (a *Authority) Issue(t testing.TB, change ...func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0x0a0b), Subject: pkix.Name{CommonName: "server.test"}, DNSNames: []string{"server.test"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(127, 8, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(12 * time.Hour),
	}
	for _, f := range change {
		f(template)
	}
	parent, by := template, key
	if a != nil {
		parent, by = a.Certificate, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// WritePEM writes a certificate and its key, if it has one, into one file, which
// serves as each of the two wherever both are asked for.
func WritePEM(t testing.TB, path string, c tls.Certificate) string {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	if c.PrivateKey != nil {
		key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
