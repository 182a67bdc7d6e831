package socket

import "strings"

// Conflict is a port that different owners cover on overlapping addresses: the
// kernel gives each connection to the closest address, so one shadows the other.
type Conflict struct {
	Netns    string
	Protocol Protocol
	Port     uint16
}

// Conflicts returns the conflicts among listeners that are sorted by their ID,
// in that order. A listener whose owner is not known is in none.
func Conflicts(owned []Owned) []Conflict {
	var conflicts []Conflict
	key := func(o *Owned) Conflict { return Conflict{o.Netns, o.Protocol, o.Port} }
	for sharing := range Groups(owned, key) {
		if anyConflict(sharing) {
			conflicts = append(conflicts, key(&sharing[0]))
		}
	}
	return conflicts
}

func isKnown(o Owner) bool { return o.Process != "" || o.Unit != "" || o.Container != "" }

func anyConflict(sharing []Owned) bool {
	for i := range sharing {
		for j := range i {
			a, b := &sharing[i], &sharing[j]
			if isKnown(a.Owner) && isKnown(b.Owner) && overlap(&a.Listener, &b.Listener) &&
				!sharesMulticast(&a.Listener, &b.Listener) && !sameService(a.Owner, b.Owner) {
				return true
			}
		}
	}
	return false
}

// sharesMulticast reports whether two UDP listeners share their port on purpose
// (SO_REUSEADDR): each gets its copy of a multicast (__udp4_lib_mcast_deliver in
// net/ipv4/udp.c).
func sharesMulticast(a, b *Listener) bool {
	if a.Protocol == TCP {
		return false
	}
	switch a.Port {
	case 319, 320, 427, 1900, 3702, 5353, 5355: // PTP, SLP, SSDP, WS-Discovery, mDNS, LLMNR
		return true
	default:
		return a.Scope == ScopeMulticast || b.Scope == ScopeMulticast
	}
}

// sameService compares owners by what a service keeps: programs of one unit or
// one container belong together.
func sameService(a, b Owner) bool {
	if a.Unit != b.Unit || a.Container != b.Container {
		return false
	}
	return a.Unit != "" && !isSession(a.Unit) || a.Container != "" ||
		a.Process == b.Process && a.User == b.User && a.Executable == b.Executable
}

// overlap reports whether something that arrives could go to either listener,
// were the other not there.
func overlap(a, b *Listener) bool {
	if a.Interface != "" && b.Interface != "" && a.Interface != b.Interface {
		return false
	}
	if a.Address == b.Address {
		return true
	}
	return a.covers(b) || b.covers(a)
}

// covers reports whether a wildcard takes what another listener takes.
func (l *Listener) covers(other *Listener) bool {
	return l.Scope == ScopeAny && (l.DualStack || l.Address.Is4() == other.Address.Is4() || other.DualStack)
}

// isSession reports whether a unit is a log-in session, in which unrelated
// programs run (systemd-logind(8)).
func isSession(unit string) bool {
	return strings.HasPrefix(unit, "session-") && strings.HasSuffix(unit, ".scope")
}
