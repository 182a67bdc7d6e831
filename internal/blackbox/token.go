package blackbox

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/golang-jwt/jwt/v5"
	pconfig "github.com/prometheus/common/config"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// grantJWT is the grant_type whose credential is a key: RFC 7523.
const grantJWT = "urn:ietf:params:oauth:grant-type:jwt-bearer"

// withToken gets a token for the requests. The client of prometheus/common follows
// redirects of the token server, with the secret; this one does not.
func (c client) withToken(next http.RoundTripper, dial prober.DialContext) (http.RoundTripper, error) {
	o := c.OAuth2
	config, err := newTLS(o.TLSConfig, c.files)
	if err != nil {
		return nil, err
	}
	var t http.RoundTripper = stay{&http.Transport{
		TLSClientConfig: config, DialContext: dial,
		Proxy: o.Proxy(), ProxyConnectHeader: o.GetProxyConnectHeader(),
		DisableKeepAlives: true, MaxResponseHeaderBytes: prober.MaxHeader,
	}}
	if c.agent != "" {
		t = pconfig.NewUserAgentRoundTripper(c.agent, t)
	}
	source := c.clientToken
	if o.GrantType == grantJWT {
		source = c.assertedToken
	}
	tokens, err := source(context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: t}))
	if err != nil {
		return nil, err
	}
	return &oauth2.Transport{Source: tokens, Base: next}, nil
}

// clientToken gets tokens for a client's secret: RFC 6749, section 4.4.
func (c client) clientToken(ctx context.Context) (oauth2.TokenSource, error) {
	o := c.OAuth2
	secret, err := c.text(o.ClientSecret, o.ClientSecretFile, o.ClientSecretRef)
	return (&clientcredentials.Config{
		ClientID: o.ClientID, ClientSecret: secret,
		Scopes: o.Scopes, TokenURL: o.TokenURL, EndpointParams: values(o.EndpointParams),
	}).TokenSource(ctx), err
}

// assertedToken gets tokens for an assertion that a key signs: RFC 7523.
func (c client) assertedToken(ctx context.Context) (oauth2.TokenSource, error) {
	o := c.OAuth2
	key, err := c.text(o.ClientCertificateKey, o.ClientCertificateKeyFile, o.ClientCertificateKeyRef)
	return (&pconfig.JwtGrantTypeConfig{
		PrivateKey: []byte(key), PrivateKeyID: o.ClientCertificateKeyID, SigningAlgorithm: signing(o.SignatureAlgorithm),
		Iss: cmp.Or(o.Iss, o.ClientID), Subject: o.ClientID, Audience: o.Audience, PrivateClaims: o.Claims,
		Scopes: o.Scopes, TokenURL: o.TokenURL, EndpointParams: values(o.EndpointParams),
	}).TokenSource(ctx), err
}

func signing(algorithm string) *jwt.SigningMethodRSA {
	for _, method := range []*jwt.SigningMethodRSA{jwt.SigningMethodRS384, jwt.SigningMethodRS512} {
		if method.Name == algorithm {
			return method
		}
	}
	return jwt.SigningMethodRS256
}

func values(m map[string]string) url.Values {
	v := make(url.Values, len(m))
	for name, value := range m {
		v.Set(name, value)
	}
	return v
}

// stay follows no redirect: what it asks with is for the server that the
// configuration names.
type stay struct{ next http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (s stay) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := s.next.RoundTrip(r)
	if err != nil || response.StatusCode < 300 || response.StatusCode > 399 {
		return response, err
	}
	_ = response.Body.Close()
	return nil, fmt.Errorf("the token server answers %d, and redirects of token requests are not followed\nhint: write the URL that gives the token in token_url", response.StatusCode)
}
