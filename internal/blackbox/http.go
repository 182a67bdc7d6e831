package blackbox

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"regexp"

	"github.com/prometheus/blackbox_exporter/config"
	pconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/version"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// newHTTP makes our prober of the settings of blackbox_exporter's.
func newHTTP(s config.HTTPProbe, f *files.Reader) *prober.HTTP {
	c := &s.HTTPClientConfig
	header, host := newHeader(s.Headers)
	p := newRequests(c, header, c.HTTPHeaders, f)
	p.Resolution = Resolution(s.IPProtocol, s.IPProtocolFallback)
	p.Method, p.Host, p.Body = s.Method, host, s.Body
	p.FollowRedirects, p.HTTP2, p.HTTP3 = c.FollowRedirects, c.EnableHTTP2, s.UseHTTP3
	p.ProxyResolves, p.Answer = s.SkipResolvePhaseWithProxy, newAnswer(&s)
	if s.BodyFile != "" {
		p.BodyFile = func() ([]byte, error) { return f.Read(s.BodyFile) }
	}
	return &p
}

// newRequests makes what all requests of a module have: headers, credentials, TLS and
// proxies. Those of the other headers that hold no secret join the header.
func newRequests(c *pconfig.HTTPClientConfig, header http.Header, others *pconfig.Headers, f *files.Reader) prober.HTTP {
	p := prober.HTTP{
		Header: header, Plain: IsPlainHeader,
		TLSConfig: func() (*tls.Config, error) { return newTLS(c.TLSConfig, f) },
		Proxy:     c.Proxy(), ProxyHeader: c.GetProxyConnectHeader(),
	}
	credentials := client{HTTPClientConfig: c, headers: secretHeaders(others, header), agent: header.Get("User-Agent"), files: f}
	if !credentials.isBare() {
		p.Credentials = credentials.wrap
	}
	return p
}

// newHeader returns the headers of a request, and its host if it has another than
// the target.
func newHeader(headers map[string]string) (http.Header, string) {
	h, host := make(http.Header, len(headers)+1), ""
	for name, value := range headers {
		if textproto.CanonicalMIMEHeaderKey(name) == "Host" {
			host = value
			continue
		}
		h.Set(name, value)
	}
	if _, named := h["User-Agent"]; !named {
		h.Set("User-Agent", "Blackbox-Exporter/"+version.Version)
	}
	return h, host
}

// secretHeaders adds the entries of http_headers that hold no secret to a header,
// and returns the others.
func secretHeaders(all *pconfig.Headers, plain http.Header) *pconfig.Headers {
	if all == nil {
		return nil
	}
	secret := &pconfig.Headers{Headers: map[string]pconfig.Header{}}
	for name, h := range all.Headers {
		if !IsPlainHeader(name) || len(h.Secrets)+len(h.Files) > 0 {
			secret.Headers[name] = h
			continue
		}
		for _, value := range h.Values {
			plain.Add(name, value)
		}
	}
	return secret
}

// IsPlainHeader reports whether the value of an HTTP header may be shown, and
// sent to hosts that the configuration does not name. Any other may be a token.
func IsPlainHeader(name string) bool {
	switch textproto.CanonicalMIMEHeaderKey(name) {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Content-Encoding",
		"Content-Type", "Host", "If-Modified-Since", "If-None-Match", "Origin", "Pragma", "Range", "Te", "Upgrade", "User-Agent":
		return true
	}
	return false
}

func newAnswer(s *config.HTTPProbe) prober.HTTPAnswer {
	return prober.HTTPAnswer{
		Statuses: s.ValidStatusCodes, Versions: s.ValidHTTPVersions,
		RejectTLS: s.FailIfSSL, RequireTLS: s.FailIfNotSSL,
		RejectHeaders: headerRules(s.FailIfHeaderMatchesRegexp), RequireHeaders: headerRules(s.FailIfHeaderNotMatchesRegexp),
		RejectBody: regexps(s.FailIfBodyMatchesRegexp), RequireBody: regexps(s.FailIfBodyNotMatchesRegexp),
		RejectJSON: jsonRule(s.FailIfBodyJsonMatchesCEL), RequireJSON: jsonRule(s.FailIfBodyJsonNotMatchesCEL),
		Compression: s.Compression, BodyLimit: int64(s.BodySizeLimit),
	}
}

