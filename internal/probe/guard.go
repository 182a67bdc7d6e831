package probe

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
)

// special are link-local addresses, at which most clouds have their metadata
// service (RFC 3927, RFC 4291 2.5.6), and the metadata services elsewhere. They
// answer every process of the host, some with credentials.
var special = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::/32"),          // Amazon EC2: instance metadata, time, DNS
	netip.MustParsePrefix("fd20:ce::254/128"),       // Google Compute Engine
	netip.MustParsePrefix("fd00:42::42/128"),        // Scaleway
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // Oracle Cloud
	netip.MustParsePrefix("fd00:100::100:200/128"),  // Alibaba Cloud
	netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // Akamai Cloud (Linode)
	netip.MustParsePrefix("100.100.100.200/32"),     // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // Azure's wire server
	netip.MustParsePrefix("192.0.0.192/32"),         // Oracle Cloud
}

// siteLocal are the networks of IPv6 in which the next metadata service will be:
// unique local addresses (RFC 4193), and the site-local ones before them (RFC
// 3879).
var siteLocal = []netip.Prefix{
	netip.MustParsePrefix("fc00::/7"),
	netip.MustParsePrefix("fec0::/10"),
}

// nonUnicast are addresses that no single host has. The kernel takes the
// unspecified ones for loopback: connect(2) to 0.0.0.0 reaches 127.0.0.1, and a
// DNS filter that answers with it would have this host probed in place of another.
var nonUnicast = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/32"),
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("224.0.0.0/4"), // multicast
	netip.MustParsePrefix("ff00::/8"),    // multicast
	netip.MustParsePrefix("240.0.0.0/4"), // class E, and the broadcast address in it
}

