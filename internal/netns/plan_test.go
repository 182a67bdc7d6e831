package netns

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseUse(t *testing.T) {
	const four = "sockets: used 294\nTCP: inuse 11 orphan 2 tw 7 alloc 40 mem 3\nUDP: inuse 3 mem 1\nUDPLITE: inuse 1\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n"
	const six = "TCP6: inuse 4\nUDP6: inuse 2\nUDPLITE6: inuse 0\nRAW6: inuse 1\nFRAG6: inuse 0 memory 0\n"
	for text, want := range map[string]use{
		"":                     {},
		"\n\nTCP:\nUDP: inuse": {},
		"TCP: inuse many":      {},
		four:                   {tcp: 11, timeWait: 7, udp: 3, udpLite: 1},
		four + six:             {tcp: 15, timeWait: 7, udp: 5, udpLite: 1},
	} {
		if got, _ := parseUse(text); got != want {
			t.Errorf("%q: %+v, want %+v", text, got, want)
		}
	}
	if _, allocated := parseUse(four + six); allocated != 40 {
		t.Errorf("%d sockets allocated", allocated)
	}
}

// TestPlan spends a budget on namespaces.
func TestPlan(t *testing.T) {
	const empty, busy, quiet, late = 2, 3, 4, 5
	visits := []visit{
		{cookie: empty, allocated: 1000},
		{cookie: busy, use: use{tcp: 20, timeWait: 3}},
		{cookie: quiet, use: use{tcp: 2}},
		{cookie: late, use: use{tcp: 30}},
	}
	machine := load{tcp: 1003}
	listening := machine.listening(use{tcp: 1})
	all := 3 * listening
	m := new(memory)
	want := func(what string, budget time.Duration, depths map[uint64]Depth) {
		t.Helper()
		if diff := cmp.Diff(depths, m.plan(visits, budget)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	want("no budget", 0, map[uint64]Depth{empty: Empty, busy: Unread, quiet: Unread, late: Unread})
	want("some listeners", 2*listening, map[uint64]Depth{empty: Empty, busy: Listeners, quiet: Listeners, late: Unread})
	want("one of them whole", all+machine.connections(), map[uint64]Depth{empty: Empty, busy: Full, quiet: Listeners, late: Listeners})

	m.noteListeners(quiet, 2) // all that it has: a dump of its connections costs nothing
	all = 3 * (load{tcp: 1003, listeners: 2}).listening(use{tcp: 1})
	want("what has changed first", all+machine.connections(), map[uint64]Depth{empty: Empty, busy: Listeners, quiet: Full, late: Full})
	want("what was read longest ago", all+machine.connections(), map[uint64]Depth{empty: Empty, busy: Full, quiet: Full, late: Listeners})
	visits[3].use.tcp++
	want("what has changed again", all+machine.connections(), map[uint64]Depth{empty: Empty, busy: Listeners, quiet: Full, late: Full})
	want("enough", time.Second, map[uint64]Depth{empty: Empty, busy: Full, quiet: Full, late: Full})
}
