package socket

import "net/netip"

// Scope says from where an address can be reached.
type Scope uint8

// The scopes, from the most exposed to the least.
const (
	ScopeAny       Scope = iota // 0.0.0.0 or ::
	ScopePublic                 // everything that is none of the others
	ScopePrivate                // RFC 1918, RFC 4193 (ULA), RFC 6598 (CGNAT)
	ScopeLinkLocal              // RFC 3927, fe80::/10, broadcast addresses
	ScopeLoopback               // 127.0.0.0/8, ::1
	ScopeMulticast              // 224.0.0.0/4, ff00::/8
)

// String returns the scope as it stands in labels.
func (s Scope) String() string {
	switch s {
	case ScopeAny:
		return "any"
	case ScopePublic:
		return "public"
	case ScopePrivate:
		return "private"
	case ScopeLinkLocal:
		return "link_local"
	case ScopeLoopback:
		return "loopback"
	case ScopeMulticast:
		return "multicast"
	default:
		return "unknown"
	}
}

// Scopes returns every scope, the most exposed first.
func Scopes() []Scope {
	return []Scope{ScopeAny, ScopePublic, ScopePrivate, ScopeLinkLocal, ScopeLoopback, ScopeMulticast}
}

// ScopeOf returns the scope of a bind address. An IPv4-mapped address has the
// scope of the IPv4 address in it.
func ScopeOf(addr netip.Addr) Scope {
	addr = addr.Unmap()
	switch {
	case addr.IsUnspecified():
		return ScopeAny
	case addr.IsLoopback():
		return ScopeLoopback
	case addr.IsMulticast():
		return ScopeMulticast
	case addr.IsLinkLocalUnicast(), addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return ScopeLinkLocal
	case addr.IsPrivate(), isSharedAddress(addr):
		return ScopePrivate
	default:
		return ScopePublic
	}
}

// isSharedAddress reports whether addr is in 100.64.0.0/10, the space that
// RFC 6598 sets apart for carrier-grade NAT.
func isSharedAddress(addr netip.Addr) bool {
	if !addr.Is4() {
		return false
	}
	b := addr.As4()
	return b[0] == 100 && b[1]&0xc0 == 64
}
