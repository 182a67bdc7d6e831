package firewall

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// Protocol is that of a connection.
type Protocol byte

// The protocols.
const (
	TCP Protocol = protocolTCP
	UDP Protocol = protocolUDP
)

func (p Protocol) String() string {
	if p == UDP {
		return "udp"
	}
	return "tcp"
}

// Arrival is a new connection from another host to this one. Zero values are those that
// are not known: then the answer is about all that there may be.
type Arrival struct {
	Protocol Protocol
	// To is the address of this host; the wildcard is any of its family.
	To   netip.Addr
	Port uint16
	// From is the other end, and Interface that on which it arrives.
	From      netip.Addr
	FromPort  uint16
	Interface string
}

// Departure is a new connection from this host. Zero values are those that are not
// known.
type Departure struct {
	Protocol Protocol
	To       netip.Addr
	Port     uint16
	From     netip.Addr
	FromPort uint16
	// FromPorts are the first and the last port that the kernel would choose, where
	// FromPort is not known.
	FromPorts [2]uint16
	// Interface is that of the route to the target; for an address of this host lo.
	Interface string
}

// Input returns what the rules do with a new connection from another host: its first
// packet, and for TCP the answer and what follows too. It assumes of the other end
// that its address is not forged, and that answers leave by the interface on which it
// arrived.
func (r *Ruleset) Input(a Arrival) Decision {
	first, all := a.first()
	t := r.travel(all)
	t.follow(first, hookIngress, hookPrerouting, hookInput)
	if a.Protocol == TCP {
		answer := first
		answer.incoming, answer.fromPeer, answer.reply = false, false, true
		answer.state, answer.tcpFlags = stateEstablished, flagSYN|flagACK
		t.follow(answer, hookOutput, hookPostrouting, hookEgress)
		third := first
		third.state, third.tcpFlags = stateEstablished, flagACK
		t.follow(third, hookIngress, hookPrerouting, hookInput)
	}
	return t.decide()
}

// first returns the first packet of a connection, and all that it may be.
func (a Arrival) first() (packet, box) {
	to := a.To.Unmap()
	p := packet{v6: to.Is6(), protocol: byte(a.Protocol), incoming: true, fromPeer: true, elsewhere: true, state: stateNew, tcpFlags: flagSYN}
	all := box{
		peerAddress: others(p.v6), ownAddress: addresses(to, every(p.addressLength())),
		peerPort: ports(a.FromPort), ownPort: ports(a.Port), device: devices(a.Interface),
	}
	if a.From.IsValid() {
		all[peerAddress] = one(addressValue(a.From.Unmap()))
	}
	return p, all
}

// Listener returns what the rules do with new connections to a listener; one on :: may
// accept IPv4 too. The answer is kept as long as the rules.
func (r *Ruleset) Listener(a Arrival, dualStack bool) Decision {
	at := asked{a, dualStack}
	r.kept.mu.Lock()
	d, ok := r.kept.decisions[at]
	r.kept.mu.Unlock()
	if ok {
		return d
	}
	d = r.Input(a)
	if dualStack && a.To.Is6() && a.To.IsUnspecified() {
		a.To = netip.IPv4Unspecified()
		d = both(r.Input(a), d)
	}
	r.kept.mu.Lock()
	defer r.kept.mu.Unlock()
	if len(r.kept.decisions) < maxKept {
		r.kept.decisions[at] = d
	}
	return d
}

// kept is what was decided about listeners, and which ports are published.
type kept struct {
	mu        sync.Mutex
	decisions map[asked]Decision
	published func() ([]Published, int)
}

func (r *Ruleset) newKept() *kept {
	return &kept{decisions: map[asked]Decision{}, published: sync.OnceValues(r.findPublished)}
}

type asked struct {
	Arrival
	dualStack bool
}

// maxKept bounds how many decisions are kept, of some hundred bytes each.
const maxKept = 4096

// both returns the decision about connections of IPv4 and of IPv6.
func both(v4, v6 Decision) Decision {
	isOpen := func(d Decision) bool { return d.Verdict == Accept || d.Verdict == Limited }
	switch {
	case v4.Verdict == Unknown:
		return v4
	case v6.Verdict == Unknown:
		return v6
	case v4.Verdict == Accept && v6.Verdict == Accept:
		return v4
	case !isOpen(v4) && !isOpen(v6):
		return v4
	}
	d := Decision{Verdict: Limited}
	for _, of := range []struct {
		name string
		d    Decision
	}{{"IPv6", v6}, {"IPv4", v4}} {
		if !isOpen(of.d) {
			continue
		}
		d.Rule = of.d.Rule
		from := []string{of.name}
		if of.d.Verdict == Limited {
			from = of.d.From
		}
		d.From = append(from, d.From...)
	}
	return d
}

