package socket

import (
	"iter"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func listening(p Protocol, local string, change ...func(*Socket)) Socket {
	s := Socket{Protocol: p, State: Listen, Known: KnowsQueues | KnowsAcceptQueueLimit | KnowsV6Only, AcceptQueueLimit: 5}
	if p != TCP {
		s.State = Unconnected
	}
	s.Local = netip.MustParseAddrPort(local)
	if s.Local.Addr().Is6() {
		s.Family = IPv6
	}
	for _, c := range change {
		c(&s)
	}
	return s
}

func rows(sockets []Socket) iter.Seq2[*Socket, error] {
	return func(yield func(*Socket, error) bool) {
		for i := range sockets {
			if !yield(&sockets[i], nil) {
				return
			}
		}
	}
}

func TestAnswer(t *testing.T) {
	queued := func(n uint32) func(*Socket) { return func(s *Socket) { s.AcceptQueue = n } }
	device := func(name string) func(*Socket) { return func(s *Socket) { s.Interface = name } }
	v6only := func(s *Socket) { s.V6Only = true }
	blind := func(s *Socket) { s.Known = 0; s.AcceptQueue = 99 }
	for _, tt := range []struct {
		name    string
		sockets []Socket
		p       Protocol
		to      string
		want    Standing
		scope   string
		text    string
	}{
		{"nothing at all", nil, TCP, "192.0.2.1:80", NotListening, "", "nothing listens on tcp port 80 of this host"},
		{"another port", []Socket{listening(TCP, "0.0.0.0:81")}, TCP, "192.0.2.1:80", NotListening, "", "nothing listens on tcp port 80 of this host"},
		{"another protocol", []Socket{listening(UDP, "0.0.0.0:80")}, TCP, "192.0.2.1:80", NotListening, "", "nothing listens on tcp port 80 of this host"},
		{"loopback only", []Socket{listening(TCP, "127.0.0.1:80")}, TCP, "192.0.2.1:80", LoopbackOnly, "loopback",
			"nothing listens on tcp 192.0.2.1:80; a listener on 127.0.0.1:80 is loopback only"},
		{"another loopback address", []Socket{listening(TCP, "127.0.0.1:80")}, TCP, "127.0.0.2:80", LoopbackOnly, "loopback",
			"nothing listens on tcp 127.0.0.2:80; a listener on 127.0.0.1:80 is loopback only"},
		{"another address", []Socket{listening(TCP, "127.0.0.1:80"), listening(TCP, "10.0.0.1:80")}, TCP, "192.0.2.1:80", OtherAddress, "private",
			"nothing listens on tcp 192.0.2.1:80; a listener on 10.0.0.1:80 has another address"},
		{"the wildcard of IPv4, asked by IPv6", []Socket{listening(TCP, "0.0.0.0:80")}, TCP, "[2001:db8::1]:80", OtherAddress, "any",
			"nothing listens on tcp [2001:db8::1]:80; a listener on 0.0.0.0:80 has another address"},
		{"the wildcard of IPv6 only", []Socket{listening(TCP, "[::]:80", v6only)}, TCP, "192.0.2.1:80", OtherAddress, "any",
			"nothing listens on tcp 192.0.2.1:80; a listener on [::]:80 has another address"},
		{"bound to another device", []Socket{listening(TCP, "0.0.0.0:80", device("eth1"))}, TCP, "192.0.2.1:80", OtherAddress, "any",
			"nothing listens on tcp 192.0.2.1:80; a listener on 0.0.0.0:80 (device eth1) has another address"},
		{"bound to its device", []Socket{listening(TCP, "0.0.0.0:80", device("eth0")), listening(TCP, "0.0.0.0:80", queued(6))}, TCP, "192.0.2.1:80", Listens, "any",
			"0.0.0.0:80 (device eth0) listens on tcp 192.0.2.1:80 (scope any)"},
		{"one place left", []Socket{listening(TCP, "0.0.0.0:80", queued(5))}, TCP, "192.0.2.1:80", Listens, "any", "0.0.0.0:80 listens on tcp 192.0.2.1:80 (scope any)"},
		{"queue full", []Socket{listening(TCP, "0.0.0.0:80", queued(6))}, TCP, "192.0.2.1:80", QueueFull, "any",
			"the accept queue of 0.0.0.0:80, which takes tcp 192.0.2.1:80, is full (6 of 5): the service does not accept"},
		{"one of a group is full", []Socket{listening(TCP, "0.0.0.0:80", queued(6)), listening(TCP, "0.0.0.0:80", queued(5))}, TCP, "192.0.2.1:80", QueueFull, "any",
			"the accept queue of 1 of the 2 sockets of 0.0.0.0:80, which takes tcp 192.0.2.1:80, is full (6 of 5): the service does not accept"},
		{"each of a group has room", []Socket{listening(TCP, "0.0.0.0:80", queued(5)), listening(TCP, "0.0.0.0:80", queued(5))}, TCP, "192.0.2.1:80", Listens, "any",
			"0.0.0.0:80 listens on tcp 192.0.2.1:80 (scope any)"},
		{"queues not known", []Socket{listening(TCP, "0.0.0.0:80", blind)}, TCP, "192.0.2.1:80", Listens, "any", "0.0.0.0:80 listens on tcp 192.0.2.1:80 (scope any)"},
		{"exact wins", []Socket{listening(TCP, "0.0.0.0:80", queued(9)), listening(TCP, "192.0.2.1:80")}, TCP, "192.0.2.1:80", Listens, "public",
			"192.0.2.1:80 listens on tcp 192.0.2.1:80 (scope public)"},
		{"dual stack", []Socket{listening(TCP, "[::]:80")}, TCP, "192.0.2.1:80", Listens, "any", "[::]:80 listens on tcp 192.0.2.1:80 (scope any)"},
		{"mapped", []Socket{listening(TCP, "0.0.0.0:80")}, TCP, "[::ffff:192.0.2.1]:80", Listens, "any", "0.0.0.0:80 listens on tcp 192.0.2.1:80 (scope any)"},
		{"with a zone", []Socket{listening(TCP, "[fe80::1]:80", device("eth0"))}, TCP, "[fe80::1%eth0]:80", Listens, "link_local",
			"[fe80::1]:80 (device eth0) listens on tcp [fe80::1]:80 (scope link_local)"},
		{"udp", []Socket{listening(TCP, "0.0.0.0:53"), listening(UDP, "127.0.0.53:53"), listening(UDP, "0.0.0.0:53")}, UDP, "192.0.2.1:53", Listens, "any",
			"0.0.0.0:53 listens on udp 192.0.2.1:53 (scope any)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := ReadListening(rows(tt.sockets), Criteria{Ephemeral: EphemeralPorts{PortRange: PortRange{First: 32768, Last: 60999}}})
			if err != nil {
				t.Fatal(err)
			}
			got, known := table.Answer(tt.p, netip.MustParseAddrPort(tt.to), "eth0")
			if !known || got.Standing != tt.want || got.Scope() != tt.scope || got.String() != tt.text {
				t.Errorf("%v, %s, %q, %t; want %v, %s, %q", got.Standing, got.Scope(), got, known, tt.want, tt.scope, tt.text)
			}
			if got.Taken() != (tt.want == Listens || tt.want == QueueFull) {
				t.Errorf("taken: %t", got.Taken())
			}
		})
	}
}

