package schedule

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/panics"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// clumsy panics, in its own goroutine or in one of a crew.
type clumsy struct{ crewed bool }

func (c clumsy) Probe(context.Context, probe.Request) probe.Result {
	if c.crewed {
		var both probe.Crew
		for range 2 {
			both.Go(func() { stumble() })
		}
		both.Wait()
	}
	return stumble()
}

func stumble() probe.Result { panic("no legs") }

// TestPanicIsUnknown has a prober that panics: its target is unknown, the others
// have their results, and the stack is logged, once.
func TestPanicIsUnknown(t *testing.T) {
	for _, crewed := range []bool{false, true} {
		r := NewRunner(t.Context(), 0)
		log := &porttest.Log{}
		r.Logger = slog.New(slog.NewTextHandler(log, nil))
		fine := &probe.Module{Name: "fine", Kind: "tcp", Prober: steady{}}
		bad := &probe.Module{Name: "bad", Kind: "udp", Prober: clumsy{crewed}}
		p := &Plan{Targets: []probe.Target{{Address: "a:1", Module: bad}, {Address: "b:1", Module: fine}, {Address: "c:1", Module: bad, Interval: time.Second}}}
		r.Use(p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		reports, err := r.Results(ctx, p)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if got := reports[0].Result; got.Outcome != probe.Unknown || got.Err == nil || !strings.Contains(got.Err.Error(), "no legs") {
			t.Errorf("crewed %v: %+v", crewed, got)
		}
		if got := reports[1].Result.Outcome; got != probe.Open {
			t.Errorf("crewed %v: the other one is %v", crewed, got)
		}
		r.Stop()
		if text := log.String(); strings.Count(text, "in=prober") != 1 || !strings.Contains(text, "stumble") {
			t.Errorf("crewed %v: logged:\n%s", crewed, text)
		}
	}
}

type steady struct{}

func (steady) Probe(context.Context, probe.Request) probe.Result {
	return probe.Result{Outcome: probe.Open}
}

// TestCrew brings the first panic out of Wait.
func TestCrew(t *testing.T) {
	var c probe.Crew
	for range 3 {
		c.Go(func() { panic("x") })
	}
	defer func() {
		if _, ok := recover().(*panics.Error); !ok {
			t.Error("Wait does not panic")
		}
	}()
	c.Wait()
}
