package firewall

import (
	"slices"
	"sort"
	"strings"
)

// span is all values from lo to hi. A value is the bytes that a register of nftables
// has, which compare as the kernel compares them.
type span struct{ lo, hi string }

// spans are sorted, and no two of them touch.
type spans []span

func one(value string) spans { return spans{{value, value}} }

// every is all values of n bytes.
func every(n int) spans { return beginning("", "", n) }

// beginning is all values of n bytes whose first ones are from lo to hi.
func beginning(lo, hi string, n int) spans {
	return spans{{lo + strings.Repeat("\x00", n-len(lo)), hi + strings.Repeat("\xff", n-len(hi))}}
}

// after returns the next value; ok is false after the last one.
func after(value string) (next string, ok bool) {
	b := []byte(value)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return string(b), true
		}
	}
	return "", false
}

// before returns the value before; ok is false before the first one.
func before(value string) (previous string, ok bool) {
	b := []byte(value)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]--
		if b[i] != 0xff {
			return string(b), true
		}
	}
	return "", false
}

// union returns any spans in their order, those that touch as one.
func union(all spans) spans {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b span) int { return strings.Compare(a.lo, b.lo) })
	var out spans
	for _, s := range all {
		if last := len(out) - 1; last >= 0 {
			if next, ok := after(out[last].hi); !ok || s.lo <= next {
				out[last].hi = max(out[last].hi, s.hi)
				continue
			}
		}
		out = append(out, s)
	}
	return out
}

// and returns what is in both. Rules ask for one span mostly, of which there may be
// thousands of answers.
func (a spans) and(b spans) (both spans) {
	if len(b) == 1 {
		return a.within(b[0])
	}
	for i, j := 0, 0; i < len(a) && j < len(b); {
		lo, hi := max(a[i].lo, b[j].lo), min(a[i].hi, b[j].hi)
		if lo <= hi {
			both = append(both, span{lo, hi})
		}
		if a[i].hi < b[j].hi {
			i++
		} else {
			j++
		}
	}
	return both
}

// around returns the indices of the spans that have something in common with one. One
// that ends before it begins, as a hostile set may have it, is empty.
func (a spans) around(s span) (first, end int) {
	if s.lo > s.hi {
		return 0, 0
	}
	first = sort.Search(len(a), func(i int) bool { return a[i].hi >= s.lo })
	end = first + sort.Search(len(a)-first, func(i int) bool { return a[first+i].lo > s.hi })
	return first, end
}

// within returns what of a is in one span.
func (a spans) within(s span) spans {
	first, end := a.around(s)
	if first == end {
		return nil
	}
	both := slices.Clone(a[first:end])
	both[0].lo = max(both[0].lo, s.lo)
	both[len(both)-1].hi = min(both[len(both)-1].hi, s.hi)
	return both
}

// without returns what of a is not in one span.
func (a spans) without(s span) spans {
	first, end := a.around(s)
	if first == end {
		return a
	}
	rest := make(spans, first, len(a)+1)
	copy(rest, a)
	if lo := a[first].lo; lo < s.lo {
		hi, _ := before(s.lo)
		rest = append(rest, span{lo, hi})
	}
	if hi := a[end-1].hi; hi > s.hi {
		lo, _ := after(s.hi)
		rest = append(rest, span{lo, hi})
	}
	if rest = append(rest, a[end:]...); len(rest) == 0 {
		return nil
	}
	return rest
}

// not returns what is not in a.
func (a spans) not(n int) (rest spans) {
	lo := every(n)[0].lo
	for _, s := range a {
		if hi, ok := before(s.lo); ok && lo <= hi {
			rest = append(rest, span{lo, hi})
		}
		var left bool
		if lo, left = after(s.hi); !left {
			return rest
		}
	}
	return append(rest, span{lo, every(n)[0].hi})
}

// minus returns what is in a and not in b.
func (a spans) minus(b spans) spans {
	switch {
	case len(a) == 0:
		return nil
	case len(b) == 1:
		return a.without(b[0])
	default:
		return a.and(b.not(len(a[0].lo)))
	}
}

// single returns the value if there is but one.
func (a spans) single() (string, bool) {
	if len(a) == 1 && a[0].lo == a[0].hi {
		return a[0].lo, true
	}
	return "", false
}

func (a spans) has(value string) bool { return len(a.and(one(value))) > 0 }

// share returns how much of all values of this size is in a, from 0 to 1.
func (a spans) share() (part float64) {
	for _, s := range a {
		size := 0.0
		scale := 1.0
		for i := range len(s.lo) {
			scale /= 256
			size += (float64(s.hi[i]) - float64(s.lo[i])) * scale
		}
		part += size + scale
	}
	return part
}
