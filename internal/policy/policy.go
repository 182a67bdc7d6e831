// Package policy says which listeners are expected. It is pure: rules and
// listeners in, findings out.
package policy

import (
	"net/netip"
	"slices"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Rule expects listeners. It matches a listener when each of its matchers does;
// a matcher is a list, of which one element has to match, and an empty one
// matches every listener.
//
// A matcher on the owner never matches what could not be read: a rule that
// cannot be verified excuses nothing, not even with the pattern *.
type Rule struct {
	// Name is the value of the label rule: unique, see [WithNames].
	Name string
	// Comment is for people; it goes along in tables and messages.
	Comment string

	Protocols []socket.Protocol
	// Ports and Ephemeral are one matcher: a port in one of the ranges or, with
	// Ephemeral, any that the kernel hands out (ip_local_port_range).
	Ports     []socket.PortRange
	Ephemeral bool
	// Addresses are bind addresses (a prefix of full length) and networks.
	// 0.0.0.0 and :: are addresses of their own: no network has them in it, not
	// even 0.0.0.0/0, and :: does not stand for the 0.0.0.0 that a dual-stack
	// listener also takes.
	Addresses []netip.Prefix
	Scopes    []socket.Scope

	// The others are globs; see the guide in the reference configuration.
	// Interfaces and Netns tell facts that are always known: there the empty
	// string is a value of its own ("bound to no device", "the host's own
	// namespace"), which * matches and ?* does not.
	Interfaces []string
	Netns      []string

	Processes   []string
	Executables []string // paths: * stops at a slash, ** does not
	Users       []string
	Units       []string
	Containers  []string

	// Required says that something is wrong when no listener matches.
	Required bool
}

// Verdict is the index of the rule that expects a listener, or [Unexpected].
type Verdict int

// Unexpected is the verdict on a listener that no rule matches.
const Unexpected Verdict = -1

// Expected reports whether a rule expects the listener.
func (v Verdict) Expected() bool { return v >= 0 }

// Findings are what a policy says of the listeners of one moment.
type Findings struct {
	// Verdicts has one for each listener, in their order.
	Verdicts []Verdict
	// Matches has, for each rule, the number of listeners it expects: of
	// identities, so that two owners of one listener count once.
	Matches []int
	// Missing are the required rules that expect no listener, by index.
	Missing []int
}

// Evaluate judges listeners: the first rule that matches one expects it.
func Evaluate(rules []Rule, listeners []socket.Owned) Findings {
	type match struct {
		rule Verdict
		id   socket.ListenerID
	}
	f := Findings{Verdicts: make([]Verdict, len(listeners)), Matches: make([]int, len(rules))}
	counted := make(map[match]bool, len(listeners))
	for i := range listeners {
		v := judge(rules, &listeners[i])
		f.Verdicts[i] = v
		if m := (match{v, listeners[i].ListenerID}); v.Expected() && !counted[m] {
			counted[m] = true
			f.Matches[v]++
		}
	}
	for i := range rules {
		if rules[i].Required && f.Matches[i] == 0 {
			f.Missing = append(f.Missing, i)
		}
	}
	return f
}

func judge(rules []Rule, l *socket.Owned) Verdict {
	for i := range rules {
		if rules[i].matches(l) {
			return Verdict(i)
		}
	}
	return Unexpected
}

// matches asks the cheap and telling questions first: every listener meets
// every rule at each scrape.
func (r *Rule) matches(l *socket.Owned) bool {
	return r.matchesPort(l) &&
		(len(r.Protocols) == 0 || slices.Contains(r.Protocols, l.Protocol)) &&
		(len(r.Scopes) == 0 || slices.Contains(r.Scopes, l.Scope)) &&
		r.matchesAddress(l.Address) &&
		r.matchesFacts(l) &&
		r.matchesOwner(&l.Owner)
}

// anyPort reports whether the rule asks for no port.
func (r *Rule) anyPort() bool { return len(r.Ports) == 0 && !r.Ephemeral }

func (r *Rule) matchesPort(l *socket.Owned) bool {
	if r.anyPort() || r.Ephemeral && l.Ephemeral {
		return true
	}
	for _, ports := range r.Ports {
		if ports.Contains(l.Port) {
			return true
		}
	}
	return false
}

func (r *Rule) matchesAddress(bound netip.Addr) bool {
	if len(r.Addresses) == 0 {
		return true
	}
	addr := plainAddress(bound)
	for _, prefix := range r.Addresses {
		if contains(prefix, addr) {
			return true
		}
	}
	return false
}

// plainAddress returns the address that rules compare: sources unmap already,
// and the interface is a matcher of its own.
func plainAddress(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// contains reports whether a rule for the prefix matches the address.
func contains(prefix netip.Prefix, addr netip.Addr) bool {
	if addr.IsUnspecified() {
		return prefix.IsSingleIP() && prefix.Addr() == addr
	}
	return prefix.Contains(addr)
}

func (r *Rule) matchesFacts(l *socket.Owned) bool {
	return (len(r.Interfaces) == 0 || matches(r.Interfaces, name, l.Interface)) &&
		(len(r.Netns) == 0 || matches(r.Netns, name, l.Netns))
}

func (r *Rule) matchesOwner(o *socket.Owner) bool {
	return verified(r.Processes, name, o.Process) &&
		verified(r.Users, name, o.User) &&
		verified(r.Units, name, o.Unit) &&
		verified(r.Containers, name, o.Container) &&
		verified(r.Executables, path, o.Executable)
}

// verified reports whether what is known of an owner matches.
func verified(patterns []string, d dialect, known string) bool {
	return len(patterns) == 0 || known != "" && matches(patterns, d, known)
}

// Named returns a function that reports whether a rule names the port of a
// socket by its number. A UDP socket on an ephemeral port is no client's then,
// whatever its age. Ranges name no port: a rule for 32768-60999 would make a
// listener of every client.
func Named(rules []Rule) func(*socket.Socket) bool {
	type port struct {
		protocol socket.Protocol
		number   uint16
	}
	named := map[port]bool{}
	for _, r := range rules {
		for _, protocol := range orAll(r.Protocols, socket.Protocols()) {
			for _, ports := range r.Ports {
				if ports.First == ports.Last {
					named[port{protocol, ports.First}] = true
				}
			}
		}
	}
	return func(s *socket.Socket) bool { return named[port{s.Protocol, s.Local.Port()}] }
}

// orAll returns what a matcher lists, or everything when it is empty.
func orAll[T any](listed, all []T) []T {
	if len(listed) == 0 {
		return all
	}
	return listed
}
