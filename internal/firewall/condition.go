package firewall

import "strings"

// answer is whether something is so.
type answer uint8

const (
	no answer = iota
	yes
	maybe
)

// fold returns a piece as a value, where only one connection is left to ask for.
func (m *machine) fold(p piece, b *box) piece {
	if p.dim >= numDims {
		return p
	}
	value, ok := b[p.dim].single()
	if !ok {
		return p
	}
	if p.index {
		for index, name := range m.rules.devices {
			if deviceValue(name) == value {
				return known(native(index))
			}
		}
		return p
	}
	return known(and(value[p.offset:p.offset+p.length], p.mask))
}

// and returns the bits of a value that a mask leaves; an empty one leaves all.
func and(value, mask string) string {
	if mask == "" {
		return value
	}
	b := []byte(value)
	for i := range b {
		b[i] &= mask[i]
	}
	return string(b)
}

// equals returns when pieces have the value: never, or under conditions. With maybe
// it may be another way under the same conditions.
func (m *machine) equals(b *box, pieces []piece, data string) (conditions []condition, is answer) {
	is = yes
	for _, p := range pieces {
		if len(data) == 0 {
			break
		}
		if p.length > len(data) {
			p = p.slice(0, len(data))
		}
		p = m.fold(p, b)
		c, so := m.pieceEquals(p, b, data[:p.length])
		if so == no {
			return nil, no
		}
		if so == maybe {
			is = maybe
		}
		conditions = append(conditions, c...)
		data = data[p.length:]
	}
	if len(data) > 0 {
		is = maybe
	}
	return conditions, is
}

func (m *machine) pieceEquals(p piece, b *box, data string) ([]condition, answer) {
	switch {
	case p.dim == fixed:
		return nil, fixedEquals(p, data)
	case p.dim == opaque || p.offset > 0:
		return nil, maybe
	case p.index:
		return m.indexEquals(data)
	}
	size := len(b[p.dim][0].lo)
	if p.mask == "" && p.dim == device && strings.Contains(data, "\x00") { // a whole name
		return []condition{{p.dim, one(data + strings.Repeat("\x00", size-len(data)))}}, yes
	}
	if p.mask == "" {
		return []condition{{p.dim, beginning(data, data, size)}}, yes
	}
	if !isPrefixMask(p.mask) {
		return nil, maybe
	}
	if and(data, p.mask) != data {
		return nil, no
	}
	hi := []byte(data)
	for i := range hi {
		hi[i] |= ^p.mask[i]
	}
	return []condition{{p.dim, beginning(data, string(hi), size)}}, yes
}

func (m *machine) indexEquals(data string) ([]condition, answer) {
	index, ok := number(data)
	if !ok {
		return nil, maybe
	}
	name, exists := m.rules.devices[index]
	if !exists {
		return nil, no
	}
	return []condition{{device, one(deviceValue(name))}}, yes
}

func fixedEquals(p piece, data string) answer {
	is := yes
	for i := range data {
		if (p.value[i]^data[i])&p.known[i] != 0 {
			return no
		}
		if p.known[i] != 0xff {
			is = maybe
		}
	}
	return is
}

// isPrefixMask reports whether the bits of a mask are at its beginning.
func isPrefixMask(mask string) bool {
	ended := false
	for i := range mask {
		for bit := 7; bit >= 0; bit-- {
			set := mask[i]>>bit&1 == 1
			if set && ended {
				return false
			}
			ended = ended || !set
		}
	}
	return true
}

// between returns when a value is from lo to hi, both included.
func (m *machine) between(b *box, pieces []piece, lo, hi string) ([]condition, answer) {
	if len(pieces) != 1 || len(lo) != pieces[0].length {
		return nil, maybe
	}
	p := m.fold(pieces[0], b)
	switch {
	case p.isKnown():
		if lo <= p.value && p.value <= hi {
			return nil, yes
		}
		return nil, no
	case !p.isBeginning():
		return nil, maybe
	}
	return []condition{{p.dim, beginning(lo, hi, len(b[p.dim][0].lo))}}, yes
}

