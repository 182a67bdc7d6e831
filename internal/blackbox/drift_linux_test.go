package blackbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestSHA1Signatures reaches a device of TLS 1.2 that signs its handshake with
// SHA-1 only, as those that people use blackbox_exporter for.
func TestSHA1Signatures(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("SKIP-OPENSSL: not installed")
	}
	pem := porttest.WritePEM(t, filepath.Join(t.TempDir(), "server"), rsaCertificate(t))
	address := freePort(t)
	start(t, address, openssl, "s_server", "-accept", address, "-cert", pem, "-key", pem, "-www",
		"-tls1_2", "-sigalgs", "RSA+SHA1", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256:@SECLEVEL=0")
	r := probeWith(t, parseModule(t, probe.KindHTTP, "{tls_config: {insecure_skip_verify: true}}"), probe.Request{Address: "https://" + address + "/"})
	if r.Outcome != probe.Open {
		t.Errorf("%s: %v", described(r), r.Err)
	}
}

// rsaCertificate is self-signed, and signs itself with SHA-256.
func rsaCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestIPv6WithoutBrackets is read as blackbox_exporter reads it.
func TestIPv6WithoutBrackets(t *testing.T) {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("SKIP-IPV6: no IPv6 here")
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: withStatus(200)}}
	server.Start()
	t.Cleanup(server.Close)
	target := "http://" + strings.NewReplacer("[", "", "]", "").Replace(l.Addr().String()) + "/"
	if r := probeWith(t, parseModule(t, probe.KindHTTP, ""), probe.Request{Address: target}); r.Outcome != probe.Open {
		t.Errorf("%s: %s: %v", target, described(r), r.Err)
	}
}
