package blackbox_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestTokenRequestsAreNotRedirected has a token server redirect to another server, to
// another path of its own, and through a proxy: a token request carries the secret,
// which goes to token_url only.
func TestTokenRequestsAreNotRedirected(t *testing.T) {
	var elsewhere atomic.Int32
	thief := web(t, func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": "t", "token_type": "Bearer", "expires_in": 60}`)
	})
	target := web(t, func(http.ResponseWriter, *http.Request) { t.Error("the target was asked without a token") })
	for name, credential := range map[string]string{
		"client_secret": "client_secret: topsecret",
		"jwt-bearer":    "grant_type: 'urn:ietf:params:oauth:grant-type:jwt-bearer', client_certificate_key: " + quotedKey(t),
	} {
		for _, code := range []int{301, 302, 303, 307, 308} {
			for _, to := range []string{thief + "/x?token=hidden", "/elsewhere", byHost(thief, "localhost")} {
				server := httptest.NewServer(nil)
				t.Cleanup(server.Close)
				server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/elsewhere" {
						elsewhere.Add(1)
					}
					w.Header().Set("Location", to)
					w.WriteHeader(code)
				})
				proxy := httpProxy(t, hostOf(server.URL), nil)
				for _, more := range []string{"", ", proxy_url: 'http://" + proxy.address + "'"} {
					m := parseModule(t, probe.KindHTTP, fmt.Sprintf("{oauth2: {client_id: a, %s, token_url: '%s/token'%s}}", credential, server.URL, more))
					r := probeWith(t, m, probe.Request{Address: target})
					text := fmt.Sprint(r.Err)
					if described(r) != "local_error none local" || !strings.Contains(text, "\nhint: ") || !strings.Contains(text, "token_url") || strings.Contains(text, "hidden") {
						t.Errorf("%s, %d to %s%s: %s: %v", name, code, to, more, described(r), r.Err)
					}
					if n := elsewhere.Swap(0); n > 0 {
						t.Errorf("%s, %d to %s%s: %d requests went to where the redirect leads", name, code, to, more, n)
					}
				}
			}
		}
	}
}

// TestTokenByAssertion gets a token for an assertion that a key signed.
func TestTokenByAssertion(t *testing.T) {
	tokens := web(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Count(r.FormValue("assertion"), ".") != 2 || r.FormValue("scope") != "c d" || r.FormValue("e") != "f" ||
			r.FormValue("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" || r.UserAgent() != "us" {
			w.WriteHeader(http.StatusTeapot)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": "secret", "token_type": "Bearer", "expires_in": 60}`)
	})
	target := web(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	m := parseModule(t, probe.KindHTTP, fmt.Sprintf(`{headers: {User-Agent: us}, oauth2: {client_id: a, scopes: [c, d], endpoint_params: {e: f}, signature_algorithm: RS512,
  grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer", client_certificate_key: %s, token_url: '%s'}}`, quotedKey(t), tokens))
	if r := probeWith(t, m, probe.Request{Address: target}); r.Outcome != probe.Open {
		t.Errorf("%s: %v", described(r), r.Err)
	}
}

// quotedKey returns a new RSA key as PEM, for a line of YAML.
func quotedKey(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%q", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
}
