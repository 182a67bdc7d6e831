package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

// Address is the address of a target, read as the probers of its kind take it.
type Address struct {
	Host string   // a name in ASCII, or an IP address without brackets; empty for unix
	Port string   // a number or a service's name; empty if there is none
	URL  *url.URL // of http, and of a websocket's handshake: its Host is in ASCII
	kind string
}

// ParseAddress reads the address of a target. Its error has a hint, and is for
// [Malformed]; the host, as far as it can be made out, is there all the same.
func ParseAddress(kind, address string) (Address, error) {
	switch kind {
	case KindUnix:
		if !IsPath(address) {
			return Address{kind: kind}, fmt.Errorf("%q is not an absolute path\nhint: /run/service.sock, or @name for an abstract socket", address)
		}
		return Address{kind: kind}, nil
	case KindHTTP:
		return parseURL(address)
	case KindWebSocket:
		return parseWebSocket(address)
	case KindICMP:
		return parseHost(address)
	default:
		return parseHostPort(kind, address)
	}
}

// IsPath reports whether an address is that of a unix-domain socket.
func IsPath(address string) bool {
	return strings.HasPrefix(address, "@") || path.IsAbs(address) || filepath.IsAbs(address)
}

// IsURL reports whether an address is a URL of http or https.
func IsURL(address string) bool {
	scheme, _, found := strings.Cut(address, "://")
	return found && isHTTP(scheme)
}

// IsWebSocket reports whether an address is a URL of ws or wss.
func IsWebSocket(address string) bool {
	scheme, _, found := strings.Cut(address, "://")
	return found && (strings.EqualFold(scheme, "ws") || strings.EqualFold(scheme, "wss"))
}

