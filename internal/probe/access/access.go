// Package access says what may be probed on request, and where a configured target
// may lead.
package access

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// Control says what may be probed on request besides the configured targets.
// Its zero value is nothing.
type Control struct {
	// Any allows every target, by name or by address, with modules that hold no
	// credentials. Addresses that [netaddr.IsListedOnly] reports still need a rule.
	Any bool
	// Rules allow what one of them matches.
	Rules []Rule
	// DebugAnywhere shows debug=true to clients that are not on loopback.
	DebugAnywhere bool
}

// Rule matches a probe on request by its host, its address, its port and
// its module. An empty list matches everything, with two exceptions: no hosts
// match no name, so that nothing is resolved for strangers; and no modules match
// no module that holds credentials.
type Rule struct {
	// Hosts are the names that a client may use: a name, *.domain for all names
	// below a domain, or * for every name and every address. They are as
	// [probe.CanonicalHost] returns them.
	Hosts    []string
	Networks []netip.Prefix
	Ports    []netaddr.PortRange
	Modules  []string
}

// AnyHost is the entry of [Rule].Hosts that matches every host.
const AnyHost = "*"

// callee is whom a probe calls, and by which names.
type callee struct {
	// names are those that the client chose: the name that is resolved, and the
	// hostname that the target sees.
	names []string
	// numeric says that the address is the client's own words, not that of a name.
	numeric bool
}

// newCallee returns the callee of a host, and of the hostname that the client
// wants the target to see; the hostname may be empty.
func newCallee(host, hostname string) callee {
	var c callee
	_, err := netip.ParseAddr(host)
	if c.numeric = err == nil; !c.numeric {
		c.names = append(c.names, probe.CanonicalHost(host))
	}
	if hostname != "" {
		c.names = append(c.names, probe.CanonicalHost(hostname))
	}
	return c
}

// matchesHost reports whether an entry of hosts matches a canonical name.
func matchesHost(pattern, name string) bool {
	if suffix, wild := strings.CutPrefix(pattern, "*"); wild {
		return strings.HasSuffix(name, suffix) && len(name) > len(suffix)
	}
	return pattern == name
}

// allowsHosts reports whether the rule is about probes of the callee at all. A
// number that is called by a name needs a rule with networks: the name alone says
// nothing about where the number leads.
func (r *Rule) allowsHosts(c callee) bool {
	if slices.Contains(r.Hosts, AnyHost) {
		return true
	}
	if len(c.names) == 0 {
		return len(r.Hosts) == 0
	}
	listed := func(name string) bool {
		return slices.ContainsFunc(r.Hosts, func(pattern string) bool { return matchesHost(pattern, name) })
	}
	unlisted := func(name string) bool { return !listed(name) }
	return (!c.numeric || len(r.Networks) > 0) && !slices.ContainsFunc(c.names, unlisted)
}

// allowsModule reports whether the rule is about probes with the module at all.
// A module that holds credentials must be named: they go to whoever the client
// chooses.
func (r *Rule) allowsModule(m *probe.Module) bool {
	return len(r.Modules) == 0 && !m.Credentials || slices.Contains(r.Modules, m.Name)
}

// allowsPort reports whether the rule allows a port. A probe that has none (icmp:
// port 0) needs a rule that names no ports.
func (r *Rule) allowsPort(port int) bool {
	within := func(p netaddr.PortRange) bool { return port > 0 && p.Contains(uint16(port)) }
	return len(r.Ports) == 0 || port == probe.AnyPort || slices.ContainsFunc(r.Ports, within)
}

// allowsAddress reports whether the rule allows a plain address.
func (r *Rule) allowsAddress(addr netip.Addr) bool {
	if netaddr.IsListedOnly(addr) {
		return netaddr.Lists(r.Networks, addr)
	}
	return len(r.Networks) == 0 || netaddr.Within(r.Networks, addr)
}

// allowsResolved is allowsAddress for the address of a name. Whoever controls the
// name must not lead a probe to this host: loopback needs a network that has it.
func (r *Rule) allowsResolved(addr netip.Addr) bool {
	return r.allowsAddress(addr) && (len(r.Networks) > 0 || !netaddr.IsLoopback(addr))
}

// allows reports whether the rule allows a probe of the callee at a plain address.
func (r *Rule) allows(m *probe.Module, c callee, addr netip.Addr, port int) bool {
	if !r.allowsModule(m) || !r.allowsHosts(c) || !r.allowsPort(port) {
		return false
	}
	if c.numeric {
		return r.allowsAddress(addr)
	}
	return r.allowsResolved(addr)
}

// check says whether a probe with the module may reach an address that is not of
// a configured target.
func (a *Control) check(m *probe.Module, c callee, addr netip.Addr, port int) error {
	addr = netaddr.Plain(addr)
	switch {
	case slices.ContainsFunc(a.Rules, func(r Rule) bool { return r.allows(m, c, addr, port) }):
		return nil
	case netaddr.IsListedOnly(addr):
		return denyListedOnly(addr)
	case a.Any && !m.Credentials:
		return nil
	default:
		return deny(fmt.Sprintf("no rule allows %s with the module %s", withPort(addr, port), m.Name), a.hint(m))
	}
}

