package firewall

import (
	"slices"
	"strings"
)

// span is all values from lo to hi. A value is the bytes that a register of nftables
// has, which compare as the kernel compares them.
type span struct{ lo, hi string }

// spans are sorted, and no two of them touch.
type spans []span

func one(value string) spans { return spans{{value, value}} }

// every is all values of n bytes.
func every(n int) spans { return spans{{strings.Repeat("\x00", n), strings.Repeat("\xff", n)}} }

// beginning is all values of n bytes that begin with a prefix.
func beginning(prefix string, n int) spans {
	rest := n - len(prefix)
	return spans{{prefix + strings.Repeat("\x00", rest), prefix + strings.Repeat("\xff", rest)}}
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

// and returns what is in both.
func (a spans) and(b spans) (both spans) {
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

// not returns what is not in a.
func (a spans) not(n int) (rest spans) {
	lo, left := every(n)[0].lo, true
	for _, s := range a {
		if hi, ok := before(s.lo); ok && lo <= hi {
			rest = append(rest, span{lo, hi})
		}
		if lo, left = after(s.hi); !left {
			return rest
		}
	}
	return append(rest, span{lo, every(n)[0].hi})
}

// minus returns what is in a and not in b.
func (a spans) minus(b spans) spans {
	if len(a) == 0 {
		return nil
	}
	return a.and(b.not(len(a[0].lo)))
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
