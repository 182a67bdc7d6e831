package schedule

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// proberFunc is a prober that a test writes where it needs it.
type proberFunc func(context.Context, probe.Request) probe.Result

func (f proberFunc) Probe(ctx context.Context, r probe.Request) probe.Result { return f(ctx, r) }

// takes is a prober whose target answers after a time, with an outcome; what is
// cut off before is a timeout.
func takes(d time.Duration, o probe.Outcome) proberFunc {
	return func(ctx context.Context, _ probe.Request) probe.Result {
		select {
		case <-time.After(d):
			return probe.Result{Outcome: o}
		case <-ctx.Done():
			return probe.Result{Outcome: probe.Timeout, Phase: probe.PhaseConnect, Err: ctx.Err()}
		}
	}
}

// silence is a prober whose targets never answer.
func silence() proberFunc { return takes(time.Hour, probe.Open) }

// counted counts the probes that are in flight.
type counted struct {
	probe.Prober
	now, most, all atomic.Int64
}

func (c *counted) Probe(ctx context.Context, r probe.Request) probe.Result {
	c.all.Add(1)
	n := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	return c.Prober.Probe(ctx, r)
}

func targets(n int, m *probe.Module, change ...func(*probe.Target)) []probe.Target {
	all := make([]probe.Target, n)
	for i := range all {
		all[i] = probe.Target{Address: fmt.Sprintf("192.0.2.1:%d", i+1), Module: m}
		for _, c := range change {
			c(&all[i])
		}
	}
	return all
}

// started returns a runner with a plan in force; it has stopped when the test
// ends.
func started(t *testing.T, p *Plan) *Runner {
	t.Helper()
	r := NewRunner(t.Context(), 0)
	t.Cleanup(r.Stop)
	r.Use(p)
	return r
}

func outcomes(reports []Report) map[string]int {
	counts := map[string]int{}
	for _, r := range reports {
		counts[r.Result.Outcome.String()]++
	}
	return counts
}

// scrape is one scrape with that much time.
func scrape(t *testing.T, r *Runner, p *Plan, timeout time.Duration) []Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	reports, err := r.Results(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Error("the scrape has no time left to tell its results")
	}
	return reports
}

func TestProbesInFlightAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := &counted{Prober: takes(time.Second, probe.Open)}
		heavy := &counted{Prober: all}
		p := &Plan{Targets: append(targets(1000, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: all}),
			targets(200, &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: heavy})...), MaxProbes: 100}
		r := started(t, p)
		began := time.Now()
		if diff := cmp.Diff(map[string]int{"open": 1200}, outcomes(scrape(t, r, p, time.Minute))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if all.most.Load() != 100 || heavy.most.Load() > 25 {
			t.Errorf("%d probes were in flight, %d of them heavy", all.most.Load(), heavy.most.Load())
		}
		if took := time.Since(began); took < 12*time.Second || took > 14*time.Second {
			t.Errorf("1200 probes of a second each, 100 at once, took %v", took)
		}
		if n := r.InFlight(); n != 0 {
			t.Errorf("%d are in flight afterwards", n)
		}
	})
}

// TestPoolBoundsTheProcess lets two plans' scrapes, probes on request and the
// background compete.
func TestPoolBoundsTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(time.Second, probe.Open)}
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}
		old := &Plan{Targets: targets(50, m), MaxProbes: 10}
		p := &Plan{Targets: append(targets(50, m), targets(50, m, func(t *probe.Target) { t.Name, t.Interval = "b", 10*time.Second })...), MaxProbes: 10, Access: access.Control{Any: true}}
		r := started(t, old)
		r.Use(p)
		var all sync.WaitGroup
		for _, plan := range []*Plan{old, p} {
			all.Go(func() { scrape(t, r, plan, 100*time.Second) })
		}
		for i := range 50 {
			all.Go(func() {
				if _, err := r.Once(t.Context(), p, Ask{Target: fmt.Sprintf("198.51.100.1:%d", i+1), Module: m}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if prober.most.Load() != 10 {
			t.Errorf("%d probes were in flight, want 10", prober.most.Load())
		}
	})
}

func TestHeavyProbesDoNotStarveTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Plan{Targets: append(targets(1000, &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: silence()}),
			targets(1000, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(time.Millisecond, probe.Open)})...)}
		r := started(t, p)
		if got := outcomes(scrape(t, r, p, 10*time.Second)); got["open"] != 1000 {
			t.Errorf("%v", got)
		}
	})
}

