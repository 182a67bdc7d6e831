package owner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// walks are cgroups by ID, and how often they were walked.
type walks struct {
	paths  map[uint64]string
	partly bool // the walk does not end in time
	asked  [][]uint64
}

func (w *walks) walk(_ context.Context, wanted map[uint64]bool) (map[uint64]string, bool) {
	w.asked = append(w.asked, slices.Sorted(maps.Keys(wanted)))
	found := maps.Clone(w.paths)
	maps.DeleteFunc(found, func(id uint64, _ string) bool { return !wanted[id] })
	return found, !w.partly
}

func TestGroups(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := &walks{paths: map[uint64]string{1: "", 2: "/system.slice/nginx.service", 3: "/system.slice/nginx.service/worker", 4: "/docker/" + id64}}
	g := newGroups(w.walk, func() time.Time { return now })
	nginx, docker := Group{Unit: "nginx.service"}, Group{Container: "docker-" + id64[:12]}
	for _, step := range []struct {
		name  string
		pass  time.Duration
		ids   []uint64
		want  map[uint64]Group
		asked [][]uint64
	}{
		{name: "each is looked for once", ids: []uint64{1, 2, 3}, want: map[uint64]Group{1: {}, 2: nginx, 3: nginx}, asked: [][]uint64{{1, 2, 3}}},
		{name: "nothing is new", pass: time.Second, ids: []uint64{2}, want: map[uint64]Group{2: nginx}},
		{name: "what is new, and what was removed", pass: time.Second, ids: []uint64{2, 4, 9}, want: map[uint64]Group{2: nginx, 4: docker}, asked: [][]uint64{{4, 9}}},
		{name: "what was removed never comes back", pass: 30 * time.Minute, ids: []uint64{4, 9}, want: map[uint64]Group{4: docker}},
		{name: "what was not asked for is forgotten", pass: 40 * time.Minute, ids: []uint64{4}, want: map[uint64]Group{4: docker}},
		{name: "and looked for again", pass: time.Second, ids: []uint64{2}, want: map[uint64]Group{2: nginx}, asked: [][]uint64{{2}}},
	} {
		now = now.Add(step.pass)
		w.asked = nil
		got := g.Of(t.Context(), step.ids)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(step.asked, w.asked); diff != "" {
			t.Errorf("%s: walks (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestGroupsThatDoNotComeInTime are unknown, but not for good.
func TestGroupsThatDoNotComeInTime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := &walks{partly: true}
	g := newGroups(w.walk, func() time.Time { return now })
	if got := g.Of(t.Context(), []uint64{2}); len(got) > 0 {
		t.Errorf("%v", got)
	}
	w.paths, w.partly = map[uint64]string{2: "/system.slice/nginx.service"}, false
	g.note(nil, nil, true, time.Second) // a walk that took that long
	now = now.Add(99 * time.Second)
	if got := g.Of(t.Context(), []uint64{2}); len(got) > 0 || len(w.asked) != 1 {
		t.Errorf("during the pause: %v, walks %v", got, w.asked)
	}
	now = now.Add(time.Second)
	if got := g.Of(t.Context(), []uint64{2}); got[2].Unit != "nginx.service" || len(w.asked) != 2 {
		t.Errorf("after the pause: %v, walks %v", got, w.asked)
	}
}

// TestGroupsAreBounded has new cgroups in each scrape.
func TestGroupsAreBounded(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	w := &walks{paths: map[uint64]string{}}
	for id := range uint64(5 * maxGroups) {
		w.paths[id] = fmt.Sprintf("/system.slice/run-%d.service", id)
	}
	g := newGroups(w.walk, func() time.Time { return now })
	for scrape := range uint64(20) {
		now = now.Add(10 * time.Minute / 20)
		var ids []uint64
		for i := range uint64(maxGroups / 4) {
			ids = append(ids, scrape*maxGroups/4+i)
		}
		if got := g.Of(t.Context(), ids); len(got) != len(ids) {
			t.Errorf("%d of %d", len(got), len(ids))
		}
		g.next = time.Time{}
		if len(g.known) > maxGroups+len(ids) {
			t.Fatalf("%d are known", len(g.known))
		}
	}
}