// Output returns what the rules of this host do with a new connection that it makes. To
// an address of this host, with the interface lo, these are the rules for what arrives
// too.
func (r *Ruleset) Output(d Departure) Decision {
	to := d.To.Unmap()
	first := packet{v6: to.Is6(), protocol: byte(d.Protocol), state: stateNew, tcpFlags: flagSYN, local: d.Interface == loopback, elsewhere: d.Interface != "" && d.Interface != loopback}
	all := box{
		peerAddress: one(addressValue(to)), ownAddress: addresses(d.From.Unmap(), every(first.addressLength())),
		peerPort: ports(d.Port), ownPort: ports(d.FromPort), device: every(deviceLength),
	}
	if d.FromPort == 0 && d.FromPorts[1] > 0 {
		all[ownPort] = spans{{portValue(d.FromPorts[0]), portValue(d.FromPorts[1])}}
	}
	if d.Interface != "" {
		all[device] = one(deviceValue(d.Interface))
	}
	t := r.travel(all)
	t.one = true
	t.follow(first, hookOutput, hookPostrouting, hookEgress)
	if first.local {
		t.follow(first.arriving(), hookPrerouting, hookInput)
	}
	if d.Protocol == TCP {
		answer := first
		answer.fromPeer, answer.reply = true, true
		answer.state, answer.tcpFlags = stateEstablished, flagSYN|flagACK
		if first.local {
			t.follow(answer, hookOutput, hookPostrouting, hookEgress)
		}
		t.follow(answer.arriving(), hookIngress, hookPrerouting, hookInput)
	}
	return t.decide()
}

func (p packet) arriving() packet {
	p.incoming = true
	return p
}

const loopback = "lo"

// Flags of TCP.
const (
	flagSYN = 0x02
	flagACK = 0x10
)

// others is all addresses of other hosts.
func others(v6 bool) spans {
	reserved := []string{"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3"}
	size := 4
	if v6 {
		reserved, size = []string{"::/127", "ff00::/8"}, 16
	}
	all := every(size)
	for _, p := range reserved {
		all = all.minus(prefixSpans(netip.MustParsePrefix(p)))
	}
	return all
}

func addresses(a netip.Addr, all spans) spans {
	if !a.IsValid() || a.IsUnspecified() {
		return all
	}
	return one(addressValue(a))
}

func ports(port uint16) spans {
	if port == 0 {
		return every(2).minus(one(portValue(0)))
	}
	return one(portValue(port))
}

func devices(name string) spans {
	if name != "" {
		return one(deviceValue(name))
	}
	return every(deviceLength).minus(one(deviceValue(loopback)))
}

// travel follows the packets of a connection.
type travel struct {
	rules *Ruleset
	all   box
	one   bool // it is about one connection, and not about what most may do
	paths []path
	ends  []leaf
}

func (r *Ruleset) travel(all box) *travel {
	return &travel{rules: r, all: all, paths: []path{{box: all}}}
}

// follow follows one packet through hooks.
func (t *travel) follow(p packet, hooks ...hook) {
	m := machine{rules: t.rules, packet: p, budget: maxWork}
	for _, h := range hooks {
		var ended []leaf
		t.paths, ended = m.pass(h, t.paths)
		t.ends = append(t.ends, ended...)
	}
	t.ends = append(t.ends, m.exhausted()...)
}

// leaves returns all ends of the connection.
func (t *travel) leaves() []leaf {
	all := slices.Clone(t.ends)
	for _, p := range t.paths {
		all = append(all, leaf{path: p, verdict: Accept, rule: p.by})
	}
	return gathered(all)
}

// decide returns what becomes of the connection, whatever of it is not known.
func (t *travel) decide() Decision {
	if why := t.rules.otherRules(len(t.all[ownAddress][0].lo) == 16); why != "" {
		return Decision{Why: why}
	}
	leaves := t.leaves()
	if d, unclear := unclear(leaves); unclear {
		return d
	}
	byVerdict := map[Verdict][]leaf{}
	for _, l := range leaves {
		byVerdict[l.verdict] = append(byVerdict[l.verdict], l)
	}
	accepted := byVerdict[Accept]
	switch {
	case len(accepted) == len(leaves):
		return Decision{Verdict: Accept, Rule: evidence(accepted)}
	case t.one && len(byVerdict) > 1:
		return t.undecided(leaves)
	case len(accepted) > 0 && t.isWide(accepted):
		return Decision{Verdict: Accept, Rule: evidence(accepted)}
	case len(accepted) > 0:
		return Decision{Verdict: Limited, Rule: evidence(accepted), From: t.sources(accepted)}
	}
	return t.refused(byVerdict)
}

// undecided returns the decision on one connection where what is not known of it would
// decide: a port or an address of its own.
func (t *travel) undecided(leaves []leaf) Decision {
	at := slices.IndexFunc(leaves, func(l leaf) bool { return l.verdict != Accept })
	return Decision{Rule: leaves[at].rule, Why: "it depends on the port, address or interface that the connection is made from"}
}

