// Package blackbox reads the modules of blackbox_exporter v0.28.0, makes our http
// prober of them, and lets its dns and icmp probers probe for us: their metrics
// under their names, and their bool turned into an outcome.
//
// Those two report success as a bool. Why there was none is read from error
// values and numbers, never from a text: the attribute err of what they log at
// level warning and above, the DNS message that they log at level debug, and the
// metrics in their registry.
package blackbox

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/blackbox_exporter/config"
	"github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// Module is a module of blackbox.yml: how to probe.
type Module = config.Module

// The values of a module's key prober that [New] takes.
const (
	HTTP = "http"
	DNS  = "dns"
	ICMP = "icmp"
)

const (
	// grace is how long a prober that does not watch its context may take to
	// notice that time is up, before it is left alone.
	grace = 200 * time.Millisecond
	// maxStuck is how many probers of a module may be left alone at a time. The
	// dns prober takes its timeout anew for each of connecting, writing and
	// reading.
	maxStuck = 16
)

// Prober is a prober of blackbox_exporter with a module for it.
type Prober struct {
	module Module
	run    prober.ProbeFn
	stuck  atomic.Int32
}

var _ probe.Prober = (*Prober)(nil)

// New returns the prober of a module, whose kind must be HTTP, DNS or ICMP.
func New(m Module) (probe.Prober, error) {
	p := &Prober{module: m}
	switch m.Prober {
	case HTTP:
		return newHTTP(m.HTTP), nil
	case DNS:
		p.run = prober.ProbeDNS
	case ICMP:
		p.run = prober.ProbeICMP
	default:
		return nil, fmt.Errorf("blackbox: there is no prober %q here", m.Prober)
	}
	return p, nil
}

// Probe implements [probe.Prober].
func (p *Prober) Probe(ctx context.Context, r probe.Request) probe.Result {
	if p.stuck.Load() >= maxStuck {
		err := fmt.Errorf("blackbox: %d earlier probes of this module are past their time and still run", maxStuck)
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	if _, bounded := ctx.Deadline(); !bounded { // the probers take the lack of one for a deadline that is past, or wait forever
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probe.DefaultTimeout)
		defer cancel()
	}
	if p.module.Prober == DNS {
		return p.probeDNS(ctx, r)
	}
	return p.probeICMP(ctx, r)
}

// findings is what a prober left behind.
type findings struct {
	success  bool
	panicked error // why it did not come to an end of its own
	overdue  bool  // it was left alone when time was up
	families []*dto.MetricFamily
	log      record
}

// execute runs the prober until it returns, or until ctx has been over for a
// while.
func (p *Prober) execute(ctx context.Context, target string, m *Module, log *slog.Logger) findings {
	registry, handler := prometheus.NewRegistry(), newHandler(log)
	ended := make(chan findings, 1)
	go func() {
		var f findings
		defer func() {
			f.panicked = errorOf(recover())
			ended <- f
		}()
		f.success = p.run(ctx, target, *m, registry, slog.New(handler))
	}()

	var f findings
	select {
	case f = <-ended:
	case <-ctx.Done():
		f = p.waitAWhile(ended)
	}
	f.log = handler.record()
	f.families, _ = registry.Gather() // what comes beside an error is whole
	return f
}

// waitAWhile waits for a prober whose time is up, and then leaves it alone.
func (p *Prober) waitAWhile(ended <-chan findings) findings {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case f := <-ended:
		return f
	case <-timer.C:
	}
	p.stuck.Add(1)
	go func() {
		<-ended
		p.stuck.Add(-1)
	}()
	return findings{overdue: true}
}

// errorOf returns what a prober panicked with.
func errorOf(recovered any) error {
	if recovered == nil {
		return nil
	}
	return fmt.Errorf("blackbox: the prober panicked: %v", recovered)
}
