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
	fates   map[uint64]Fate // of what no process holds
	gone    map[int32]bool
	units   map[uint64]string // by cgroup
	missing []string

	finds, looks int
	asked        []int // sockets in each search
}

func (h *fakeHost) Find(_ context.Context, members []socket.Member, report func(uint64, Found)) {
	h.finds++
	h.asked = append(h.asked, len(members))
	for _, m := range members {
		if p, ok := h.holders[m.ID()]; ok && !h.gone[p.PID] {
			report(m.ID(), Found{Fate: Held, Process: p})
		} else {
			report(m.ID(), Found{Fate: h.fates[m.ID()]})
		}
	}
}

func (h *fakeHost) Look(_ context.Context, p Process, members []socket.Member) Sight {
	h.looks++
	held := map[uint64]bool{}
	for _, m := range members {
		held[m.ID()] = h.holders[m.ID()].PID == p.PID
	}
	return Sight{Process: p, Held: held, Gone: h.gone[p.PID]}
}

func (h *fakeHost) Unit(_ context.Context, m socket.Member) (string, string) {
	return h.units[m.CgroupID], ""
}

func (h *fakeHost) Missing() []string { return h.missing }

func (h *fakeHost) Names() Names { return Names{Look: systemName} }

func proc(pid int32, name string) Process {
	return Process{Owner: socket.Owner{Process: name, Unit: name + ".service", PID: pid}, Start: uint64(pid), UID: 33}
}

func finder(h Processes, now *time.Time) *Finder {
	f := New(h, quiet)
	f.now = func() time.Time { return *now }
	f.users.now = f.now
	f.users.lookUp = func(uid uint32) (string, error) {
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
	now = now.Add(forgetAfter)
	if f.Owners(t.Context(), []socket.Listener{web, db}); len(f.known) != 2 {
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

// slowHost searches for as long as it is held up, whatever its context says, as
// where a file of /proc does not answer.
type slowHost struct {
	fakeHost
	release chan struct{}
}

func newSlowHost() *slowHost {
	return &slowHost{fakeHost: fakeHost{holders: map[uint64]Process{1: proc(10, "nginx"), 2: proc(20, "redis")}}, release: make(chan struct{})}
}

func (h *slowHost) Find(ctx context.Context, members []socket.Member, report func(uint64, Found)) {
	<-h.release
	h.fakeHost.Find(ctx, members, report)
}

func within(t *testing.T, d time.Duration, f *Finder, listeners ...socket.Listener) (r Result, took time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	r = f.Owners(ctx, listeners)
	return r, time.Since(start)
}

// TestHungSearch has a search that does not end. What was known goes on being
// exported, nobody waits long, and all is well once it ends.
func TestHungSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost()
		f := New(h, quiet)
		f.users.lookUp = func(uint32) (string, error) { return "www-data", nil }
		f.known[1] = &answer{Found: Found{Fate: Held, Process: proc(10, "nginx")}, due: time.Now().Add(recheckAfter)}
		web, db := listener(80, 1), listener(6379, 2)
		for i := range 3 {
			r, took := within(t, 20*time.Second, f, web, db)
			if want := []time.Duration{10 * time.Second, 0, 0}[i]; took != want {
				t.Errorf("call %d waited %v, want %v", i, took, want)
			}
			want := []string{"80 nginx www-data nginx.service", "6379  www-data "}
			if diff := cmp.Diff(want, names(r)); diff != "" {
				t.Errorf("call %d (-want +got):\n%s", i, diff)
			}
			if !r.Busy || r.Pending != 1 || r.Unattributed != 1 || r.Owned[0].Owner.Pending || !r.Owned[1].Owner.Pending || r.Searches != 1 {
				t.Errorf("call %d: %+v", i, r)
			}
		}
		close(h.release)
		synctest.Wait()
		r, took := within(t, 20*time.Second, f, web, db)
		if r.Busy || r.Pending != 0 || r.Unattributed != 0 || took != 0 || r.Owned[1].Owner.Process != "redis" {
			t.Errorf("after it ended: %+v, %v", r, took)
		}
	})
}

