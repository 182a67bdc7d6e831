package blackbox

import (
	"maps"
	"net/textproto"

	"github.com/prometheus/blackbox_exporter/config"
	pconfig "github.com/prometheus/common/config"

	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// WebSocket is the section websocket of a module, which blackbox_exporter has after
// v0.28.0: its decoder does not know it yet.
type WebSocket struct {
	HTTPClientConfig   pconfig.HTTPClientConfig `yaml:"http_config,omitempty"`
	Headers            pconfig.Headers          `yaml:"headers,omitempty"`
	QueryResponse      []config.QueryResponse   `yaml:"query_response,omitempty"`
	IPProtocol         string                   `yaml:"preferred_ip_protocol,omitempty"`
	IPProtocolFallback bool                     `yaml:"ip_protocol_fallback,omitempty"`
}

// DefaultWebSocket returns the section of a module that has none.
func DefaultWebSocket() WebSocket { return WebSocket{IPProtocolFallback: true} }

// UnmarshalYAML implements yaml.Unmarshaler.
func (w *WebSocket) UnmarshalYAML(unmarshal func(any) error) error {
	*w = DefaultWebSocket()
	type plain WebSocket
	if err := unmarshal((*plain)(w)); err != nil {
		return err
	}
	return w.HTTPClientConfig.Validate()
}

// NewWebSocket returns the prober of a section, with its steps. blackbox_exporter
// takes of http_config the credentials and TLS only; here all of it counts that a
// handshake has.
func NewWebSocket(s WebSocket, steps []prober.Step, f *files.Reader) *prober.WebSocket {
	header, _ := newHeader(nil)
	others, host := &pconfig.Headers{Headers: map[string]pconfig.Header{}}, ""
	if of := s.HTTPClientConfig.HTTPHeaders; of != nil {
		maps.Copy(others.Headers, of.Headers)
	}
	for name, h := range s.Headers.Headers {
		switch textproto.CanonicalMIMEHeaderKey(name) {
		case "Host":
			if len(h.Values) > 0 {
				host = h.Values[0]
			}
			continue
		case "User-Agent":
			header.Del("User-Agent")
		}
		others.Headers[name] = h
	}
	p := newRequests(&s.HTTPClientConfig, header, others, f)
	p.Resolution, p.Host = Resolution(s.IPProtocol, s.IPProtocolFallback), host
	return &prober.WebSocket{HTTP: p, Exchange: steps}
}
