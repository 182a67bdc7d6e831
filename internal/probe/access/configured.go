package access

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// denyListedOnly says why an address that [netaddr.IsListedOnly] reports is denied.
func denyListedOnly(addr netip.Addr) *probe.DeniedError {
	const hint = "a rule of probes.allow that lists this very network would allow it"
	switch {
	case netaddr.IsNonUnicast(addr):
		return deny(fmt.Sprintf("%s is the address of no single host: unspecified, multicast or reserved", addr), hint)
	case netaddr.EmbedsSpecial(addr):
		return deny(fmt.Sprintf("%s may be an IPv4 address that is link-local, of a cloud's metadata service, or no host's", addr),
			"probe the IPv4 address itself, with a rule of probes.allow that lists it")
	case netaddr.IsMetadata(addr):
		return deny(fmt.Sprintf("%s is a link-local address or one of a cloud's metadata service", addr), hint)
	default:
		return deny(fmt.Sprintf("%s is a unique local address, as metadata services have", addr),
			"a rule of probes.allow with a network within fc00::/7 would allow it")
	}
}

// Configured is [probe.Request].Allow for a configured target: it may lead to every
// address but those that [netaddr.IsSpecial] reports, unless the target itself is one or
// a rule lists it; and to loopback only where it does so first, so that a server
// elsewhere cannot send the probe there.
func (a *Control) Configured(m *probe.Module, address string) func(netip.AddrPort) error {
	if m.Kind == probe.KindUnix { // it has no address to ask for
		return nil
	}
	to, _ := probe.ParseAddress(m.Kind, address)
	own, _ := netip.ParseAddr(to.Host)
	var first atomic.Pointer[netip.Addr]
	return func(to netip.AddrPort) error {
		addr := netaddr.Plain(to.Addr())
		first.CompareAndSwap(nil, &addr)
		inward := netaddr.IsSpecial(addr) || netaddr.IsLoopback(addr) && !first.Load().IsLoopback()
		if !inward || own.IsValid() && addr == netaddr.Plain(own) || a.listsConfigured(m, addr, int(to.Port())) {
			return nil
		}
		if addr.IsUnspecified() {
			return &probe.DeniedError{
				Reason: fmt.Sprintf("%s leads to %s, the address of no host: name servers answer so for names that they block", address, addr), NoHost: true,
			}
		}
		return deny(fmt.Sprintf("%s leads to %s, which is a loopback, link-local or metadata address, or no host's", address, addr),
			"add a rule to probes.allow that lists it")
	}
}

// listsConfigured reports whether a rule allows an address to configured targets.
// Their names are the administrator's, so the hosts of the rule do not matter.
func (a *Control) listsConfigured(m *probe.Module, addr netip.Addr, port int) bool {
	return slices.ContainsFunc(a.Rules, func(r Rule) bool {
		return r.allowsModule(m) && r.allowsPort(port) && r.allowsAddress(addr)
	})
}

// deny returns the error of a probe that is not allowed, and how to allow it.
func deny(reason, hint string) *probe.DeniedError {
	return &probe.DeniedError{Reason: reason, Hint: hint}
}
