package owner

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// quiet is a log that keeps nothing.
var quiet = slog.New(slog.DiscardHandler)

// clumsy is a host that panics where it is asked to.
type clumsy struct {
	*fakeHost
	find, look, name bool
}

func stumble() { panic("no legs") }

func (h *clumsy) Find(ctx context.Context, members []socket.Member, report func(uint64, Found)) {
	if h.find {
		h.fakeHost.Find(ctx, members[:1], report)
		stumble()
	}
	h.fakeHost.Find(ctx, members, report)
}

func (h *clumsy) Look(ctx context.Context, p Process, members []socket.Member) Sight {
	if h.look {
		stumble()
	}
	return h.fakeHost.Look(ctx, p, members)
}

func (h *clumsy) Names() Names {
	return Names{Look: func(uint32) (string, error) {
		if h.name {
			stumble()
		}
		return "www-data", nil
	}}
}

func stacks(l *porttest.Log) (panics int, named bool) {
	text := l.String()
	return strings.Count(text, `in="search for owners"`), strings.Contains(text, "owner.stumble")
}

// TestPanicIsUnknown has a search that panics: what it had found is known, the rest
// is not until the next one, and the stack is logged once for each.
func TestPanicIsUnknown(t *testing.T) {
	h := &clumsy{fakeHost: &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx"), 2: proc(20, "redis")}}, find: true}
	log := &porttest.Log{}
	now := time.Unix(1000, 0)
	f := New(h, slog.New(slog.NewTextHandler(log, nil)))
	f.now = func() time.Time { return now }
	both := []socket.Listener{listener(80, 1), listener(6379, 2)}
	check := func(when string, pending bool, panics int) {
		t.Helper()
		r := f.Owners(t.Context(), both)
		if o := r.Owned[0].Owner; o.Process != "nginx" || o.User != "www-data" || o.Pending {
			t.Errorf("%s: what was found: %+v", when, o)
		}
		if o := r.Owned[1].Owner; o.Pending != pending || pending != (o.Process == "") || r.Busy {
			t.Errorf("%s: the rest: %+v, busy %t", when, o, r.Busy)
		}
		if n, named := stacks(log); n != panics || !named {
			t.Errorf("%s: %d panics are logged, with their stack: %t", when, n, named)
		}
	}
	check("at first", true, 1)
	check("at once", true, 1)
	now = now.Add(retryAfter)
	h.find = false
	check("later", false, 1)
	now = now.Add(recheckAfter)
	h.look = true
	check("when known processes are looked at", false, 2)
	check("at once", false, 2)
	now = now.Add(retryAfter)
	check("soon", false, 3)
}

// TestPanicOfNameService has a name service that panics.
func TestPanicOfNameService(t *testing.T) {
	h := &clumsy{fakeHost: &fakeHost{holders: map[uint64]Process{1: proc(10, "nginx")}}, name: true}
	log := &porttest.Log{}
	f := New(h, slog.New(slog.NewTextHandler(log, nil)))
	web := []socket.Listener{listener(80, 1)}
	if o := f.Owners(t.Context(), web).Owned[0].Owner; o.User != "33" || !o.Pending || o.Process != "nginx" {
		t.Errorf("%+v", o)
	}
	if n, named := stacks(log); n != 1 || !named {
		t.Errorf("%d panics are logged, with their stack: %t", n, named)
	}
	h.name = false
	if o := f.Owners(t.Context(), web).Owned[0].Owner; o.User != "www-data" || o.Pending {
		t.Errorf("afterwards: %+v", o)
	}
}