func isHTTP(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// AnyPort is a port that is not known yet.
const AnyPort = -1

// Number returns the port: that of its scheme for a URL without one, 0 for icmp, and
// AnyPort where it is not given as a number.
func (a Address) Number() int {
	service := a.Port
	switch {
	case a.kind == KindICMP:
		return 0
	case service == "" && a.URL != nil && a.URL.Scheme == "https":
		return 443
	case service == "" && a.URL != nil:
		return 80
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return AnyPort
	}
	return int(number)
}

// parseURL reads a target of http: a URL, or one without its scheme.
func parseURL(address string) (Address, error) {
	scheme, rest, _ := strings.Cut(address, ":")
	u, err := url.Parse(address)
	switch {
	case isHTTP(scheme) && err == nil && u.Host != "":
	case isHTTP(scheme) && err == nil && strings.HasPrefix(rest, "//"):
		return Address{kind: KindHTTP}, errors.New("the host is missing\nhint: write it as https://example.org/path")
	case isHTTP(scheme) && strings.HasPrefix(rest, "/"):
		return Address{kind: KindHTTP}, fmt.Errorf("this is not a URL\nhint: write it as %s://example.org/path", strings.ToLower(scheme))
	case err == nil && u.Host != "" && u.Scheme != "": // as a URL of http it would have the scheme for its host
		return Address{kind: KindHTTP, Host: ASCIIHost(u.Hostname())}, fmt.Errorf("the scheme is %q\nhint: it must be http or https", u.Scheme)
	default:
		if u, err = url.Parse("http://" + address); err != nil || isIPv6(address) {
			return Address{kind: KindHTTP}, errors.New("this is not a URL\nhint: write it as https://example.org/path, with an IPv6 address in brackets")
		}
	}
	u.Host = ASCIIHost(u.Host)
	return Address{kind: KindHTTP, Host: u.Hostname(), Port: u.Port(), URL: u}, CheckHost(u.Hostname())
}

// parseWebSocket reads a target of websocket, RFC 6455 section 3. The URL of its
// handshake is one of http or https.
func parseWebSocket(address string) (Address, error) {
	a := Address{kind: KindWebSocket}
	u, err := url.Parse(address)
	switch {
	case !IsWebSocket(address), err != nil, u.Host == "":
		return a, errors.New("this is not the URL of a websocket\nhint: write it as wss://example.org/path, or ws:// without TLS")
	case u.User != nil:
		return a, errors.New("the URL of a websocket has no user\nhint: basic_auth in http_config of a module")
	}
	u.Scheme, u.Host = "http"+strings.TrimPrefix(u.Scheme, "ws"), ASCIIHost(u.Host)
	a.Host, a.Port, a.URL = u.Hostname(), u.Port(), u
	return a, CheckHost(a.Host)
}

func isIPv6(address string) bool {
	addr, err := netip.ParseAddr(address)
	return err == nil && addr.Is6()
}

// parseHost reads a target of icmp.
func parseHost(address string) (Address, error) {
	a := Address{kind: KindICMP, Host: ASCIIHost(address)}
	if _, rest, found := strings.Cut(address, "://"); found {
		return a, fmt.Errorf("%q is a URL, and icmp takes a host\nhint: leave out all but the host of %s", address, rest)
	}
	if _, _, err := net.SplitHostPort(address); err == nil {
		return a, fmt.Errorf("%q has a port, and icmp takes a host\nhint: leave the port out", address)
	}
	return a, nil
}

// parseHostPort reads host:port. Targets of grpc may be URLs, and they and those of
// dns may have no port.
func parseHostPort(kind, address string) (Address, error) {
	rest := address
	if kind == KindGRPC {
		if IsURL(rest) {
			_, rest, _ = strings.Cut(rest, "://")
		}
		rest, _, _ = strings.Cut(rest, "/")
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		host = TrimBrackets(rest)
	}
	a := Address{kind: kind, Host: ASCIIHost(host), Port: port}
	scheme, behind, isURL := strings.Cut(address, "://")
	switch {
	case isURL && (kind != KindGRPC || !isHTTP(scheme)):
		if isHTTP(scheme) {
			return a, fmt.Errorf("%q is a URL, and the prober %s takes host:port\nhint: module: http_2xx", address, kind)
		}
		return a, fmt.Errorf("%q has a scheme, and the prober %s takes host:port\nhint: %s, without %s://", address, kind, strings.Trim(behind, "/"), scheme)
	case err == nil && port == "":
		return a, fmt.Errorf("%q has no port\nhint: write it behind the colon", address)
	case err == nil || kind == KindGRPC || kind == KindDNS:
		return a, nil
	case strings.HasPrefix(address, "http:/"), strings.HasPrefix(address, "https:/"):
		return a, fmt.Errorf("%q is not a URL\nhint: write two slashes behind the colon", address)
	case IsEncodedTwice(address):
		return a, fmt.Errorf("%q has no port\nhint: %%3A is a colon that was encoded twice", address)
	default:
		return a, fmt.Errorf("%q has no port\nhint: write it as host:port, [2001:db8::1]:443 for IPv6", address)
	}
}

// IsEncodedTwice reports whether an address has a colon that is still encoded.
func IsEncodedTwice(address string) bool { return strings.Contains(strings.ToUpper(address), "%3A") }

// TrimBrackets returns a host without the brackets that an IPv6 address may have.
func TrimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}

// ASCIIHost returns a host, which may have a port, as DNS and TLS take it: RFC 5891.
// What cannot be converted stays as it is.
func ASCIIHost(host string) string {
	if !strings.ContainsFunc(host, func(r rune) bool { return r > unicode.MaxASCII }) {
		return host
	}
	name, port := host, ""
	if before, after, err := net.SplitHostPort(host); err == nil {
		name, port = before, ":"+after
	}
	ascii, err := idna.Lookup.ToASCII(name)
	if err != nil {
		return host
	}
	return ascii + port
}

// CanonicalHost returns a host as names are compared: in lower case, in ASCII, and
// without the dot of the root.
func CanonicalHost(host string) string {
	return strings.TrimSuffix(strings.ToLower(ASCIIHost(host)), ".")
}

// CheckHostname reports what can be no hostname, which is a host that may have a port
// as a number. An empty one is none. What a client sends goes into the header Host and
// into TLS as it is.
func CheckHostname(hostname string) error {
	if hostname == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(hostname)
	if err != nil {
		return CheckHost(TrimBrackets(ASCIIHost(hostname)))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &net.AddrError{Err: "the port is no number from 1 to 65535", Addr: hostname}
	}
	return CheckHost(ASCIIHost(host))
}

// CheckHost reports, as a [*net.AddrError], what can be no host. A name server would
// say that there is no such name, which there cannot be.
func CheckHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	foreign := func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune("\"#%/:<>?@[\\]^`{|}", r)
	}
	if host == "" || strings.ContainsFunc(host, foreign) {
		return &net.AddrError{Err: "neither an address nor a name", Addr: host}
	}
	return nil
}
