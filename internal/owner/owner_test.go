package owner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// fakeHost has processes by the socket they hold.
type fakeHost struct {
	holders map[uint64]Process
	gone    map[int32]bool
	units   map[uint64]string // by cgroup
	missing []string

	finds, looks int
	asked        []int // sockets in each search
}

func (h *fakeHost) Find(_ context.Context, members []socket.Member) map[uint64]Process {
	h.finds++
	h.asked = append(h.asked, len(members))
	found := map[uint64]Process{}
	for _, m := range members {
		if p, ok := h.holders[m.ID()]; ok && !h.gone[p.PID] {
			found[m.ID()] = p
		}
	}
	return found
}

func (h *fakeHost) Look(_ context.Context, p Process, members []socket.Member) (Process, map[uint64]bool, bool) {
	h.looks++
	held := map[uint64]bool{}
	for _, m := range members {
		held[m.ID()] = h.holders[m.ID()].PID == p.PID
	}
	return p, held, !h.gone[p.PID]
}

func (h *fakeHost) Unit(m socket.Member) (string, string) { return h.units[m.CgroupID], "" }

func (h *fakeHost) Missing() []string { return h.missing }

func proc(pid int32, name string) Process {
	return Process{Owner: socket.Owner{Process: name, Unit: name + ".service", PID: pid}, Start: uint64(pid), UID: 33}
}

func finder(h Host, now *time.Time) *Finder {
	f := New(h)
	f.now = func() time.Time { return *now }
	f.userName = func(uid uint32) (string, error) {
		if uid == 33 {
			return "www-data", nil
		}
		return "", errors.New("no such user")
	}
	return f
}

func listener(port uint16, ids ...uint64) socket.Listener {
	l := socket.Listener{ListenerID: socket.ListenerID{Port: port}, Known: socket.KnowsUID}
	for _, id := range ids {
		l.Members = append(l.Members, socket.Member{Cookie: id, Inode: id, UID: 7})
	}
	return l
}

func names(r Result) []string {
	var out []string
	for _, o := range r.Owned {
		out = append(out, fmt.Sprintf("%d %s %s %s", o.Port, o.Owner.Process, o.Owner.User, o.Owner.Unit))
	}
	return out
}

func TestOwners(t *testing.T) {
	h := &fakeHost{
		holders: map[uint64]Process{1: proc(10, "nginx"), 2: proc(20, "redis"), 3: proc(30, "envoy"), 4: proc(11, "nginx")},
		units:   map[uint64]string{5: "cups.socket"},
		missing: []string{"CAP_SYS_PTRACE"},
	}
	now := time.Unix(1000, 0)
	activated := listener(631, 2)
	activated.Members[0].CgroupID = 5
	unknown, blind := listener(99, 9), listener(98, 8)
	blind.Known = 0

	r := finder(h, &now).Owners(t.Context(), []socket.Listener{
		listener(80, 1, 4), // two processes of one service
		activated,
		listener(443, 3, 1), // two programs in one group
		unknown, blind, listener(97),
	})
	want := []string{
		"80 nginx www-data nginx.service",
		"631 redis www-data cups.socket",
		"443 envoy www-data envoy.service", "443 nginx www-data nginx.service",
		"99  7 ", // who made the socket is known without privilege
		"98   ", "97   ",
	}
	if diff := cmp.Diff(want, names(r)); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if r.Unattributed != 3 || len(r.Missing) != 1 || h.finds != 1 {
		t.Errorf("%d unattributed, missing %v, %d searches", r.Unattributed, r.Missing, h.finds)
	}
}

func TestNothingIsMissingWhenAllIsKnown(t *testing.T) {
	now := time.Unix(1000, 0)
	h := &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx")}, missing: []string{"CAP_SYS_PTRACE"}}
	if r := finder(h, &now).Owners(t.Context(), []socket.Listener{listener(80, 1)}); r.Missing != nil || r.Unattributed != 0 {
		t.Errorf("missing %v, unattributed %d", r.Missing, r.Unattributed)
	}
}

