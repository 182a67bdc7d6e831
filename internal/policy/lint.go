package policy

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Level says whether a policy can be used in spite of a problem.
type Level uint8

// The levels.
const (
	Warning Level = iota
	Error
)

// Problem is something about a rule that its author should know.
type Problem struct {
	Rule    int // index
	Level   Level
	Message string
	Hint    string
}

// Lint returns the problems of a policy, in the order of its rules. A rule said
// to be covered by an earlier one is: it can never match, whatever listens. Not
// found are rules that only several others cover together.
func Lint(rules []Rule, now time.Time) []Problem {
	var problems []Problem
	names, left := map[string]int{}, lintBudget
	for i := range rules {
		r := &rules[i]
		found := slices.Concat(
			twice(names, r.Name, i), r.emptyRanges(), r.contradicts(), r.isOver(now), r.beyondReach(), shadowed(rules, i, now, &left),
			r.tooWide(), r.filtersOthers(), r.pathsOfOthers(), r.leavesOutWildcard(), r.requiresSeveral(), r.idleSeverity(),
		)
		for _, p := range found {
			p.Rule = i
			problems = append(problems, p)
		}
	}
	return problems
}

func warn(message, hint string) []Problem {
	return []Problem{{Level: Warning, Message: message, Hint: hint}}
}

func refuse(message, hint string) []Problem {
	return []Problem{{Level: Error, Message: message, Hint: hint}}
}

// reference is how a problem names another rule.
func reference(rules []Rule, i int) string { return fmt.Sprintf("rules[%d] %q", i, rules[i].Name) }

// twice finds a name that an earlier rule has already.
func twice(names map[string]int, name string, at int) []Problem {
	first, taken := names[name]
	if !taken {
		names[name] = at
		return nil
	}
	if name == "" {
		return nil
	}
	return refuse(fmt.Sprintf("rules[%d] has the same name", first), "the name is a label value: give each rule its own")
}

func (r *Rule) emptyRanges() []Problem {
	for _, ports := range r.Ports {
		if ports.First > ports.Last {
			return refuse(fmt.Sprintf("the port range %d-%d is empty", ports.First, ports.Last),
				fmt.Sprintf("the smaller port comes first: %d-%d", ports.Last, ports.First))
		}
	}
	return nil
}

// contradicts finds a rule that asks for what it forbids.
func (r *Rule) contradicts() []Problem {
	if !r.Forbid || !r.Required {
		return nil
	}
	return refuse("it forbids what it requires", "leave out forbid or required")
}

// isOver finds an exception that has ended.
func (r *Rule) isOver(now time.Time) []Problem {
	if !r.Ended(now) {
		return nil
	}
	return warn("it ended with "+r.Until.Format(time.DateOnly)+" and matches nothing any more", "remove the rule, or set a later day in until")
}

// idleSeverity finds a severity that nothing will ever have.
func (r *Rule) idleSeverity() []Problem {
	if r.Severity == SeverityCritical || r.Forbid || r.Required {
		return nil
	}
	return warn("its severity has no effect", "severity is for rules that are required or forbid something")
}

// beyondReach finds a rule whose addresses are in none of its scopes.
func (r *Rule) beyondReach() []Problem {
	if scopes, certain := r.reach(); !certain || len(scopes) > 0 {
		return nil
	}
	return r.never("none of its addresses is in one of its scopes", "leave out the scope")
}

// lintBudget bounds what it takes to compare each rule with each before it: about
// a second. Ten thousand rules of one port each are within it.
const lintBudget = 150_000_000

// portsCost is what comparing with the ports of a rule costs, if they are to be
// sorted.
func portsCost(early, late *Rule) int {
	if len(early.Ports) < 2 {
		return 1 + len(late.Ports)
	}
	return 20 * (len(early.Ports) + len(late.Ports))
}

// shadowed finds the first rule that leaves nothing for the one at the index, as
// long as that holds. What is left bounds the work.
func shadowed(rules []Rule, at int, now time.Time, left *int) []Problem {
	late := &rules[at]
	for i := range rules[:at] {
		early := &rules[i]
		if *left < 0 {
			return nil
		}
		if *left -= portsCost(early, late); !early.coversPorts(late) {
			continue
		}
		if *left -= early.length() * late.length(); *left < 0 {
			return warn("it and the rules after it were not compared with those before: the policy is too large", "ranges and lists make one rule of several")
		}
		switch {
		case early.Ended(now) || early.endsBefore(late) || !early.covers(late):
		case early.Forbid && !late.Forbid:
			return late.never(reference(rules, i)+" comes first and forbids it", "put the narrower rule first, or remove one of the two")
		case late.covers(early) && early.Forbid == late.Forbid:
			return late.never(reference(rules, i)+" "+early.verb()+" the same", "remove one of the two")
		default:
			return late.never(reference(rules, i)+" comes first and covers it", "put the narrower rule first, or remove it")
		}
	}
	return nil
}

