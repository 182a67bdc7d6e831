package blackbox

import (
	"bytes"
	"crypto/tls"

	"github.com/prometheus/blackbox_exporter/config"
	pconfig "github.com/prometheus/common/config"
	"go.yaml.in/yaml/v3"

	"github.com/port-exporter/port_exporter/internal/files"
)

// The parts of a [Module] that probers of ours use too.
type (
	// Step is an entry of query_response.
	Step = config.QueryResponse
	// ClientConfig is what HTTP requests have of a module.
	ClientConfig = pconfig.HTTPClientConfig
	// Headers are http_headers.
	Headers = pconfig.Headers
	// TLS is a tls_config.
	TLS = pconfig.TLSConfig
	// Secret is a text that is never written.
	Secret = pconfig.Secret
	// Regexp is a regular expression in a module.
	Regexp = config.Regexp
	// Header is an entry of http_headers.
	Header = pconfig.Header
)

// ParseModule reads the YAML of one module as blackbox_exporter does: with its
// defaults, its checks, and no unknown keys.
func ParseModule(text []byte) (Module, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	var m Module
	err := decoder.Decode(&m)
	return m, err
}

// TLSConfig returns what makes the configuration of a handshake. Files are read
// each time, so that a new certificate needs no reload.
func TLSConfig(c TLS, f *files.Reader) func(serverName string) (*tls.Config, error) {
	return func(string) (*tls.Config, error) { return newTLS(c, f) }
}
