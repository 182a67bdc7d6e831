package firewall

import (
	"cmp"
	"slices"
	"strings"
)

// Published is a port that reaches another address or port without a listener of its
// own: a rule changes the destination of what arrives.
type Published struct {
	Protocol  Protocol
	Address   string // of this host, or another that is routed here; empty is any
	Ports     string // one port, or first-last
	First     uint16
	Last      uint16
	Interface string // if it is limited to some
	Sources   string // likewise of addresses
	ToAddress string // empty is this host
	ToPorts   string
	Redirect  bool
	Rule      Position
}

// Via says by what kind of rule a port is published.
func (p Published) Via() string {
	if p.Redirect {
		return "redirect"
	}
	return "dnat"
}

// Published returns the ports that rules send elsewhere, in the order of their
// numbers, and how many rules may do so that are not understood.
func (r *Ruleset) Published() (all []Published, unclear int) {
	for _, v6 := range []bool{false, true} {
		if r.otherRules(v6) != "" {
			unclear++
		}
		for _, protocol := range []Protocol{TCP, UDP} {
			first := packet{v6: v6, protocol: byte(protocol), incoming: true, fromPeer: true, elsewhere: true, state: stateNew, tcpFlags: flagSYN}
			t := travel{rules: r, all: box{
				peerAddress: others(v6), ownAddress: every(first.addressLength()),
				peerPort: ports(0), ownPort: ports(0), device: devices(""),
			}}
			m := machine{rules: r, packet: first, budget: maxWork}
			for _, c := range r.hooked(hookPrerouting, v6) {
				if c.kind != "nat" {
					continue
				}
				_, ends := m.base(c, path{box: t.all})
				ends = append(gathered(ends), m.exhausted()...)
				for i := range ends {
					switch l := &ends[i]; {
					case l.verdict == Translated && l.doubt&misunderstood == 0:
						all = append(all, t.published(l, protocol)...)
					case l.verdict == Translated, l.verdict == Unknown:
						unclear++
					}
				}
			}
		}
	}
	slices.SortFunc(all, Published.compare)
	return slices.Compact(all), unclear
}

func (p Published) compare(q Published) int {
	return cmp.Or(
		cmp.Compare(p.Protocol, q.Protocol), cmp.Compare(p.First, q.First), cmp.Compare(p.Last, q.Last),
		cmp.Compare(p.Address, q.Address), cmp.Compare(p.Interface, q.Interface), cmp.Compare(p.Sources, q.Sources),
		cmp.Compare(p.ToAddress, q.ToAddress), cmp.Compare(p.ToPorts, q.ToPorts), cmp.Compare(p.Rule.String(), q.Rule.String()),
	)
}

// published returns the ports of one end.
func (t *travel) published(l *leaf, protocol Protocol) (all []Published) {
	p := Published{
		Protocol: protocol, ToAddress: l.to.address(), ToPorts: l.to.port(),
		Redirect: !l.to.addresses[0].IsValid(), Rule: l.rule,
	}
	if !same(l.box[device], t.all[device]) {
		p.Interface = deviceNames(l.box[device])
	}
	if !same(l.box[ownAddress], t.all[ownAddress]) {
		p.Address = strings.Join(firstOf(prefixes(l.box[ownAddress])), " ")
	}
	if !same(l.box[peerAddress], t.all[peerAddress]) {
		p.Sources = strings.Join(firstOf(prefixes(l.box[peerAddress])), " ")
	}
	for _, s := range l.box[ownPort] {
		p.First, p.Last = portOf(s.lo), portOf(s.hi)
		p.Ports = portText(p.First, p.Last)
		all = append(all, p)
	}
	return all
}

func portOf(value string) uint16 { return uint16(value[0])<<8 | uint16(value[1]) }
