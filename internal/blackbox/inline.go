package blackbox

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	pconfig "github.com/prometheus/common/config"

	"github.com/port-exporter/port_exporter/internal/files"
)

// prometheus/common would read the files of a module itself: without a limit, and
// waiting for pipes and dead file systems. Here their contents take their place.

var errEmpty = errors.New("the file is empty")

// readText returns what is in a file, without the white space around it, as
// prometheus/common reads secrets. A file without text is an error: left out, it
// would mean no password, or the certificate authorities of the host.
func readText(path string, f *files.Reader) (string, error) {
	text, err := f.Read(path)
	if err != nil {
		return "", err
	}
	trimmed := strings.TrimSpace(string(text))
	if trimmed == "" {
		return "", &fs.PathError{Op: "read", Path: path, Err: errEmpty}
	}
	return trimmed, nil
}

// newTLS makes a configuration of handshakes, reading the files that it names.
func newTLS(c pconfig.TLSConfig, f *files.Reader) (*tls.Config, error) {
	inline, err := inlineTLS(c, f)
	if err != nil {
		return nil, err
	}
	config, err := pconfig.NewTLSConfig(&inline)
	if named := slices.DeleteFunc([]string{c.CAFile, c.CertFile, c.KeyFile}, func(path string) bool { return path == "" }); err != nil && len(named) > 0 {
		return nil, fmt.Errorf("%s: %w", strings.Join(named, ", "), err)
	}
	return config, err
}

// inlineTLS puts the contents of files in their place.
func inlineTLS(c pconfig.TLSConfig, f *files.Reader) (pconfig.TLSConfig, error) {
	for _, one := range []struct {
		path *string
		set  func(text string)
	}{
		{&c.CAFile, func(text string) { c.CA = text }},
		{&c.CertFile, func(text string) { c.Cert = text }},
		{&c.KeyFile, func(text string) { c.Key = pconfig.Secret(text) }},
	} {
		if *one.path == "" {
			continue
		}
		text, err := readText(*one.path, f)
		if err != nil {
			return c, err
		}
		one.set(text)
		*one.path = ""
	}
	return c, nil
}

// inlineHeaders puts the contents of files in their place, behind the other values of
// their header.
func inlineHeaders(h *pconfig.Headers, f *files.Reader) (*pconfig.Headers, error) {
	inline := &pconfig.Headers{Headers: make(map[string]pconfig.Header, len(h.Headers))}
	for name, header := range h.Headers {
		header.Secrets = slices.Clone(header.Secrets)
		for _, path := range header.Files {
			text, err := readText(path, f)
			if err != nil {
				return nil, err
			}
			header.Secrets = append(header.Secrets, pconfig.Secret(text))
		}
		header.Files = nil
		inline.Headers[name] = header
	}
	return inline, nil
}