// compares returns when a comparison holds. Its inverse may be what has conditions.
func (m *machine) compares(b *box, e *expr, pieces []piece) (conditions []condition, is answer, inverse bool) {
	low, high := every(len(e.data))[0].lo, every(len(e.data))[0].hi
	switch e.op {
	case equal, notEqual:
		conditions, is = m.equals(b, pieces, e.data)
		return conditions, is, e.op == notEqual
	case lessOrEqual, greater:
		conditions, is = m.between(b, pieces, low, e.data)
		return conditions, is, e.op == greater
	case greaterOrEqual, less:
		conditions, is = m.between(b, pieces, e.data, high)
		return conditions, is, e.op == less
	default:
		return nil, maybe, false
	}
}

// test splits a path into what meets the conditions and what does not.
func (p path) test(conditions []condition, is answer, inverse bool) (in, out []path) {
	if is == no {
		out = []path{p}
	} else {
		inside, met, rest := p.box.split(conditions)
		for _, b := range rest {
			out = append(out, p.with(b))
		}
		if met {
			met := p.with(inside)
			if is == maybe {
				met.doubt |= misunderstood
				out = append(out, met)
			}
			in = []path{met}
		}
	}
	if inverse {
		return out, in
	}
	return in, out
}

// found is the part of a path whose key is in a set, with the value of a map.
type found struct {
	path
	data   string
	decree decree
}

// lookUp splits a path by the elements of a set.
func (m *machine) lookUp(p path, pieces []piece, s *set) (in []found, out []path) {
	if s == nil || s.obscure != "" {
		doubtful := p
		doubtful.doubt |= misunderstood
		return []found{{path: doubtful}}, []path{doubtful}
	}
	for i := range pieces {
		pieces[i] = m.fold(pieces[i], &p.box)
	}
	left := []path{p}
	for _, g := range s.grouped {
		for _, at := range left {
			if !m.spend(workOfElements + at.box.size() + len(g.keys)) {
				return nil, nil
			}
			matched, rest := m.lookUpGroup(at, pieces, &g)
			for _, hit := range matched {
				in = append(in, found{hit, g.data, g.decree})
			}
			out = append(out, rest...)
		}
		left, out = out, nil
	}
	for _, e := range s.elements {
		if e.any {
			for _, at := range left {
				in = append(in, found{at, e.data, e.decree})
			}
			return in, nil
		}
	}
	return in, left
}

// lookUpGroup splits a path by elements that have the same value.
func (m *machine) lookUpGroup(p path, pieces []piece, g *group) (in, out []path) {
	if len(pieces) == 1 && !g.inParts && len(g.keys) > 0 && len(g.keys[0].lo) == pieces[0].length {
		if conditions, is := oneOf(&p.box, pieces[0], g.keys); is != maybe {
			return p.test(conditions, is, false)
		}
	}
	left := []path{p}
	for _, e := range g.elements {
		var rest []path
		for _, at := range left {
			if !m.spend(workOfElements + at.box.size()) {
				return nil, nil
			}
			conditions, is := m.hasKey(&at.box, pieces, &e)
			matched, unmatched := at.test(conditions, is, false)
			in = append(in, matched...)
			rest = append(rest, unmatched...)
		}
		left = rest
	}
	return in, left
}

// oneOf returns when a piece has one of the keys.
func oneOf(b *box, p piece, keys spans) ([]condition, answer) {
	switch {
	case p.isKnown():
		if keys.has(p.value) {
			return nil, yes
		}
		return nil, no
	case !p.isBeginning() || p.length != len(b[p.dim][0].lo):
		return nil, maybe
	}
	return []condition{{p.dim, keys}}, yes
}

// hasKey returns when pieces are the key of an element.
func (m *machine) hasKey(b *box, pieces []piece, e *element) (conditions []condition, is answer) {
	if e.lo == e.hi {
		return m.equals(b, pieces, e.lo)
	}
	is = yes
	lo, hi := e.lo, e.hi
	for _, p := range pieces {
		if len(lo) < p.length || e.inParts && p.dim == fixed && p.length > 4 { // of more than one part
			return conditions, maybe
		}
		c, so := m.between(b, []piece{p}, lo[:p.length], hi[:p.length])
		if so == no {
			return nil, no
		}
		if so == maybe {
			is = maybe
		}
		conditions = append(conditions, c...)
		lo, hi = lo[p.length:], hi[p.length:]
	}
	return conditions, is
}
