package firewall

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// dim is something about a connection that a rule may ask for and that need not be
// known: then it is all values that it may have.
type dim uint8

const (
	peerAddress dim = iota // of the other end
	ownAddress
	peerPort
	ownPort
	device // through which both directions pass
	numDims
	fixed  = numDims     // a value that is known, at least in part
	opaque = numDims + 1 // a value that is not understood
)

// box is a set of connections: every combination of the values of its dims.
type box [numDims]spans

// size is of how many spans the box is made.
func (b *box) size() (n int) {
	for d := range numDims {
		n += len(b[d])
	}
	return n
}

// condition is that a dim has one of some values.
type condition struct {
	dim    dim
	values spans
}

// split returns the part of the box that meets all conditions, if there is any, and the
// boxes that make up the rest.
func (b box) split(conditions []condition) (in box, met bool, rest []box) {
	for _, c := range conditions {
		inside := b[c.dim].and(c.values)
		if outside := b[c.dim].minus(c.values); len(outside) > 0 {
			other := b
			other[c.dim] = outside
			rest = append(rest, other)
		}
		if len(inside) == 0 {
			return box{}, false, rest
		}
		b[c.dim] = inside
	}
	return b, true, rest
}

// meets reports whether two boxes have something in common.
func (b *box) meets(other *box) bool {
	for d := range numDims {
		if len(b[d].and(other[d])) == 0 {
			return false
		}
	}
	return true
}

// apart is the order in which boxes are taken apart: rules differ in their ports most, so
// that what is left for the next rule is few boxes.
var apart = [numDims]dim{ownPort, ownAddress, peerAddress, peerPort, device}

// minus returns the boxes that make up what is in b and not in other.
func (b box) minus(other *box) (rest []box) {
	if !b.meets(other) {
		return []box{b}
	}
	for _, d := range apart {
		if outside := b[d].minus(other[d]); len(outside) > 0 {
			part := b
			part[d] = outside
			rest = append(rest, part)
		}
		b[d] = b[d].and(other[d])
	}
	return rest
}

// joined returns both boxes as one, if they differ in one dim only.
func (b box) joined(other *box) (box, bool) {
	differs := numDims
	for d := range numDims {
		if slices.Equal(b[d], other[d]) {
			continue
		}
		if differs != numDims {
			return b, false
		}
		differs = d
	}
	if differs != numDims {
		b[differs] = union(append(slices.Clone(b[differs]), other[differs]...))
	}
	return b, true
}

// deviceLength is IFNAMSIZ.
const deviceLength = 16

// deviceValue returns the name of a device as a register has it.
func deviceValue(name string) string {
	if len(name) >= deviceLength {
		name = name[:deviceLength-1]
	}
	return name + strings.Repeat("\x00", deviceLength-len(name))
}

func portValue(port uint16) string {
	return string(binary.BigEndian.AppendUint16(nil, port))
}

func addressValue(a netip.Addr) string { return string(a.AsSlice()) }

// native returns a number as a register has it where the kernel stores it in its own
// byte order.
func native(n uint32) string { return string(binary.NativeEndian.AppendUint32(nil, n)) }

// prefixes returns addresses as people write them: prefixes, or from-to.
func prefixes(a spans) (texts []string) {
	for _, s := range a {
		lo, _ := netip.AddrFromSlice([]byte(s.lo))
		hi, _ := netip.AddrFromSlice([]byte(s.hi))
		texts = append(texts, between(lo, hi))
	}
	return texts
}

func between(lo, hi netip.Addr) string {
	if lo == hi {
		return lo.String()
	}
	for bits := lo.BitLen(); bits >= 0; bits-- {
		p := netip.PrefixFrom(lo, bits).Masked()
		if p.Addr() != lo {
			break
		}
		if last(p) == hi {
			return p.String()
		}
	}
	return lo.String() + "-" + hi.String()
}

// last returns the last address of a prefix.
func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

func prefixSpans(p netip.Prefix) spans {
	return spans{{addressValue(p.Masked().Addr()), addressValue(last(p.Masked()))}}
}
