package firewall

import (
	"fmt"
	"net/netip"
	"strings"
)

// Endpoint is where a connection is sent: the first and the last address and port that it
// may have. Invalid addresses are those of this host, and port zero is the one that it had.
type Endpoint struct {
	addresses [2]netip.Addr
	ports     [2]uint16
}

// IsHere reports whether a connection stays on this host, as by redirect.
func (e *Endpoint) IsHere() bool { return !e.addresses[0].IsValid() }

// Of returns where a connection of this host to an address goes; ok is false where that is
// one of several, or the port stays on this host.
func (e *Endpoint) Of(to netip.AddrPort) (_ netip.AddrPort, ok bool) {
	address, port := e.addresses[0], e.ports[0]
	switch {
	case e.addresses[0] != e.addresses[1], e.ports[0] < e.ports[1]:
		return to, false
	case e.IsHere() && port == 0:
		return to, false
	case e.IsHere():
		address = loopbackLike(to.Addr())
	case port == 0:
		port = to.Port()
	}
	return netip.AddrPortFrom(address, port), true
}

// loopbackLike returns the loopback address of the family of an address, which redirect
// chooses (nf_nat_redirect_ipv4, nf_nat_redirect_ipv6).
func loopbackLike(a netip.Addr) netip.Addr {
	if a.Is6() {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}

// address returns the address of an endpoint: empty if it is this host's.
func (e *Endpoint) address() string {
	if e.IsHere() {
		return ""
	}
	return between(e.addresses[0], e.addresses[1])
}

// port returns the port of an endpoint, or the range of them; empty if it stays.
func (e *Endpoint) port() string { return portText(e.ports[0], e.ports[1]) }

func portText(first, last uint16) string {
	switch {
	case first == 0:
		return ""
	case first >= last:
		return fmt.Sprint(first)
	default:
		return fmt.Sprintf("%d-%d", first, last)
	}
}

// String returns where a connection goes: address:port. It is empty without one.
func (e *Endpoint) String() string {
	if e == nil {
		return ""
	}
	address, ports := e.address(), e.port()
	switch {
	case address == "" && ports == "":
		return "this host"
	case address == "":
		return "port " + ports
	case ports == "":
		return address
	case strings.Contains(address, ":"):
		return "[" + address + "]:" + ports
	default:
		return address + ":" + ports
	}
}