// TestAnswersCountAsTheyCome has a search that finds one owner and hangs.
func TestAnswersCountAsTheyCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &firstOnly{newSlowHost()}
		r, _ := within(t, 20*time.Second, New(h, quiet), listener(80, 1), listener(6379, 2))
		if r.Owned[0].Owner.Process != "nginx" || r.Owned[0].Owner.Pending || !r.Owned[1].Owner.Pending || r.Pending != 1 {
			t.Errorf("%+v", r)
		}
		close(h.release)
	})
}

type firstOnly struct{ *slowHost }

func (h *firstOnly) Find(ctx context.Context, members []socket.Member, report func(uint64, Found)) {
	h.fakeHost.Find(ctx, members[:1], report)
	h.slowHost.Find(ctx, members[1:], report)
}

// TestJoinedSearch has a second call while a young search is under way: it waits
// for that, and then for one of its own.
func TestJoinedSearch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newSlowHost()
		f := New(h, quiet)
		var both sync.WaitGroup
		for _, l := range []socket.Listener{listener(80, 1), listener(6379, 2)} {
			both.Go(func() {
				if r, _ := within(t, 20*time.Second, f, l); r.Pending != 0 || r.Owned[0].Owner.PID == 0 {
					t.Errorf("%+v", r)
				}
			})
			synctest.Wait()
		}
		time.Sleep(time.Second)
		close(h.release)
		both.Wait()
		if h.finds != 2 {
			t.Errorf("%d searches, want 2", h.finds)
		}
	})
}

// TestUnclearIsPending has a search that could not look at everything.
func TestUnclearIsPending(t *testing.T) {
	h := &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx")}, gone: map[int32]bool{}, fates: map[uint64]Fate{2: Unclear}}
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	both := []socket.Listener{listener(80, 1), listener(99, 2)}
	r := f.Owners(t.Context(), both)
	if r.Pending != 1 || r.Busy || r.Owned[0].Owner.Pending || !r.Owned[1].Owner.Pending {
		t.Errorf("%+v", r)
	}
	h.gone[10], h.fates[1] = true, Unclear
	now = now.Add(recheckAfter)
	if r = f.Owners(t.Context(), both); r.Pending != 2 || r.Owned[0].Owner.Process != "" {
		t.Errorf("a process that is gone: %+v", r)
	}
	h.gone[10] = false
	now = now.Add(retryAfter)
	if r = f.Owners(t.Context(), both); r.Pending != 1 || r.Owned[0].Owner.Process != "nginx" || r.Searches != 3 {
		t.Errorf("a moment later: %+v", r)
	}
}

// TestUnclearLeavesAnswersAlone has a process that does not answer a second look.
func TestUnclearLeavesAnswersAlone(t *testing.T) {
	h := &unclearHost{fakeHost{holders: map[uint64]Process{1: proc(10, "nginx")}}}
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	for range 3 {
		r := f.Owners(t.Context(), []socket.Listener{listener(80, 1)})
		if r.Pending != 0 || r.Owned[0].Owner.Process != "nginx" || r.Searches != 1 {
			t.Errorf("%+v", r)
		}
		now = now.Add(recheckAfter)
	}
	if h.looks != 2 {
		t.Errorf("%d looks, want 2", h.looks)
	}
}

type unclearHost struct{ fakeHost }

func (h *unclearHost) Look(context.Context, Process, []socket.Member) Sight {
	h.looks++
	return Sight{Unclear: true}
}

// TestNothingFoundIsSearchedForMoreRarely counts the searches for what no process
// holds over a day.
func TestNothingFoundIsSearchedForMoreRarely(t *testing.T) {
	for name, fate := range map[string]Fate{"not found": NotFound, "in the kernel": InKernel} {
		h := &fakeHost{fates: map[uint64]Fate{1: fate}}
		now := time.Unix(1000, 0)
		f := finder(h, &now)
		for range 24 * 60 {
			f.Owners(t.Context(), []socket.Listener{listener(4789, 1)})
			now = now.Add(time.Minute)
		}
		if h.finds < 24 || h.finds > 32 { // 1, 2, 4, … 60 minutes
			t.Errorf("%s: %d searches a day", name, h.finds)
		}
		h.holders = map[uint64]Process{1: proc(10, "nginx")}
		now = now.Add(longestPause)
		if r := f.Owners(t.Context(), []socket.Listener{listener(4789, 1)}); r.Owned[0].Owner.Process != "nginx" {
			t.Errorf("%s, then held: %+v", name, r)
		}
	}
}