func TestDeadline(t *testing.T) {
	silent := func(timeout time.Duration) *probe.Module {
		return &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: silence(), Timeout: timeout}
	}
	for _, tt := range []struct {
		name    string
		targets []probe.Target
		scrape  time.Duration
		want    map[string]int
	}{
		// 8.5 s, of which the first wave takes 5: what is left for the second, 3.5 s,
		// is more than a third. Nothing is said of the others.
		{"10,000 silent targets", targets(10_000, silent(5*time.Second)), 10 * time.Second, map[string]int{"timeout": 256, "not_run": 9744}},
		// The third wave would have 2.5 s: its silence says nothing.
		{"short timeouts", targets(10_000, silent(3*time.Second)), 10 * time.Second, map[string]int{"timeout": 256, "not_run": 9744}},
		{"a last wave cut short", targets(500, silent(4*time.Second)), 10 * time.Second, map[string]int{"timeout": 256, "not_run": 244}},
		// A target that had all the time there is, is silent.
		{"scrape shorter than the module", targets(3, silent(5*time.Second)), 2 * time.Second, map[string]int{"timeout": 3}},
		{"default timeout", targets(3, silent(0)), 10 * time.Second, map[string]int{"timeout": 3}},
		{"healthy and many", targets(100_000, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(4*time.Millisecond, probe.Open)}), 10 * time.Second, map[string]int{"open": 100_000}},
		{"no targets", nil, 10 * time.Second, map[string]int{}},
		{"hardly any time", targets(1, silent(0)), 10 * time.Millisecond, map[string]int{"timeout": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &Plan{Targets: tt.targets}
				r := started(t, p)
				reports := scrape(t, r, p, tt.scrape)
				if diff := cmp.Diff(tt.want, outcomes(reports)); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
				counts := map[string]int{}
				for _, report := range reports {
					for _, o := range probe.Outcomes() {
						if n := report.Tally.Count(o); n > 0 {
							counts[o.String()] += int(n)
						}
					}
					if report.Result.Outcome == probe.NotRun && (report.Result.Err == nil || report.Result.Duration != 0) {
						t.Fatalf("not run, without a reason or with a duration: %+v", report.Result)
					}
				}
				if diff := cmp.Diff(tt.want, counts); diff != "" {
					t.Errorf("counters (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestDeafProberHoldsUpNothing has a prober that does not heed its context.
func TestDeafProberHoldsUpNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := proberFunc(func(context.Context, probe.Request) probe.Result { time.Sleep(time.Minute); return probe.Result{} })
		p := &Plan{Targets: append(targets(1, &probe.Module{Name: "deaf", Kind: probe.KindTCP, Prober: deaf}), targets(5, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(0, probe.Open)})...)}
		r := started(t, p)
		if diff := cmp.Diff(map[string]int{"not_run": 1, "open": 5}, outcomes(scrape(t, r, p, 10*time.Second))); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if r.InFlight() != 1 {
			t.Errorf("%d probes are in flight", r.InFlight())
		}
	})
}

func TestScrapesShareARun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(time.Second, probe.Open)}
		p := &Plan{Targets: targets(100, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}), MaxProbes: 50}
		r := started(t, p)

		gone, goAway := context.WithTimeout(t.Context(), 10*time.Second)
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := r.Results(gone, p); !errors.Is(err, context.Canceled) {
				t.Errorf("who went away has %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			all.Go(func() {
				if got := outcomes(scrape(t, r, p, 10*time.Second)); got["open"] != 100 {
					t.Errorf("%v", got)
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		goAway()
		all.Wait()
		if n := prober.all.Load(); n != 100 {
			t.Errorf("%d probes for 100 targets", n)
		}
		scrape(t, r, p, 10*time.Second)
		if n := prober.all.Load(); n != 200 {
			t.Errorf("%d probes after a scrape that came later, want 200", n)
		}
	})
}

