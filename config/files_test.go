package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/yamldoc"
)

// TestFilesOfModules has files that cannot be read: an error where a target needs
// the module, and a warning where none does.
func TestFilesOfModules(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there")
	if err := os.WriteFile(there, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		tcp  = "modules:\n  m:\n    prober: tcp\n    tcp:\n      tls_config:\n        " // the next key is in line 6
		http = "modules:\n  m:\n    prober: http\n    http:\n      "                    // line 5
		unix = "modules:\n  m: {prober: unix, unix: {tls: true, tls_config: "
	)
	for _, tt := range []struct {
		name, text, target string
		want               []string // nothing is no fault
	}{
		{"ca_file", tcp + "ca_file: /nonexistent/ca.pem\n", "a:1", []string{"line 6: modules.m.tcp.tls_config.ca_file: open /nonexistent/ca.pem: no such file", "hint: it is read at each probe, by the user"}},
		{"cert_file and key_file", tcp + "cert_file: /nonexistent/c\n        key_file: /nonexistent/k\n", "a:1", []string{"line 6: modules.m.tcp.tls_config.cert_file", "line 7: modules.m.tcp.tls_config.key_file"}},
		{"a relative path", tcp + "ca_file: nonexistent.pem\n", "a:1", []string{"nonexistent.pem: no such file", "hint: the path is relative to the working directory, which is /"}},
		{"a directory", tcp + "ca_file: " + dir + "\n", "a:1", []string{"ca_file: read " + dir + ": it is a directory"}},
		{"tls_config of http", http + "tls_config: {ca_file: /nonexistent/ca.pem}\n", "http://a/", []string{"line 5: modules.m.http.tls_config.ca_file"}},
		{"password_file", http + "basic_auth: {username: a, password_file: /nonexistent/p}\n", "http://a/", []string{"line 5: modules.m.http.basic_auth.password_file"}},
		{"credentials_file", http + "authorization: {credentials_file: /nonexistent/p}\n", "http://a/", []string{"modules.m.http.authorization.credentials_file"}},
		{"bearer_token_file", http + "bearer_token_file: /nonexistent/p\n", "http://a/", []string{"modules.m.http.bearer_token_file"}},
		{"client_secret_file", http + "oauth2: {client_id: a, client_secret_file: /nonexistent/p, token_url: 'http://a/'}\n", "http://a/", []string{"modules.m.http.oauth2.client_secret_file"}},
		{"ca_file of oauth2", http + "oauth2: {client_id: a, client_secret: b, token_url: 'http://a/', tls_config: {ca_file: /nonexistent/p}}\n", "http://a/", []string{"modules.m.http.oauth2.tls_config.ca_file"}},
		{"body_file", http + "body_file: /nonexistent/b\n", "http://a/", []string{"modules.m.http.body_file"}},
		{"files of a header", http + "http_headers: {X-Key: {files: [" + there + ", /nonexistent/h]}}\n", "http://a/", []string{"line 5: modules.m.http.http_headers.X-Key.files[1]: open /nonexistent/h"}},
		{"unix", unix + "{ca_file: /nonexistent/ca.pem}}}\n", "/run/a", []string{"line 2: modules.m.unix.tls_config.ca_file"}},
		{"grpc", "modules:\n  m: {prober: grpc, grpc: {tls: true, tls_config: {ca_file: /nonexistent/ca.pem}}}\n", "a:1", []string{"modules.m.grpc.tls_config.ca_file"}},
		{"dns", "modules:\n  m: {prober: dns, dns: {query_name: a, tls_config: {ca_file: /nonexistent/ca.pem}}}\n", "a:1", []string{"modules.m.dns.tls_config.ca_file"}},

		{"it is there", tcp + "ca_file: " + there + "\n", "a:1", nil},
		{"a device", tcp + "ca_file: /dev/null\n", "a:1", nil},
		{"an empty path", tcp + "ca_file: ''\n", "a:1", nil},
		{"a header with a file's name", http + "headers: {a_file: /nonexistent/p}\n", "http://a/", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Parse([]byte(tt.text))
			if err != nil {
				t.Fatalf("without a target: %v", err)
			}
			warnings := strings.Join(c.Warnings, "\n")
			wantAll(t, "warnings", warnings, tt.want)
			_, err = Parse([]byte(tt.text + "targets: [{address: '" + tt.target + "', module: m}]\n"))
			if (err == nil) != (tt.want == nil) {
				t.Fatalf("with a target: %v", err)
			}
			if err != nil {
				wantAll(t, "error", err.Error(), tt.want)
			}
		})
	}
}

