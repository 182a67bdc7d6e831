package socket

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// small is a host with ten ephemeral ports, of which two are reserved.
var small = Criteria{Ephemeral: EphemeralPorts{PortRange{First: 40000, Last: 40009}, []PortRange{{First: 40008, Last: 40009}}}}

func destinationsOf(t *testing.T, h Criteria, sockets ...Socket) *Traffic {
	t.Helper()
	table := mustRead(t, h, slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return !Listening.Has(s.State) })...)
	traffic, err := ReadConnections(seq(slices.DeleteFunc(slices.Clone(sockets), func(s Socket) bool { return Listening.Has(s.State) })...), table, nil)
	if err != nil {
		t.Fatal(err)
	}
	return traffic
}

func TestDestinations(t *testing.T) {
	mapped := func(s *Socket) { s.Family = IPv6 }
	got := destinationsOf(t, small,
		tcp(Listen, "0.0.0.0:40007", ""),
		tcp(Established, "10.0.0.1:40000", "192.0.2.1:5432"),
		tcp(TimeWait, "10.0.0.1:40001", "192.0.2.1:5432"),
		tcp(SynSent, "10.0.0.1:40002", "192.0.2.1:5432"),
		tcp(CloseWait, "10.0.0.1:40003", "192.0.2.1:5432", mapped), // over an IPv6 socket
		tcp(Established, "10.0.0.1:40000", "192.0.2.1:443"),        // another port
		tcp(Established, "10.0.0.1:40008", "192.0.2.1:443"),        // reserved, bound by hand
		tcp(Established, "10.0.0.1:900", "192.0.2.1:443"),          // not ephemeral
		tcp(Established, "10.0.0.1:40007", "192.0.2.9:50000"),      // inbound
		tcp(Established, "10.0.0.1:40000", "192.0.2.2:80"),         // from two addresses: the one with more
		tcp(Established, "10.0.0.2:40000", "192.0.2.2:80"),
		tcp(Established, "10.0.0.2:40001", "192.0.2.2:80"),
		tcp(Established, "[2001:db8::1]:40004", "[2001:db8::9]:80"),
		tcp(Established, "10.0.0.1:8080", "192.0.2.7:40001"), // orphaned
		udp(Unconnected, "0.0.0.0:40005"), udp(Unconnected, "0.0.0.0:40005"), udp(Unconnected, "0.0.0.0:53"),
	)
	want := []DestinationUse{
		{Remote: netip.MustParseAddrPort("192.0.2.1:443"), Ports: 1},
		{Remote: netip.MustParseAddrPort("192.0.2.1:5432"), Ports: 4, TimeWait: 1},
		{Remote: netip.MustParseAddrPort("192.0.2.2:80"), Ports: 2},
		{Remote: netip.MustParseAddrPort("[2001:db8::9]:80"), Ports: 1},
	}
	if diff := cmp.Diff(want, got.Destinations, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("destinations (-want +got):\n%s", diff)
	}
	if got.EphemeralPorts != 8 || got.EphemeralUsed != [numProtocols]int{TCP: 6, UDP: 1} || got.DestinationsUndercounted != 0 {
		t.Errorf("%d ports, used %v, undercounted by %d", got.EphemeralPorts, got.EphemeralUsed, got.DestinationsUndercounted)
	}
}

