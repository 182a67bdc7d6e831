package check

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

func TestParseForm(t *testing.T) {
	for _, tt := range []struct {
		text    string
		o       FormOptions
		address string // or an error with this in it
		module  string // its name or kind; empty is left to the address
	}{
		{text: "ftp://a/", address: `unknown scheme "ftp"`},
		{text: "tcp://a", address: "tcp://a has no port"},
		{text: "tcp://", address: "this is not a URL"},
		{text: "udp://a", address: "has no port"},
		{text: "a", o: FormOptions{UDP: true}, address: `"a" has no port`},
		{text: "a:1", o: FormOptions{UDP: true, TLS: true}, address: "only one"},
		{text: "tcp://a:1", o: FormOptions{TLS: true}, address: "a URL says"},
		{text: "redis://u:hunter2@%zz", address: "this is not a URL"},

		{text: "6379", address: "localhost:6379"},
		{text: ":6379", address: "localhost:6379"},
		{text: "0", address: "0"},
		{text: "70000", address: "70000"},
		{text: "a:1", address: "a:1"},
		{text: "a:1", o: FormOptions{TLS: true}, address: "a:1", module: "tls_connect"},
		{text: "53", o: FormOptions{UDP: true}, address: "localhost:53", module: "udp"},
		{text: "nginx.service", address: "nginx.service"},
		{text: "https://a/b", address: "https://a/b"},
		{text: "wss://a/b", address: "wss://a/b", module: "websocket"},
		{text: "TCP://a:1", address: "a:1", module: "tcp_connect"},
		{text: "tcp://[2001:db8::1]:80", address: "[2001:db8::1]:80", module: "tcp_connect"},
		{text: "tls://a", address: "a:443", module: "tls_connect"},
		{text: "udp://a:53", address: "a:53", module: "udp"},
		{text: "dns://a", address: "a:53", module: "dns_udp"},
		{text: "icmp://a", address: "a", module: "icmp"},
		{text: "redis://:hunter2@a/3", address: "a:6379", module: "redis"},
		{text: "postgres://u:hunter2@a:5433/db", address: "a:5433", module: "postgres"},
		{text: "unix:///run/a.sock", address: "/run/a.sock", module: "unix_connect"},
		{text: "unix://@name", address: "@name", module: "unix_connect"},
	} {
		f, err := ParseForm(tt.text, tt.o)
		if err != nil {
			if !strings.Contains(err.Error(), tt.address) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %v", tt.text, err)
			}
			continue
		}
		module := f.Name
		if f.Module != nil {
			module = moduleName(f.Module)
		}
		if f.Address != tt.address || module != tt.module {
			t.Errorf("%s: %s with %q, want %s with %q", tt.text, f.Address, module, tt.address, tt.module)
		}
	}
	for port, name := range payloads() {
		if _, err := payload.Parse(name); err != nil || !isPort(port) {
			t.Errorf("%s: %v", port, err)
		}
	}
}

func TestWithHost(t *testing.T) {
	six := netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct{ kind, address, want string }{
		{probe.KindTCP, "a:80", "[2001:db8::1]:80"},
		{probe.KindHTTP, "https://a/b?c", "https://[2001:db8::1]/b?c"},
		{probe.KindHTTP, "https://a:8443/b", "https://[2001:db8::1]:8443/b"},
		{probe.KindICMP, "a", "2001:db8::1"},
		{probe.KindDNS, "a", "2001:db8::1"},
	} {
		if got := withHost(tt.kind, tt.address, six); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.address, got, tt.want)
		}
		if _, err := probe.ParseAddress(tt.kind, tt.want); err != nil {
			t.Errorf("%s: %v", tt.want, err)
		}
	}
}

func TestHasHost(t *testing.T) {
	const file = "# a.test\n192.0.2.1\tb.test  C.test # d.test\n::1 localhost\n192.0.2.2\n"
	for name, want := range map[string]bool{"a.test": false, "b.test": true, "c.test": true, "C.TEST.": true, "d.test": false, "192.0.2.1": false, "": false} {
		if got := hasHost(strings.NewReader(file), name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
