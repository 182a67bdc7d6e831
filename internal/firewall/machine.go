package firewall

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
)

// doubt is why it is not sure that a path is taken.
type doubt uint8

const (
	misunderstood doubt = 1 << iota
	random              // connections are spread at random
)

// path is a set of connections that have come the same way through the rules.
type path struct {
	box       box
	doubt     doubt
	stateless bool // what conntrack knows of it is unknown
	rewritten bool
	by        Position // the rule that accepted it
	why       string   // what was not understood
}

func (p path) with(b box) path {
	p.box = b
	return p
}

// leaf is a path with its end.
type leaf struct {
	path
	verdict Verdict
	rule    Position
	to      Endpoint
}

// gathered returns leaves with those as one that differ in one dim only.
func gathered(leaves []leaf) (out []leaf) {
	const many = 500 // more would take long
	if len(leaves) > many {
		return leaves
	}
	for _, l := range leaves {
		for i := 0; i < len(out); i++ {
			if joined, ok := out[i].box.joined(&l.box); ok && out[i].isLike(&l) {
				l.box = joined
				out = slices.Delete(out, i, i+1)
				i = -1 // what it did not fit to may fit now
			}
		}
		out = append(out, l)
	}
	return out
}

// isLike reports whether two leaves have all in common but their boxes.
func (l *leaf) isLike(other *leaf) bool {
	return l.verdict == other.verdict && l.rule == other.rule && l.to == other.to && l.doubt == other.doubt && l.rewritten == other.rewritten
}

// machine follows packets through rules. It is exact: a path is split where a rule asks
// for something that not all of its connections have.
type machine struct {
	rules  *Ruleset
	packet packet
	hooked *chain // the base chain that is being followed
	budget int    // of maxWork
}

// maxWork bounds the work for one packet, which takes less than a second then. The unit
// is one span of values that is looked at.
const (
	maxWork        = 10_000_000
	workOfRule     = 100 // and the spans of the path
	workOfElements = 10  // each that is tried on its own, and the spans of the path
)

// spend takes work from the budget, and reports whether there was enough. Without it no
// answer counts: see [machine.exhausted].
func (m *machine) spend(work int) bool {
	m.budget -= work
	return m.budget >= 0
}

// exhausted returns the end of a packet that was not followed to all of its ends.
func (m *machine) exhausted() []leaf {
	if m.budget >= 0 {
		return nil
	}
	return []leaf{leaf{verdict: Unknown}.because("too many rules, or elements of sets")}
}

// maxPaths bounds how many paths there are at a rule.
const maxPaths = 4096

// maxDepth is how deep chains may call each other (NFT_JUMP_STACK_SIZE).
const maxDepth = 16

// pass follows paths through the chains of a hook. It returns those that get through.
func (m *machine) pass(h hook, paths []path) (through []path, ends []leaf) {
	chains := m.rules.hooked(h, m.packet.v6)
	if m.packet.state != stateNew { // only the first packet of a connection is translated
		chains = slices.DeleteFunc(chains, func(c *chain) bool { return c.kind == "nat" })
	}
	for len(chains) > 0 {
		n := 1
		for n < len(chains) && chains[n].priority == chains[0].priority {
			n++
		}
		passed, ended := m.through(chains[:n], paths)
		if n > 1 { // which of them the kernel calls first is unknown
			slices.Reverse(chains[:n])
			_, otherwise := m.through(chains[:n], paths)
			ended = append(ended, otherwise...)
			for i := range ended {
				ended[i].doubt |= misunderstood
				ended[i].why = cmp.Or(ended[i].why, "the order of chains of the same priority is unknown")
			}
		}
		paths, ends, chains = passed, append(ends, ended...), chains[n:]
	}
	return paths, ends
}