// TestScrapesOfTwoPlans reloads during a scrape: one that comes then returns those of its
// own targets, though the other is under way.
func TestScrapesOfTwoPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(2*time.Second, probe.Open)}
		before, after := &Plan{Targets: targets(3, m)}, &Plan{Targets: targets(5, m)}
		r := started(t, before)
		var first sync.WaitGroup
		first.Go(func() {
			if got := outcomes(scrape(t, r, before, 10*time.Second)); got["open"] != 3 {
				t.Errorf("the scrape that ran: %v", got)
			}
		})
		synctest.Wait()
		r.Use(after)
		if got := outcomes(scrape(t, r, after, 10*time.Second)); got["open"] != 5 {
			t.Errorf("the scrape after the reload: %v", got)
		}
		first.Wait()
	})
}

// TestDeafProberOnRequest waits for the answer of a prober that does not heed its
// context.
func TestDeafProberOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := proberFunc(func(context.Context, probe.Request) probe.Result {
			time.Sleep(2 * time.Second)
			return probe.Result{Outcome: probe.Refused}
		})
		m := &probe.Module{Name: "deaf", Kind: probe.KindTCP, Prober: deaf}
		p := &Plan{Access: access.Control{Any: true}}
		r := started(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		e, err := r.Once(ctx, p, Ask{Target: "192.0.2.1:1", Module: m})
		if err != nil || e.Target == nil || e.Result.Outcome != probe.Refused {
			t.Errorf("%+v, %v", e, err)
		}
	})
}

// TestScrapesOfUnlikeLength keeps a hurried scrape from cutting short one that
// has time, and from waiting for it.
func TestScrapesOfUnlikeLength(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Plan{Targets: targets(1, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(4*time.Second, probe.Open)})}
		r := started(t, p)
		var all sync.WaitGroup
		for _, first := range []time.Duration{time.Second, 10 * time.Second} {
			second := 11*time.Second - first
			for _, timeout := range []time.Duration{first, second} {
				all.Go(func() {
					got := outcomes(scrape(t, r, p, timeout))
					if (timeout == time.Second) != (got["open"] == 0) {
						t.Errorf("a scrape of %v, the first of which has %v: %v", timeout, first, got)
					}
				})
				synctest.Wait()
			}
			all.Wait()
		}
	})
}

// TestLongScrapeMakesNoStaleResults has somebody ask for a scrape of ten minutes
// of targets that take as long, which scrapes of ten seconds must not share.
func TestLongScrapeMakesNoStaleResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Plan{Targets: targets(10_000, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: silence(), Timeout: 5 * time.Second})}
		r := started(t, p)
		long, stop := context.WithTimeout(t.Context(), 600*time.Second)
		go func() { _, _ = r.Results(long, p) }()
		for range 3 {
			time.Sleep(15 * time.Second)
			began := time.Now()
			for _, report := range scrape(t, r, p, 10*time.Second) {
				if report.Result.Outcome != probe.NotRun && report.At.Before(began) {
					t.Fatalf("a result that is %v older than its scrape", began.Sub(report.At))
				}
			}
		}
		stop()
	})
}

