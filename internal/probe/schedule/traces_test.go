package schedule

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// traceable is a prober whose targets have an outcome, and whose traces take a time.
type traceable struct {
	outcome     atomic.Uint32
	takes       time.Duration
	panics      bool
	traces, now atomic.Int64
	crowded     atomic.Bool // more than there may be were under way
}

var traceFound = &probe.Metric{Name: "probe_trace_hops"}

func (p *traceable) Probe(context.Context, probe.Request) probe.Result {
	return probe.Result{Outcome: probe.Outcome(p.outcome.Load()), Peer: netip.MustParseAddrPort("192.0.2.1:80")}
}

func (p *traceable) Trace(ctx context.Context, r probe.Request, _ probe.Result) probe.Path {
	if p.now.Add(1) > maxTracing {
		p.crowded.Store(true)
	}
	defer p.now.Add(-1)
	select {
	case <-time.After(p.takes):
	case <-ctx.Done():
		return nil
	}
	if p.panics || r.Allow == nil {
		panic("a fault")
	}
	return numbered(p.traces.Add(1))
}

// numbered is a path that knows which trace of its prober found it.
type numbered int64

func (n numbered) Samples() []probe.Sample {
	return []probe.Sample{{Metric: traceFound, Value: float64(n)}}
}

// found returns which trace of its prober a result has, the first being 1; 0 is none.
func found(r probe.Result) (n float64) {
	for _, s := range r.Samples {
		if s.Metric == traceFound {
			n = s.Value
		}
	}
	return n
}

// TestTraces traces beside the probes, once a minute, and remembers what was found for as
// long as the target fails: of a scrape, of the background and on request.
func TestTraces(t *testing.T) {
	for _, of := range []string{"scrape", "background", "request"} {
		t.Run(of, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &traceable{takes: 12 * time.Second}
				p.outcome.Store(uint32(probe.Timeout))
				m := &probe.Module{Name: "m", Kind: probe.KindTCP, Prober: p, Trace: true}
				plan := &Plan{Targets: targets(1, m)}
				if of == "background" {
					plan.Targets[0].Interval = 5 * time.Second
				}
				r := started(t, plan)
				look := func(after time.Duration) float64 {
					t.Helper()
					time.Sleep(after)
					begun := time.Now()
					var result probe.Result
					if of == "request" {
						entry, err := r.Once(t.Context(), plan, Ask{Module: m, Target: plan.Targets[0].Address})
						if err != nil {
							t.Fatal(err)
						}
						result = entry.Result
					} else {
						result = scrape(t, r, plan, 10*time.Second)[0].Result
					}
					if took := time.Since(begun); took > 0 {
						t.Errorf("a trace held up the results for %v", took)
					}
					return found(result)
				}
				if n := look(time.Minute); of != "background" && n != 0 {
					t.Errorf("trace %v before there is one", n)
				}
				first := look(30 * time.Second)
				if first == 0 {
					t.Error("no trace of a target that does not answer")
				}
				traced := p.traces.Load()
				for range 20 {
					look(15 * time.Second)
				}
				if n := p.traces.Load() - traced; n < 3 || n > 5 {
					t.Errorf("%d traces in five minutes", n)
				}
				p.outcome.Store(uint32(probe.Open))
				look(time.Minute)
				if n := look(time.Second); n != 0 {
					t.Errorf("trace %v of a target that answers", n)
				}
				p.outcome.Store(uint32(probe.Timeout))
				look(6 * time.Second)
				if n := look(20 * time.Second); n <= first {
					t.Errorf("trace %v of a target that fails again", n)
				}
			})
		})
	}
}

// TestTracesAreFew has many targets that do not answer, whose traces end in a panic.
func TestTracesAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &traceable{takes: 2 * time.Second, panics: true}
		p.outcome.Store(uint32(probe.NoReply))
		plan := &Plan{Targets: targets(50, &probe.Module{Name: "m", Kind: probe.KindUDP, Prober: p, Trace: true})}
		r := started(t, plan)
		for range 5 {
			scrape(t, r, plan, 10*time.Second)
			time.Sleep(time.Second)
			if p.now.Load() == 0 {
				t.Fatal("no trace")
			}
			time.Sleep(10 * time.Second)
		}
		if p.crowded.Load() || p.now.Load() != 0 {
			t.Errorf("more traces at the same time than %d: %v; %d left", maxTracing, p.crowded.Load(), p.now.Load())
		}
	})
}

// TestTracesAreForTheSilent has outcomes that no trace explains.
func TestTracesAreForTheSilent(t *testing.T) {
	for outcome, traced := range map[probe.Outcome]bool{
		probe.Open: false, probe.Refused: false, probe.DNSNotFound: false, probe.LocalError: false, probe.Denied: false,
		probe.Timeout: true, probe.NoReply: true, probe.Unreachable: true,
	} {
		for _, expect := range []probe.Outcome{probe.Open, outcome} {
			m := &probe.Module{Prober: &traceable{}, Trace: true, Expect: expect}
			r := probe.Result{Outcome: outcome, Peer: netip.MustParseAddrPort("192.0.2.1:80")}
			if got, want := m.Tracer(r) != nil, traced && expect != outcome; got != want {
				t.Errorf("%s where %s is expected: traced %v", outcome, expect, got)
			}
		}
	}
}

// TestTracedTargetsAreBounded has clients ask for ever other targets.
func TestTracedTargetsAreBounded(t *testing.T) {
	memory := traces{of: map[string]*traced{}}
	now := time.Now()
	for n := range 2 * maxTraced {
		if memory.begin(fmt.Sprint(n), now) != (n < maxTraced) {
			t.Fatalf("target %d", n)
		}
		if n < maxTraced {
			memory.end(fmt.Sprint(n), nil, now)
		}
	}
	if !memory.begin("another", now.Add(traceInterval)) || len(memory.of) != 1 {
		t.Errorf("%d are remembered after their time", len(memory.of))
	}
}
