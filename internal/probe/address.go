package probe

import (
	"net"
	"net/url"
	"strconv"
)

// This file reads the addresses of targets.

// AnyPort is a port that is not known yet.
const AnyPort = -1

// Destination returns the host of a target, which may be empty, and its port,
// which is 0 for icmp and anyPort where the target does not give it as a number.
func Destination(kind, address string) (host string, port int) {
	if kind == KindICMP {
		return address, 0
	}
	host, service := address, ""
	if kind == KindHTTP || kind == KindGRPC {
		host, service = urlHost(address)
	} else if h, p, err := net.SplitHostPort(address); err == nil {
		host, service = h, p
	}
	host = TrimBrackets(host)
	if kind == KindHTTP && service == "" {
		service = "80"
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return host, AnyPort
	}
	return host, int(number)
}

// urlHost returns host and port of a URL, or of the host that stands for one.
func urlHost(address string) (host, port string) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		u, err = url.Parse("http://" + address)
	}
	if err != nil {
		return "", ""
	}
	port = u.Port()
	if port == "" && u.Scheme == "https" {
		port = "443"
	}
	return u.Hostname(), port
}

// TrimBrackets returns a host without the brackets that an IPv6 address may have.
func TrimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