func TestKernel(t *testing.T) {
	named := proc(10, socket.Kernel)
	h := &fakeHost{holders: map[uint64]Process{2: named}, fates: map[uint64]Fate{1: InKernel}, missing: []string{"CAP_SYS_PTRACE"}}
	now := time.Unix(1000, 0)
	r := finder(h, &now).Owners(t.Context(), []socket.Listener{listener(4789, 1), listener(666, 2)})
	want := []string{"4789 [kernel] 7 ", "666 [kernel]? www-data [kernel].service"}
	if diff := cmp.Diff(want, names(r)); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if r.Unattributed != 0 || r.Missing != nil {
		t.Errorf("%+v", r)
	}
}

// TestLargeGroups has one program in the last socket of a group, and more sockets
// than are looked for.
func TestLargeGroups(t *testing.T) {
	h := &fakeHost{holders: map[uint64]Process{}}
	var ids []uint64
	for id := range uint64(maxMembers) {
		h.holders[id+1] = proc(10, "nginx")
		ids = append(ids, id+1)
	}
	h.holders[maxMembers] = proc(20, "intruder")
	now := time.Unix(1000, 0)
	f := finder(h, &now)
	r := f.Owners(t.Context(), []socket.Listener{listener(80, ids...)})
	if diff := cmp.Diff([]string{"80 intruder www-data intruder.service", "80 nginx www-data nginx.service"}, names(r)); diff != "" || r.Unattributed != 0 {
		t.Errorf("%d unattributed, owners (-want +got):\n%s", r.Unattributed, diff)
	}
	h.holders[maxMembers+1] = proc(20, "intruder")
	if r = f.Owners(t.Context(), []socket.Listener{listener(80, append(ids, maxMembers+1)...)}); r.Unattributed != 1 {
		t.Errorf("a socket that is not looked for: %d unattributed", r.Unattributed)
	}
}

func TestPartlyUnattributed(t *testing.T) {
	now := time.Unix(1000, 0)
	h := &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx")}}
	if r := finder(h, &now).Owners(t.Context(), []socket.Listener{listener(80, 1, 2)}); r.Unattributed != 1 || len(r.Owned) != 2 {
		t.Errorf("%+v", r)
	}
}

// TestUIDsOf has the user ids of what is found and not found, on the host and in
// containers, read from the host and from other namespaces.
func TestUIDsOf(t *testing.T) {
	found := Found{Fate: Held}
	elsewhere := Found{Fate: Held, Process: Process{Elsewhere: true}}
	for _, tt := range []struct {
		what    string
		sockets UIDs
		answer  answer
		want    UIDs
	}{
		{"a process", HostUIDs, answer{Found: found}, HostUIDs},
		{"a container's process", HostUIDs, answer{Found: elsewhere, container: "docker-0123456789ab"}, OtherUIDs},
		{"a container's process with the host's root", HostUIDs, answer{Found: found, container: "docker-0123456789ab"}, HostUIDs},
		{"a socket", HostUIDs, answer{}, HostUIDs},
		{"a container's socket", HostUIDs, answer{container: "pod7/containerd-0123456789ab"}, OtherUIDs},
		{"a virtual machine's socket", HostUIDs, answer{container: "qemu-vm1"}, HostUIDs},
		{"a process of our container", OtherUIDs, answer{Found: found}, HostUIDs},
		{"a socket from a container", OtherUIDs, answer{}, OtherUIDs},
		{"a process of our user namespace", NoUIDs, answer{Found: found}, HostUIDs},
		{"a process of another one", NoUIDs, answer{Found: elsewhere}, NoUIDs},
		{"a socket from a user namespace", NoUIDs, answer{container: "docker-0123456789ab"}, NoUIDs},
	} {
		if got := (&Finder{uids: tt.sockets}).uidsOf(&tt.answer); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.what, got, tt.want)
		}
	}
}
