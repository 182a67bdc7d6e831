package check

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// Form is what a person means by a target.
type Form struct {
	Address string
	// Name is that of a built-in module, or Module one that is not configured. Without
	// either the form of the address decides.
	Name   string
	Module *probe.Module
}

// FormOptions say how what has no scheme is probed.
type FormOptions struct {
	UDP bool // ask with a datagram
	TLS bool // make a TLS handshake
}

// scheme says how to check what a URL names.
type scheme struct {
	module string // a built-in one
	port   string // where the URL has none; empty if it must have one
	bare   bool   // it has no port
	own    func(port string) *probe.Module
}

// schemes are those that mean a module. http and https stay URLs.
func schemes() map[string]scheme {
	return map[string]scheme{
		"tcp":        {module: "tcp_connect"},
		"tls":        {module: "tls_connect", port: "443"},
		"udp":        {own: udpModule},
		"dns":        {module: "dns_udp", port: "53"},
		"icmp":       {module: "icmp", bare: true},
		"ssh":        {module: "ssh_banner", port: "22"},
		"ntp":        {module: "udp_ntp", port: "123"},
		"stun":       {module: "stun", port: "3478"},
		"redis":      {own: func(string) *probe.Module { return redisModule(false) }, port: "6379"},
		"rediss":     {own: func(string) *probe.Module { return redisModule(true) }, port: "6379"},
		"postgres":   {own: func(string) *probe.Module { return postgresModule() }, port: "5432"},
		"postgresql": {own: func(string) *probe.Module { return postgresModule() }, port: "5432"},
	}
}

// ParseForm reads a target as a person writes it: a port, host:port, a URL, the path of
// a unix-domain socket. Other texts stay as they are.
func ParseForm(text string, o FormOptions) (Form, error) {
	f := Form{Address: text}
	if port := strings.TrimPrefix(text, ":"); isPort(port) {
		f.Address = "localhost:" + port
	}
	name, rest, isURL := strings.Cut(f.Address, "://")
	switch {
	case o.UDP && o.TLS:
		return f, fmt.Errorf("--udp and --tls: only one of them is possible")
	case isURL && (o.UDP || o.TLS):
		return f, fmt.Errorf("%s: a URL says how it is probed\nhint: leave --udp or --tls out, or write host:port", probe.Redact(text, text))
	case isURL:
		return ofURL(strings.ToLower(name), rest, text)
	case o.TLS:
		f.Name = "tls_connect"
	case o.UDP:
		_, port, err := net.SplitHostPort(f.Address)
		if err != nil {
			return f, fmt.Errorf("--udp: %q has no port\nhint: write it as host:port, [2001:db8::1]:53 for IPv6", text)
		}
		f.Module = udpModule(port)
	}
	return f, nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

func ofURL(name, rest, text string) (Form, error) {
	switch name {
	case "http", "https":
		return Form{Address: text}, nil
	case "ws", "wss":
		return Form{Address: text, Name: "websocket"}, nil
	case "unix":
		return Form{Address: rest, Name: "unix_connect"}, nil
	}
	s, known := schemes()[name]
	if !known {
		all := append(slices.Collect(maps.Keys(schemes())), "http", "https", "unix", "ws", "wss")
		slices.Sort(all)
		return Form{}, fmt.Errorf("%s: unknown scheme %q\nhint: one of %s; or host:port", probe.Redact(text, text), name, strings.Join(all, ", "))
	}
	address, err := s.address(name, rest)
	if err != nil {
		return Form{}, err
	}
	f := Form{Address: address, Name: s.module}
	if s.own != nil {
		_, port, _ := net.SplitHostPort(address)
		f.Module = s.own(port)
	}
	return f, nil
}

// address returns host:port of a URL, without what else is in it: a user, a password, a
// database.
func (s scheme) address(name, rest string) (string, error) {
	u, err := url.Parse(name + "://" + rest)
	if err != nil || u.Hostname() == "" {
		return "", fmt.Errorf("this is not a URL\nhint: write it as %s://host:port", name)
	}
	port := cmp.Or(u.Port(), s.port)
	switch {
	case s.bare:
		return u.Hostname(), nil
	case port == "":
		return "", fmt.Errorf("%s://%s has no port\nhint: %s://%s:PORT", name, u.Host, name, u.Host)
	default:
		return net.JoinHostPort(u.Hostname(), port), nil
	}
}

// payloads are what services on well-known ports answer to.
func payloads() map[string]string {
	return map[string]string{"53": "dns", "123": "ntp", "161": "snmp", "443": "quic", "3478": "stun", "5060": "sip"}
}

// udpModule asks a port with a datagram that the service of that port answers, else
// with an empty one.
func udpModule(port string) *probe.Module {
	p, _ := payload.Parse(payloads()[port]) // they are there: a test has it
	return &probe.Module{Kind: probe.KindUDP, Prober: &prober.UDP{Payload: p}}
}

// redisModule says PING. A server that asks for a password answers all the same.
func redisModule(tls bool) *probe.Module {
	return &probe.Module{Name: "redis", Kind: probe.KindTCP, Prober: &prober.TCP{Conversation: prober.Conversation{TLS: tls, Exchange: []prober.Step{
		{Send: "PING\r"}, {Expect: regexp.MustCompile(`^(\+PONG|-NOAUTH)`)},
	}}}}
}

// postgresModule asks whether the server speaks TLS, which it answers with S or N:
// SSLRequest of the message formats of PostgreSQL.
func postgresModule() *probe.Module {
	return &probe.Module{Name: "postgres", Kind: probe.KindTCP, Prober: &prober.TCP{Conversation: prober.Conversation{Exchange: []prober.Step{
		{SendBytes: []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}}, {ExpectOneOf: []byte("SN")},
	}}}}
}
