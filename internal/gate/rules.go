package gate

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/common/config"
	toolkit "github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
	"golang.org/x/crypto/bcrypt"

	"github.com/port-exporter/port_exporter/internal/files"
)

// rules are a web configuration with all that it names, read and checked. They
// never change.
type rules struct {
	toolkit.Config
	tls    *tls.Config // nil for plain text
	stamps stamps
	read   time.Time
	cut    bool            // the file does not end with a line break
	keys   map[string]bool // those at the top that have a value
}

// maxSize is in bytes.
const maxSize = 1 << 20

// read reads the file at a path, and those that it names.
func read(ctx context.Context, path string) (*rules, error) {
	r := &rules{stamps: stamps{stampOf(path)}, read: time.Now(), keys: map[string]bool{}}
	text, err := files.Rules{Limit: maxSize}.Read(ctx, path)
	if err != nil {
		return nil, err
	}
	r.cut = len(text) > 0 && text[len(text)-1] != '\n'
	if err := r.parse(text); err != nil {
		return nil, err
	}
	if r.TLSConfig.IsEnabled() {
		r.TLSConfig.SetDirectory(filepath.Dir(path))
		err = r.loadTLS(ctx)
	}
	return r, errors.Join(err, r.check())
}

func (r *rules) parse(text []byte) error {
	r.Config = toolkit.Config{
		TLSConfig:  toolkit.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13},
		HTTPConfig: toolkit.HTTPConfig{HTTP2: true},
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&r.Config); err != nil && !errors.Is(err, io.EOF) {
		return withoutValues(err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("a second YAML document begins")
	}
	var top map[string]any
	if err := yaml.Unmarshal(text, &top); err != nil {
		return withoutValues(err)
	}
	for key, value := range top {
		r.keys[key] = value != nil
	}
	return nil
}

// saysSomething reports whether the file may be an emptied one: without users, or
// with a key that has lost its value, it would let everybody in.
func (r *rules) saysSomething() error {
	for key, hasValue := range r.keys {
		if !hasValue {
			return fmt.Errorf("%s has no value\nhint: write {} for an empty one", key)
		}
	}
	if len(r.keys) == 0 {
		return errors.New("file is empty\nhint: for no password and no TLS write basic_auth_users: {}, or omit --web.config.file")
	}
	return nil
}

// withoutValues returns an error of the library without the values that it quotes,
// which may be secrets, and without names of types.
func withoutValues(err error) error {
	text := regexp.MustCompile("(?s)`.*?`").ReplaceAllString(err.Error(), "a value")
	return errors.New(regexp.MustCompile(` in type web\.\w+| into web\.\w+`).ReplaceAllString(text, ""))
}

// loadTLS puts in the texts of the files that are named, so that a key and its
// certificate are of one moment.
func (r *rules) loadTLS(ctx context.Context) (err error) {
	c := &r.TLSConfig
	load := func(key string, path *string, into func(string)) {
		if *path == "" || err != nil {
			return
		}
		r.stamps = append(r.stamps, stampOf(*path))
		text, failed := files.Rules{Limit: maxSize}.Read(ctx, *path)
		if failed != nil {
			err = fmt.Errorf("tls_server_config.%s: %w", key, failed)
			return
		}
		into(string(text))
		*path = ""
	}
	load("cert_file", &c.TLSCertPath, func(text string) { c.TLSCert = text })
	load("key_file", &c.TLSKeyPath, func(text string) { c.TLSKey = config.Secret(text) })
	load("client_ca_file", &c.ClientCAs, func(text string) { c.ClientCAsText = text })
	if err != nil {
		return err
	}
	if c.ClientCAsText != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(c.ClientCAsText)) {
		return errors.New("tls_server_config.client_ca: no certificate found")
	}
	if r.tls, err = toolkit.ConfigToTLSConfig(c); err != nil {
		return fmt.Errorf("tls_server_config: %w", err)
	}
	if r.tls.ClientAuth >= tls.VerifyClientCertIfGiven && r.tls.ClientCAs == nil { // Go would use those of the system
		return fmt.Errorf("tls_server_config.client_auth_type: %s requires client_ca_file or client_ca\nhint: without, clients with a certificate of any public CA would be accepted; to accept these, give their file", c.ClientAuth)
	}
	// A session that is resumed would be that of a client that was verified before.
	r.tls.SessionTicketsDisabled = r.tls.ClientAuth != tls.NoClientCert
	if r.tls.NextProtos = []string{"h2", "http/1.1"}; !r.HTTPConfig.HTTP2 {
		r.tls.NextProtos = r.tls.NextProtos[1:]
	}
	return nil
}