// through follows paths through chains, one after the other.
func (m *machine) through(chains []*chain, paths []path) (_ []path, ends []leaf) {
	for _, c := range chains {
		var next []path
		for _, p := range paths {
			passed, ended := m.base(c, p)
			next, ends = append(next, passed...), append(ends, ended...)
		}
		paths = next
	}
	return paths, ends
}

// base follows a path through a base chain.
func (m *machine) base(c *chain, p path) (through []path, ends []leaf) {
	m.hooked = c
	var here []path
	if c.hook >= hookIngress {
		var names spans
		for _, name := range c.devices {
			names = append(names, one(deviceValue(name))...)
		}
		here, through = p.test([]condition{{device, union(names)}}, yes, false)
	} else {
		here = []path{p}
	}
	for _, p := range here {
		returned, ended := m.chain(c, p, 0)
		for _, e := range ended {
			if e.verdict == Accept {
				if m.packet.state == stateNew {
					e.by = e.rule
				}
				through = append(through, e.path)
				continue
			}
			ends = append(ends, e)
		}
		for _, r := range returned {
			if c.drops {
				ends = append(ends, leaf{path: r, verdict: Drop, rule: c.at(0)})
				continue
			}
			if m.packet.state == stateNew && r.by.Handle == 0 {
				r.by = c.at(0)
			}
			through = append(through, r)
		}
	}
	return through, ends
}

// chain follows a path through a chain. Those that return come to its end, or to a
// return; an end may be that it is accepted.
func (m *machine) chain(c *chain, p path, depth int) (returned []path, ends []leaf) {
	live := []path{p}
	for i := range c.rules {
		var next []path
		for _, p := range live {
			if !m.spend(workOfRule + p.box.size()) {
				return nil, nil
			}
			if len(next) > maxPaths || depth > maxDepth {
				ends = append(ends, leaf{path: p, verdict: Unknown, rule: c.at(c.rules[i].handle)}.because("too many rules"))
				continue
			}
			ahead, acts := m.rule(c, &c.rules[i], p)
			next = append(next, ahead...)
			for _, a := range acts {
				ahead, back, ended := m.act(c, &c.rules[i], a, depth)
				next, returned, ends = append(next, ahead...), append(returned, back...), append(ends, ended...)
			}
		}
		live = next
	}
	return append(returned, live...), ends
}

func (l leaf) because(why string) leaf {
	l.why = why
	return l
}

// act applies a rule to a path that it matches: it goes on behind the rule,
// back to the caller, or has an end.
func (m *machine) act(c *chain, r *rule, a action, depth int) (ahead, back []path, ends []leaf) {
	if a.end != nil {
		return nil, nil, []leaf{*a.end}
	}
	end := func(v Verdict) []leaf { return []leaf{{path: a.path, verdict: v, rule: c.at(r.handle)}} }
	switch a.decree.code {
	case codeAccept:
		return nil, nil, end(Accept)
	case codeDrop:
		return nil, nil, end(Drop)
	case codeReturn:
		return nil, []path{a.path}, nil
	case codeContinue, codeBreak:
		return []path{a.path}, nil, nil
	case codeJump, codeGoto:
		called := m.rules.chains[key{c.family, c.table, a.decree.chain}]
		if called == nil {
			return nil, nil, []leaf{end(Unknown)[0].because("chain " + a.decree.chain + " is missing")}
		}
		returned, ended := m.chain(called, a.path, depth+1)
		if a.decree.code == codeJump {
			return returned, nil, ended
		}
		return nil, returned, ended
	default:
		return nil, nil, []leaf{end(Unknown)[0].because("verdict of a kind that is not known")}
	}
}

// action is what a rule does with a path that it matches.
type action struct {
	path
	decree decree
	end    *leaf
}

// registers are what the expressions of a rule have loaded.
type registers [numRegisters][]piece

// step is a path within a rule.
type step struct {
	path
	regs registers
}