// nat64 is the well-known prefix of RFC 6052: the IPv4 address in the last four
// bytes is where such a packet goes.
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// plain returns the address that a packet to addr reaches: without a zone, and
// as IPv4 where it is one in the clothes of IPv6.
func plain(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("").Unmap() // a prefix contains no address that has a zone
	if nat64.Contains(addr) {
		b := addr.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr
}

// Networks of IPv6 in which an address may stand for one of IPv4, which depends
// on the tunnels and translators on the way.
var (
	ownNAT64   = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	compatible = netip.MustParsePrefix("::/96")           // RFC 4291 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 2.1
)

// embeddedIPv4 returns the IPv4 addresses that a plain address may stand for. Where
// one is in a prefix of [ownNAT64] depends on how long that is: RFC 6052 2.2.
func embeddedIPv4(addr netip.Addr) []netip.Addr {
	b := addr.As16()
	of := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	switch {
	case ownNAT64.Contains(addr):
		return []netip.Addr{of(6, 7, 9, 10), of(7, 9, 10, 11), of(9, 10, 11, 12), of(12, 13, 14, 15)}
	case sixToFour.Contains(addr):
		return []netip.Addr{of(2, 3, 4, 5)}
	case compatible.Contains(addr), translated.Contains(addr):
		return []netip.Addr{of(12, 13, 14, 15)}
	default:
		return nil
	}
}

func within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// embedsSpecial reports whether a plain address may be an IPv4 address that is
// special, or that no single host has. The unspecified one counts where there is
// no other reading: prefixes of [ownNAT64] are mostly zeros.
func embedsSpecial(addr netip.Addr) bool {
	embedded := embeddedIPv4(addr)
	denied := func(a netip.Addr) bool { return within(special, a) || within(nonUnicast, a) && !a.IsUnspecified() }
	set := func(a netip.Addr) bool { return !a.IsUnspecified() }
	return slices.ContainsFunc(embedded, denied) || len(embedded) > 0 && !slices.ContainsFunc(embedded, set)
}

// isSpecial reports whether a plain address is one to which no configured target
// may lead without a rule that lists it.
func isSpecial(addr netip.Addr) bool {
	return within(special, addr) || within(nonUnicast, addr) || embedsSpecial(addr)
}

// isListedOnly reports whether a plain address is probed on request only where a
// rule lists it.
func isListedOnly(addr netip.Addr) bool { return isSpecial(addr) || within(siteLocal, addr) }

// isLoopback reports whether a plain address is loopback, or may stand for it.
func isLoopback(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.ContainsFunc(embeddedIPv4(addr), netip.Addr.IsLoopback)
}

// denyListedOnly says why an address that [isListedOnly] reports is denied.
func denyListedOnly(addr netip.Addr) *DeniedError {
	const hint = "a rule of probes.allow that lists this very network would allow it"
	switch {
	case within(nonUnicast, addr):
		return &DeniedError{fmt.Sprintf("%s is the address of no single host: unspecified, multicast or reserved", addr), hint}
	case embedsSpecial(addr):
		return &DeniedError{fmt.Sprintf("%s may be an IPv4 address that is link-local, of a cloud's metadata service, or no host's", addr),
			"probe the IPv4 address itself, with a rule of probes.allow that lists it"}
	case within(special, addr):
		return &DeniedError{fmt.Sprintf("%s is a link-local address or one of a cloud's metadata service", addr), hint}
	default:
		return &DeniedError{fmt.Sprintf("%s is a unique local address, as metadata services have", addr),
			"a rule of probes.allow with a network within fc00::/7 would allow it"}
	}
}

// lists reports whether a network of the rule that contains the address lies
// within the networks that must be listed: 0.0.0.0/0 does not, nor does fd00::/8
// for a metadata service within it.
func (r *AccessRule) lists(addr netip.Addr) bool {
	listed := [][]netip.Prefix{special, nonUnicast}
	if !isSpecial(addr) {
		listed = append(listed, siteLocal)
	}
	return slices.ContainsFunc(r.Networks, func(n netip.Prefix) bool {
		holds := func(s netip.Prefix) bool { return s.Bits() <= n.Bits() && s.Contains(n.Addr()) }
		return n.Contains(addr) && slices.ContainsFunc(listed, func(l []netip.Prefix) bool { return slices.ContainsFunc(l, holds) })
	})
}

// allowConfigured is [Request].Allow for a configured target: it may lead to every
// address but those that [isSpecial] reports, unless the target itself is one or
// a rule lists it; and to loopback only where it does so first, so that a server
// elsewhere cannot send the probe there.
func (a *Access) allowConfigured(m *Module, address string) func(netip.AddrPort) error {
	if m.Kind == KindUnix { // it has no address to ask for
		return nil
	}
	host, _ := destination(m.Kind, address)
	own, _ := netip.ParseAddr(host)
	var first atomic.Pointer[netip.Addr]
	return func(to netip.AddrPort) error {
		addr := plain(to.Addr())
		first.CompareAndSwap(nil, &addr)
		inward := isSpecial(addr) || isLoopback(addr) && !first.Load().IsLoopback()
		if !inward || own.IsValid() && addr == plain(own) || a.listsConfigured(m, addr, int(to.Port())) {
			return nil
		}
		return &DeniedError{fmt.Sprintf("%s leads to %s, which is a loopback, link-local or metadata address, or no host's", address, addr),
			"add a rule to probes.allow that lists it"}
	}
}

// listsConfigured reports whether a rule allows an address to configured targets.
// Their names are the administrator's, so the hosts of the rule do not matter.
func (a *Access) listsConfigured(m *Module, addr netip.Addr, port int) bool {
	return slices.ContainsFunc(a.Rules, func(r AccessRule) bool {
		return r.allowsModule(m) && r.allowsPort(port) && r.allowsAddress(addr)
	})
}

// destination returns the host of a target, which may be empty, and its port,
// which is 0 for icmp and anyPort where the target does not give it as a number.
func destination(kind, address string) (host string, port int) {
	if kind == KindICMP {
		return address, 0
	}
	host, service := address, ""
	if kind == KindHTTP || kind == KindGRPC {
		host, service = urlHost(address)
	} else if h, p, err := net.SplitHostPort(address); err == nil {
		host, service = h, p
	}
	host = trimBrackets(host)
	if kind == KindHTTP && service == "" {
		service = "80"
	}
	number, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return host, anyPort
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

func trimBrackets(host string) string {
	if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
		return host[1 : len(host)-1]
	}
	return host
}