// TestSpansThatServe says when a run may be shared.
func TestSpansThatServe(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	at := func(began, ends time.Duration) span { return span{now.Add(began), now.Add(ends)} }
	const s = time.Second
	for _, tt := range []struct {
		name        string
		have, wants span
		serves      bool
	}{
		{"one that ends much later", at(0, 600*s), at(s, 11*s), false},
		{"one that ends later", at(0, 11*s), at(0, 10*s), false},
		{"a long one that is about to end", at(0, 600*s), at(591*s, 601*s), false},
		{"one that ends soon", at(0, 10*s), at(7*s, 17*s), false},
		{"a short one", at(0, s), at(0, 10*s), false},
		{"one without an end", span{began: now}, at(0, 10*s), false},
		{"one with an end for who has none", at(0, 10*s), span{began: now}, false},
		{"one at the same time", at(0, 10*s), at(0, 10*s), true},
		{"one that ends a moment later", at(s/100, 10*s+s/100), at(0, 10*s), true},
		{"one that ends later than it may be told", at(0, 10*s+s/3), at(0, 10*s), false},
		{"one that is two seconds ahead", at(0, 10*s), at(2*s, 12*s), true},
		{"without an end, both", span{began: now}, span{began: now}, true},
	} {
		if got := tt.have.serves(tt.wants); got != tt.serves {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// TestTurns has more silent targets than a scrape can probe: each has its turn in
// one of the next scrapes, whoever gives up one in between.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: silence(), Timeout: 5 * time.Second}
		web := &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: silence(), Timeout: 5 * time.Second}
		p := &Plan{Targets: append(targets(10_000, m), targets(1000, web)...)}
		r := started(t, p)
		// 256 in 10 s, of which 64 at most are heavy.
		for range 55 {
			scrape(t, r, p, 10*time.Second)
			gone, goAway := context.WithTimeout(t.Context(), 10*time.Second)
			time.AfterFunc(4*time.Second, goAway)
			_, _ = r.Results(gone, p)
			time.Sleep(5 * time.Second)
			p = &Plan{Targets: p.Targets} // nor does a reload begin anew
			r.Use(p)
		}
		never := 0
		for _, report := range scrape(t, r, p, 10*time.Second) {
			if report.Tally.Count(probe.Timeout) == 0 {
				never++
			}
		}
		if never > 0 {
			t.Errorf("%d of %d targets were never probed", never, len(p.Targets))
		}
	})
}

func TestAbandonedRunLeavesNoTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: silence()}
		p := &Plan{Targets: targets(1000, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober})}
		r := started(t, p)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _, _ = r.Results(ctx, p) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if r.InFlight() != 0 || prober.all.Load() != DefaultMaxProbes {
			t.Errorf("%d in flight, %d were started", r.InFlight(), prober.all.Load())
		}
		if n := len(r.Kinds()) + len(r.History().Entries()); n != 0 {
			t.Errorf("%d traces of probes that nobody waited for", n)
		}
	})
}

func every(d time.Duration) func(*probe.Target) { return func(t *probe.Target) { t.Interval = d } }

func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(10*time.Millisecond, probe.Open)}
		p := &Plan{Targets: append(targets(600, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}, every(time.Minute)),
			targets(2, &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: prober}, every(20*time.Second))...)}
		r := started(t, p)
		for _, report := range scrape(t, r, p, time.Second) {
			if report.Result.Outcome != probe.NotRun || !report.At.IsZero() {
				t.Fatalf("before the first probe: %+v", report)
			}
		}
		time.Sleep(firstWithin) // their first turn
		prober.all.Store(0)
		for second := range 60 {
			before := prober.all.Load()
			time.Sleep(time.Second)
			if n := prober.all.Load() - before; n > 40 {
				t.Errorf("%d of 600 probes of a minute in second %d", n, second)
			}
		}
		synctest.Wait()
		if n := prober.all.Load(); n != 606 {
			t.Errorf("%d probes in a minute, want 606", n)
		}
		for _, report := range scrape(t, r, p, time.Second) {
			if age := time.Since(report.At); report.Result.Outcome != probe.Open || age > report.Target.Interval || report.Tally.Count(probe.Open) == 0 {
				t.Fatalf("age %v: %+v", age, report.Result)
			}
		}
		r.Stop()
		time.Sleep(10 * time.Minute)
		if n := prober.all.Load(); n > 607 {
			t.Errorf("%d probes after the runner stopped", n-606)
		}
	})
}