// rule follows a path through one rule. Those ahead go on to the next one.
func (m *machine) rule(c *chain, r *rule, p path) (ahead []path, acts []action) {
	steps := []step{{path: p}}
	for i := 0; i <= r.lastEffect && len(steps) > 0; i++ {
		var next []step
		for _, s := range steps {
			in, out, act := m.express(c, r, &r.exprs[i], s)
			next = append(next, in...)
			ahead = append(ahead, out...)
			acts = append(acts, act...)
		}
		steps = next
	}
	ahead = p.left(ahead, steps, acts)
	for _, s := range steps {
		ahead = append(ahead, s.path)
	}
	return ahead, acts
}

// left returns what a rule leaves of a path, in as few boxes as may be: what is ahead
// was taken apart in the order of the matches of the rule. A rule that is not understood
// may match and may not, so that what it takes is ahead as well.
func (p path) left(ahead []path, steps []step, acts []action) []path {
	const few = 16
	taken := len(steps) + len(acts)
	if len(ahead) < 2 || taken > few || p.doubt != 0 || slices.ContainsFunc(ahead, func(q path) bool { return q.doubt != p.doubt }) {
		return ahead
	}
	rest := []box{p.box}
	take := func(b *box) {
		var next []box
		for _, r := range rest {
			next = append(next, r.minus(b)...)
		}
		rest = next
	}
	for i := range steps {
		take(&steps[i].box)
	}
	for i := range acts {
		if acts[i].end != nil {
			take(&acts[i].end.box)
		} else {
			take(&acts[i].box)
		}
	}
	if len(rest) >= len(ahead) && len(ahead) > few {
		return ahead
	}
	paths := make([]path, len(rest))
	for i, b := range rest {
		paths[i] = p.with(b)
	}
	return paths
}

// express does one expression: the steps go on within the rule, the paths are not
// matched by it, and the actions end it.
func (m *machine) express(c *chain, r *rule, e *expr, s step) (in []step, out []path, acts []action) {
	switch e.kind {
	case load:
		s.regs.put(e.dst, m.packet.load(e, m.hooked, s.stateless))
	case constant:
		s.regs.put(e.dst, []piece{known(e.data)})
	case mask:
		s.regs.put(e.dst, s.masked(e, &s.box, m))
	case nothing:
	case forgets:
		s.regs = registers{}
	case loses:
		s.stateless = true
	case rewrites:
		s.rewritten = true
	case marks: // ip_route_me_harder
		s.rewritten = s.rewritten || m.hooked.kind == "route"
	case compare, inRange, match, mayMatch, byChance:
		return m.condition(e, s)
	case lookup:
		return m.lookUpStep(c, e, s)
	case setsVerdict:
		return nil, nil, []action{{path: s.path, decree: e.decree}}
	case translatesSource:
		return nil, nil, []action{{path: s.path, decree: decree{code: codeAccept}}}
	case rejects:
		return nil, nil, []action{{end: &leaf{path: s.path, verdict: Reject, rule: c.at(r.handle)}}}
	case translates:
		return nil, nil, []action{m.translate(c, r, e, s)}
	default:
		end := leaf{path: s.path, verdict: Unknown, rule: c.at(r.handle)}.because(e.name + " is not understood")
		return nil, nil, []action{{end: &end}}
	}
	return []step{s}, nil, nil
}

// condition does an expression that a packet meets or not.
func (m *machine) condition(e *expr, s step) (in []step, out []path, _ []action) {
	var met, unmet []path
	switch e.kind {
	case compare:
		conditions, is, inverse := m.compares(&s.box, e, s.regs.get(e.src, len(e.data)))
		met, unmet = s.test(conditions, is, inverse)
	case inRange:
		conditions, is := m.between(&s.box, s.regs.get(e.src, len(e.data)), e.data, e.data2)
		met, unmet = s.test(conditions, is, e.inverse)
	case match:
		met, unmet = m.matches(e, s)
	case byChance:
		p := s.path
		p.doubt |= random
		met, unmet = []path{p}, []path{p}
	default:
		met, unmet = s.test(nil, maybe, false)
	}
	for i := range met {
		met[i].note(s.doubt, e)
		in = append(in, step{met[i], s.regs})
	}
	for i := range unmet {
		unmet[i].note(s.doubt, e)
	}
	return in, unmet, nil
}

