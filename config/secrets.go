package config

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// hidden replaces what is not shown, as in the configurations of Prometheus.
const hidden = "<secret>"

// isSecretKey reports whether all below a key of a module is hidden: what the
// library calls a secret, and what users put secrets into where it has no place
// for them. A body may hold a login, a line that is sent may be AUTH or PASS.
func isSecretKey(key string) bool {
	switch key {
	case "password", "credentials", "client_secret", "client_certificate_key", "bearer_token", "key", "secrets",
		"proxy_connect_header", "endpoint_params", "claims", "body", "send", "metadata":
		return true
	}
	return false
}

// hide replaces what is secret in a module, which must be a copy.
func hide(node *yaml.Node) {
	if node.Kind == yaml.MappingNode {
		for key, value := range yamldoc.Pairs(node) {
			hideValue(key.Value, value)
		}
		return
	}
	for _, item := range node.Content {
		hide(item)
	}
}

func hideValue(key string, value *yaml.Node) {
	switch {
	case isSecretKey(key):
		hideAll(value)
	case key == "headers" || key == "http_headers":
		for name, header := range yamldoc.Pairs(value) {
			hideHeader(name.Value, header)
		}
	case value.Kind == yaml.ScalarNode && strings.HasSuffix(key, "_url"):
		value.Value = withoutPassword(value.Value)
	case value.Kind == yaml.ScalarNode && (key == "payload" || key == "send_bytes"):
		if kind, _, isLiteral := strings.Cut(value.Value, ":"); isLiteral {
			value.Value = kind + ":" + hidden
		}
	default:
		hide(value)
	}
}

// hideHeader hides the value of a header: a text, or those of http_headers, which
// has secrets and files beside its values.
func hideHeader(name string, header *yaml.Node) {
	hide(header)
	if blackbox.IsPlainHeader(name) {
		return
	}
	if _, values := yamldoc.Child(header, "values"); values != nil {
		hideAll(values)
	}
	if header.Kind == yaml.ScalarNode {
		hideAll(header)
	}
}

// holdsCredentials reports whether a module proves to its target who we are: by
// what the library has for that, by a header that is not known to be plain, by
// metadata, or by a client certificate. What the proxy gets does not count, since
// no client chooses the proxy. Neither do the texts of send and body: they are a
// greeting or {} far more often than a login, which looks like them.
func (m *module) holdsCredentials() bool {
	s := &m.settings
	switch s.Prober {
	case probe.KindHTTP:
		return authenticates(&s.HTTP.HTTPClientConfig) || slices.ContainsFunc(sortedKeys(s.HTTP.Headers), isSecretHeader)
	case probe.KindWebSocket:
		return authenticates(&m.webSocket.HTTPClientConfig) || proves(&m.webSocket.Headers)
	case probe.KindTCP:
		return hasKey(&s.TCP.TLSConfig)
	case probe.KindUnix:
		return hasKey(&s.Unix.TLSConfig)
	case probe.KindGRPC:
		return len(s.GRPC.Metadata) > 0 || hasKey(&s.GRPC.TLSConfig)
	case probe.KindDNS:
		return hasKey(&s.DNS.TLSConfig)
	default:
		return false
	}
}

func authenticates(c *blackbox.ClientConfig) bool {
	return c.BasicAuth != nil || c.Authorization != nil || c.OAuth2 != nil || c.BearerToken != "" || c.BearerTokenFile != "" ||
		hasKey(&c.TLSConfig) || c.HTTPHeaders != nil && proves(c.HTTPHeaders)
}

// proves reports whether one of the headers may hold a secret.
func proves(h *blackbox.Headers) bool {
	for name, header := range h.Headers {
		if isSecretHeader(name) || len(header.Secrets)+len(header.Files) > 0 {
			return true
		}
	}
	return false
}

func isSecretHeader(name string) bool { return !blackbox.IsPlainHeader(name) }

// hasKey reports whether there is a key, and so a certificate to show.
func hasKey(t *blackbox.TLS) bool { return t.Key != "" || t.KeyFile != "" || t.KeyRef != "" }

func hideAll(node *yaml.Node) {
	if node.Kind == yaml.ScalarNode && node.Value != "" {
		node.Tag, node.Style, node.Value = "!!str", 0, hidden
	}
	for i, c := range node.Content {
		if node.Kind != yaml.MappingNode || i%2 == 1 {
			hideAll(c)
		}
	}
}

// withoutPassword shows a URL without what may be secret in it.
func withoutPassword(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return hidden
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	if u.RawQuery != "" {
		u.RawQuery = "xxxxx"
	}
	return u.String()
}

// withoutValues returns the faults that a library found in a node, without the
// values that it quotes: each may be a secret.
func withoutValues(err error) []string {
	if typed, ok := errors.AsType[*yaml.TypeError](err); ok {
		quoted := regexp.MustCompile("(?s)`.*`")
		var out []string
		for _, text := range typed.Errors {
			out = append(out, quoted.ReplaceAllString(text, "this"))
		}
		return out
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return []string{"a URL in it cannot be read\nhint: it begins with http:// or another scheme; in a user name or a password write other characters than letters and digits as %XX"}
	}
	return []string{err.Error()}
}
