package socket

import (
	"testing"
	"time"
)

func TestLongLived(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 2, func() time.Time { return now })
	server, client := &Socket{Cookie: 1}, &Socket{Inode: 2}

	check := func(what string, s *Socket, want Age) {
		t.Helper()
		if got := memory.Age(s); got != want {
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
	memory.Age(&server)
	now = now.Add(5 * time.Minute)
	if memory.Age(&server) != AgeOld || memory.Age(&other) != AgeYoung {
		t.Error("its end and process do not identify it")
	}
}

// TestUDPListeners is the one notion of a UDP listener.
func TestUDPListeners(t *testing.T) {
	aged := func(s *Socket) Age {
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
			aged     func(*Socket) Age
		}{{"daemon", tt.daemon, aged}, {"command", tt.command, nil}} {
			table := mustRead(t, Host{Ephemeral: host.Ephemeral, Named: named, Aged: reads.aged}, tt.socket)
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
