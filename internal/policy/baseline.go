package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// Baseline returns a policy that expects exactly what listens now, as far as a
// restart leaves it the same: ephemeral ports and the names of containers and
// of passing units become patterns. It is the same for the same listeners in
// any order, the most exposed ones first, and has no rule that can never match.
//
// What one owner does in the same way makes one rule: addresses are put
// together, then ports, then protocols, only where every combination is there.
// A listener whose process is not known has a rule of its own, by its port.
func Baseline(listeners []socket.Owned, o Options) []Rule { return Merge(nil, listeners, o) }

// Options say how a baseline is made.
type Options struct {
	// Now is the time at which the rules that are there are to hold.
	Now time.Time
	// Ephemeral expects any ephemeral port of a program that has one now, whoever
	// can reach it. Else this is so for those that only this host can reach, and
	// the others keep their port: that the kernel chose it cannot be known from the
	// socket, and a backdoor may have such a port as well.
	Ephemeral bool
}

// Merge returns what is to be appended to the rules so that they expect all of
// the listeners, but for those that a rule forbids and those that could not be
// verified: a rule may expect them already.
func Merge(old []Rule, listeners []socket.Owned, o Options) (added []Rule) {
	verdicts := Evaluate(old, listeners, o.Now).Verdicts
	roams := roaming(listeners, o)
	var drafts []draft
	for i := range listeners {
		l := &listeners[i]
		switch {
		case verdicts[i].Kind == Unexpected:
			drafts = append(drafts, draftOf(l, o.Ephemeral))
		case verdicts[i].Kind == Undecided && !needsNoRule(l):
			d := draftOf(l, o.Ephemeral)
			d.guess(roams[d.programKey()])
			drafts = append(drafts, d)
		}
	}
	drafts = fold(drafts, draft.addresses, nil)
	drafts = fold(drafts, draft.ports, draft.attributed)
	drafts = fold(drafts, draft.paths, draft.attributed)
	drafts = fold(drafts, draft.protocols, nil)
	slices.SortFunc(drafts, draft.compare)
	return WithNames(slices.Concat(old, narrowFirst(finish(drafts))))[len(old):]
}

// needsNoRule reports whether nothing finds fault with a listener that no rule
// expects: a UDP socket that is a client's, or may be one for good.
func needsNoRule(l *socket.Owned) bool { return l.MayBeClient && l.Ephemeral }

// roaming returns the programs with UDP sockets on many ports that no program
// was given by the kernel, by programKey: resolvers with source ports of their
// own choice, and media servers.
func roaming(listeners []socket.Owned, o Options) map[string]bool {
	const few = 4
	ports, roams := map[string]int{}, map[string]bool{}
	for i := range listeners {
		if l := &listeners[i]; l.MayBeClient && !needsNoRule(l) {
			key := draftOf(l, o.Ephemeral).programKey()
			ports[key]++
			roams[key] = ports[key] > few && l.Owner.Process != ""
		}
	}
	return roams
}

// programKey is the same for the drafts of one program.
func (d draft) programKey() string {
	d.Addresses, d.Scopes, d.Ports = nil, nil, nil
	return d.key()
}

// guess makes the rule one for a UDP socket that was seen once. One that roams has
// another port the next time.
func (d *draft) guess(roams bool) {
	d.once = true
	if !roams {
		return
	}
	d.Ports = []socket.PortRange{{First: 1024, Last: 65535}}
	for _, a := range d.Addresses {
		d.Scopes = append(d.Scopes, socket.ScopeOf(a.Addr()))
	}
	d.Addresses = nil
}

// draft is a rule in the making.
type draft struct {
	Rule
	once     bool // one of its listeners may have been a client's socket
	deleted  bool // the executable of one of its listeners is gone
	asked    bool // the kernel may have chosen its port, or a backdoor
	filtered bool // it is about a packet socket that may have a filter
	unnamed  bool // it is about a vsock listener whose port no rule can name
}

