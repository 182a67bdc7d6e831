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
	check("a socket without identity", &Socket{}, false)
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

func TestHostUsesLongLived(t *testing.T) {
	aged := host
	aged.LongLived = func(s *Socket) bool { return s.Cookie == 7 }
	table := mustRead(t, aged,
		udp(Unconnected, "0.0.0.0:40000", func(s *Socket) { s.Cookie = 7 }),
		udp(Unconnected, "0.0.0.0:40001", func(s *Socket) { s.Cookie = 8 }),
	)
	if len(table.Listeners) != 1 || table.Listeners[0].Port != 40000 {
		t.Errorf("listeners %v", table.Listeners)
	}
}