// note keeps what was not understood first.
func (p *path) note(before doubt, e *expr) {
	if p.doubt != before && p.why == "" {
		p.why = e.name + " is not understood"
	}
}

func (m *machine) lookUpStep(c *chain, e *expr, s step) (in []step, out []path, acts []action) {
	of := m.rules.sets[key{c.family, c.table, e.set}]
	length := 0
	if of != nil && len(of.elements) > 0 {
		length = len(of.elements[0].lo)
	}
	hits, missed := m.lookUp(s.path, s.regs.get(e.src, length), of)
	for i := range missed {
		missed[i].note(s.doubt, &expr{name: "set " + e.set})
	}
	if e.inverse {
		for _, p := range missed {
			in = append(in, step{p, s.regs})
		}
		for _, h := range hits {
			out = append(out, h.path)
		}
		return in, out, nil
	}
	for _, h := range hits {
		h.note(s.doubt, &expr{name: "set " + e.set})
		switch {
		case e.dst == verdictRegister && of != nil && of.obscure == "":
			acts = append(acts, action{path: h.path, decree: h.decree})
		case e.dst == verdictRegister:
			end := leaf{path: h.path, verdict: Unknown}.because("map " + e.set + " is not understood")
			acts = append(acts, action{end: &end})
		default:
			next := step{h.path, s.regs}
			if e.dst != noRegister && h.data != "" {
				next.regs.put(e.dst, []piece{known(h.data)})
			} else if e.dst != noRegister {
				next.regs.put(e.dst, obscure(16))
			}
			in = append(in, next)
		}
	}
	return in, missed, acts
}

// put puts a value into a register and those behind it.
func (r *registers) put(at int, pieces []piece) {
	offset := 0
	for _, p := range pieces {
		offset += p.length
	}
	for i := 0; i*4 < offset && at+i < numRegisters; i++ {
		if at+i < firstRegister {
			return
		}
		part := cut(pieces, i*4, min(4, offset-i*4))
		if pad := 4 - min(4, offset-i*4); pad > 0 {
			part = append(part, known(strings.Repeat("\x00", pad)))
		}
		r[at+i] = part
	}
}

// get returns the value of so many bytes.
func (r *registers) get(at, length int) (pieces []piece) {
	for ; length > 0; at, length = at+1, length-4 {
		n := min(4, length)
		if at < firstRegister || at >= numRegisters || r[at] == nil {
			pieces = append(pieces, piece{dim: opaque, length: n})
			continue
		}
		pieces = append(pieces, cut(r[at], 0, n)...)
	}
	return join(pieces)
}

// join returns pieces with those that follow each other in the same dim as one.
func join(pieces []piece) (out []piece) {
	for _, p := range pieces {
		if n := len(out) - 1; n >= 0 && out[n].dim == p.dim {
			q := &out[n]
			switch {
			case p.dim == fixed:
				q.value, q.known, q.length = q.value+p.value, q.known+p.known, q.length+p.length
				continue
			case p.dim < numDims && q.offset+q.length == p.offset && !p.index && (q.mask == "") == (p.mask == ""):
				q.mask, q.length = q.mask+p.mask, q.length+p.length
				continue
			}
		}
		out = append(out, p)
	}
	return out
}

