// Package policy says which listeners are expected. It is pure: rules and
// listeners in, findings out.
package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Rule expects listeners, or forbids them. It matches a listener when each of its matchers does;
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

	// Protocols are of [socket.Judged]. Without any the rule is for those that have
	// ports: what has none must be named. Unix listeners are judged by policies that
	// name them, see [NamesUnix].
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
	// Filters are those of packet sockets; no other socket has one. A filter that
	// cannot be seen is taken for one that the rule expects: it is hidden of every
	// socket of the host, or of none. Whether it is one that the rule forbids is in
	// doubt.
	Filters []socket.Filter

	// Paths are globs on the names of unix listeners, abstract ones with an @ in front;
	// no other socket has one. * stops at a slash, ** does not.
	Paths []string

	// The others are globs; see the guide in the reference configuration.
	// Interfaces and Netns are facts that are always known: there the empty
	// string is a value of its own ("bound to no device", "the host's own
	// namespace"), which * matches and ?* does not.
	Interfaces []string
	// Netns are network namespaces. Without any the rule is for that of its pod if it has
	// Pods, else for the host's own: what runs elsewhere must be named. Listeners elsewhere
	// are judged by policies that name them, see [NamesOthers].
	Netns []string
	// Pods are those of Kubernetes: each matches the name of the pod, or
	// namespace/name.
	Pods []string

	Processes   []string
	Executables []string // paths: * stops at a slash, ** does not
	Users       []string // each matches the name or the number
	Units       []string
	Containers  []string // each matches the id or, in another network namespace, the name

	// Required says that something is wrong when no listener matches.
	Required bool
	// Forbid makes what the rule matches unexpected, whatever later rules say.
	Forbid bool
	// Until is the last day, in UTC, on which the rule holds. The zero time is no
	// end.
	Until time.Time
	// Severity says how bad it is when the rule is broken: when what it forbids is
	// there, or what it requires is not.
	Severity Severity
}

// Ended reports whether the rule holds no more.
func (r *Rule) Ended(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.End()) }

// NamesUnix reports whether the rules say what they expect of unix listeners. Every
// host has dozens, so policies that do not are not about them.
func NamesUnix(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return slices.Contains(r.Protocols, socket.Unix) })
}

// NamesOthers reports whether the rules say what they expect of listeners in other network
// namespaces. A host may have hundreds, so policies that do not are not about them.
func NamesOthers(rules []Rule) bool {
	return slices.ContainsFunc(rules, func(r Rule) bool { return r.AboutOthers() })
}

// AboutOthers reports whether the rule may match a listener in another network namespace.
func (r *Rule) AboutOthers() bool {
	return slices.ContainsFunc(r.namespaces(), func(pattern string) bool { return pattern != "" })
}

// aboutOwn reports whether the rule may match a listener in the host's own.
func (r *Rule) aboutOwn() bool { return matches(r.namespaces(), name, "") }

// namespaces returns the patterns on the network namespace.
func (r *Rule) namespaces() []string {
	switch {
	case len(r.Netns) > 0:
		return r.Netns
	case len(r.Pods) > 0:
		return anyOther
	default:
		return ownOnly
	}
}

var ownOnly, anyOther = []string{""}, []string{"?*"}

// Judges reports whether a condition holds for every protocol that the rule is about.
func (r *Rule) Judges(holds func(socket.Protocol) bool) bool {
	for _, p := range orAll(r.Protocols, socket.Protocols()) {
		if !holds(p) {
			return false
		}
	}
	return true
}

// NeedsAll reports whether the rule has no verdict where a listener is unknown: what
// it requires may be there, or what it forbids.
func (r *Rule) NeedsAll() bool { return r.Required || r.Forbid }

// End returns the moment from which on the rule does not hold.
func (r *Rule) End() time.Time { return r.Until.AddDate(0, 0, 1) }