// endsBefore reports whether the rule ends while another one still holds.
func (r *Rule) endsBefore(other *Rule) bool {
	return !r.Until.IsZero() && (other.Until.IsZero() || r.Until.Before(other.Until))
}

// verb is what the rule does with what it matches.
func (r *Rule) verb() string {
	if r.Forbid {
		return "forbids"
	}
	return "expects"
}

// length is that of all texts of the rule, and the number of its addresses.
func (r *Rule) length() int {
	n := len(r.Addresses)
	for _, list := range [][]string{r.Interfaces, r.Netns, r.Pods, r.Processes, r.Executables, r.Users, r.Units, r.Containers, r.Paths} {
		for _, text := range list {
			n += len(text)
		}
	}
	return n
}

// never is about a rule that can never match. One that is required would be
// missing for ever.
func (r *Rule) never(why, hint string) []Problem {
	if r.Required {
		return refuse("required rule can never match: "+why, hint)
	}
	return warn("rule can never match: "+why, hint)
}

// tooWide finds rules that open a door wider than their author may think.
func (r *Rule) tooWide() []Problem {
	everything := Rule{}
	anyProgram := Rule{Ephemeral: true, Protocols: r.Protocols, Addresses: r.Addresses, Scopes: r.Scopes}
	switch {
	case r.Forbid:
		return nil
	case r.covers(&everything):
		return warn("it matches every listener, so nothing is unexpected", "say what to expect, or remove the rule")
	case r.exposed() && !r.onlyPortless() && r.covers(&anyProgram):
		return warn("it expects every program on every ephemeral port, a backdoor too",
			"add a process, an executable, a user or a unit, or the scope loopback")
	default:
		return nil
	}
}

// filtersOthers finds a filter for sockets that have none.
func (r *Rule) filtersOthers() []Problem {
	onlyPackets := r.Judges(func(p socket.Protocol) bool { return p == socket.Packet })
	if len(r.Filters) == 0 || onlyPackets {
		return nil
	}
	return refuse("filter is for packet sockets only", "add protocol: packet, or leave out filter")
}

// pathsOfOthers finds paths for sockets that have none.
func (r *Rule) pathsOfOthers() []Problem {
	if len(r.Paths) == 0 || r.onlyUnix() {
		return nil
	}
	return refuse("path is for unix listeners only", "add protocol: unix, or leave out path")
}

// onlyUnix reports whether the rule is about unix listeners alone.
func (r *Rule) onlyUnix() bool {
	return r.Judges(func(p socket.Protocol) bool { return p == socket.Unix })
}

// exposed reports whether the rule expects listeners that every network of the
// host can reach.
func (r *Rule) exposed() bool {
	return slices.Contains(r.Reach(), socket.ScopeAny) || slices.Contains(r.Reach(), socket.ScopePublic)
}

// leavesOutWildcard finds 0.0.0.0/0 and ::/0 that do not stand for 0.0.0.0 or ::.
func (r *Rule) leavesOutWildcard() []Problem {
	if !slices.Contains(orAll(r.Scopes, socket.Scopes()), socket.ScopeAny) {
		return nil
	}
	for _, prefix := range r.Addresses {
		if wildcard := prefix.Addr(); prefix.Bits() == 0 && !r.matchesAddress(wildcard) {
			return warn(fmt.Sprintf("%s has every address in it but %s itself", prefix, wildcard),
				fmt.Sprintf("for listeners on the wildcard as well, add %q", wildcard))
		}
	}
	return nil
}

// onlyPortless reports whether the rule is about sockets without a port alone.
func (r *Rule) onlyPortless() bool {
	return r.Judges(func(p socket.Protocol) bool { return !p.HasPorts() })
}

// requiresSeveral finds a required rule that several services could satisfy:
// when one of them ends, no alert fires.
func (r *Rule) requiresSeveral() []Problem {
	const hint = "write a separate rule for each required service"
	if !r.Required {
		return nil
	}
	ports := 0
	for _, some := range union(r.Ports) {
		ports += int(some.Last) - int(some.First) + 1
	}
	switch {
	case r.onlyUnix() && len(r.Paths) != 1:
		return warn("required rule that one of several unix listeners satisfies", hint)
	case r.anyPort() && !r.onlyPortless():
		return warn("required rule without a port: any listener that matches the rest satisfies it", hint)
	case r.Ephemeral:
		return warn("required rule that any ephemeral port satisfies", hint)
	case ports > 1:
		return warn(fmt.Sprintf("required rule that one of its %d ports satisfies", ports), hint)
	case len(r.Protocols) > 1:
		return warn("required rule that one of its protocols satisfies", hint)
	default:
		return nil
	}
}