// headers are those that may be set, with the values they may have; none is any.
func headers() map[string][]string {
	return map[string][]string{
		"Strict-Transport-Security": nil, "X-Content-Type-Options": {"nosniff"}, "X-Frame-Options": {"deny", "sameorigin"},
		"X-XSS-Protection": nil, "Content-Security-Policy": nil,
	}
}

func (r *rules) check() error {
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(r.Users)) {
		if _, err := bcrypt.Cost([]byte(r.Users[name])); err != nil {
			faults = append(faults, fmt.Errorf("basic_auth_users.%s: not a bcrypt hash\nhint: create one with htpasswd -nBC 10 \"\"", name))
		}
	}
	for name, value := range r.HTTPConfig.Header {
		values, known := headers()[name]
		if !known || len(values) > 0 && !slices.Contains(values, value) {
			faults = append(faults, fmt.Errorf("http_server_config.headers.%s: unknown header or invalid value", name))
		}
	}
	return errors.Join(faults...)
}

// opens reports what the rules let through that those before did not, without
// saying so: then the file is probably half written.
func (r *rules) opens(before *rules) error {
	const hint = "hint: the file may be incomplete; if it is not, restart"
	now, then := &r.TLSConfig, &before.TLSConfig
	switch {
	case len(before.Users) > 0 && len(r.Users) == 0 && !r.keys["basic_auth_users"]:
		return fmt.Errorf("basic_auth_users: all %d users were removed\n%s, or write basic_auth_users: {}", len(before.Users), hint)
	case r.cut && !before.cut:
		return errors.New("file does not end with a line break\nhint: it may be incomplete; if it is not, end its last line")
	case (before.tls == nil) != (r.tls == nil):
		return errors.New("tls_server_config: TLS can only be switched on or off by a restart\n" + hint)
	case then.ClientAuth != "" && now.ClientAuth == "":
		return errors.New("tls_server_config.client_auth_type: key was removed\n" + hint + ", or write NoClientCert")
	case len(then.ClientAllowedSans) > 0 && now.ClientAllowedSans == nil:
		return errors.New("tls_server_config.client_allowed_sans: key was removed\n" + hint + ", or write an empty list")
	}
	return nil
}

// stamp identifies the state of a file, to detect changes.
type stamp struct {
	path string
	info os.FileInfo // nil if there is none
}

type stamps []stamp

func stampOf(path string) stamp {
	info, _ := os.Stat(path) // read says what is wrong
	return stamp{path, info}
}

func (s stamps) paths() (paths []string) {
	for i := range s {
		paths = append(paths, s[i].path)
	}
	return paths
}

// again returns the stamps that the files have now.
func (s stamps) again() stamps {
	now := make(stamps, len(s))
	for i := range s {
		now[i] = stampOf(s[i].path)
	}
	return now
}

func (s stamps) equal(other stamps) bool {
	return slices.EqualFunc(s, other, func(a, b stamp) bool {
		if a.info == nil || b.info == nil {
			return a.path == b.path && a.info == nil && b.info == nil
		}
		return a.path == b.path && os.SameFile(a.info, b.info) && a.info.Size() == b.info.Size() && a.info.ModTime().Equal(b.info.ModTime())
	})
}

// isFresh reports whether one of the files changed within some time. One from the
// future does not count: see isAhead.
func (s stamps) isFresh(within time.Duration) bool {
	return slices.ContainsFunc(s, func(one stamp) bool {
		if one.info == nil {
			return false
		}
		age := time.Since(one.info.ModTime())
		return 0 <= age && age < within
	})
}

// isAhead reports whether a file is from the future, as on a server whose clock is ahead:
// its time may stay that for years, and does not say when the file changed.
func (s stamps) isAhead() bool {
	return slices.ContainsFunc(s, func(one stamp) bool { return one.info != nil && one.info.ModTime().After(time.Now()) })
}