// refused returns the decision where nothing is accepted: what happens to most, or else
// to some.
func (t *travel) refused(byVerdict map[Verdict][]leaf) Decision {
	verdicts := []Verdict{Translated, Drop, Reject}
	at := slices.IndexFunc(verdicts, func(v Verdict) bool { return len(byVerdict[v]) > 0 && t.isWide(byVerdict[v]) })
	if at < 0 {
		at = slices.IndexFunc(verdicts, func(v Verdict) bool { return len(byVerdict[v]) > 0 })
	}
	if at < 0 {
		return Decision{Why: "no rule decides"}
	}
	first := byVerdict[verdicts[at]][0]
	d := Decision{Verdict: verdicts[at], Rule: first.rule}
	if d.Verdict == Translated {
		d.To = &first.to
	}
	return d
}

// evidence returns the first rule that decides, or else a policy.
func evidence(leaves []leaf) Position {
	for _, l := range leaves {
		if l.rule.Handle != 0 {
			return l.rule
		}
	}
	return leaves[0].rule
}

// unclear returns the decision where a rule that is not understood may decide.
func unclear(leaves []leaf) (Decision, bool) {
	const tooMany = 2000
	for i := range leaves {
		l := &leaves[i]
		if l.verdict == Unknown || l.rewritten {
			return Decision{Rule: l.rule, Why: cmp.Or(l.why, "a rule changes the packet")}, true
		}
		if l.doubt == 0 {
			continue
		}
		for j := range leaves {
			if other := &leaves[j]; other.verdict != l.verdict && (len(leaves) > tooMany || l.box.meets(&other.box)) {
				return Decision{Rule: l.rule, Why: cmp.Or(l.why, other.why)}, true
			}
		}
	}
	return Decision{}, false
}

// isWide reports whether at least half of all other hosts are accepted on every
// interface: a list of blocked addresses does not limit a service to some.
func (t *travel) isWide(accepted []leaf) bool {
	for _, value := range t.interfaces(accepted) {
		part := 0.0
		for _, l := range accepted {
			if !l.box[device].has(value) {
				continue
			}
			share := 1.0
			for _, d := range []dim{peerAddress, ownAddress, peerPort, ownPort} {
				share *= l.box[d].share() / t.all[d].share()
			}
			part += share
		}
		if part < 0.5 {
			return false
		}
	}
	return true
}

// interfaces returns those on which the connection may arrive, and one that no rule
// names.
func (t *travel) interfaces(accepted []leaf) (values []string) {
	if value, ok := t.all[device].single(); ok {
		return []string{value}
	}
	for _, name := range t.rules.devices {
		if t.all[device].has(deviceValue(name)) {
			values = append(values, deviceValue(name))
		}
	}
	if len(values) == 0 && len(accepted) > 0 {
		values = append(values, deviceValue("\xff"))
	}
	return values
}

// maxSources is how many sources a decision names.
const maxSources = 8

// sources returns in words what is accepted.
func (t *travel) sources(accepted []leaf) (all []string) {
	for _, l := range accepted {
		var words []string
		if l.box[device] != nil && !slices.Equal(l.box[device], t.all[device]) {
			words = append(words, "interface "+deviceNames(l.box[device]))
		}
		for _, d := range []dim{peerAddress, ownAddress} {
			if l.box[d].share() < t.all[d].share()/2 { // else some are left out
				text := strings.Join(firstOf(prefixes(l.box[d])), " ")
				if d == ownAddress {
					text = "to " + text
				}
				words = append(words, text)
			}
		}
		if l.box[peerPort].share() < t.all[peerPort].share()/2 {
			words = append(words, "some ports")
		}
		if text := strings.Join(words, " "); text != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return firstOf(all)
}

func firstOf(all []string) []string {
	if len(all) <= maxSources {
		return all
	}
	return append(slices.Clone(all[:maxSources]), fmt.Sprintf("%d more", len(all)-maxSources))
}

// deviceNames returns the names of devices, or of those that are left out.
func deviceNames(a spans) string {
	names := func(of spans) (all []string, ok bool) {
		for _, s := range of {
			switch lo := strings.TrimRight(s.lo, "\x00"); {
			case s.lo == s.hi:
				all = append(all, lo)
			case s.hi == beginning(lo, lo, deviceLength)[0].hi:
				all = append(all, lo+"*")
			default:
				return nil, false
			}
		}
		return firstOf(all), len(all) > 0
	}
	if all, ok := names(a); ok {
		return strings.Join(all, " ")
	}
	if all, ok := names(a.not(deviceLength)); ok {
		return "other than " + strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == loopback }), " ")
	}
	return "of some names"
}
