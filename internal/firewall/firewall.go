// Package firewall reads the nftables rules of this network namespace, and decides what
// they do to a connection: whether the packets of a new one are accepted, and which
// ports they send elsewhere. Rules of iptables-nft are nftables rules.
//
// Deciding is apart from reading: a [Ruleset] is a value, and what it decides needs no
// privilege. A rule is followed exactly or not at all: what is not understood, and
// could apply, makes the decision [Unknown].
package firewall

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrPrivilege reports that the rules cannot be read without CAP_NET_ADMIN.
var ErrPrivilege = errors.New("reading firewall rules requires CAP_NET_ADMIN")

// ErrLate reports that the rules could not be read in time.
var ErrLate = errors.New("firewall rules could not be read in time: a set may have very many elements")

// Verdict is what the rules do with a new connection.
type Verdict uint8

// The verdicts.
const (
	Unknown    Verdict = iota // a rule that may apply is not understood
	Accept                    // from most addresses, on every interface
	Limited                   // accepted from some addresses or interfaces only
	Drop                      // discarded without an answer
	Reject                    // answered with an error
	Translated                // sent to another address or port
)

func (v Verdict) String() string {
	return [...]string{"unknown", "accept", "limited", "drop", "reject", "translated"}[v]
}

// Family is the family of a table, as in nft(8).
type Family uint8

// The families (NFPROTO_* of include/uapi/linux/netfilter.h).
const (
	familyINet   Family = 1
	familyIPv4   Family = 2
	familyNetdev Family = 5
	familyIPv6   Family = 10
)

func familyOf(v6 bool) Family {
	if v6 {
		return familyIPv6
	}
	return familyIPv4
}

func (f Family) String() string {
	switch f {
	case familyINet:
		return "inet"
	case familyIPv4:
		return "ip"
	case familyNetdev:
		return "netdev"
	case familyIPv6:
		return "ip6"
	default:
		return fmt.Sprintf("family %d", uint8(f))
	}
}

// Position names a rule, or the policy of a chain, in the words of nft(8).
type Position struct {
	Family       Family
	Table, Chain string
	Handle       uint64 // zero for the policy of the chain
}

// IsZero reports whether there is no such rule.
func (p Position) IsZero() bool { return p.Table == "" }

// String returns words that nft accepts: inet filter input handle 12.
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	text := p.Source()
	if p.Handle == 0 {
		return text + " policy"
	}
	return fmt.Sprintf("%s handle %d", text, p.Handle)
}

// Source returns the table and the chain: ip nat DOCKER.
func (p Position) Source() string { return fmt.Sprintf("%v %s %s", p.Family, p.Table, p.Chain) }

// hook is a place where base chains are called.
type hook uint8

// The hooks of IP (NF_INET_* of include/uapi/linux/netfilter.h).
const (
	hookPrerouting  hook = 0
	hookInput       hook = 1
	hookForward     hook = 2
	hookOutput      hook = 3
	hookPostrouting hook = 4
	hookIngress     hook = 5
	hookEgress      hook = 6 // of the family netdev only
	noHook          hook = 255
)

// key names a chain or a set.
type key struct {
	family      Family
	table, name string
}

// chain is a list of rules. A base chain has a hook.
type chain struct {
	key
	hook     hook
	kind     string // filter, nat or route
	priority int32
	drops    bool     // its policy
	devices  []string // of ingress
	rules    []rule
}

// rule is a list of expressions, each of which may end it.
type rule struct {
	handle uint64
	exprs  []expr
	// lastEffect is the index of the last expression that may do something to a
	// packet; -1 if none does.
	lastEffect int
}

// Ruleset is what was read of the firewall.
type Ruleset struct {
	chains map[key]*chain
	sets   map[key]*set
	base   []*chain // by priority
	// devices are the interfaces of this namespace, by index.
	devices map[uint32]string
	// others is what else may filter packets of IPv4 and IPv6, and cannot be read.
	others [2]string
	kept   *kept
	of     *Ruleset // that it is a copy of
	// volatile reports that sets change without a new generation of the rules.
	volatile bool
}

// newRuleset returns a ruleset of chains whose rules are known.
func newRuleset(chains []*chain, sets []*set) *Ruleset {
	r := &Ruleset{chains: map[key]*chain{}, sets: map[key]*set{}}
	r.kept = r.newKept()
	for _, c := range chains {
		r.chains[c.key] = c
		if c.hook != noHook {
			r.base = append(r.base, c)
		}
	}
	slices.SortStableFunc(r.base, func(a, b *chain) int { return cmp.Compare(a.priority, b.priority) })
	for _, s := range sets {
		s.grouped = s.groups()
		r.sets[s.key] = s
		r.volatile = r.volatile || s.volatile
	}
	return r
}

// IsEmpty reports whether nothing filters or translates packets.
func (r *Ruleset) IsEmpty() bool {
	return r.others == [2]string{} && !slices.ContainsFunc(r.base, func(c *chain) bool { return c.drops || len(c.rules) > 0 })
}

// otherRules returns what else may filter packets of a family.
func (r *Ruleset) otherRules(v6 bool) string {
	if v6 {
		return r.others[1]
	}
	return r.others[0]
}

// hooked returns the base chains of a hook that packets of a family pass, in order.
func (r *Ruleset) hooked(h hook, v6 bool) (chains []*chain) {
	family := familyOf(v6)
	for _, c := range r.base {
		if c.hook == h && (c.family == family || c.family == familyINet || h >= hookIngress && c.family == familyNetdev) {
			chains = append(chains, c)
		}
	}
	return chains
}

func (c *chain) at(handle uint64) Position { return Position{c.family, c.table, c.name, handle} }

// Decision is what the rules do with a connection, and why.
type Decision struct {
	Verdict Verdict
	// Rule is the one that decides: of a limited verdict one that accepts.
	Rule Position
	// From are the sources that a limited verdict accepts, the first ones if there are
	// many: addresses, interfaces.
	From []string
	// To is where a translated connection goes; nil of other verdicts.
	To *Endpoint
	// Why is what is not understood, of an unknown verdict.
	Why string
}

// String returns the verdict with its evidence.
func (d Decision) String() string {
	text := d.Verdict.String()
	if len(d.From) > 0 {
		text += " from " + strings.Join(d.From, ", ")
	}
	if d.To != nil {
		text += " to " + d.To.String()
	}
	if d.Why != "" {
		text += ": " + d.Why
	}
	if !d.Rule.IsZero() {
		text += " (" + d.Rule.String() + ")"
	}
	return text
}