// TestUnanswered counts by remote end, whatever the local address, and only what
// has sent its SYN again. Of more than are exported, the busiest remain.
func TestUnanswered(t *testing.T) {
	again := func(s *Socket) { s.Retransmits = 2 }
	sockets := []Socket{
		tcp(SynSent, "10.0.0.1:40000", "192.0.2.1:5432", again),
		tcp(SynSent, "10.0.0.2:40000", "192.0.2.1:5432", again),
		tcp(SynSent, "10.0.0.1:40001", "192.0.2.1:5432"),
		tcp(Established, "10.0.0.1:40002", "192.0.2.1:5432", again),
		tcp(SynSent, "[::ffff:10.0.0.1]:40003", "[::ffff:192.0.2.1]:5432", again, func(s *Socket) { s.Family = IPv6 }),
		tcp(SynSent, "10.0.0.1:900", "192.0.2.2:111", again), // not from an ephemeral port
	}
	want := []Unanswered{{netip.MustParseAddrPort("192.0.2.1:5432"), 3}, {netip.MustParseAddrPort("192.0.2.2:111"), 1}}
	if diff := cmp.Diff(want, destinationsOf(t, small, sockets...).Unanswered, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for range 100 {
		sockets = append(sockets, tcp(SynSent, "10.0.0.1:40000", "192.0.2.9:443", again))
	}
	for i := range 3 * maxDestinations {
		addr := netip.AddrFrom4([4]byte{198, byte(i >> 16), byte(i >> 8), byte(i)})
		sockets = append(sockets, tcp(SynSent, "10.0.0.1:40000", netip.AddrPortFrom(addr, 443).String(), again))
	}
	got := destinationsOf(t, small, sockets...).Unanswered
	if len(got) > maxDestinations {
		t.Errorf("%d are told apart", len(got))
	}
	most := slices.MaxFunc(got, func(a, b Unanswered) int { return a.Sockets - b.Sockets })
	if most.Remote.String() != "192.0.2.9:443" || most.Sockets < 97 {
		t.Errorf("the most wait for %v", most)
	}
}

func TestWatched(t *testing.T) {
	one := Watched{netip.MustParsePrefix("192.0.2.1/32"), []PortRange{{First: 443, Last: 443}}}
	network := Watched{netip.MustParsePrefix("10.0.0.0/8"), nil}
	set := newWatchedSet([]Watched{
		one, network,
		{netip.MustParsePrefix("198.51.100.0/24"), []PortRange{{First: 1, Last: 2}, {First: 9, Last: 9}}},
		{netip.MustParsePrefix("198.51.100.0/24"), []PortRange{{First: 80, Last: 80}}},
		{netip.MustParsePrefix("2001:db8::1/128"), nil},
		{netip.MustParsePrefix("2001:db8:1::/48"), nil},
	})
	for to, want := range map[string]bool{
		"192.0.2.1:443": true, "192.0.2.1:80": false, "192.0.2.2:443": false,
		"10.9.9.9:1": true, "11.0.0.1:1": false, "[::a00:1]:1": false,
		"198.51.100.7:1": true, "198.51.100.7:9": true, "198.51.100.7:80": true, "198.51.100.7:3": false,
		"[2001:db8::1]:5": true, "[2001:db8::2]:5": false, "[2001:db8:1:2::3]:5": true,
	} {
		if got := set.has(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s is watched: %v, want %v", to, got, want)
		}
	}
	if to, ok := one.Single(); !ok || to != netip.MustParseAddrPort("192.0.2.1:443") {
		t.Errorf("single: %v, %v", to, ok)
	}
	for _, w := range []Watched{network, {one.Network, nil}, {one.Network, []PortRange{{First: 1, Last: 2}}}, {network.Network, one.Ports}} {
		if _, ok := w.Single(); ok {
			t.Errorf("%v is a single destination", w)
		}
	}
}

// many yields n connections to as many destinations, between those to the
// heavy ones: destination k has heavy[k] connections.
func many(n int, heavy []int) iter.Seq2[*Socket, error] {
	left := slices.Clone(heavy)
	return func(yield func(*Socket, error) bool) {
		s := tcp(Established, "10.0.0.1:40000", "203.0.113.1:443")
		to := func(address [4]byte, port int) bool {
			s.Local = netip.AddrPortFrom(s.Local.Addr(), uint16(port))
			s.Remote = netip.AddrPortFrom(netip.AddrFrom4(address), 443)
			return yield(&s, nil)
		}
		for i := range n {
			var address [4]byte
			binary.BigEndian.PutUint32(address[:], 11<<24|uint32(i))
			if !to(address, 32768+i%28232) {
				return
			}
			if k := i % len(left); left[k] > 0 { // spread over the whole read
				left[k]--
				if !to([4]byte{203, 0, 113, byte(k)}, 32768+left[k]) {
					return
				}
			}
		}
		for k := range left {
			for ; left[k] > 0; left[k]-- {
				if !to([4]byte{203, 0, 113, byte(k)}, 32768+left[k]) {
					return
				}
			}
		}
	}
}

func TestManyDestinations(t *testing.T) {
	heavy := []int{25_000, 12_000, 6000, 3000, 1500, 1000, 900, 800, 700, 600}
	watched := netip.MustParseAddrPort("11.0.0.7:443")
	table := mustRead(t, host)
	read := func(n int) (*Traffic, uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		traffic, err := ReadConnections(many(n, heavy), table, []Watched{{netip.PrefixFrom(watched.Addr(), 32), []PortRange{{First: 443, Last: 443}}}})
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		return traffic, after.TotalAlloc - before.TotalAlloc
	}
	_, small := read(20_000)
	traffic, large := read(200_000)
	if large > small*11/10 {
		t.Errorf("%d bytes for 200,000 destinations, %d for 20,000", large, small)
	}
	bound := (200_000 + 51_500) / (maxDestinations + 1)
	if traffic.DestinationsUndercounted == 0 || traffic.DestinationsUndercounted > bound {
		t.Errorf("undercounted by %d, want 1 to %d", traffic.DestinationsUndercounted, bound)
	}
	got := map[netip.AddrPort]DestinationUse{}
	for _, use := range traffic.Destinations {
		got[use.Remote] = use
	}
	if use := got[watched]; use.Ports != 1 || !use.Watched {
		t.Errorf("the watched destination: %+v", use)
	}
	for k, n := range heavy {
		to := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:443", k))
		if use := got[to]; use.Ports > n || use.Ports < n-traffic.DestinationsUndercounted {
			t.Errorf("%v: %d ports of %d, undercounted by %d at most", to, use.Ports, n, traffic.DestinationsUndercounted)
		}
	}
	if len(got) != len(heavy)+1 {
		t.Errorf("%d destinations, want %d", len(got), len(heavy)+1)
	}
}

// A network that is watched takes no counter from what is named one by one.
func TestWatchedAreBounded(t *testing.T) {
	all := []Watched{
		{netip.MustParsePrefix("11.0.0.0/8"), nil},
		{netip.MustParsePrefix("203.0.113.0/32"), []PortRange{{First: 443, Last: 443}}},
	}
	traffic, err := ReadConnections(many(200_000, []int{300}), mustRead(t, host), all)
	if err != nil {
		t.Fatal(err)
	}
	watched := map[netip.AddrPort]int{}
	for _, use := range traffic.Destinations {
		if use.Watched {
			watched[use.Remote] = use.Ports
		}
	}
	if n := watched[netip.MustParseAddrPort("203.0.113.0:443")]; n != 300 || len(watched) != maxInNetworks+1 {
		t.Errorf("the one that is named uses %d ports, want 300; %d are watched, want %d", n, len(watched), maxInNetworks+1)
	}
}