func headerRules(matches []config.HeaderMatch) (rules []prober.HeaderRule) {
	for _, m := range matches {
		rules = append(rules, prober.HeaderRule{Name: m.Header, Regexp: m.Regexp.Regexp, AllowMissing: m.AllowMissing})
	}
	return rules
}

func regexps(written []config.Regexp) (out []*regexp.Regexp) {
	for _, re := range written {
		out = append(out, re.Regexp)
	}
	return out
}

func jsonRule(program *config.CELProgram) *prober.JSONRule {
	if program == nil {
		return nil
	}
	return &prober.JSONRule{Text: program.Expression, Holds: func(ctx context.Context, body any) (bool, error) {
		value, _, err := program.ContextEval(ctx, map[string]any{"body": body})
		if err != nil {
			return false, err
		}
		holds, ok := value.Value().(bool)
		if !ok {
			return false, fmt.Errorf("it is of type %s and not bool", value.Type().TypeName())
		}
		return holds, nil
	}}
}

// client is what a module proves who we are with.
type client struct {
	*pconfig.HTTPClientConfig
	headers *pconfig.Headers // of http_headers, those that hold a secret
	agent   string           // User-Agent, to the token server too
	files   *files.Reader
}

func (c client) isBare() bool {
	return c.Authorization == nil && c.BearerToken == "" && c.BearerTokenFile == "" && c.BasicAuth == nil && c.OAuth2 == nil && (c.headers == nil || len(c.headers.Headers) == 0)
}

// wrap adds it to requests, in the order of prometheus/common's own client.
func (c client) wrap(next http.RoundTripper, dial prober.DialContext) (http.RoundTripper, error) {
	if a := c.Authorization; a != nil {
		credentials, err := c.secret(a.Credentials, a.CredentialsFile, a.CredentialsRef)
		if err != nil {
			return nil, err
		}
		next = pconfig.NewAuthorizationCredentialsRoundTripper(a.Type, credentials, next)
	}
	if c.BearerToken != "" || c.BearerTokenFile != "" {
		token, err := c.secret(c.BearerToken, c.BearerTokenFile, "")
		if err != nil {
			return nil, err
		}
		next = pconfig.NewAuthorizationCredentialsRoundTripper("Bearer", token, next)
	}
	if b := c.BasicAuth; b != nil {
		user, userErr := c.secret(pconfig.Secret(b.Username), b.UsernameFile, b.UsernameRef)
		password, err := c.secret(b.Password, b.PasswordFile, b.PasswordRef)
		if err := cmp.Or(userErr, err); err != nil {
			return nil, err
		}
		next = pconfig.NewBasicAuthRoundTripper(user, password, next)
	}
	if c.OAuth2 != nil {
		var err error
		if next, err = c.withToken(next, dial); err != nil {
			return nil, err
		}
	}
	if c.headers == nil {
		return next, nil
	}
	headers, err := inlineHeaders(c.headers, c.files)
	if err != nil {
		return nil, err
	}
	return pconfig.NewHeadersRoundTripper(headers, next), nil
}

var errRef = errors.New("a secret by reference needs a secret manager, and there is none")

// secret returns a secret; nil if there is none.
func (c client) secret(text pconfig.Secret, file, ref string) (pconfig.SecretReader, error) {
	if text == "" && file == "" && ref == "" {
		return nil, nil
	}
	found, err := c.text(text, file, ref)
	if err != nil {
		return nil, err
	}
	return pconfig.NewInlineSecret(found), nil
}

// text returns the text of a secret; empty if there is none.
func (c client) text(text pconfig.Secret, file, ref string) (string, error) {
	switch {
	case text != "":
		return string(text), nil
	case file != "":
		return readText(file, c.files)
	case ref != "":
		return "", errRef
	default:
		return "", nil
	}
}