// TestAnswerOfUnread makes sure that nothing is said of a port whose listener
// may have gone unread.
func TestAnswerOfUnread(t *testing.T) {
	table, err := ReadListening(rows(append(tooMany(TCP, Listen, 0), listening(TCP, "127.0.0.1:81"))), Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]bool{53: true, 81: false, 83: true} {
		if _, known := table.Answer(TCP, netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), ""); known != want {
			t.Errorf("port %d: known %t, want %t", port, known, want)
		}
	}
	if _, known := table.Answer(UDP, netip.MustParseAddrPort("192.0.2.1:53"), ""); !known {
		t.Error("TCP listeners that were not read leave nothing known of UDP")
	}
	if table, err = ReadListening(rows(tooMany(UDP, Unconnected, 1)), Criteria{}); err != nil {
		t.Fatal(err)
	}
	if _, known := table.Answer(UDP, netip.MustParseAddrPort("192.0.2.1:81"), ""); known {
		t.Error("a UDP listener may not have been read, and something is known of it")
	}
}

// TestAnswerOfYoung has a UDP socket that is no listener yet: it takes datagrams.
func TestAnswerOfYoung(t *testing.T) {
	socket := listening(UDP, "0.0.0.0:5000")
	socket.State = Unconnected
	table, err := ReadListening(rows([]Socket{socket}), Criteria{Aged: func(*Socket, bool) Age { return AgeYoung }})
	if err != nil {
		t.Fatal(err)
	}
	if got, known := table.Answer(UDP, netip.MustParseAddrPort("192.0.2.1:5000"), ""); !known || !got.Taken() || len(table.Listeners) != 0 {
		t.Errorf("%+v, %t, with listeners %v", got, known, table.Listeners)
	}
}

func TestStandingNames(t *testing.T) {
	var got []string
	for s := range Listens + 2 { // and one that there is not
		got = append(got, s.String())
	}
	want := []string{"not_listening", "loopback_only", "other_address", "queue_full", "listening", "unknown"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