// TestFirstTurn has targets of an hour, which are all to be heard of soon after
// the start, and not all together.
func TestFirstTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(10*time.Millisecond, probe.Open)}
		p := &Plan{Targets: append(targets(300, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}, every(time.Hour)),
			targets(1, &probe.Module{Name: "soon", Kind: probe.KindTCP, Prober: prober}, every(2*time.Second))...)}
		r := started(t, p)
		time.Sleep(2100 * time.Millisecond)
		if got := scrape(t, r, p, time.Second); got[300].At.IsZero() {
			t.Error("a target of two seconds was not probed in its first two")
		}
		for second := 3; second <= 30; second++ {
			before := prober.all.Load()
			time.Sleep(time.Second)
			if n := prober.all.Load() - before; n > 25 {
				t.Errorf("%d of 300 first probes in second %d", n, second)
			}
		}
		if got := outcomes(scrape(t, r, p, time.Second)); got["open"] != 301 {
			t.Errorf("30 s after the start: %v", got)
		}
		time.Sleep(time.Hour)
		for _, report := range scrape(t, r, p, time.Second)[:300] {
			if n := report.Tally.Count(probe.Open); n != 2 {
				t.Fatalf("%d probes in the first hour, want the first turn and that of its place in the hour", n)
			}
		}
	})
}

// TestHeavyProbesDoNotHoldUpTheBackground has more silent targets with TLS than
// ever get a slot.
func TestHeavyProbesDoNotHoldUpTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		heavy := targets(200, &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: silence()}, every(10*time.Second))
		light := targets(50, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(time.Millisecond, probe.Open)}, every(10*time.Second))
		p := &Plan{Targets: append(heavy, light...)}
		r := started(t, p)
		time.Sleep(time.Minute)
		for _, report := range scrape(t, r, p, time.Second)[200:] {
			if age := time.Since(report.At); report.Result.Outcome != probe.Open || age > 10*time.Second || report.Tally.Count(probe.Open) < 6 {
				t.Fatalf("%s %v ago, %d times: it waited for those with TLS", report.Result.Outcome, age, report.Tally.Count(probe.Open))
			}
		}
	})
}

// TestChangedInterval shortens an interval on a reload, for a target that was
// probed and for one that was not yet, and lengthens it.
func TestChangedInterval(t *testing.T) {
	for _, tt := range []struct {
		name            string
		before, after   time.Duration
		wait            time.Duration // before the reload
		within          time.Duration // of the reload
		atLeast, atMost int64         // probes in it
	}{
		{"shorter", time.Hour, 10 * time.Second, time.Minute, time.Minute, 6, 6},
		{"shorter, before the first", time.Hour, 10 * time.Second, 0, time.Minute, 6, 7},
		{"longer, before the first", 20 * time.Second, time.Hour, 0, 30 * time.Second, 1, 1},
		{"longer", 10 * time.Second, time.Hour, time.Minute, 10 * time.Minute, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				prober := &counted{Prober: takes(time.Millisecond, probe.Open)}
				m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}
				r := started(t, &Plan{Targets: targets(1, m, every(tt.before))})
				time.Sleep(tt.wait)
				r.Use(&Plan{Targets: targets(1, m, every(tt.after))})
				prober.all.Store(0)
				time.Sleep(tt.within)
				if n := prober.all.Load(); n < tt.atLeast || n > tt.atMost {
					t.Errorf("%d probes in %v, want %d to %d", n, tt.within, tt.atLeast, tt.atMost)
				}
			})
		})
	}
}

// TestReload swaps plans: what stays keeps its time, result and counters, what
// changed is probed in the new way, and what went is gone.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var when []time.Time
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: proberFunc(func(context.Context, probe.Request) probe.Result {
			when = append(when, time.Now())
			return probe.Result{Outcome: probe.Open}
		})}
		other := &probe.Module{Name: "tcp", Kind: probe.KindHTTP, Prober: takes(0, probe.Refused)} // heavy now
		kept, dropped, direct := targets(1, m, every(time.Minute)), targets(1, m, every(time.Minute), func(t *probe.Target) { t.Name = "dropped" }), targets(1, m, func(t *probe.Target) { t.Name = "direct" })
		first := &Plan{Targets: append(append(kept, dropped...), direct...)}
		r := started(t, first)
		time.Sleep(61 * time.Second)
		scrape(t, r, first, time.Second)

		second := &Plan{Targets: append(targets(1, m, every(time.Minute)), direct...)}
		r.Use(second)
		reports := scrape(t, r, second, time.Second)
		if len(reports) != 2 || reports[0].At.IsZero() || reports[0].Tally.Count(probe.Open) < 1 || reports[1].Tally.Count(probe.Open) != 2 {
			t.Errorf("after the reload: %+v", reports)
		}
		when = nil
		for range 60 { // a reload a second must not keep it from being probed
			time.Sleep(time.Second)
			second = &Plan{Targets: second.Targets}
			r.Use(second)
		}
		if len(when) != 1 {
			t.Errorf("%d probes in a minute of reloads, want 1 of the target that stayed", len(when))
		}

		third := &Plan{Targets: targets(1, other, every(time.Minute))}
		r.Use(third)
		time.Sleep(time.Minute)
		if reports := scrape(t, r, third, time.Second); reports[0].Result.Outcome != probe.Refused || reports[0].Tally.Count(probe.Refused) != 1 {
			t.Errorf("with another module: %+v", reports[0].Result)
		}
		r.Use(&Plan{})
		when = nil
		time.Sleep(5 * time.Minute)
		if len(when) != 0 || len(r.records) != 0 || len(r.background.items) != 0 {
			t.Errorf("of what went are left: %d probes, %d tallies, %d items", len(when), len(r.records), len(r.background.items))
		}
	})
}

