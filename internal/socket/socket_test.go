package socket

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestScopeOf(t *testing.T) {
	for addr, want := range map[string]Scope{
		"0.0.0.0": ScopeAny, "::": ScopeAny, "::ffff:0.0.0.0": ScopeAny,
		"127.0.0.1": ScopeLoopback, "127.255.0.9": ScopeLoopback, "::1": ScopeLoopback, "::ffff:127.0.0.1": ScopeLoopback,
		"10.1.2.3": ScopePrivate, "172.16.0.1": ScopePrivate, "172.31.255.255": ScopePrivate, "192.168.0.1": ScopePrivate,
		"100.64.0.1": ScopePrivate, "100.127.255.255": ScopePrivate, "fd00::1": ScopePrivate, "fc00::1": ScopePrivate,
		"169.254.1.1": ScopeLinkLocal, "fe80::1": ScopeLinkLocal,
		"224.0.0.251": ScopeMulticast, "ff02::fb": ScopeMulticast, "239.1.1.1": ScopeMulticast,
		"100.63.255.255": ScopePublic, "100.128.0.0": ScopePublic, "172.32.0.1": ScopePublic, "8.8.8.8": ScopePublic,
		"2001:db8::1": ScopePublic, "255.255.255.255": ScopeLinkLocal,
	} {
		if got := ScopeOf(netip.MustParseAddr(addr)); got != want {
			t.Errorf("ScopeOf(%s) = %v, want %v", addr, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	for _, p := range Protocols() {
		for _, s := range p.States() {
			if s.String() == "unknown" || !(TCPStates | UDPStates).Has(s) {
				t.Errorf("state %d of %v has no name or is in no read", s, p)
			}
		}
	}
	for _, got := range []string{Protocol(99).String(), State(13).String(), Scope(99).String()} {
		if got != "unknown" {
			t.Errorf("the name of an invalid value is %q", got)
		}
	}
	if Listening&Connections != 0 || Listening|Connections != TCPStates|UDPStates {
		t.Error("the two reads overlap, or leave a state out")
	}
}

// host has the ephemeral range of a Linux default.
var host = Criteria{Ephemeral: EphemeralPorts{PortRange: PortRange{First: 32768, Last: 60999}}}

const allKnown = KnowsQueues | KnowsAcceptQueueLimit | KnowsDrops | KnowsV6Only | KnowsUID

func tcp(state State, local, remote string, change ...func(*Socket)) Socket {
	return made(TCP, state, local, remote, change)
}

func udp(state State, local string, change ...func(*Socket)) Socket {
	return made(UDP, state, local, "", change)
}

func made(p Protocol, state State, local, remote string, change []func(*Socket)) Socket {
	s := Socket{Protocol: p, State: state, Known: allKnown}
	l := netip.MustParseAddrPort(local)
	if l.Addr().Is6() {
		s.Family = IPv6
	}
	s.Local = netip.AddrPortFrom(l.Addr().Unmap(), l.Port())
	if remote != "" {
		r := netip.MustParseAddrPort(remote)
		s.Remote = netip.AddrPortFrom(r.Addr().Unmap(), r.Port())
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func v6only(s *Socket)               { s.V6Only = true }
func unknownV6(s *Socket)            { s.Known &^= KnowsV6Only }
func on(name string) func(s *Socket) { return func(s *Socket) { s.Interface = name } }

func seq(sockets ...Socket) iter.Seq2[*Socket, error] {
	return func(yield func(*Socket, error) bool) {
		for i := range sockets {
			if !yield(&sockets[i], nil) {
				return
			}
		}
	}
}

func failing(err error, sockets ...Socket) iter.Seq2[*Socket, error] {
	return func(yield func(*Socket, error) bool) {
		for s := range seq(sockets...) {
			if !yield(s, nil) {
				return
			}
		}
		yield(nil, err)
	}
}

func mustRead(t *testing.T, host Criteria, sockets ...Socket) *Table {
	t.Helper()
	table, err := ReadListening(seq(sockets...), host)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func name(id ListenerID) string {
	return fmt.Sprintf("%v %s%%%s", id.Protocol, netip.AddrPortFrom(id.Address, id.Port), id.Interface)
}

func TestReadListening(t *testing.T) {
	table := mustRead(t, host,
		udp(Unconnected, "0.0.0.0:53", func(s *Socket) { s.ReceiveQueue, s.Drops = 100, 3 }),
		udp(Unconnected, "0.0.0.0:53", func(s *Socket) { s.ReceiveQueue, s.Drops = 20, 4 }),
		udp(Unconnected, "0.0.0.0:40000"), // maybe a client
		udp(Connected, "10.0.0.1:53"),     // never a listener
		udp(Unconnected, "224.0.0.251:5353"),
		tcp(Listen, "[::]:443", "", v6only),
		tcp(Listen, "[::]:80", "", func(s *Socket) { s.AcceptQueue, s.AcceptQueueLimit, s.Drops = 5, 128, 7 }),
		tcp(Listen, "0.0.0.0:443", "", on("eth0")),
		tcp(Listen, "0.0.0.0:443", ""),
		tcp(Listen, "[::ffff:127.0.0.1]:50000", ""),
	)
	want := []Listener{
		{ListenerID: ListenerID{"", TCP, netip.MustParseAddr("::"), 80, ""}, DualStack: true, Sockets: 1, AcceptQueue: 5, AcceptQueueLimit: 128, Worst: AcceptQueue{5, 128}, Drops: 7},
		{ListenerID: ListenerID{"", TCP, netip.MustParseAddr("0.0.0.0"), 443, ""}, Sockets: 1},
		{ListenerID: ListenerID{"", TCP, netip.MustParseAddr("0.0.0.0"), 443, "eth0"}, Sockets: 1},
		{ListenerID: ListenerID{"", TCP, netip.MustParseAddr("::"), 443, ""}, Sockets: 1},
		{ListenerID: ListenerID{"", TCP, netip.MustParseAddr("127.0.0.1"), 50000, ""}, Scope: ScopeLoopback, Ephemeral: true, Sockets: 1},
		{ListenerID: ListenerID{"", UDP, netip.MustParseAddr("0.0.0.0"), 53, ""}, Sockets: 2, ReceiveQueue: 120, Drops: 7},
		{ListenerID: ListenerID{"", UDP, netip.MustParseAddr("224.0.0.251"), 5353, ""}, Scope: ScopeMulticast, Sockets: 1},
		{ListenerID: ListenerID{"", UDP, netip.MustParseAddr("0.0.0.0"), 40000, ""}, Ephemeral: true, Sockets: 1, MayBeClient: true},
	}
	for i := range want {
		want[i].Known = allKnown
	}
	if diff := cmp.Diff(want, table.Listeners, cmpopts.IgnoreFields(Listener{}, "Members"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	if got := table.Totals[UDP][IPv4]; got[Unconnected] != 4 || got[Connected] != 1 {
		t.Errorf("UDP totals %v", got)
	}
}

func TestUnknownDualStackIsPresumed(t *testing.T) {
	table := mustRead(t, host,
		tcp(Listen, "0.0.0.0:80", "", unknownV6),
		tcp(Listen, "[::]:80", "", unknownV6),
		tcp(Listen, "[::]:81", "", unknownV6),
		tcp(Listen, "[::1]:82", "", unknownV6),
	)
	for _, l := range table.Listeners {
		if want := l.Port == 81; l.DualStack != want {
			t.Errorf("%s: dual stack %v, want %v", name(l.ListenerID), l.DualStack, want)
		}
	}
}

func TestAcceptor(t *testing.T) {
	table := mustRead(t, host,
		tcp(Listen, "0.0.0.0:80", ""),
		tcp(Listen, "10.0.0.1:80", ""),
		tcp(Listen, "[::]:80", "", v6only),
		tcp(Listen, "[::]:81", ""),
		tcp(Listen, "[2001:db8::1]:81", ""),
		tcp(Listen, "0.0.0.0:82", ""),
		tcp(Listen, "0.0.0.0:82", "", on("eth0")),
		tcp(Listen, "[::]:83", ""),
		tcp(Listen, "0.0.0.0:83", "", on("eth0")),
		tcp(Listen, "127.0.0.1:84", ""),
		tcp(Listen, "[::]:85", "", v6only),
		udp(Unconnected, "0.0.0.0:90"),
	)
	for _, tt := range []struct {
		name string
		conn Socket
		want string
	}{
		{"no listener on the port", tcp(Established, "10.0.0.1:9999", "10.0.0.2:1"), ""},
		{"a UDP listener takes no connection", tcp(Established, "10.0.0.1:90", "10.0.0.2:1"), ""},
		{"a listener on another address", tcp(Established, "10.0.0.1:84", "10.0.0.2:1"), ""},
		{"a V6ONLY wildcard takes no IPv4", tcp(Established, "10.0.0.1:85", "10.0.0.2:1"), ""},
		{"a V6ONLY wildcard takes no mapped IPv4", tcp(Established, "[::ffff:10.0.0.1]:85", "[::ffff:10.0.0.2]:1"), ""},
		{"exact before wildcard", tcp(Established, "10.0.0.1:80", "10.0.0.2:1"), "tcp 10.0.0.1:80%"},
		{"wildcard", tcp(Established, "10.0.0.9:80", "10.0.0.2:1"), "tcp 0.0.0.0:80%"},
		{"V6ONLY takes IPv6", tcp(Established, "[2001:db8::1]:80", "[2001:db8::2]:1"), "tcp [::]:80%"},
		{"dual stack takes IPv4", tcp(SynRecv, "10.0.0.1:81", "10.0.0.2:1"), "tcp [::]:81%"},
		{"dual stack takes mapped IPv4", tcp(TimeWait, "[::ffff:10.0.0.1]:81", "[::ffff:10.0.0.2]:1"), "tcp [::]:81%"},
		{"exact IPv6", tcp(Established, "[2001:db8::1]:81", "[2001:db8::2]:1"), "tcp [2001:db8::1]:81%"},
		{"device before none", tcp(Established, "10.0.0.1:82", "10.0.0.2:1", on("eth0")), "tcp 0.0.0.0:82%eth0"},
		{"another device", tcp(Established, "10.0.0.1:82", "10.0.0.2:1", on("eth1")), "tcp 0.0.0.0:82%"},
		{"no device", tcp(Established, "10.0.0.1:82", "10.0.0.2:1"), "tcp 0.0.0.0:82%"},
		{"dual stack where the IPv4 one is on a device", tcp(Established, "10.0.0.1:83", "10.0.0.2:1"), "tcp [::]:83%"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if at := table.Acceptor(&tt.conn); at >= 0 {
				got = name(table.Listeners[at].ListenerID)
			}
			if got != tt.want {
				t.Errorf("accepted by %q, want %q", got, tt.want)
			}
		})
	}
}

func TestReadConnections(t *testing.T) {
	table := mustRead(t, host, tcp(Listen, "0.0.0.0:80", ""), tcp(Listen, "0.0.0.0:50000", ""))
	bytes := func(s *Socket) { s.ReceiveQueue, s.SendQueue = 10, 20 }
	traffic, err := ReadConnections(seq(
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40000", bytes),
		tcp(TimeWait, "10.0.0.1:80", "10.0.0.2:40001"),
		tcp(Established, "10.0.0.1:50000", "10.0.0.2:5432"),
		tcp(SynSent, "10.0.0.1:50000", "10.0.0.2:5432"),              // shares the port, but asked itself
		tcp(Established, "10.0.0.1:40000", "10.0.0.2:5432", bytes),   // an ephemeral port
		tcp(Established, "10.0.0.1:1023", "10.0.0.2:514"),            // rsh
		tcp(Established, "10.0.0.1:61000", "10.0.0.2:443"),           // above the ephemeral range
		tcp(Established, "10.0.0.1:876", "10.0.0.2:2049"),            // an NFS mount
		tcp(Established, "10.0.0.1:40001", "10.0.0.2:50051"),         // a service on an ephemeral port
		tcp(CloseWait, "10.0.0.1:8080", "10.0.0.2:40000", bytes),     // the service is gone
		tcp(Established, "[2001:db8::1]:8080", "[2001:db8::2]:9090"), // and its client has no ephemeral port
	), table, nil)
	if err != nil {
		t.Fatal(err)
	}
	flow := func(receive, send uint64, states map[State]uint32) Flow {
		f := Flow{ReceiveQueue: receive, SendQueue: send}
		for state, n := range states {
			f.States[state] = n
		}
		return f
	}
	want := &Traffic{
		Totals:         traffic.Totals, // below
		EphemeralPorts: 28232, EphemeralUsed: [numProtocols]int{TCP: 3},
		Inbound: []Flow{
			flow(10, 20, map[State]uint32{Established: 1, TimeWait: 1}),
			flow(0, 0, map[State]uint32{Established: 1}),
		},
		Outbound: []PortFlow{
			{443, false, flow(0, 0, map[State]uint32{Established: 1})},
			{514, false, flow(0, 0, map[State]uint32{Established: 1})},
			{2049, false, flow(0, 0, map[State]uint32{Established: 1})},
			{5432, false, flow(10, 20, map[State]uint32{Established: 1, SynSent: 1})},
			{50051, true, flow(0, 0, map[State]uint32{Established: 1})},
		},
		Orphaned: []PortFlow{{8080, false, flow(10, 20, map[State]uint32{Established: 1, CloseWait: 1})}},
	}
	if diff := cmp.Diff(want, traffic); diff != "" {
		t.Errorf("traffic (-want +got):\n%s", diff)
	}
	v4, v6 := traffic.Totals[TCP][IPv4], traffic.Totals[TCP][IPv6]
	if v4[Established] != 7 || v4[TimeWait] != 1 || v4[SynSent] != 1 || v4[CloseWait] != 1 || v6[Established] != 1 {
		t.Errorf("totals: IPv4 %v, IPv6 %v", v4, v6)
	}
}

// tooMany are sockets of more listeners than are read, in the order in which they
// come.
func tooMany(p Protocol, state State, more int) []Socket {
	var all []Socket
	for i := range maxListeners + more {
		s := tcp(state, fmt.Sprintf("127.0.%d.%d:53", i>>8, i&0xff), "")
		s.Protocol = p
		all = append(all, s)
	}
	return all
}

// TestUnreadListeners has more listeners than a table holds: those of one
// protocol leave the others their place, and connections to one that was not
// read are no leftovers.
func TestUnreadListeners(t *testing.T) {
	sockets := append(tooMany(UDP, Unconnected, 2), tcp(Listen, "127.0.0.1:22", ""))
	table := mustRead(t, host, append(sockets, tooMany(TCP, Listen, 0)...)...)
	if len(table.Listeners) != 2*maxListeners || table.Unread != (Unread{TCP: 1, UDP: 2}) {
		t.Fatalf("%d listeners, %d unread", len(table.Listeners), table.Unread)
	}
	traffic, err := ReadConnections(seq(
		tcp(Established, "127.0.0.1:22", "10.0.0.2:1"),
		tcp(Established, "127.0.127.255:53", "10.0.0.2:1"),
	), table, nil)
	if err != nil {
		t.Fatal(err)
	}
	if traffic.InboundUnread.Sockets() != 1 || len(traffic.Orphaned) != 0 {
		t.Errorf("unread %+v, orphaned %+v", traffic.InboundUnread, traffic.Orphaned)
	}
}

// TestMostExposed has UDP sockets on every address, which do not displace a TCP
// listener on a loopback address.
func TestMostExposed(t *testing.T) {
	table := mustRead(t, host,
		tcp(Listen, "127.0.0.1:22", ""), tcp(Listen, "127.0.0.1:22", ""), tcp(Listen, "10.0.0.1:80", ""),
		udp(Unconnected, "0.0.0.0:53"), udp(Unconnected, "0.0.0.0:5000"), udp(Unconnected, "127.0.0.1:54"),
	)
	for n, want := range [][]string{
		nil, {"tcp 10.0.0.1:80%"}, {"tcp 10.0.0.1:80%", "tcp 127.0.0.1:22%"},
		{"tcp 10.0.0.1:80%", "tcp 127.0.0.1:22%", "udp 0.0.0.0:53%"},
		{"tcp 10.0.0.1:80%", "tcp 127.0.0.1:22%", "udp 0.0.0.0:53%", "udp 127.0.0.1:54%"}, // 5000 may be a client
	} {
		chosen, rest := MostExposed(table.Listeners, n)
		var got []string
		for id := range chosen {
			got = append(got, name(id))
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%d (-want +got):\n%s", n, diff)
		}
		if wantRest := []int{6, 5, 3, 2, 1}[n]; rest != wantRest {
			t.Errorf("%d: the rest has %d sockets, want %d", n, rest, wantRest)
		}
	}
}

func transparent(s *Socket)            { s.Transparent = true }
func inode(s *Socket)                  { s.Inode = 4711 }
func inCgroup(id uint64) func(*Socket) { return func(s *Socket) { s.CgroupID = id } }

// TestDivertedConnections has connections that TPROXY gives to a listener on
// another port, and transparent clients of the same proxy.
func TestDivertedConnections(t *testing.T) {
	proxy := tcp(Listen, "0.0.0.0:15001", "", transparent, inCgroup(1))
	diverted := func(of *Traffic) int { return of.Inbound[len(of.Inbound)-1].Sockets() }
	for _, tt := range []struct {
		name      string
		listeners []Socket
		socket    Socket
		want      string
	}{
		{"a low port", nil, tcp(Established, "203.0.113.9:443", "10.0.0.2:40000", transparent, inode, inCgroup(1)), "diverted"},
		{"an ephemeral port", nil, tcp(Established, "203.0.113.9:33445", "10.0.0.2:33000", transparent, inode), "diverted"},
		{"closed by both", nil, tcp(LastAck, "203.0.113.9:443", "10.0.0.2:40000", transparent), "diverted"},
		{"TIME_WAIT", nil, tcp(TimeWait, "203.0.113.9:443", "10.0.0.2:40000"), "diverted"},
		{"TIME_WAIT of a client", nil, tcp(TimeWait, "10.0.0.1:40000", "203.0.113.9:443"), "outbound"},
		{"a port that another has", []Socket{tcp(Listen, "0.0.0.0:443", "", inCgroup(1))}, tcp(Established, "203.0.113.9:443", "10.0.0.2:40000", transparent), "diverted"},
		{"a service's own", []Socket{tcp(Listen, "0.0.0.0:443", "")}, tcp(Established, "10.0.0.1:443", "10.0.0.2:40000"), "of 443"},
		{"as another client", nil, tcp(Established, "10.0.0.2:40000", "203.0.113.9:443", transparent, inode), "outbound"},
		{"as another client, with a port of another host", nil, tcp(Established, "10.0.0.2:2000", "203.0.113.9:443", transparent, inode), "outbound"},
		{"as another client, port chosen on connect", nil, tcp(Established, "10.0.0.2:40000", "203.0.113.9:40001", transparent, func(s *Socket) { s.BindNoPort = true }), "outbound"},
		{"of another cgroup", nil, tcp(Established, "203.0.113.9:443", "10.0.0.2:40000", transparent, inode, inCgroup(2)), "held"},
		{"one of two proxies", []Socket{tcp(Listen, "0.0.0.0:15000", "", transparent, inCgroup(2))}, tcp(Established, "203.0.113.9:443", "10.0.0.2:40000", transparent, inCgroup(1)), "diverted"},
		{"of two proxies it is not known which", []Socket{tcp(Listen, "0.0.0.0:15000", "", transparent)}, tcp(Established, "203.0.113.9:443", "10.0.0.2:40000", transparent, inode), "held"},
		{"IPv6", nil, tcp(Established, "[2001:db8::9]:443", "[2001:db8::2]:40000", transparent, inode), "held"},
	} {
		table := mustRead(t, host, append(tt.listeners, proxy)...)
		traffic, err := ReadConnections(seq(tt.socket), table, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := "of 443"
		switch {
		case diverted(traffic) == 1:
			got = "diverted"
		case len(traffic.Outbound) == 1:
			got = "outbound"
		case len(traffic.Held) == 1:
			got = "held"
		case len(traffic.Orphaned) == 1:
			got = "orphaned"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestHeldAndOrphaned separates what a process holds from what it left behind.
func TestHeldAndOrphaned(t *testing.T) {
	traffic, err := ReadConnections(seq(
		tcp(Established, "10.0.0.1:20", "10.0.0.2:40000", inode),
		tcp(CloseWait, "10.0.0.1:8000", "10.0.0.2:40000", func(s *Socket) { s.PID = 7 }),
		tcp(FinWait2, "10.0.0.1:8000", "10.0.0.2:40001"),
		tcp(TimeWait, "10.0.0.1:20", "10.0.0.2:40001"),
	), mustRead(t, host), nil)
	if err != nil {
		t.Fatal(err)
	}
	ports := func(flows []PortFlow) string {
		var out []string
		for _, f := range flows {
			out = append(out, fmt.Sprintf("%d:%d", f.Port, f.Sockets()))
		}
		return strings.Join(out, " ")
	}
	if held, orphaned := ports(traffic.Held), ports(traffic.Orphaned); held != "20:1 8000:1" || orphaned != "20:1 8000:1" {
		t.Errorf("held %s, orphaned %s", held, orphaned)
	}
}

// TestFullestQueue has a group of which one socket does not accept.
func TestFullestQueue(t *testing.T) {
	queue := func(length, limit uint32) func(*Socket) {
		return func(s *Socket) { s.AcceptQueue, s.AcceptQueueLimit = length, limit }
	}
	table := mustRead(t, host,
		tcp(Listen, "0.0.0.0:81", "", queue(0, 32)), tcp(Listen, "0.0.0.0:81", "", queue(33, 32)), tcp(Listen, "0.0.0.0:81", "", queue(40, 64)),
		tcp(Listen, "0.0.0.0:82", "", queue(0, 0)),
		tcp(Listen, "0.0.0.0:83", "", queue(9, 0), func(s *Socket) { s.Known = KnowsQueues }),
	)
	want := []struct {
		full  int
		worst AcceptQueue
	}{{1, AcceptQueue{33, 32}}, {0, AcceptQueue{0, 0}}, {0, AcceptQueue{}}}
	for i, l := range table.Listeners {
		if l.Full != want[i].full || l.Worst != want[i].worst {
			t.Errorf("port %d: %d full, worst %v; want %v", l.Port, l.Full, l.Worst, want[i])
		}
	}
}

func TestErrors(t *testing.T) {
	boom := errors.New("boom")
	if _, err := ReadListening(failing(boom, tcp(Listen, "0.0.0.0:80", "")), host); !errors.Is(err, boom) {
		t.Errorf("ReadListening: %v", err)
	}
	if _, err := ReadConnections(failing(boom), &Table{}, nil); !errors.Is(err, boom) {
		t.Errorf("ReadConnections: %v", err)
	}

	if table, err := ReadListening(failing(ErrInterrupted, tcp(Listen, "0.0.0.0:80", "")), host); !errors.Is(err, ErrInterrupted) || len(table.Listeners) != 1 {
		t.Errorf("an interrupted ReadListening: %+v, %v", table, err)
	}
	if traffic, err := ReadConnections(failing(ErrInterrupted, tcp(SynSent, "10.0.0.1:1", "10.0.0.2:2")), &Table{}, nil); !errors.Is(err, ErrInterrupted) || len(traffic.Outbound) != 1 {
		t.Errorf("an interrupted ReadConnections: %+v, %v", traffic, err)
	}

	bad := fmt.Errorf("%w: line 3", ErrMalformed)
	table, err := ReadListening(failing(bad, tcp(Listen, "0.0.0.0:80", "")), host)
	if err != nil || table.Malformed != 1 || len(table.Listeners) != 1 {
		t.Errorf("ReadListening with a malformed row: %+v, %v", table, err)
	}
	traffic, err := ReadConnections(failing(bad, tcp(Established, "10.0.0.1:80", "10.0.0.1:9")), table, nil)
	if err != nil || traffic.Malformed != 1 || traffic.Inbound[0].Sockets() != 1 {
		t.Errorf("ReadConnections with a malformed row: %+v, %v", traffic, err)
	}
}

func TestTop(t *testing.T) {
	flow := func(port uint16, n uint32) PortFlow {
		f := PortFlow{Port: port}
		f.States[Established] = n
		return f
	}
	flows := []PortFlow{flow(22, 1), flow(80, 9), flow(443, 5), flow(5432, 5), flow(9000, 1)}
	top, rest, folded := Top(flows, 2, NewRanking[uint16](time.Now))
	if diff := cmp.Diff([]PortFlow{flow(80, 9), flow(443, 5)}, top); diff != "" {
		t.Errorf("top (-want +got):\n%s", diff)
	}
	if rest.Sockets() != 7 || folded != 3 {
		t.Errorf("rest %d sockets of %d flows", rest.Sockets(), folded)
	}
	passing, grpc := flow(45648, 1), flow(50051, 2)
	passing.Ephemeral, grpc.Ephemeral = true, true
	if top, rest, folded := Top([]PortFlow{passing, grpc}, 5, NewRanking[uint16](time.Now)); len(top) != 1 || top[0].Port != 50051 || rest.Sockets() != 1 || folded != 1 {
		t.Errorf("ephemeral ports: top %v, rest %v, folded %d", top, rest, folded)
	}
	if top, _, folded := Top(flows, 99, NewRanking[uint16](time.Now)); len(top) != 5 || folded != 0 {
		t.Errorf("with room for all: %d flows, %d folded", len(top), folded)
	}
}

// The port of a dead service is exported, however many busier ones there are.
func TestTopOf(t *testing.T) {
	var flows []PortFlow
	for port := uint16(1); port <= 9; port++ {
		f := PortFlow{Port: port}
		f.States[Established] = 1000
		flows = append(flows, f)
	}
	flows[2].SynRetransmitting, flows[5].SynRetransmitting, flows[7].SynRetransmitting = 1, 3, 2
	top, rest, folded := TopOf(flows, func(f *Flow) uint32 { return f.SynRetransmitting }, 2, NewRanking[uint16](time.Now))
	if len(top) != 2 || top[0].Port != 6 || top[1].Port != 8 || rest.SynRetransmitting != 1 || folded != 1 {
		t.Errorf("top %v, rest %v, folded %d", top, rest, folded)
	}
}

// TestStalled has one connection of each kind that does not get on, and is counted once.
func TestStalled(t *testing.T) {
	table := mustRead(t, host, tcp(Listen, "0.0.0.0:80", ""))
	again, noRoom := func(s *Socket) { s.Retransmits = 1 }, func(s *Socket) { s.ZeroWindow = true }
	got, err := ReadConnections(seq(
		tcp(SynRecv, "10.0.0.1:80", "10.0.0.2:40000", again),
		tcp(SynRecv, "10.0.0.1:80", "10.0.0.2:40001"),
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40002", again),
		tcp(FinWait1, "10.0.0.1:80", "10.0.0.2:40003", again),
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40004", noRoom),
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40005"),
		tcp(SynSent, "10.0.0.1:40000", "10.0.0.2:443", again),
		tcp(Established, "10.0.0.1:40001", "10.0.0.2:443", again),
		tcp(CloseWait, "10.0.0.1:40002", "10.0.0.2:443", noRoom),
	), table, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, out := got.Inbound[0], got.Outbound[0]
	if in.SynAckRetransmitting != 1 || in.Retransmitting != 2 || in.ZeroWindow != 1 || in.SynRetransmitting != 0 {
		t.Errorf("inbound: %+v", in)
	}
	if out.SynRetransmitting != 1 || out.Retransmitting != 1 || out.ZeroWindow != 1 || out.SynAckRetransmitting != 0 {
		t.Errorf("outbound: %+v", out)
	}
	in.Add(out.Flow)
	if in.SynRetransmitting != 1 || in.SynAckRetransmitting != 1 || in.Retransmitting != 3 || in.ZeroWindow != 2 {
		t.Errorf("the sum: %+v", in)
	}
}

func TestCountingDoesNotAllocate(t *testing.T) {
	table := mustRead(t, host, tcp(Listen, "0.0.0.0:80", ""))
	sockets := []Socket{
		tcp(Established, "10.0.0.1:80", "10.0.0.2:40000", madeIn(1)),
		tcp(Established, "10.0.0.1:40000", "10.0.0.2:443", madeIn(2)),
		tcp(CloseWait, "10.0.0.1:8080", "10.0.0.2:40000"),
	}
	read := func(times int) float64 {
		return testing.AllocsPerRun(10, func() {
			_, _ = ReadConnections(func(yield func(*Socket, error) bool) {
				for i := range times {
					yield(&sockets[i%len(sockets)], nil)
				}
			}, table, nil)
		})
	}
	if few, many := read(300), read(30_000); few != many {
		t.Errorf("%v allocations for 300 sockets, %v for 30,000", few, many)
	}
}
