package socket

import (
	"testing"
	"time"
)

func TestLongLived(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 2, func() time.Time { return now })
	server, client := &Socket{Cookie: 1}, &Socket{Inode: 2}

	check := func(what string, s *Socket, want bool) {
		t.Helper()
		if got := memory.Has(s); got != want {
			t.Errorf("%s: long-lived %v, want %v", what, got, want)
		}
	}
	check("first sight", server, false)
	check("first sight", client, false)
	check("beyond the limit", &Socket{Cookie: 3}, false)

	now = now.Add(5*time.Minute - time.Second)
	check("a second too young", server, false)
	check("still beyond the limit", &Socket{Cookie: 3}, false)

	now = now.Add(time.Second)
	check("of age", server, true)

	now = now.Add(4*time.Minute + 59*time.Second)
	check("the client is gone, so there is room", &Socket{Cookie: 4}, false)
	check("it kept its place", server, true)
	now = now.Add(5 * time.Minute)
	check("and the newcomer grew old", &Socket{Cookie: 4}, true)
}

// TestLongLivedWithoutIdentity has a source that gives sockets no identity.
func TestLongLivedWithoutIdentity(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	memory := NewLongLived(5*time.Minute, 8, func() time.Time { return now })
	server, other := udp(Unconnected, "0.0.0.0:5000"), udp(Unconnected, "0.0.0.0:5001")
	memory.Has(&server)
	now = now.Add(5 * time.Minute)
	if !memory.Has(&server) || memory.Has(&other) {
		t.Error("its end and process do not identify it")
	}
}

// TestUDPListeners is the one notion of a UDP listener.
func TestUDPListeners(t *testing.T) {
	aged := func(s *Socket) bool { return s.Cookie == 7 }
	named := func(s *Socket) bool { return s.Local.Port() == 1194 || s.Local.Port() == 51820 }
	old := func(s *Socket) { s.Cookie = 7 }
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
		{"with a peer", udp(Connected, "0.0.0.0:123", old), "", ""},
		{"not bound", udp(Unconnected, "0.0.0.0:0", old), "", ""},
	} {
		for _, reads := range []struct {
			by, want string
			aged     func(*Socket) bool
		}{{"daemon", tt.daemon, aged}, {"command", tt.command, nil}} {
			table := mustRead(t, Host{Ephemeral: host.Ephemeral, Named: named, Aged: reads.aged}, tt.socket)
			var got string
			switch {
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
