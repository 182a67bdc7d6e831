package netns

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fibTrie is /proc/net/fib_trie of a container on Linux 6.18, cut short.
const fibTrie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 172.17.0.0/16 2 0 2
        |-- 172.17.0.0
           /16 link UNICAST
        |-- 172.17.0.2
           /32 host LOCAL
        |-- 172.17.255.255
           /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
Local:
        |-- 172.17.0.2
           /32 host LOCAL
        |-- 10.0.0.7
           /32 link UNICAST
           /32 host LOCAL
        |-- bad
           /32 host LOCAL
`

const ifINet6 = `00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000042acfffe110002 02 40 20 80     eth0
fd000000000000000000000000000002 02 40 00 80     eth0
fd00 02
`

func TestLocalAddresses(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("172.17.0.2"), netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::2")}
	compare := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	if diff := cmp.Diff(want, localAddresses(fibTrie, ifINet6), compare); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for end := range fibTrie { // one that is cut anywhere
		localAddresses(fibTrie[:end], ifINet6[:min(end, len(ifINet6))])
	}
}
