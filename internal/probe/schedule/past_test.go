package schedule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// TestPasts has a target fail, recover and not be tried, and asks after each what is
// remembered of it.
func TestPasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		next := probe.Result{}
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: proberFunc(func(context.Context, probe.Request) probe.Result { return next })}
		p := &Plan{Targets: targets(2, m)}
		r := started(t, p)
		if got := p.Pasts(); len(got) != 2 || got[0].State != Unknown || !got[0].At.IsZero() || got[0].Target != &p.Targets[0] || len(got[0].Runs) != 0 {
			t.Errorf("before the first probe: %+v", got)
		}
		began := time.Now()
		for _, tt := range []struct {
			result probe.Result
			times  int
			state  State
			since  time.Duration
			runs   int
		}{
			{probe.Result{Outcome: probe.Refused, Err: errors.New("refused"), Samples: []probe.Sample{{}}}, 3, Failing, 0, 3},
			{probe.Result{Outcome: probe.Timeout}, 1, Failing, 0, 4},
			{probe.Result{Outcome: probe.Open}, 20, Passing, 4 * time.Minute, shownRuns},
			{probe.Result{Outcome: probe.LocalError}, 2, Untried, 24 * time.Minute, shownRuns},
		} {
			next = tt.result
			for range tt.times {
				scrape(t, r, p, 10*time.Second)
				time.Sleep(time.Minute)
			}
			got := p.Pasts()[0]
			if got.State != tt.state || got.Since.Sub(began) != tt.since || len(got.Runs) != tt.runs || got.Result.Outcome != tt.result.Outcome || got.Result.Samples != nil {
				t.Errorf("after %v: %v since %v, %d runs, %+v", tt.result.Outcome, got.State, got.Since.Sub(began), len(got.Runs), got.Result)
			}
			if last := got.Runs[len(got.Runs)-1]; last.Outcome != tt.result.Outcome || last.State != tt.state || !last.At.Equal(got.At) {
				t.Errorf("the last of the runs is %+v", last)
			}
			for i := 1; i < len(got.Runs); i++ {
				if got.Runs[i].At.Before(got.Runs[i-1].At) {
					t.Errorf("the runs are not in their order: %+v", got.Runs)
				}
			}
		}
	})
}

// TestPastsOutliveAReload reloads with one of two targets, and probes it on request.
func TestPastsOutliveAReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(0, probe.Refused)}
		before := &Plan{Targets: targets(2, m)}
		r := started(t, before)
		scrape(t, r, before, 10*time.Second)
		after := &Plan{Targets: targets(1, m), Access: access.Control{Any: true}}
		r.Use(after)
		for _, target := range []string{after.Targets[0].Address, "192.0.2.9:9"} {
			if _, err := r.Once(t.Context(), after, Ask{Target: target, Module: m}); err != nil {
				t.Fatal(err)
			}
		}
		got := after.Pasts()
		if len(got) != 1 || len(got[0].Runs) != 2 || got[0].State != Failing || got[0].Tally.Count(probe.Refused) != 1 {
			t.Errorf("after a reload and a probe on request: %+v", got)
		}
		states := map[State]string{}
		for s := Failing; s <= Passing; s++ {
			states[s] = s.String()
		}
		if diff := cmp.Diff(map[State]string{Failing: "fails", Untried: "not tried", Unknown: "not probed yet", Passing: "passes"}, states); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
