// Package netaddr says what kind of IP address an address is: where a packet to it
// goes, and whether it may lead to an unintended host.
package netaddr

import (
	"net/netip"
	"slices"
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

// Plain returns the address that a packet to addr reaches: without a zone, and
// as IPv4 where it is one in the clothes of IPv6.
func Plain(addr netip.Addr) netip.Addr {
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

// EmbeddedIPv4 returns the IPv4 addresses that a plain address may stand for. Where
// one is in a prefix of [ownNAT64] depends on how long that is: RFC 6052 2.2.
func EmbeddedIPv4(addr netip.Addr) []netip.Addr {
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

// Within reports whether an address is in one of some networks.
func Within(networks []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) })
}

// EmbedsSpecial reports whether a plain address may be an IPv4 address that is
// special, or that no single host has. The unspecified one counts where there is
// no other reading: prefixes of [ownNAT64] are mostly zeros.
func EmbedsSpecial(addr netip.Addr) bool {
	embedded := EmbeddedIPv4(addr)
	denied := func(a netip.Addr) bool { return Within(special, a) || Within(nonUnicast, a) && !a.IsUnspecified() }
	set := func(a netip.Addr) bool { return !a.IsUnspecified() }
	return slices.ContainsFunc(embedded, denied) || len(embedded) > 0 && !slices.ContainsFunc(embedded, set)
}

// IsSpecial reports whether a plain address is one to which no configured target
// may lead without a rule that lists it.
func IsSpecial(addr netip.Addr) bool {
	return Within(special, addr) || Within(nonUnicast, addr) || EmbedsSpecial(addr)
}

// IsListedOnly reports whether a plain address is probed on request only where a
// rule lists it.
func IsListedOnly(addr netip.Addr) bool { return IsSpecial(addr) || Within(siteLocal, addr) }

// IsLoopback reports whether a plain address is loopback, or may stand for it.
func IsLoopback(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.ContainsFunc(EmbeddedIPv4(addr), netip.Addr.IsLoopback)
}

// SameHost compares addresses without their zones, which ICMP does not carry.
func SameHost(a, b netip.Addr) bool {
	return a.IsValid() && a.Unmap().WithZone("") == b.Unmap().WithZone("")
}

// Lists reports whether one of some networks contains a plain address and lies
// Within the networks that must be listed: 0.0.0.0/0 does not, nor does fd00::/8 for
// a metadata service within it.
func Lists(networks []netip.Prefix, addr netip.Addr) bool {
	listed := [][]netip.Prefix{special, nonUnicast}
	if !IsSpecial(addr) {
		listed = append(listed, siteLocal)
	}
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool {
		holds := func(s netip.Prefix) bool { return s.Bits() <= n.Bits() && s.Contains(n.Addr()) }
		return n.Contains(addr) && slices.ContainsFunc(listed, func(l []netip.Prefix) bool { return slices.ContainsFunc(l, holds) })
	})
}

// IsNonUnicast reports whether a plain address is one that no single host has.
func IsNonUnicast(addr netip.Addr) bool { return Within(nonUnicast, addr) }

// IsMetadata reports whether a plain address is link-local or that of a cloud's
// metadata service.
func IsMetadata(addr netip.Addr) bool { return Within(special, addr) }

// Client returns whose the remote end of a connection is, address:port as package net
// writes it: an address of IPv4, or a network of 64 bits of IPv6, which is what one host
// has at its disposal. What is no IP address is one client, the zero value.
func Client(remote string) netip.Prefix {
	at, _ := netip.ParseAddrPort(remote)
	addr := at.Addr().Unmap().WithZone("")
	client, _ := addr.Prefix(min(addr.BitLen(), 64))
	return client
}