// draftOf returns the rule for one listener.
func draftOf(l *socket.Owned, ephemeral bool) draft {
	d := draft{deleted: l.Owner.Deleted}
	d.Protocols = []socket.Protocol{l.Protocol}
	d.Interfaces = known(literal(l.Interface))
	d.Processes = known(foldIDs(literal(l.Owner.Process)))
	d.Users = known(literal(userOf(&l.Owner)))
	d.Units = known(foldUnit(literal(unitOf(&l.Owner))))
	d.nameWorkload(l)
	if socket.IsInterpreter(l.Owner.Executable) {
		d.Executables = known(foldIDs(literal(l.Owner.Executable)))
	}
	d.Ephemeral = l.Ephemeral && d.attributed() && (ephemeral || isLocal(l) || isKernel(&l.Owner))
	d.asked = l.Ephemeral && !d.Ephemeral && !isLocal(l)
	switch {
	case l.Protocol == socket.Packet: // its port is an EtherType, most often that of all
		d.filtered = l.Filter != socket.NoFilter
		if l.Filter != socket.FilterUnknown {
			d.Filters = []socket.Filter{l.Filter}
		}
		return d
	case l.Protocol == socket.Vsock && l.Port == 0:
		d.unnamed = true
		return d
	case l.Protocol == socket.Unix:
		d.Paths = known(socket.FoldPath(literal(l.Unix.Path)))
		return d
	}
	if !d.Ephemeral {
		d.Ports = []socket.PortRange{{First: l.Port, Last: l.Port}}
	}
	if addr := plainAddress(l.Address); addr.IsValid() && !d.Ephemeral {
		d.Addresses = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	} else {
		d.Scopes = []socket.Scope{l.Scope}
	}
	return d
}

// nameWorkload names the container, and in another network namespace the pod, by the name
// that the next deployment has too: else by the id, which becomes a pattern.
func (d *draft) nameWorkload(l *socket.Owned) {
	w := l.Workload
	if w != nil && w.Pod != "" {
		d.Pods = known(foldPod(literal(strings.TrimPrefix(w.Namespace+"/"+w.Pod, "/"))))
		return
	}
	d.Netns = known(foldContainer(literal(l.Netns)))
	d.Containers = known(foldContainer(literal(l.Owner.Container)))
	if called, _ := l.ContainerName(); called != "" {
		d.Containers = known(literal(called))
	}
}

// userOf returns the user that a rule is to name. One that systemd makes up for a
// service (DynamicUser=), and that has no name here, may have another number after
// a restart; the unit says more. Who made the socket of a process that could not be
// read may not be who runs it.
func userOf(o *socket.Owner) string {
	if madeByRoot(o) {
		return ""
	}
	const first, last = 61184, 65519 // systemd.io/UIDS-GIDS
	id, err := strconv.Atoi(o.User)
	if err == nil && id >= first && id <= last && o.Unit != "" {
		return ""
	}
	return o.User
}

// unitOf returns the unit that a rule is to name: none where only the unit that made
// the socket is known, and may have made it for another.
func unitOf(o *socket.Owner) string {
	if unitInDoubt(o) {
		return ""
	}
	return o.Unit
}

// isLocal reports whether this host alone can reach the listener.
func isLocal(l *socket.Owned) bool { return l.Scope == socket.ScopeLoopback || l.Interface == "lo" }

// known returns a matcher for what is not empty.
func known(pattern string) []string {
	if pattern == "" {
		return nil
	}
	return []string{pattern}
}

// attributed reports whether the rule names a process. Without one, two
// listeners are only guessed to belong together.
func (d draft) attributed() bool { return len(d.Processes) > 0 }

// fold puts rules together that differ in one matcher only, whose elements they
// then share. It leaves alone what may not be folded.
func fold(drafts []draft, without func(draft) draft, may func(draft) bool) []draft {
	at := map[string]int{}
	var out []draft
	for _, d := range drafts {
		like := d
		if may == nil || may(d) {
			like = without(d)
		}
		key := like.key()
		if i, ok := at[key]; ok {
			out[i] = out[i].join(d)
			continue
		}
		at[key] = len(out)
		out = append(out, d)
	}
	return out
}

// addresses, ports, paths and protocols return the rule without that matcher. An
// ephemeral port has a scope for an address.
func (d draft) addresses() draft {
	d.Addresses = nil
	if d.Ephemeral {
		d.Scopes = nil
	}
	return d
}

func (d draft) ports() draft {
	if !d.Ephemeral {
		d.Ports = nil
	}
	return d
}

func (d draft) paths() draft {
	d.Paths = nil
	return d
}