// covers reports whether every listener that s can match is one that r matches.
// It is sound: true is certain, false may mean that it is too hard to decide.
func (r *Rule) covers(s *Rule) bool {
	return coversAll(orAll(r.Protocols, socket.Protocols()), s.Protocols, socket.Protocols()) &&
		r.coversPorts(s) && r.coversAddresses(s) && r.coversScopes(s) && r.coversFilters(s) && r.coversPaths(s) &&
		coversFact(r.Interfaces, s.Interfaces) && coversFact(r.namespaces(), s.namespaces()) && coversOwner(r.Pods, s.Pods, name) &&
		coversOwner(r.Processes, s.Processes, name) && coversOwner(r.Users, s.Users, name) &&
		coversOwner(r.Units, s.Units, name) && coversOwner(r.Containers, s.Containers, name) &&
		coversOwner(r.Executables, s.Executables, path)
}

// coversAll compares matchers on a closed set.
func coversAll[T comparable](wide, narrow, all []T) bool {
	if len(wide) == 0 {
		return true
	}
	for _, n := range orAll(narrow, all) {
		if !slices.Contains(wide, n) {
			return false
		}
	}
	return true
}

func (r *Rule) coversPorts(s *Rule) bool {
	if r.anyPort() {
		return true
	}
	have, need := union(r.Ports), s.Ports
	every := socket.PortRange{First: 1, Last: math.MaxUint16}
	if slices.ContainsFunc(s.Protocols, func(p socket.Protocol) bool { return !p.HasPorts() }) {
		every.First = 0 // that of a unix listener
	}
	if s.anyPort() || s.Ephemeral && !r.Ephemeral {
		need = []socket.PortRange{every}
	}
	for _, n := range need {
		if n.First <= n.Last && !holds(have, n) {
			return false
		}
	}
	return true
}

// holds reports whether one of the ranges, which are sorted and apart, has all of
// another.
func holds(ranges []socket.PortRange, n socket.PortRange) bool {
	at, _ := slices.BinarySearchFunc(ranges, n.Last, func(h socket.PortRange, last uint16) int { return int(h.Last) - int(last) })
	return at < len(ranges) && ranges[at].First <= n.First
}

// union returns the ranges sorted, those that touch joined, empty ones dropped.
func union(ranges []socket.PortRange) []socket.PortRange {
	if len(ranges) == 1 && ranges[0].First <= ranges[0].Last {
		return ranges
	}
	sorted := slices.Clone(ranges)
	slices.SortFunc(sorted, func(a, b socket.PortRange) int { return int(a.First) - int(b.First) })
	var out []socket.PortRange
	for _, r := range sorted {
		last := len(out) - 1
		switch {
		case r.First > r.Last:
		case last >= 0 && int(r.First) <= int(out[last].Last)+1:
			out[last].Last = max(out[last].Last, r.Last)
		default:
			out = append(out, r)
		}
	}
	return out
}

func (r *Rule) coversAddresses(s *Rule) bool {
	if len(r.Addresses) == 0 {
		return true
	}
	for _, narrow := range s.Addresses {
		if !slices.ContainsFunc(r.Addresses, func(wide netip.Prefix) bool { return within(narrow, wide) }) {
			return false
		}
	}
	return len(s.Addresses) > 0
}

// coversScopes also compares scopes with addresses: they have theirs.
func (r *Rule) coversScopes(s *Rule) bool {
	if coversAll(r.Scopes, s.Scopes, socket.Scopes()) {
		return true
	}
	scopes, certain := s.reach()
	return certain && coversAll(r.Scopes, scopes, socket.Scopes())
}

// coversFilters compares what no rule without the key is as narrow as.
func (r *Rule) coversFilters(s *Rule) bool {
	return len(r.Filters) == 0 || len(s.Filters) > 0 && coversAll(r.Filters, s.Filters, nil)
}

// coversPaths compares what no rule without the key is as narrow as.
func (r *Rule) coversPaths(s *Rule) bool { return coversOwner(r.Paths, s.Paths, path) }

// coversFact compares patterns on what is always known.
func coversFact(wide, narrow []string) bool {
	return len(wide) == 0 || covered(orAll(narrow, []string{"*"}), wide, name)
}

// coversOwner compares patterns on what may not be known: no pattern is as wide
// as none.
func coversOwner(wide, narrow []string, d dialect) bool {
	return len(wide) == 0 || len(narrow) > 0 && covered(narrow, wide, d)
}