// TestSteadyHostIsNotSearched follows a host over several scrapes.
func TestSteadyHostIsNotSearched(t *testing.T) {
	h := &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx"), 2: proc(20, "redis")}, gone: map[int32]bool{}}
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	scrape := func(what string, finds, looks int, want []string, listeners ...socket.Listener) {
		t.Helper()
		r := f.Owners(t.Context(), listeners)
		if diff := cmp.Diff(want, names(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if h.finds != finds || h.looks != looks || r.Searches != uint64(finds) {
			t.Errorf("%s: %d searches and %d looks so far, want %d and %d", what, h.finds, h.looks, finds, looks)
		}
	}
	nginx, redis := "80 nginx www-data nginx.service", "6379 redis www-data redis.service"
	web, db, lost := listener(80, 1), listener(6379, 2), listener(99, 9)

	scrape("first", 1, 0, []string{nginx, "99  7 "}, web, lost)
	for range 300 {
		scrape("steady", 1, 0, []string{nginx, "99  7 "}, web, lost)
	}
	scrape("a new listener", 2, 0, []string{nginx, redis, "99  7 "}, web, db, lost)
	if h.asked[1] != 1 {
		t.Errorf("the search for one new socket asked for %d", h.asked[1])
	}
	now = now.Add(recheckAfter)
	scrape("of age: the known are looked at, the unknown is searched for", 3, 2, []string{nginx, redis, "99  7 "}, web, db, lost)
	scrape("and that holds", 3, 2, []string{nginx, redis, "99  7 "}, web, db, lost)

	h.gone[10] = true
	h.holders[1] = proc(12, "nginx")
	now = now.Add(recheckAfter)
	scrape("another process took the socket over", 4, 4, []string{nginx, redis}, web, db)
	if len(f.known) != 2 {
		t.Errorf("%d sockets are remembered, want 2", len(f.known))
	}
}

func TestHandOver(t *testing.T) {
	h := &fakeHost{holders: map[uint64]Process{1: proc(10, "first"), 2: proc(10, "first")}}
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	both := []socket.Listener{listener(80, 1), listener(81, 2)}
	f.Owners(t.Context(), both)
	h.holders[1] = proc(20, "second") // the first lives on
	now = now.Add(recheckAfter)
	want := []string{"80 second www-data second.service", "81 first www-data first.service"}
	if diff := cmp.Diff(want, names(f.Owners(t.Context(), both))); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if h.looks != 1 {
		t.Errorf("%d looks at one process", h.looks)
	}
}

func TestUsersAreLookedUpAgain(t *testing.T) {
	now := time.Unix(1000, 0)
	f := finder(&fakeHost{}, &now)
	f.user(7)
	f.userName = func(uint32) (string, error) { return "late", nil }
	if got := f.user(7); got != "7" {
		t.Errorf("at once: %s", got)
	}
	now = now.Add(5 * time.Minute)
	if got := f.user(7); got != "late" {
		t.Errorf("five minutes later: %s", got)
	}
}

func TestInitIsSearchedAgain(t *testing.T) {
	systemd := proc(1, "systemd")
	systemd.Waiting = true
	h := &fakeHost{holders: map[uint64]Process{1: systemd}}
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	f.Owners(t.Context(), []socket.Listener{listener(631, 1)})
	h.holders[1] = proc(50, "cupsd")
	now = now.Add(recheckAfter)
	if got := names(f.Owners(t.Context(), []socket.Listener{listener(631, 1)})); got[0] != "631 cupsd www-data cupsd.service" {
		t.Errorf("after the service started: %s", got)
	}
}

// TestSlowSearch has a host whose search ends only with its context: the
// listeners must be told in time all the same, now and by the next scrapes.
func TestSlowSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &slowHost{}
		f := New(h)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			start := time.Now()
			r := f.Owners(ctx, []socket.Listener{listener(80, 1)})
			cancel()
			if len(r.Owned) != 1 || r.Unattributed != 1 || time.Since(start) > 5*time.Second {
				t.Errorf("%+v after %v", r, time.Since(start))
			}
		}
		if h.finds != 1 {
			t.Errorf("%d searches, want 1: the next is due after a minute", h.finds)
		}
	})
}

// TestWaitingForAnotherSearch has two scrapes at once.
func TestWaitingForAnotherSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(&slowHost{fakeHost{missing: []string{"CAP_SYS_PTRACE"}}})
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				r := f.Owners(ctx, []socket.Listener{listener(80, 1)})
				if len(r.Owned) != 1 || r.Unattributed != 1 || r.Searches != 1 || len(r.Missing) != 1 {
					t.Errorf("%+v", r)
				}
			})
		}
		start := time.Now()
		both.Wait()
		if elapsed := time.Since(start); elapsed != 5*time.Second {
			t.Errorf("both took %v", elapsed)
		}
	})
}

// TestBusy has a scrape with less time than another one's search takes.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(&slowHost{})
		var long sync.WaitGroup
		owners := func(within time.Duration) Result {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return f.Owners(ctx, []socket.Listener{listener(80, 1)})
		}
		long.Go(func() {
			if r := owners(time.Minute); r.Busy {
				t.Errorf("who searches: %+v", r)
			}
		})
		synctest.Wait()
		if r := owners(10 * time.Second); !r.Busy || len(r.Owned) != 1 {
			t.Errorf("beside it: %+v", r)
		}
		long.Wait()
	})
}

// slowHost searches until its context ends.
type slowHost struct{ fakeHost }

func (h *slowHost) Find(ctx context.Context, _ []socket.Member) map[uint64]Process {
	h.finds++
	<-ctx.Done()
	return nil
}

func TestUsersAreLookedUpOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	f := finder(&fakeHost{}, &now)
	calls := 0
	f.userName = func(uint32) (string, error) { calls++; return "", errors.New("none") }
	for range 3 {
		if got := f.user(1234); got != "1234" {
			t.Errorf("a user without a name is %q", got)
		}
	}
	if calls != 1 {
		t.Errorf("%d look-ups", calls)
	}
}

func TestProcessName(t *testing.T) {
	for _, tt := range [][3]string{
		{"nginx", "/usr/sbin/nginx", "nginx"},
		{"port_exporter_l", "/opt/port_exporter_long", "port_exporter_long"},
		{"port_exporter_l", "/opt/other", "port_exporter_l"},
		{"a-worker-threa", "/opt/a-worker-thread", "a-worker-threa"}, // 14 bytes: not cut
		{"exactly15letter", "/opt/exactly15letter", "exactly15letter"},
		{"kthreadd", "", "kthreadd"},
		{"", "/opt/hidden", "hidden"},
		{"", "", "?"},
	} {
		if got := socket.ProcessName(tt[0], tt[1]); got != tt[2] {
			t.Errorf("ProcessName(%q, %q) = %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
