package policy

import (
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Reach returns the scopes in which the rule expects listeners, as far as its
// matchers distinguish, the most exposed first.
func (r *Rule) Reach() []socket.Scope {
	scopes, _ := r.reach()
	return scopes
}

// reach also reports whether the scopes are certain: a network may lie across
// several.
func (r *Rule) reach() (scopes []socket.Scope, certain bool) {
	scopes = slices.Clone(orAll(r.Scopes, socket.Scopes()))
	if r.onlyUnix() {
		scopes = slices.DeleteFunc(scopes, func(s socket.Scope) bool { return s != socket.ScopeLoopback })
	}
	if len(r.Addresses) > 0 {
		of, ok := scopesOf(r.Addresses)
		if !ok {
			return scopes, false
		}
		scopes = slices.DeleteFunc(scopes, func(s socket.Scope) bool { return !slices.Contains(of, s) })
	}
	slices.Sort(scopes)
	return slices.Compact(scopes), true
}

// scopesOf returns the scopes of all addresses in the prefixes, and whether
// that are known.
func scopesOf(prefixes []netip.Prefix) ([]socket.Scope, bool) {
	var scopes []socket.Scope
	for _, p := range prefixes {
		scope, ok := scopeOf(p)
		if !ok {
			return nil, false
		}
		scopes = append(scopes, scope)
	}
	return scopes, true
}

// scopeOf returns the scope that all addresses in the prefix have, if it is one.
func scopeOf(p netip.Prefix) (socket.Scope, bool) {
	if !p.IsValid() {
		return 0, false
	}
	scope := socket.ScopeOf(p.Addr())
	if p.IsSingleIP() {
		return scope, true
	}
	for _, block := range blocks() {
		if within(p, block) {
			return socket.ScopeOf(block.Addr()), true
		}
		if block.Overlaps(p) {
			return 0, false
		}
	}
	return socket.ScopePublic, true
}

// blocks are the networks that [socket.ScopeOf] does not call public; the
// wildcards are in no network.
func blocks() []netip.Prefix {
	return []netip.Prefix{
		block(8, 10), block(12, 172, 16), block(16, 192, 168), block(10, 100, 64),
		block(16, 169, 254), block(8, 127), block(4, 224),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
		block6(7, 0xfc), block6(10, 0xfe, 0x80), block6(8, 0xff),
	}
}

func block(bits int, bytes ...byte) netip.Prefix {
	var addr [4]byte
	copy(addr[:], bytes)
	return netip.PrefixFrom(netip.AddrFrom4(addr), bits)
}

func block6(bits int, bytes ...byte) netip.Prefix {
	var addr [16]byte
	copy(addr[:], bytes)
	return netip.PrefixFrom(netip.AddrFrom16(addr), bits)
}

// within reports whether a rule for the wide prefix matches every address that
// one for the narrow prefix does.
func within(narrow, wide netip.Prefix) bool {
	if !narrow.IsValid() || !wide.IsValid() {
		return false
	}
	if narrow.IsSingleIP() {
		return contains(wide, narrow.Addr())
	}
	return wide.Bits() <= narrow.Bits() && wide.Contains(narrow.Addr())
}