// Evaluate judges listeners by the rules that hold at a time: the first rule that
// matches one decides.
func Evaluate(rules []Rule, listeners []socket.Owned, now time.Time) Findings {
	c := court{rules: rules, held: make([]bool, len(rules))}
	for i := range rules {
		c.held[i] = !rules[i].Ended(now)
	}
	f := Findings{
		Verdicts:   make([]Verdict, len(listeners)),
		Matches:    make([]int, len(rules)),
		Unverified: make([]int, len(rules)),
	}
	matches, doubts := newTally(f.Matches), newTally(f.Unverified)
	for i := range listeners {
		v, doubtful := c.judge(&listeners[i])
		f.Verdicts[i] = v
		if v.Kind == Expected || v.Kind == Forbidden {
			matches.count(v.Rule, &listeners[i].Listener)
		}
		for _, rule := range doubtful {
			doubts.count(rule, &listeners[i].Listener)
		}
	}
	for i := range rules {
		if c.held[i] && rules[i].Required && f.Matches[i] == 0 && f.Unverified[i] == 0 {
			f.Missing = append(f.Missing, i)
		}
	}
	return f
}

// tally counts the listeners of each rule: two owners of one listener count once.
type tally struct {
	counts []int
	seen   map[tallied]bool
}

type tallied struct {
	rule  int
	id    socket.ListenerID
	vsock socket.VsockAddr
	unix  socket.UnixName
}

func newTally(counts []int) tally { return tally{counts, map[tallied]bool{}} }

func (t tally) count(rule int, l *socket.Listener) {
	if key := (tallied{rule, l.ListenerID, l.Vsock, l.Unix}); !t.seen[key] {
		t.seen[key] = true
		t.counts[rule]++
	}
}

// court judges by the rules that hold.
type court struct {
	rules []Rule
	held  []bool
}

// judge returns the verdict on a listener, and the rules in doubt that come before
// the one that decides: whether they match depends on an owner that could not be
// read. The listener is unverified only where that makes a difference.
func (c court) judge(l *socket.Owned) (v Verdict, doubtful []int) {
	v = Verdict{Unexpected, noRule}
	mayAllow, mayForbid := false, false
	for i := range c.rules {
		r := &c.rules[i]
		if !c.held[i] {
			continue
		}
		m := r.matches(l)
		if m == yes {
			v = Verdict{r.verdict(), i}
			break
		}
		if m == maybe {
			doubtful = append(doubtful, i)
			mayAllow, mayForbid = mayAllow || !r.Forbid, mayForbid || r.Forbid
		}
	}
	if v.Expected() && mayForbid || !v.Expected() && mayAllow {
		v = Verdict{Unverified, doubtful[0]}
	}
	if l.MayBeClient && (v.Kind == Unexpected || v.Kind == Unverified) {
		v = Verdict{Undecided, noRule}
	}
	return v, doubtful
}

// verdict is that on what the rule matches.
func (r *Rule) verdict() Kind {
	if r.Forbid {
		return Forbidden
	}
	return Expected
}

// match is whether a rule matches a listener.
type match uint8

// The answers in the order in which the least of several holds for all of them.
const (
	no    match = iota
	maybe       // it depends on an owner that could not be read
	yes
)

// matches asks the cheap and telling questions first: every listener meets
// every rule at each scrape.
func (r *Rule) matches(l *socket.Owned) match {
	if r.matchesPort(l) &&
		slices.Contains(orAll(r.Protocols, socket.Protocols()), l.Protocol) &&
		(len(r.Scopes) == 0 || slices.Contains(r.Scopes, l.Scope)) &&
		r.matchesAddress(l.Address) &&
		r.matchesPath(l) &&
		r.matchesFacts(l) {
		return min(r.matchesFilter(l), r.matchesPod(l), r.matchesOwner(l))
	}
	return no
}

func (r *Rule) matchesFilter(l *socket.Owned) match {
	hidden := l.Protocol == socket.Packet && l.Filter == socket.FilterUnknown
	switch {
	case len(r.Filters) == 0, hidden && !r.Forbid:
		return yes
	case hidden:
		return maybe
	case l.Protocol == socket.Packet && slices.Contains(r.Filters, l.Filter):
		return yes
	default:
		return no
	}
}

