package socket

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestLongLived(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 2, func() time.Time { return now })
	server, client := &Socket{Cookie: 1}, &Socket{Inode: 2}

	check := func(what string, s *Socket, want Age) {
		t.Helper()
		if got := memory.Age(s, false); got != want {
			t.Errorf("%s: age %v, want %v", what, got, want)
		}
	}
	check("first sight", server, AgeYoung)
	check("first sight", client, AgeYoung)
	check("beyond the limit", &Socket{Cookie: 3}, AgeUnknown)

	now = now.Add(5*time.Minute - time.Second)
	check("a second too young", server, AgeYoung)
	check("still beyond the limit", &Socket{Cookie: 3}, AgeUnknown)

	now = now.Add(time.Second)
	check("of age", server, AgeOld)

	now = now.Add(4*time.Minute + 59*time.Second)
	check("the client is gone, so there is room", &Socket{Cookie: 4}, AgeYoung)
	check("it kept its place", server, AgeOld)
	now = now.Add(5 * time.Minute)
	check("and the newcomer grew old", &Socket{Cookie: 4}, AgeOld)
}

// TestLongLivedWithoutIdentity has a source that gives sockets no identity.
func TestLongLivedWithoutIdentity(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 8, func() time.Time { return now })
	server, other := udp(Unconnected, "0.0.0.0:5000"), udp(Unconnected, "0.0.0.0:5001")
	memory.Age(&server, false)
	now = now.Add(5 * time.Minute)
	if memory.Age(&server, false) != AgeOld || memory.Age(&other, false) != AgeYoung {
		t.Error("its end and process do not identify it")
	}
}

// TestReopened holds that a service which binds its port again before its socket
// grows old is a listener, and that a client is none: neither on a port that the
// kernel hands out, nor on one that another client draws again later.
func TestReopened(t *testing.T) {
	const scrape = 15 * time.Second
	for _, tt := range []struct {
		name  string
		port  string
		every time.Duration // a new socket, which is there for half of that time
		want  bool
	}{
		{"each minute", "9998", time.Minute, true},
		{"each scrape", "9998", scrape, true},
		{"in the ephemeral range", "40000", time.Minute, false},
		{"drawn again later", "9998", 4 * time.Minute, false},
	} {
		now := time.Unix(1_000_000, 0)
		memory := NewLongLived(5*time.Minute, 1<<15, func() time.Time { return now })
		was := false
		for at := time.Duration(0); at <= 20*time.Minute; at += scrape {
			var there []Socket
			if at%tt.every <= tt.every/2 {
				there = append(there, udp(Unconnected, "0.0.0.0:"+tt.port, func(s *Socket) { s.Cookie = 1 + uint64(at/tt.every) }))
			}
			table := mustRead(t, Criteria{Ephemeral: host.Ephemeral, Aged: memory.Age}, there...)
			was = was || len(table.Listeners) > 0
			now = now.Add(scrape)
		}
		if was != tt.want {
			t.Errorf("%s: a listener: %t, want %t", tt.name, was, tt.want)
		}
	}
}

// TestRandomPorts holds that the memory of ports is bounded, and that a resolver
// that draws its ports from all of them has no listener: at each scrape other 200.
func TestRandomPorts(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 1000, func() time.Time { return now })
	random, cookies := rand.New(rand.NewPCG(1, 1)), uint64(0)
	for range 400 {
		for range 200 {
			cookies++
			s := udp(Unconnected, "0.0.0.0:5000", func(s *Socket) { s.Cookie = cookies })
			s.Local = netip.AddrPortFrom(s.Local.Addr(), uint16(1024+random.IntN(1<<16-1024)))
			if memory.Age(&s, true) == AgeOld {
				t.Fatalf("%v is old", s.Local)
			}
		}
		now = now.Add(15 * time.Second)
	}
	if len(memory.ports.seen) > 1000 || len(memory.sockets.seen) > 1000 {
		t.Errorf("%d ports and %d sockets are remembered", len(memory.ports.seen), len(memory.sockets.seen))
	}
}

// TestUDPListeners is the one notion of a UDP listener.
func TestUDPListeners(t *testing.T) {
	aged := func(s *Socket, _ bool) Age {
		switch s.Cookie {
		case 7:
			return AgeOld
		case 8:
			return AgeUnknown
		default:
			return AgeYoung
		}
	}
	named := func(s *Socket) bool { return s.Local.Port() == 1194 || s.Local.Port() == 51820 }
	old, ageless := func(s *Socket) { s.Cookie = 7 }, func(s *Socket) { s.Cookie = 8 }
	for _, tt := range []struct {
		name            string
		socket          Socket
		daemon, command string
	}{
		{"privileged", udp(Unconnected, "0.0.0.0:123"), "service", "service"},
		{"named", udp(Unconnected, "0.0.0.0:1194"), "service", "service"},
		{"named on an ephemeral port", udp(Unconnected, "0.0.0.0:51820"), "service", "service"},
		{"a resolver's source port", udp(Unconnected, "0.0.0.0:5060"), "young", "client?"},
		{"an old service", udp(Unconnected, "0.0.0.0:5060", old), "service", "client?"},
		{"a young client", udp(Unconnected, "0.0.0.0:40000"), "young", "client?"},
		{"an old client", udp(Unconnected, "0.0.0.0:40000", old), "client?", "client?"},
		{"one more than is remembered", udp(Unconnected, "0.0.0.0:40000", ageless), "unread", "client?"},
		{"one more, privileged", udp(Unconnected, "0.0.0.0:123", ageless), "service", "service"},
		{"with a peer", udp(Connected, "0.0.0.0:123", old), "", ""},
		{"not bound", udp(Unconnected, "0.0.0.0:0", old), "", ""},
	} {
		for _, reads := range []struct {
			by, want string
			aged     func(*Socket, bool) Age
		}{{"daemon", tt.daemon, aged}, {"command", tt.command, nil}} {
			table := mustRead(t, Criteria{Ephemeral: host.Ephemeral, Named: named, Aged: reads.aged}, tt.socket)
			var got string
			switch {
			case table.Unread[UDP] == 1 && !table.Whole(UDP) && table.Whole(TCP):
				got = "unread"
			case len(table.Young) == 1:
				got = "young"
			case len(table.Listeners) == 1 && table.Listeners[0].MayBeClient:
				got = "client?"
			case len(table.Listeners) == 1:
				got = "service"
			}
			if got != reads.want {
				t.Errorf("%s: the %s has %q, want %q", tt.name, reads.by, got, reads.want)
			}
		}
	}
}
