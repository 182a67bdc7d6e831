package socket

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHistory(t *testing.T) {
	now := time.Unix(1000, 0)
	h := NewHistory(func() time.Time { return now })
	note := func(sockets ...Socket) Record {
		now = now.Add(time.Second)
		return h.Note(h.Now(), mustRead(t, host, sockets...).Listeners)
	}
	member := func(cookie uint64, drops uint32) func(*Socket) {
		return func(s *Socket) { s.Cookie, s.Drops = cookie, drops }
	}
	web := func(cookie uint64, drops uint32) Socket { return tcp(Listen, "0.0.0.0:80", "", member(cookie, drops)) }
	dns := udp(Unconnected, "0.0.0.0:53", member(9, 0))

	for i, step := range []struct {
		name    string
		sockets []Socket
		want    Record
	}{
		{"the first table is no change", []Socket{web(1, 5), web(2, 7)},
			Record{[]time.Time{time.Unix(1001, 0)}, []uint64{12}, map[Protocol]Changes{TCP: {}, UDP: {}, UDPLite: {}}}},
		{"one socket of the group closes, the other drops more", []Socket{web(2, 8), dns},
			Record{[]time.Time{time.Unix(1001, 0), time.Unix(1002, 0)}, []uint64{13, 0}, map[Protocol]Changes{TCP: {}, UDP: {1, 0}, UDPLite: {}}}},
		{"a new socket joins", []Socket{web(2, 8), web(3, 1), dns},
			Record{[]time.Time{time.Unix(1001, 0), time.Unix(1002, 0)}, []uint64{14, 0}, map[Protocol]Changes{TCP: {}, UDP: {1, 0}, UDPLite: {}}}},
		{"the listener goes", []Socket{dns},
			Record{[]time.Time{time.Unix(1002, 0)}, []uint64{0}, map[Protocol]Changes{TCP: {0, 1}, UDP: {1, 0}, UDPLite: {}}}},
		{"and comes back anew", []Socket{web(4, 2), dns},
			Record{[]time.Time{time.Unix(1005, 0), time.Unix(1002, 0)}, []uint64{2, 0}, map[Protocol]Changes{TCP: {1, 1}, UDP: {1, 0}, UDPLite: {}}}},
	} {
		if diff := cmp.Diff(step.want, note(step.sockets...)); diff != "" {
			t.Errorf("step %d, %s (-want +got):\n%s", i, step.name, diff)
		}
	}
}

// TestDropsOfPeers has UDP sockets with a peer: what they drop is their listener's,
// also when they are gone.
func TestDropsOfPeers(t *testing.T) {
	h := NewHistory(time.Now)
	socket := func(state State, at string, cookie uint64, drops, queue uint32) Socket {
		return udp(state, at, func(s *Socket) { s.Cookie, s.Drops, s.ReceiveQueue = cookie, drops, queue })
	}
	for i, step := range []struct {
		sockets      []Socket
		drops, queue []uint64 // of the listeners on 127.0.0.1 and on the wildcard
	}{
		{[]Socket{socket(Connected, "127.0.0.1:443", 3, 4, 100), socket(Connected, "10.0.0.1:443", 4, 0, 7)}, []uint64{4, 1}, []uint64{100, 7}},
		{[]Socket{socket(Connected, "127.0.0.1:443", 3, 6, 0), socket(Connected, "10.0.0.1:443", 4, 2, 0), socket(Connected, "10.0.0.1:444", 5, 9, 0)}, []uint64{6, 3}, []uint64{0, 0}},
		{nil, []uint64{6, 3}, []uint64{0, 0}},
	} {
		all := append(step.sockets, socket(Unconnected, "127.0.0.1:443", 1, 0, 0), socket(Unconnected, "0.0.0.0:443", 2, 1, 0))
		table := mustRead(t, host, all...)
		record := h.Note(time.Now(), table.Listeners)
		var drops, queue []uint64
		for k, l := range table.Listeners {
			drops, queue = append(drops, record.Drops[k]), append(queue, l.ReceiveQueue)
			if len(l.Members) != 1 || l.Sockets != 1 {
				t.Errorf("step %d: a socket with a peer is one of the listener: %+v", i, l)
			}
		}
		if diff := cmp.Diff([][]uint64{{step.drops[1], step.drops[0]}, {step.queue[1], step.queue[0]}}, [][]uint64{drops, queue}); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

// TestHistoryOfScrapesAtOnce notes two tables in the wrong order.
func TestHistoryOfScrapesAtOnce(t *testing.T) {
	h := NewHistory(time.Now)
	table := func(sockets ...Socket) []Listener { return mustRead(t, host, sockets...).Listeners }
	member := func(cookie uint64, drops uint32) Socket {
		return tcp(Listen, "0.0.0.0:80", "", func(s *Socket) { s.Cookie, s.Drops = cookie, drops })
	}
	h.Note(time.Unix(1, 0), table(member(1, 10), member(2, 10)))
	h.Note(time.Unix(3, 0), table(member(2, 10)))
	late := h.Note(time.Unix(2, 0), table(member(1, 10), member(2, 10), tcp(Listen, "0.0.0.0:81", "")))
	if late.Drops[0] != 30 || !late.FirstSeen[1].Equal(time.Unix(2, 0)) || late.Changes[TCP] != (Changes{}) {
		t.Errorf("the late one: %+v", late)
	}
	if r := h.Note(time.Unix(4, 0), table(member(2, 10))); r.Drops[0] != 20 || r.Changes[TCP] != (Changes{}) {
		t.Errorf("after it: %+v", r)
	}
}

func TestHistoryOfLargeGroup(t *testing.T) {
	h := NewHistory(time.Now)
	group := func(from, to int) []Listener {
		var sockets []Socket
		for i := from; i < to; i++ {
			sockets = append(sockets, tcp(Listen, "0.0.0.0:80", "", func(s *Socket) { s.Cookie, s.Drops = uint64(i+1), 10 }))
		}
		return mustRead(t, host, sockets...).Listeners
	}
	for i, step := range []struct{ from, to, want int }{{0, 300, 3000}, {0, 340, 3400}, {100, 380, 3800}} {
		if r := h.Note(time.Unix(int64(i), 0), group(step.from, step.to)); r.Drops[0] != uint64(step.want) {
			t.Errorf("step %d: %d drops, want %d", i, r.Drops[0], step.want)
		}
	}
}
