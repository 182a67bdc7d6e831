package probe_test

import (
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		kind, address string
		host, port    string
		number        int
	}{
		{probe.KindTCP, "db.example:5432", "db.example", "5432", 5432},
		{probe.KindTCP, "[2001:db8::1]:80", "2001:db8::1", "80", 80},
		{probe.KindUDP, "host:ntp", "host", "ntp", probe.AnyPort},
		{probe.KindTCP, "münchen.example:80", "xn--mnchen-3ya.example", "80", 80},
		{probe.KindHTTP, "http://MÜNCHEN.example:8080/ä", "xn--mnchen-3ya.example", "8080", 8080},
		{probe.KindHTTP, "HTTPS://example.org/x", "example.org", "", 443},
		{probe.KindHTTP, "example.org", "example.org", "", 80},
		{probe.KindHTTP, "example.org:8080/x", "example.org", "8080", 8080},
		{probe.KindHTTP, "http:80", "http", "80", 80},
		{probe.KindHTTP, "http://[fe80::1%25eth0]/", "fe80::1%eth0", "", 80},
		{probe.KindWebSocket, "WSS://münchen.example/chat?a", "xn--mnchen-3ya.example", "", 443},
		{probe.KindWebSocket, "ws://[::1]:8080", "::1", "8080", 8080},
		{probe.KindGRPC, "https://Example.org:50051/x", "Example.org", "50051", 50051},
		{probe.KindGRPC, "[::1]", "::1", "", probe.AnyPort},
		{probe.KindDNS, "::1", "::1", "", probe.AnyPort},
		{probe.KindDNS, "127.0.0.1:5353", "127.0.0.1", "5353", 5353},
		{probe.KindICMP, "bücher.example", "xn--bcher-kva.example", "", 0},
		{probe.KindICMP, "::1", "::1", "", 0},
		{probe.KindUnix, "@name", "", "", probe.AnyPort},
	} {
		got, err := probe.ParseAddress(tt.kind, tt.address)
		if err != nil || got.Host != tt.host || got.Port != tt.port || got.Number() != tt.number {
			t.Errorf("%s %q: host %q, port %q, number %d, %v", tt.kind, tt.address, got.Host, got.Port, got.Number(), err)
		}
	}
}

// TestAddressErrors has what people write for a target: each error says what to
// write instead.
func TestAddressErrors(t *testing.T) {
	for _, tt := range []struct{ kind, address, want string }{
		{probe.KindTCP, "tcp://127.0.0.1:8080", "has a scheme, and the prober tcp takes host:port\nhint: 127.0.0.1:8080, without tcp://"},
		{probe.KindGRPC, "dns:///host:80", "hint: host:80, without dns://"},
		{probe.KindTCP, "http://127.0.0.1:8080/", "hint: module: http_2xx"},
		{probe.KindTCP, "host", "hint: write it as host:port"},
		{probe.KindTCP, "host%3A22", "hint: %3A is a colon that was encoded twice"},
		{probe.KindTCP, "http:/127.0.0.1:8080/", "hint: write two slashes behind the colon"},
		{probe.KindTCP, "host:", "hint: write it behind the colon"},
		{probe.KindHTTP, "ftp://host/", "the scheme is \"ftp\"\nhint: it must be http or https"},
		{probe.KindHTTP, "http:/127.0.0.1:8080/", "hint: write it as http://example.org/path"},
		{probe.KindHTTP, "::1", "with an IPv6 address in brackets"},
		{probe.KindWebSocket, "example.org:80", "hint: write it as wss://example.org/path"},
		{probe.KindWebSocket, "wss:///path", "hint: write it as wss://example.org/path"},
		{probe.KindWebSocket, "wss://user@host/", "hint: basic_auth in http_config"},
		{probe.KindICMP, "http://192.0.2.1/", "is a URL, and icmp takes a host"},
		{probe.KindICMP, "192.0.2.1:80", "hint: leave the port out"},
		{probe.KindUnix, "run/x.sock", "is not an absolute path"},
	} {
		_, err := probe.ParseAddress(tt.kind, tt.address)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %q: %v\nwant %s", tt.kind, tt.address, err, tt.want)
		}
	}
}

func TestCheckHost(t *testing.T) {
	for _, host := range []string{"", " ", "a b", "a\nb", "a:1", "a/b", "[::1]", "a@b", `a\b`, "a%b", "a\x7f", "bücher.example"} {
		if probe.CheckHost(host) == nil {
			t.Errorf("%q is taken for a host", host)
		}
	}
	for _, host := range []string{"a", "a.example.", "_sip._tcp.example", "xn--bcher-kva.example", "127.0.0.1", "::1", "fe80::1%eth0", "::ffff:127.0.0.1"} {
		if err := probe.CheckHost(host); err != nil {
			t.Errorf("%q: %v", host, err)
		}
	}
}
