package schedule

import (
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// State is what the latest probe says of a target.
type State uint8

// The states, what needs attention first.
const (
	Failing State = iota // the outcome is not the one that its module expects
	Untried              // something on this host kept the exporter from trying
	Unknown              // no probe has ended yet
	Passing              // the outcome is the expected one
)

// String returns the state in a word.
func (s State) String() string {
	switch s {
	case Failing:
		return "fails"
	case Untried:
		return "not tried"
	case Unknown:
		return "not probed yet"
	case Passing:
		return "passes"
	default:
		return "unknown"
	}
}

// stateOf returns what a result says of the target of a module.
func stateOf(m *probe.Module, r probe.Result) State {
	switch success, known := m.Success(r); {
	case !known:
		return Untried
	case success:
		return Passing
	default:
		return Failing
	}
}

// Run is a probe of the past.
type Run struct {
	At      time.Time
	Outcome probe.Outcome
	State   State
}

// shownRuns is how many probes of each target are remembered.
const shownRuns = 10

// Past is what is remembered of a configured target.
type Past struct {
	// Report is the latest probe, without its measurements. At is zero if there was
	// none.
	Report
	State State
	// Since is when the first of the probes ended that all had this state.
	Since time.Time
	// Runs are the latest probes, the oldest first.
	Runs []Run
}

// record remembers the probes of one target. It is safe for concurrent use.
type record struct {
	Tally

	mu     sync.Mutex
	runs   [shownRuns]Run // a ring
	ended  uint64         // how many there were
	since  time.Time
	latest probe.Result
}

// remember adds a probe. Of one whose measurements are kept elsewhere, or nowhere,
// there may be ten thousand.
func (r *record) remember(report Report) {
	run := Run{report.At, report.Result.Outcome, stateOf(report.Target.Module, report.Result)}
	report.Result.Samples = nil
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ended == 0 || r.last().State != run.State {
		r.since = run.At
	}
	r.runs[r.ended%shownRuns] = run
	r.ended++
	r.latest = report.Result
}

func (r *record) last() Run { return r.runs[(r.ended-1)%shownRuns] }

// past returns what is remembered.
func (r *record) past(t *probe.Target) Past {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := Past{Report: Report{Target: t, Tally: &r.Tally}, State: Unknown}
	if r.ended == 0 {
		return p
	}
	p.Result, p.At = r.latest, r.last().At
	p.State, p.Since = r.last().State, r.since
	for i := r.ended - min(r.ended, shownRuns); i < r.ended; i++ {
		p.Runs = append(p.Runs, r.runs[i%shownRuns])
	}
	return p
}

// Pasts returns what is remembered of each target of a plan that was put in force, in
// their order. It probes nothing.
func (p *Plan) Pasts() []Past {
	pasts := make([]Past, len(p.Targets))
	for i := range p.Targets {
		pasts[i] = p.records[i].past(&p.Targets[i])
	}
	return pasts
}
