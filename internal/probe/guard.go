package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"sync/atomic"
)

// DeniedError says why a probe is not allowed. Its hint says how to allow it.
type DeniedError struct{ Reason, Hint string }

func (e *DeniedError) Error() string {
	if e.Hint == "" {
		return e.Reason
	}
	return e.Reason + "\nhint: " + e.Hint
}

// special are the addresses that answer to whoever asks from inside, and give
// away more than that they are there: link-local ones, which hold the metadata
// services of most clouds (RFC 3927, RFC 4291 2.5.6), and those of the others.
var special = []netip.Prefix{
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("fd00:ec2::/32"),      // Amazon EC2: instance metadata, time, DNS
	netip.MustParsePrefix("fd20:ce::254/128"),   // Google Compute Engine
	netip.MustParsePrefix("fd00:42::42/128"),    // Scaleway
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure's wire server
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle Cloud
}

// nobodys are addresses that no single host has. To the kernel the unspecified
// ones are loopback: connect(2) to 0.0.0.0 reaches 127.0.0.1, and a filter of DNS
// that answers with it would have this host probed in place of another.
var nobodys = []netip.Prefix{
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

// guises returns the IPv4 addresses that a plain address may stand for. Where
// one is in a prefix of [ownNAT64] depends on how long that is: RFC 6052 2.2.
func guises(addr netip.Addr) []netip.Addr {
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

// isDisguised reports whether a plain address may stand for a special one.
func isDisguised(addr netip.Addr) bool {
	return slices.ContainsFunc(guises(addr), func(a netip.Addr) bool { return within(special, a) })
}

// isSpecial reports whether a plain address takes a rule that lists it.
func isSpecial(addr netip.Addr) bool {
	return within(special, addr) || within(nobodys, addr) || isDisguised(addr)
}

// isLoopback reports whether a plain address is loopback, or may stand for it.
func isLoopback(addr netip.Addr) bool {
	return addr.IsLoopback() || slices.ContainsFunc(guises(addr), netip.Addr.IsLoopback)
}

// denySpecial says why a special address is denied.
func denySpecial(addr netip.Addr) *DeniedError {
	const hint = "a rule of probes.allow that lists this very network would allow it"
	switch {
	case within(nobodys, addr):
		return &DeniedError{fmt.Sprintf("%s is the address of no single host: unspecified, multicast or reserved", addr), hint}
	case isDisguised(addr):
		return &DeniedError{fmt.Sprintf("%s may stand for an IPv4 address that is link-local or of a cloud's metadata service", addr),
			"probe the IPv4 address itself, with a rule of probes.allow that lists it"}
	default:
		return &DeniedError{fmt.Sprintf("%s is a link-local address or one of a cloud's metadata service", addr), hint}
	}
}

// lists reports whether the rule names special addresses on purpose, addr among
// them: 0.0.0.0/0 does not.
func (r *AccessRule) lists(addr netip.Addr) bool {
	return slices.ContainsFunc(r.Networks, func(n netip.Prefix) bool {
		holds := func(s netip.Prefix) bool { return s.Bits() <= n.Bits() && s.Contains(n.Addr()) }
		return n.Contains(addr) && (slices.ContainsFunc(special, holds) || slices.ContainsFunc(nobodys, holds))
	})
}

// allowsModule reports whether the rule is about probes with the module at all.
// One that holds credentials has to be named: they go to whoever the client
// chooses.
func (r *AccessRule) allowsModule(m *Module) bool {
	return len(r.Modules) == 0 && !m.Credentials || slices.Contains(r.Modules, m.Name)
}

// allows reports whether the rule allows a probe of the address. A probe that
// has no port (icmp: port 0) is allowed by a rule that names no ports.
func (r *AccessRule) allows(m *Module, to netip.AddrPort) bool {
	if !r.allowsModule(m) {
		return false
	}
	inPort := func(p PortRange) bool { return to.Port() != 0 && p.First <= to.Port() && to.Port() <= p.Last }
	if len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, inPort) {
		return false
	}
	if isSpecial(to.Addr()) {
		return r.lists(to.Addr())
	}
	return len(r.Networks) == 0 || within(r.Networks, to.Addr())
}

// ruled reports whether a rule allows a probe with the module of a plain
// address.
func (a *Access) ruled(m *Module, to netip.AddrPort) bool {
	return slices.ContainsFunc(a.Rules, func(r AccessRule) bool { return r.allows(m, to) })
}

// check says whether a probe with the module may reach an address that is not
// of a configured target.
func (a *Access) check(m *Module, to netip.AddrPort) error {
	if !to.IsValid() {
		return &DeniedError{"the proxy of the module would look the name up itself, so that nobody can tell where that leads",
			"add it to targets, or ask for https, which a proxy passes on to the address that was checked"}
	}
	to = netip.AddrPortFrom(plain(to.Addr()), to.Port())
	if a.ruled(m, to) {
		return nil
	}
	if isSpecial(to.Addr()) {
		return denySpecial(to.Addr())
	}
	if a.Any && !m.Credentials {
		return nil
	}
	return &DeniedError{fmt.Sprintf("no rule allows %s with the module %s", to, m.Name), a.hint(m)}
}

// mayAllow says whether a probe with the module, on request, could be allowed at
// all, before anything is resolved or sent.
func (a *Access) mayAllow(m *Module, address string) error {
	if m.Kind == KindUnix {
		return &DeniedError{"unix-domain sockets can be probed as configured targets only", "add it to targets"}
	}
	of := func(r AccessRule) bool { return r.allowsModule(m) }
	if (!a.Any || m.Credentials) && !slices.ContainsFunc(a.Rules, of) {
		return &DeniedError{fmt.Sprintf("%s is not a configured target of the module %s", Redact(address, address), m.Name), a.hint(m)}
	}
	if to, ok := numericAddress(m.Kind, address); ok {
		return a.check(m, to)
	}
	return nil
}

// hint says how a probe with the module could be allowed.
func (a *Access) hint(m *Module) string {
	unnamed := slices.IndexFunc(a.Rules, func(r AccessRule) bool { return len(r.Modules) == 0 })
	switch {
	case !m.Credentials:
		return "add it to targets, or a rule to probes.allow"
	case unnamed >= 0:
		return fmt.Sprintf("add it to targets; the module %s holds credentials, and probes.allow.rules[%d] names no module: name it there, or in a rule of its own", m.Name, unnamed)
	default:
		return fmt.Sprintf("add it to targets, or name the module %s in a rule of probes.allow: it holds credentials", m.Name)
	}
}

// allowRequested returns what is to be asked before each packet of a probe that
// is not of a configured target.
func (a *Access) allowRequested(m *Module) func(netip.AddrPort) error {
	return func(to netip.AddrPort) error { return a.check(m, to) }
}

// allowConfigured is allowRequested for a configured target: it may lead to
// every address but those that are special, unless the target itself is one or a
// rule lists it; and to loopback only where it does so first, so that a server
// elsewhere cannot send the probe there.
func (a *Access) allowConfigured(m *Module, address string) func(netip.AddrPort) error {
	if m.Kind == KindUnix { // it has no address to ask for
		return nil
	}
	own, isLiteral := numericAddress(m.Kind, address)
	own = netip.AddrPortFrom(plain(own.Addr()), own.Port())
	var first atomic.Pointer[netip.Addr]
	return func(to netip.AddrPort) error {
		addr := plain(to.Addr())
		first.CompareAndSwap(nil, &addr)
		inward := isSpecial(addr) || isLoopback(addr) && !first.Load().IsLoopback()
		if !inward || isLiteral && addr == own.Addr() || a.ruled(m, netip.AddrPortFrom(addr, to.Port())) {
			return nil
		}
		return &DeniedError{fmt.Sprintf("%s leads to %s, which is a loopback, link-local or metadata address, or no host's", address, addr),
			"add a rule to probes.allow that lists it"}
	}
}

// numericAddress returns the address of a target that names it as a number; its port
// is zero when it is not told.
func numericAddress(kind, address string) (netip.AddrPort, bool) {
	host, port := address, ""
	if kind == KindHTTP || kind == KindGRPC {
		host, port = urlHost(address)
	} else if h, p, err := net.SplitHostPort(address); err == nil {
		host, port = h, p
	}
	addr, err := netip.ParseAddr(trimBrackets(host))
	if err != nil {
		return netip.AddrPort{}, false
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		number = defaultPort(kind)
	}
	return netip.AddrPortFrom(addr, uint16(number)), true
}

// defaultPort is the port of probers whose targets need not name one.
func defaultPort(kind string) uint64 {
	switch kind {
	case KindHTTP:
		return 80
	case KindDNS:
		return 53
	default:
		return 0
	}
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

// AsDenied returns the denial in an error.
func AsDenied(err error) (*DeniedError, bool) { return errors.AsType[*DeniedError](err) }