// TestReloadDuringAProbe drops a target and takes it back while it is probed.
func TestReloadDuringAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(4*time.Second, probe.Open), Timeout: 5 * time.Second}
		plan := func() *Plan { return &Plan{Targets: targets(1, m, every(10*time.Second))} }
		p := plan()
		r := started(t, p)
		time.Sleep(time.Until(firstTurn(&p.Targets[0], time.Now())) + time.Second)
		if r.InFlight() != 1 {
			t.Fatal("no probe is under way")
		}
		r.Use(&Plan{})
		p = plan()
		r.Use(p)
		time.Sleep(4 * time.Second)
		if reports := scrape(t, r, p, time.Second); !reports[0].At.IsZero() {
			t.Errorf("the result of the target that was dropped came back: %+v", reports[0])
		}
		time.Sleep(10 * time.Second)
		if reports := scrape(t, r, p, time.Second); reports[0].At.IsZero() || reports[0].Tally.Count(probe.Open) != 1 {
			t.Errorf("the target that was taken back: %+v", reports[0])
		}
	})
}

// TestReloadThatChangesNothing comes while a target of the background is probed:
// it is not in the queue then, and must not be put there twice.
func TestReloadThatChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(4*time.Second, probe.Open)}
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}
		plan := func() *Plan { return &Plan{Targets: targets(1, m, every(10*time.Second))} }
		p := plan()
		r := started(t, p)
		time.Sleep(time.Until(firstTurn(&p.Targets[0], time.Now())) + time.Second)
		if r.InFlight() != 1 {
			t.Fatal("no probe is under way")
		}
		r.Use(plan())
		synctest.Wait()
		if r.InFlight() != 1 {
			t.Errorf("%d probes of one target are in flight", r.InFlight())
		}
		time.Sleep(30 * time.Second)
		if n := prober.all.Load(); n != 4 || prober.most.Load() != 1 {
			t.Errorf("%d probes in 31 s, %d at once; want 4, one at a time", n, prober.most.Load())
		}
	})
}