func (d draft) protocols() draft {
	d.Protocols = nil
	return d
}

// join returns a rule with the elements of both. Their order is always the
// same, so that equal rules have equal keys.
func (d draft) join(other draft) draft {
	d.Protocols = sorted(d.Protocols, other.Protocols, cmp.Compare)
	d.Ports = sorted(d.Ports, other.Ports, func(a, b socket.PortRange) int { return cmp.Compare(a.First, b.First) })
	d.Addresses = sorted(d.Addresses, other.Addresses, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	d.Scopes = sorted(d.Scopes, other.Scopes, cmp.Compare)
	d.Paths = sorted(d.Paths, other.Paths, cmp.Compare)
	d.deleted = d.deleted || other.deleted
	d.asked = d.asked || other.asked
	d.once = d.once || other.once
	d.filtered = d.filtered || other.filtered
	return d
}

func sorted[T any](a, b []T, compare func(a, b T) int) []T {
	all := slices.Concat(a, b)
	slices.SortFunc(all, compare)
	return slices.CompactFunc(all, func(a, b T) bool { return compare(a, b) == 0 })
}

// key is the same for rules that match the same.
func (r *Rule) key() string {
	return fmt.Sprintf("%d %d %t %v %d %q %d %q", r.Protocols, r.Ports, r.Ephemeral, r.Addresses, r.Scopes,
		[][]string{r.Interfaces, r.Netns, r.Pods, r.Processes, r.Executables, r.Users, r.Units, r.Containers}, r.Filters, r.Paths)
}

// key is the same for drafts that match the same and are asked about alike.
func (d draft) key() string { return fmt.Sprintf("%t %s", d.asked, d.Rule.key()) }

// compare orders rules for people: by exposure, the guesses after what is
// certain, then by port.
func (d draft) compare(other draft) int {
	order := cmp.Or(
		cmp.Compare(slices.Min(d.Reach()), slices.Min(other.Reach())),
		cmp.Compare(len(other.Processes), len(d.Processes)),
		cmp.Compare(d.firstPort(), other.firstPort()),
		slices.Compare(d.Protocols, other.Protocols),
		cmp.Compare(d.who(), other.who()),
	)
	if order != 0 {
		return order
	}
	return cmp.Compare(d.key(), other.key())
}

// firstPort is above all ports where any ephemeral one is expected.
func (r *Rule) firstPort() int {
	if len(r.Ports) == 0 {
		return 1 << 16
	}
	return int(r.Ports[0].First)
}

// finish writes the comments and the ranges.
func finish(drafts []draft) []Rule {
	var rules []Rule
	for _, d := range drafts {
		d.Ports = runs(d.Ports)
		d.Comment = strings.Join(d.notes(), "; ")
		rules = append(rules, d.Rule)
	}
	return rules
}

// notes are what the reader of the rule is to know or to answer.
func (d draft) notes() (notes []string) {
	for _, n := range []struct {
		there bool
		text  string
	}{
		{d.asked, "is this meant? it is on a port that the kernel gives to clients"},
		{d.filtered, "is this meant? a packet socket with a filter is how a backdoor listens without a port"},
		{d.unnamed, "is this meant? its vsock port is above 65535, so it is expected on any"},
		{!d.attributed(), "its process could not be read when this rule was written"},
		{d.once, "UDP, seen once: remove it if it is a client's"},
		{d.deleted, "its executable was deleted or replaced on disk when this rule was written"},
	} {
		if n.there {
			notes = append(notes, n.text)
		}
	}
	return notes
}

// runs makes ranges of three ports and more in a row.
func runs(ports []socket.PortRange) []socket.PortRange {
	var out []socket.PortRange
	for _, r := range union(ports) {
		if r.Last-r.First == 1 {
			out = append(out, socket.PortRange{First: r.First, Last: r.First})
			r.First = r.Last
		}
		out = append(out, r)
	}
	return out
}

// narrowFirst moves a rule before the first one that covers it, as where the
// owner of a listener was known once and once not. Else the order stays.
func narrowFirst(rules []Rule) []Rule {
	var out []Rule
	for i := range rules {
		at := slices.IndexFunc(out, func(r Rule) bool { return r.covers(&rules[i]) })
		if at < 0 {
			at = len(out)
		}
		out = slices.Insert(out, at, rules[i])
	}
	return out
}