func withPort(addr netip.Addr, port int) string {
	if port <= 0 {
		return addr.String()
	}
	return netip.AddrPortFrom(addr, uint16(port)).String()
}

// checkNames says whether the callee may be called by its names, before one of
// them is resolved. Its errors are the same for names that exist and for others.
func (a *Control) checkNames(m *probe.Module, c callee, port int) error {
	for _, name := range c.names {
		addr, err := netip.ParseAddr(probe.TrimBrackets(name))
		switch {
		case err == nil: // a hostname that is an address
			if err := a.check(m, callee{names: c.names, numeric: true}, addr, port); err != nil {
				return err
			}
		case isNumberLike(name):
			return deny(fmt.Sprintf("%q is neither a name nor an address", name), "write IPv4 as 192.0.2.1, and IPv6 in brackets where there is a port")
		}
	}
	allows := func(r Rule) bool { return r.allowsModule(m) && r.allowsHosts(c) && r.allowsPort(port) }
	if a.Any && !m.Credentials || slices.ContainsFunc(a.Rules, allows) {
		return nil
	}
	return deny(fmt.Sprintf("no rule allows the host %s with the module %s", strings.Join(c.names, " and "), m.Name),
		"list it in hosts of a rule of probes.allow, or add it to targets")
}

// isNumberLike reports whether the last label of a host makes it an IPv4 address
// to some resolvers and proxies (inet_aton(3), the WHATWG's URLs), and to none of
// them a name: 127.1, 0x7f000001, 2852039166.
func isNumberLike(host string) bool {
	if at := strings.LastIndexByte(host, '.'); at >= 0 {
		host = host[at+1:]
	}
	digits, isHex := strings.CutPrefix(host, "0x")
	foreign := func(r rune) bool { return (r < '0' || '9' < r) && (!isHex || r < 'a' || 'f' < r) }
	return host != "" && !strings.ContainsFunc(digits, foreign)
}

// Permit says whether a probe on request of a target that is not configured
// could be allowed at all, before anything is resolved or sent. The hostname is
// what the client wants the target to see; empty where that is the target's host.
func (a *Control) Permit(m *probe.Module, address, hostname string) (*Permit, error) {
	if m.Kind == probe.KindUnix {
		return nil, deny("unix-domain sockets can be probed as configured targets only", "add it to targets")
	}
	if hostname != "" && m.Credentials {
		return nil, deny(fmt.Sprintf("the module %s holds credentials, which do not go to a host that the client names: %q", m.Name, hostname),
			"add a target with this hostname to targets, or leave the parameter hostname out")
	}
	if err := probe.CheckHostname(hostname); err != nil {
		return nil, deny(fmt.Sprintf("the hostname %q is neither a name nor an address, with a port at most", hostname),
			"write it as example.org or example.org:8443, with a port from 1 to 65535")
	}
	about := func(r Rule) bool { return r.allowsModule(m) }
	if (!a.Any || m.Credentials) && !slices.ContainsFunc(a.Rules, about) {
		return nil, deny(fmt.Sprintf("%s is not a configured target of the module %s", probe.Redact(address, address), m.Name), a.hint(m))
	}
	to, _ := probe.ParseAddress(m.Kind, address)
	host, port := to.Host, to.Number()
	p := &Permit{access: a, module: m, host: host, hostname: hostname, callee: newCallee(host, hostname)}
	if len(p.callee.names) > 0 {
		if err := a.checkNames(m, p.callee, port); err != nil {
			return nil, err
		}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return p, a.check(m, p.callee, addr, port)
	}
	return p, nil
}

// hint says how a probe with the module could be allowed.
func (a *Control) hint(m *probe.Module) string {
	unnamed := slices.IndexFunc(a.Rules, func(r Rule) bool { return len(r.Modules) == 0 })
	switch {
	case !m.Credentials:
		return "add it to targets, or a rule to probes.allow"
	case unnamed >= 0:
		return fmt.Sprintf("add it to targets; the module %s holds credentials, and probes.allow.rules[%d] names no module: name it there, or in a rule of its own", m.Name, unnamed)
	default:
		return fmt.Sprintf("add it to targets, or name the module %s in a rule of probes.allow: it holds credentials", m.Name)
	}
}

// TakesHostname reports whether a kind of prober shows the target a hostname. The
// others ignore the one of a request, as blackbox_exporter does.
func TakesHostname(kind string) bool {
	switch kind {
	case probe.KindHTTP, probe.KindWebSocket, probe.KindTCP, probe.KindUnix, probe.KindGRPC:
		return true
	default:
		return false
	}
}

// HostnameOf returns the hostname that a client chose for a target: without the
// port that the target is to see, and empty where it is the target's own host. What
// [probe.CheckHostname] reports stays as it is, and differs from every target's.
func HostnameOf(kind, address, hostname string) string {
	if probe.CheckHostname(hostname) != nil {
		return hostname
	}
	if host, _, err := net.SplitHostPort(hostname); err == nil {
		hostname = host
	}
	if own, _ := probe.ParseAddress(kind, address); probe.CanonicalHost(own.Host) == probe.CanonicalHost(probe.TrimBrackets(hostname)) {
		return ""
	}
	return hostname
}