func TestOnce(t *testing.T) {
	asked := make(chan probe.Request, 10)
	m := &probe.Module{Name: "tcp", Kind: probe.KindHTTP, Prober: proberFunc(func(_ context.Context, q probe.Request) probe.Result {
		asked <- q
		q.Log.Info("connecting", "url", q.Address)
		if err := q.Allow(netip.MustParseAddrPort("203.0.113.9:80")); err != nil {
			return probe.Result{Outcome: probe.Denied, Err: err}
		}
		return probe.Result{Outcome: probe.Open}
	})}
	p := &Plan{Targets: []probe.Target{{Address: "db.example:5432", Module: m, Hostname: "db", Name: "database"}},
		Access: access.Control{Rules: []access.Rule{hostRule("*.example", "192.0.2.0/24")}}}
	r := started(t, p)

	e, err := r.Once(t.Context(), p, Ask{Target: "db.example:5432", Module: m})
	if q := <-asked; err != nil || e.Result.Outcome != probe.Open || q.Hostname != "db" || e.Target.Name != "database" {
		t.Errorf("a configured target: %+v, %v, asked %+v", e, err, q)
	}
	if kept, ok := r.History().Entry(e.ID); !ok || kept.Log == "" {
		t.Errorf("it is not in the history with its log: %+v", kept)
	}
	if _, err := r.Once(t.Context(), p, Ask{Target: "db.example:5432", Module: m, Hostname: "other"}); err == nil {
		t.Error("a hostname that is not configured was used")
	}
	e, err = r.Once(t.Context(), p, Ask{Target: "http://me:p%40ss@name.example/", Module: m})
	if err != nil || e.Result.Outcome != probe.Denied {
		t.Errorf("a name that leads elsewhere: %+v, %v", e, err)
	}
	if want := "xxxxx"; !strings.Contains(e.Log, want) || strings.Contains(e.Log, "p%40ss") || strings.Contains(e.Log, "p@ss") {
		t.Errorf("the log has the password: %s", e.Log)
	}
	<-asked
	if _, err := r.Once(t.Context(), p, Ask{Target: "198.51.100.1:80", Module: m}); err == nil {
		t.Error("an address that no rule allows was probed")
	} else if _, ok := probe.AsDenied(err); !ok {
		t.Error(err)
	}
	if len(asked) != 0 {
		t.Error("the prober was asked though it is known that it must not")
	}
}

// TestRequestsDoNotBlindScrapes floods the runner with requests of targets that
// do not answer, the same one or others, while it scrapes.
func TestRequestsDoNotBlindScrapes(t *testing.T) {
	for _, flood := range []struct {
		name   string
		target func(i int) string
	}{
		{"one target", func(int) string { return "http://192.0.2.9/" }},
		{"many", func(i int) string { return fmt.Sprintf("http://192.0.2.9/%d", i) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := &counted{Prober: silence()}
				web := &probe.Module{Name: "http", Kind: probe.KindHTTP, Prober: silence()}
				onRequest := &probe.Module{Name: "asked", Kind: probe.KindHTTP, Prober: asked}
				p := &Plan{Targets: append(targets(11, web), targets(20, web, every(30*time.Second), func(t *probe.Target) { t.Name = "b" })...), Access: access.Control{Any: true}}
				r := started(t, p)
				ctx, stop := context.WithCancel(t.Context())
				var clients sync.WaitGroup
				for i := range 400 {
					clients.Go(func() {
						for ctx.Err() == nil {
							ask, cancel := context.WithTimeout(ctx, 9500*time.Millisecond)
							_, _ = r.Once(ask, p, Ask{Target: flood.target(i), Module: onRequest})
							cancel()
						}
					})
				}
				time.Sleep(60 * time.Second)
				for range 3 {
					got := outcomes(scrape(t, r, p, 10*time.Second))
					if diff := cmp.Diff(map[string]int{"timeout": 31}, got); diff != "" {
						t.Errorf("-want +got:\n%s", diff)
					}
					time.Sleep(5 * time.Second)
				}
				stop()
				clients.Wait()
				if share := int64(DefaultMaxProbes / heavyShare / requestShare); asked.most.Load() > share || asked.most.Load() == 0 {
					t.Errorf("%d requests were in flight, want %d at most", asked.most.Load(), share)
				}
				synctest.Wait()
				if len(r.calls) != 0 {
					t.Errorf("%d calls are left", len(r.calls))
				}
			})
		})
	}
}

