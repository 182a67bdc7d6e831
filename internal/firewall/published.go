package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// Published is a port that reaches another address or port without a listener of its
// own: a rule changes the destination of what arrives.
type Published struct {
	Protocol  Protocol
	Address   string // of this host, or another that is routed here; empty is any
	First     uint16
	Last      uint16
	Interface string // if it is limited to some
	Sources   string // likewise of addresses
	ToAddress string // empty is this host
	ToPorts   string
	Redirect  bool
	Rule      Position
}

// Via returns by what kind of rule a port is published.
func (p Published) Via() string {
	if p.Redirect {
		return "redirect"
	}
	return "dnat"
}

// Ports returns one port, or first-last.
func (p Published) Ports() string { return portText(p.First, p.Last) }

// Published returns the ports that rules send elsewhere, in the order of their
// numbers, and how many rules may do so that are not understood. The answer is kept as
// long as the rules, and not to be changed.
func (r *Ruleset) Published() (all []Published, unclear int) {
	return r.kept.published()
}

func (r *Ruleset) findPublished() (all []Published, unclear int) {
	for _, wildcard := range []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if r.otherRules(wildcard.Is6()) != "" {
			unclear++
		}
		for _, protocol := range []Protocol{TCP, UDP} {
			found, obscure := r.publishedOf(Arrival{Protocol: protocol, To: wildcard})
			all, unclear = append(all, found...), unclear+obscure
		}
	}
	slices.SortFunc(all, Published.compare)
	return slices.Compact(all), unclear
}

// publishedOf returns the ports of a protocol and a family.
func (r *Ruleset) publishedOf(a Arrival) (all []Published, unclear int) {
	first, arrivals := a.first()
	m := machine{rules: r, packet: first, budget: maxWork}
	for _, c := range r.hooked(hookPrerouting, first.v6) {
		if c.kind != "nat" {
			continue
		}
		_, ends := m.base(c, path{box: arrivals})
		ends = append(gathered(ends), m.exhausted()...)
		for i := range ends {
			switch l := &ends[i]; {
			case l.verdict == Translated && l.doubt&misunderstood == 0:
				all = append(all, l.published(a.Protocol, &arrivals)...)
			case l.verdict == Translated, l.verdict == Unknown:
				unclear++
			}
		}
	}
	return all, unclear
}

func (p Published) compare(q Published) int {
	return cmp.Or(
		cmp.Compare(p.Protocol, q.Protocol), cmp.Compare(p.First, q.First), cmp.Compare(p.Last, q.Last),
		cmp.Compare(p.Address, q.Address), cmp.Compare(p.Interface, q.Interface), cmp.Compare(p.Sources, q.Sources),
		cmp.Compare(p.ToAddress, q.ToAddress), cmp.Compare(p.ToPorts, q.ToPorts), cmp.Compare(p.Rule.String(), q.Rule.String()),
	)
}

// published returns the ports of one end, with where it differs from all arrivals.
func (l *leaf) published(protocol Protocol, arrivals *box) (all []Published) {
	p := Published{
		Protocol: protocol, ToAddress: l.to.address(), ToPorts: l.to.port(),
		Redirect: l.to.IsHere(), Rule: l.rule,
	}
	if !slices.Equal(l.box[device], arrivals[device]) {
		p.Interface = deviceNames(l.box[device])
	}
	if !slices.Equal(l.box[ownAddress], arrivals[ownAddress]) {
		p.Address = strings.Join(firstOf(prefixes(l.box[ownAddress])), " ")
	}
	if !slices.Equal(l.box[peerAddress], arrivals[peerAddress]) {
		p.Sources = strings.Join(firstOf(prefixes(l.box[peerAddress])), " ")
	}
	for _, s := range l.box[ownPort] {
		p.First, p.Last = portOf(s.lo), portOf(s.hi)
		all = append(all, p)
	}
	return all
}

func portOf(value string) uint16 { return uint16(value[0])<<8 | uint16(value[1]) }