func wantAll(t *testing.T, what, got string, want []string) {
	t.Helper()
	if want == nil && got != "" {
		t.Errorf("%s: %s", what, got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s: %q lacks %q", what, got, w)
		}
	}
}

// TestLibraryFilesAreFound finds each key of the library that names a file by
// its name, and has it among those that are checked.
func TestLibraryFilesAreFound(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(at reflect.Type)
	found := 0
	walk = func(at reflect.Type) {
		switch {
		case at.Kind() == reflect.Pointer, at.Kind() == reflect.Slice, at.Kind() == reflect.Map:
			walk(at.Elem())
		case at.Kind() == reflect.Struct && !seen[at]:
			seen[at] = true
			for field := range at.Fields() {
				if strings.Contains(field.Name, "File") {
					if found++; !namesFile(yamldoc.KeyOf(field), at) {
						t.Errorf("%s of %s is not looked at", field.Name, at)
					}
				}
			}
			known, rest := yamldoc.FieldTypes(at)
			for _, field := range known {
				walk(field)
			}
			if rest != nil {
				walk(rest)
			}
		}
	}
	walk(reflect.TypeFor[blackbox.Module]())
	if found < 10 {
		t.Errorf("only %d keys were found", found)
	}
}

// TestIncludedModulesNameTheirFile has what is wrong or odd in a file of
// blackbox_exporter, and asks for its name.
func TestIncludedModulesNameTheirFile(t *testing.T) {
	dir := t.TempDir()
	included := filepath.Join(dir, "blackbox.yml")
	load := func(text, more string) (*Config, error) {
		if err := os.WriteFile(included, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ParseIn(dir, []byte("blackbox_config: blackbox.yml\n"+more))
	}
	place := "blackbox_config: " + included + ": line 2: modules.m"
	for _, tt := range []struct{ name, module, want string }{
		{"a short timeout", "{prober: tcp, timeout: 2s}", place + ": timeout: in 2s a host"},
		{"no such prober", "{prober: grcp}", place + ": prober: there is no prober"},
		{"no file", "{prober: tcp, tcp: {tls_config: {ca_file: /nonexistent}}}", place + ".tcp.tls_config.ca_file: open /nonexistent"},
	} {
		c, err := load("modules:\n  m: "+tt.module+"\n", "")
		if err != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], tt.want) {
			t.Errorf("%s: %v, %+v", tt.name, err, c)
		}
	}
	for _, tt := range []struct{ name, module, want string }{
		{"a source", "{prober: tcp, tcp: {source_ip_address: x}}", place + ": tcp.source_ip_address"},
		{"no file", "{prober: tcp, tcp: {tls_config: {ca_file: /nonexistent}}}", place + ".tcp.tls_config.ca_file: open /nonexistent"},
	} {
		if _, err := load("modules:\n  m: "+tt.module+"\n", "targets: [{address: 'a:1', module: m}]\n"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestShortTimeoutsAreOneWarning has eleven modules, as the file of a user had.
func TestShortTimeoutsAreOneWarning(t *testing.T) {
	text := "modules:\n"
	for _, name := range "abcdefghijk" {
		text += "  " + string(name) + ": {prober: tcp, timeout: 2s}\n"
	}
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Warnings) != 1 {
		t.Fatalf("%d warnings: %q", len(c.Warnings), c.Warnings)
	}
	wantAll(t, "warning", c.Warnings[0], []string{"line 2: modules.a: timeout: in 2s", "10 more modules (b, c, d, e, f, …)", "hint: 5s"})
}