// TestEqualAsksShareAProbe, unless somebody wants to read its log.
func TestEqualAsksShareAProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober := &counted{Prober: takes(2*time.Second, probe.Open)}
		m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}
		p := &Plan{Access: access.Control{Any: true}}
		r := started(t, p)
		ids := map[uint64]int{}
		var lock sync.Mutex
		var clients sync.WaitGroup
		once := func(timeout time.Duration, a Ask) {
			clients.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				defer cancel()
				e, err := r.Once(ctx, p, a)
				if err != nil || e.Result.Outcome != probe.Open {
					t.Errorf("%+v: %v, %v", a, e.Result.Outcome, err)
				}
				lock.Lock()
				defer lock.Unlock()
				ids[e.ID]++
			})
			synctest.Wait()
		}
		plain := Ask{Target: "192.0.2.1:1", Module: m}
		gone, goAway := context.WithTimeout(t.Context(), 10*time.Second)
		clients.Go(func() {
			if _, err := r.Once(gone, p, plain); !errors.Is(err, context.Canceled) {
				t.Errorf("who went away has %v", err)
			}
		})
		synctest.Wait()
		for range 100 {
			once(10*time.Second, plain)
		}
		goAway() // the first one: the others still wait
		once(10*time.Second, Ask{Target: "192.0.2.1:1", Module: m, Hostname: "other"})
		once(10*time.Second, Ask{Target: "192.0.2.1:1", Module: m, Alone: true})
		once(3*time.Second, plain)  // it must know sooner
		once(60*time.Second, plain) // it has time for more
		clients.Wait()
		if n := prober.all.Load(); n != 5 || len(ids) != 5 {
			t.Errorf("%d probes and %d entries, want 5: %v", n, len(ids), ids)
		}

		gone, goAway = context.WithCancel(t.Context())
		for range 3 {
			clients.Go(func() { _, _ = r.Once(gone, p, plain) })
		}
		synctest.Wait()
		goAway()
		synctest.Wait()
		if r.InFlight() != 0 || len(r.calls) != 0 {
			t.Errorf("nobody waits any more, and %d are in flight", r.InFlight())
		}
		r.Stop()
		if _, err := r.Once(t.Context(), p, plain); err == nil {
			t.Error("a runner that has stopped probes")
		}
	})
}

// TestAsksThatShareNothing has asks of one target that cannot share a probe, and
// one that shares the right one.
func TestAsksThatShareNothing(t *testing.T) {
	plain := Ask{Target: "192.0.2.1:1"}
	alone := plain
	alone.Alone = true
	type client struct {
		after, timeout time.Duration
		ask            Ask
	}
	for _, tt := range []struct {
		name    string
		clients []client
		probes  int64
	}{
		{"one that is alone, and an equal one after it", []client{{0, 10 * time.Second, alone}, {0, 10 * time.Second, plain}}, 2},
		// The first ends at 4 s, the second one at 6 s.
		{"a second probe outlasts the first", []client{{0, 10 * time.Second, plain}, {2 * time.Second, time.Minute, plain}, {3 * time.Second, time.Minute, plain}}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				prober := &counted{Prober: takes(4*time.Second, probe.Open)}
				p := &Plan{Access: access.Control{Any: true}}
				r := started(t, p)
				m := &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: prober}
				var all sync.WaitGroup
				for _, c := range tt.clients {
					time.Sleep(c.after)
					c.ask.Module = m
					all.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
						defer cancel()
						if e, err := r.Once(ctx, p, c.ask); err != nil || e.Result.Outcome != probe.Open {
							t.Errorf("%+v, %v", e, err)
						}
					})
					synctest.Wait()
				}
				all.Wait()
				if n := prober.all.Load(); n != tt.probes {
					t.Errorf("%d probes, want %d", n, tt.probes)
				}
			})
		})
	}
}

func TestFewDescriptors(t *testing.T) {
	r := NewRunner(t.Context(), 20)
	defer r.Stop()
	for _, tt := range []struct{ plan, want int }{{0, 20}, {500, 20}, {10, 10}} {
		r.Use(&Plan{MaxProbes: tt.plan})
		if r.Slots() != tt.want {
			t.Errorf("a plan of %d has %d slots, want %d", tt.plan, r.Slots(), tt.want)
		}
	}
}

func TestStopped(t *testing.T) {
	p := &Plan{Targets: targets(1, &probe.Module{Name: "tcp", Kind: probe.KindTCP, Prober: takes(0, probe.Open)})}
	r := NewRunner(t.Context(), 0)
	r.Use(p)
	r.Stop()
	if _, err := r.Results(t.Context(), p); err == nil {
		t.Error("a runner that has stopped runs")
	}
	r.Use(&Plan{Targets: targets(1, p.Targets[0].Module, every(time.Second))})
}