// masked returns a value of which a mask leaves some bits.
func (s *step) masked(e *expr, b *box, m *machine) (out []piece) {
	at := 0
	for _, p := range s.regs.get(e.src, len(e.data)) {
		p = m.fold(p, b)
		bits, flip := e.data[at:at+p.length], e.data2[at:at+p.length]
		at += p.length
		switch {
		case p.dim == fixed:
			p.value = xor(and(p.value, bits), flip)
			p.known = or(p.known, bits)
		case p.dim == opaque && strings.Trim(bits, "\x00") == "":
			p = known(flip)
		case p.dim == opaque || p.index || p.mask != "" || strings.Trim(flip, "\x00") != "":
			p = piece{dim: opaque, length: p.length}
		default:
			p.mask = bits
		}
		out = append(out, p)
	}
	return out
}

func xor(a, b string) string {
	c := []byte(a)
	for i := range c {
		c[i] ^= b[i]
	}
	return string(c)
}

// or returns what is known of a value behind a mask: its zeros are.
func or(known, mask string) string {
	c := []byte(known)
	for i := range c {
		c[i] |= ^mask[i]
	}
	return string(c)
}

// matches does a match of xtables. All that it asks for must hold.
func (m *machine) matches(e *expr, s step) (met, unmet []path) {
	p := &m.packet
	is := yes
	hasState := m.hooked.isTracked() && !s.stateless
	switch {
	case e.never,
		e.tcpMask != 0 && (p.tcpFlags&e.tcpMask == e.tcpFlags) == e.tcpInverse,
		e.states != 0 && hasState && e.states&p.state == 0:
		is = no
	case e.states != 0 && !hasState:
		is = maybe
	}
	src, dst := m.types()
	for _, t := range []struct {
		asked uint16
		is    uint32
	}{{e.dstTypes, dst}, {e.srcTypes, src}} {
		switch {
		case t.asked == 0 || is == no:
		case t.is == 0:
			is = maybe
		case t.asked>>t.is&1 == 0: // a bit for each type
			is = no
		}
	}
	_, _, srcPort, dstPort := p.ends()
	conditions := make([]condition, 0, len(e.conditions))
	for _, c := range e.conditions { // they are of a packet from the other end
		switch c.dim {
		case peerPort:
			c.dim = srcPort
		case ownPort:
			c.dim = dstPort
		default:
		}
		conditions = append(conditions, c)
	}
	return s.test(conditions, is, e.inverse)
}

// types returns the types of the addresses of the packet, zero if unknown.
func (m *machine) types() (src, dst uint32) {
	of := func(bit uint32) uint32 {
		value := m.packet.loadRoutes(&expr{key: fibAddressType, flags: bit})[0]
		if value.dim != fixed {
			return 0
		}
		n, _ := number(value.value)
		return n
	}
	return of(fibSource), of(fibDestination)
}

// translate returns the end of a path whose destination is changed.
func (m *machine) translate(c *chain, r *rule, e *expr, s step) action {
	end := leaf{path: s.path, verdict: Translated, rule: c.at(r.handle)}
	t := &e.target
	unclear := func(what string) action {
		end.verdict = Unknown
		end = end.because(what + " is not understood")
		return action{end: &end}
	}
	if t.obscure != "" {
		return unclear(t.obscure)
	}
	if !t.redirect {
		for i, at := range []int{t.addressMin, t.addressMax} {
			value, ok := s.regs.value(at, m.packet.addressLength())
			if !ok {
				return unclear(e.name)
			}
			end.to.addresses[i], _ = netip.AddrFromSlice([]byte(value))
		}
	}
	for i, at := range []int{t.portMin, t.portMax} {
		if at < 0 {
			continue
		}
		value, ok := s.regs.value(at, 2)
		if !ok {
			return unclear(e.name)
		}
		end.to.ports[i] = portOf(value)
	}
	return action{end: &end}
}

// value returns the value of registers that is known.
func (r *registers) value(at, length int) (string, bool) {
	if at < firstRegister {
		return "", false
	}
	var value strings.Builder
	for _, p := range r.get(at, length) {
		if p.dim != fixed {
			return "", false
		}
		value.WriteString(p.value)
	}
	return value.String(), value.Len() == length
}
