package socket

import (
	"cmp"
	"slices"
)

// MostExposed returns which n of the listeners have series of their own, where
// there are more: TCP before UDP, for a program can open thousands of UDP sockets,
// what may be a client last, then the most exposed, then the first by ID. It also
// returns how many sockets the others have.
func MostExposed(listeners []Listener, n int) (chosen map[ListenerID]bool, rest int) {
	order := make([]*Listener, len(listeners))
	for i := range listeners {
		order[i] = &listeners[i]
	}
	if len(order) > n {
		slices.SortFunc(order, func(a, b *Listener) int {
			return cmp.Or(
				cmp.Compare(a.Protocol, b.Protocol),
				cmp.Compare(isTrue(a.MayBeClient), isTrue(b.MayBeClient)),
				cmp.Compare(a.Scope, b.Scope),
				a.Compare(b.ListenerID),
			)
		})
		for _, l := range order[n:] {
			rest += l.Sockets
		}
		order = order[:n]
	}
	chosen = make(map[ListenerID]bool, len(order))
	for _, l := range order {
		chosen[l.ListenerID] = true
	}
	return chosen, rest
}

func isTrue(b bool) int {
	if b {
		return 1
	}
	return 0
}