func (r *Rule) matchesPath(l *socket.Owned) bool {
	return len(r.Paths) == 0 || l.Protocol == socket.Unix && matches(r.Paths, path, l.Unix.Path)
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
		matches(r.namespaces(), name, l.Netns)
}

// matchesPod compares the pod. Its name may be hidden, or that there is one.
func (r *Rule) matchesPod(l *socket.Owned) match {
	w := l.Workload
	switch {
	case len(r.Pods) == 0:
		return yes
	case w == nil:
		return no
	case w.Pod == "":
		return verified(r.Pods, name, "", w.Hidden || w.PodUID != "")
	default:
		return max(verified(r.Pods, name, w.Pod, false), verified(r.Pods, name, w.Namespace+"/"+w.Pod, w.Namespace == ""))
	}
}

// matchesContainer compares the container by its id, and by its name.
func (r *Rule) matchesContainer(l *socket.Owned) match {
	o := &l.Owner
	called, hidden := l.ContainerName()
	return max(
		verified(r.Containers, name, o.Container, o.Process == "" && o.Container == "" && o.Unit == ""),
		verified(r.Containers, name, called, hidden),
	)
}

// matchesOwner compares what is known of an owner. What could not be read is in
// doubt; what was read and is not there (a unit, a container) is not.
func (r *Rule) matchesOwner(l *socket.Owned) match {
	o := &l.Owner
	return min(
		verified(r.Processes, name, o.Process, o.Process == ""),
		max(verified(r.Users, name, o.User, userInDoubt(o)), verified(r.Users, name, o.UserID, false)),
		verified(r.Units, name, o.Unit, unitInDoubt(o)),
		r.matchesContainer(l),
		verified(r.Executables, path, o.Executable, o.Executable == "" && !isKernel(o)),
	)
}

// verified reports whether what is known of an owner matches.
func verified(patterns []string, d dialect, known string, inDoubt bool) match {
	switch {
	case len(patterns) == 0, known != "" && matches(patterns, d, known):
		return yes
	case inDoubt:
		return maybe
	default:
		return no
	}
}

// userInDoubt reports whether the process may run as another user, or its user have
// a name that is not known yet, or is in a file that could not be read. Of a process
// that could not be read, the user who made the socket is known: root, for many a
// service that gives up its rights when it has its port.
func userInDoubt(o *socket.Owner) bool {
	return o.Pending || o.User == "" || o.Process == "" && o.User == o.UserID || madeByRoot(o)
}

// madeByRoot reports whether all that is known of a process is that root made its
// socket.
func madeByRoot(o *socket.Owner) bool {
	return o.Process == "" && (o.User == "root" || o.User == "0" || o.UserID == "0")
}

// unitInDoubt reports whether the process may be of another unit. Of a process
// that could not be read, the unit that made the socket is known: systemd, for a
// service that it starts on demand.
func unitInDoubt(o *socket.Owner) bool {
	madeBySystemd := o.Unit == "init.scope" || strings.HasSuffix(o.Unit, ".socket")
	return o.Process == "" && (madeBySystemd || o.Unit == "" && o.Container == "")
}

// isKernel reports whether the owner is the kernel, which has no executable.
func isKernel(o *socket.Owner) bool { return o.Process == socket.Kernel }

// Named returns a function that reports whether a rule about the host's own network
// namespace names the port of a socket by its number. A UDP socket on an ephemeral port is no client's then,
// whatever its age. Ranges name no port: a rule for 32768-60999 would make a
// listener of every client.
func Named(rules []Rule) func(*socket.Socket) bool { return named(rules, (*Rule).aboutOwn) }

// NamedElsewhere is [Named] of the rules about other network namespaces.
func NamedElsewhere(rules []Rule) func(*socket.Socket) bool {
	return named(rules, (*Rule).AboutOthers)
}

func named(rules []Rule, about func(*Rule) bool) func(*socket.Socket) bool {
	type port struct {
		protocol socket.Protocol
		number   uint16
	}
	named := map[port]bool{}
	for i := range rules {
		r := &rules[i]
		if !about(r) {
			continue
		}
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
