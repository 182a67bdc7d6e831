package netns

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
)

// localAddresses reads fib_trie and if_inet6 of /proc/net, for the addresses that a network
// namespace has: loopback and link-local ones, which every namespace may have, are left out.
//
// Of IPv4, fib_trie has each address in a line with |--, and what it is in the lines below:
// "/32 host LOCAL" (fib_trie_seq_show, net/ipv4/fib_trie.c), in several tables. Of IPv6,
// if_inet6 has it in 32 digits (if6_seq_show, net/ipv6/addrconf.c).
func localAddresses(fibTrie, ifINet6 string) (all []netip.Addr) {
	add := func(a netip.Addr) {
		if a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	var latest netip.Addr
	for line := range strings.Lines(fibTrie) {
		if _, address, found := strings.Cut(line, "|-- "); found {
			latest, _ = netip.ParseAddr(strings.TrimSpace(address))
		} else if strings.HasPrefix(strings.TrimSpace(line), "/32 host LOCAL") {
			add(latest)
		}
	}
	for line := range strings.Lines(ifINet6) {
		digits, _, _ := strings.Cut(line, " ")
		bytes, err := hex.DecodeString(digits)
		if address, ok := netip.AddrFromSlice(bytes); err == nil && ok && address.Is6() {
			add(address)
		}
	}
	return all
}
