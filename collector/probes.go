package collector

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// The families of probes. Beside their own labels, those of the configured
// targets have the labels of targetLabels and the target's own. The first two
// are blackbox_exporter's, help included: a success is the outcome that the module
// expects, and both are absent without a result.
var (
	probeSuccess = gauge("probe_success",
		"Displays whether or not the probe was a success")
	probeDuration = gauge("probe_duration_seconds",
		"Returns how long the probe took to complete in seconds")
	probeOutcomeCode = gauge("probe_outcome_code",
		"Outcome of the probe as a number; 0 is open.")
	probeFailureInfo = gauge("probe_failure_info",
		"Reason, phase, origin and place of an outcome that is not expected; always 1.",
		"reason", "phase", "origin", "place")
	probeLocalListener = gauge("probe_local_listener",
		"Whether a local listener accepts the target's address and port (1 or 0).", "scope")
	probeLocalInfo = gauge("probe_local_listener_info",
		"State of the local listeners for a target on this host; always 1.", "state")
	probeAge = gauge("probe_age_seconds",
		"Age of the last result of a scheduled probe, in seconds.")
	probeResults = counter("probe_results_total",
		"Scheduled probes of the target by outcome.", "outcome")
)

// targetLabels are the labels of every series of a configured target, sorted.
var targetLabels = []string{"module", "target", "target_name"}

// targetNetns is one more label of those that are probed from another network namespace.
const targetNetns = "netns"

// ProbeResults probes the configured targets, or returns the latest result of those that are probed
// in the background, in their order. It ends before ctx does.
type ProbeResults func(ctx context.Context) ([]schedule.Report, error)

// probes exports the results of the configured targets.
type probes struct {
	results   ProbeResults
	addresses func() (map[netip.Addr]string, error)
	memory    *Memory // for the time
}

func (probes) Name() string { return "probes" }

func (probes) Families() []*Family {
	families := []*Family{probeSuccess, probeDuration, probeOutcomeCode, probeFailureInfo, probeLocalListener, probeLocalInfo, probeAge, probeResults}
	for _, m := range prober.Metrics() {
		families = append(families, gauge(m.Name, m.Help, m.Labels...))
	}
	return families
}

// mayExport reports whether a metric may be one of ours: those of the embedded probers
// are not all known beforehand.
func (probes) mayExport(name string) bool { return strings.HasPrefix(name, "probe_") }

func (c probes) Collect(ctx context.Context, host *Snapshot, out *Output) error {
	reports, err := c.results(ctx)
	if err != nil {
		return err
	}
	own := ownhost.New(c.addresses, host.Listening)
	samples := newSampleFamilies()
	for i := range reports {
		r := &reports[i]
		labels := targetSet(out, r.Target)
		addFacts(out, samples, own.Facts(r), labels)
		if r.Target.Interval > 0 && !r.At.IsZero() {
			out.addSet(probeAge, c.memory.history.Now().Sub(r.At).Seconds(), labels)
		}
		for _, o := range probe.Outcomes() {
			if n := r.Tally.Count(o); n > 0 {
				out.addSet(probeResults, float64(n), out.join(out.set(probeResults, o.String()), labels))
			}
		}
	}
	return nil
}

// targetSet returns the labels of a target. A label of its own that has one of
// our names gives way.
func targetSet(out *Output, t *probe.Target) labelSet {
	set := make(labelSet, 0, len(targetLabels))
	for i, value := range []string{t.Module.Name, t.Address, t.Name} {
		set = append(set, out.pair(targetLabels[i], value))
	}
	if t.Netns != "" {
		set = out.join(set, labelSet{out.pair(targetNetns, t.Netns)})
	}
	own := make(labelSet, 0, len(t.Labels))
	for _, l := range t.Labels {
		own = append(own, out.pair(l.Name, l.Value))
	}
	return out.join(set, own)
}

// addFacts adds what is known of one probe.
func addFacts(out *Output, samples sampleFamilies, of verdict.Facts, labels labelSet) {
	r := of.Result
	success, known := of.Target.Module.Success(*r)
	if known {
		out.addSet(probeSuccess, truth(success), labels)
	}
	out.addSet(probeOutcomeCode, float64(r.Outcome), labels)
	if r.Outcome != probe.NotRun && r.Outcome != probe.Denied { // how long it took says whether a name exists
		out.addSet(probeDuration, r.Duration.Seconds(), labels)
	}
	if !success {
		place := verdict.CodeOf(&of).Place()
		reason := out.set(probeFailureInfo, r.Outcome.String(), r.Phase.String(), r.Origin.String(), place.String())
		out.addSet(probeFailureInfo, 1, out.join(reason, labels))
	}
	for i := range r.Samples {
		s := &r.Samples[i]
		f := samples.of(s.Metric)
		out.addSet(f.of, s.Value, out.join(out.set(f.labels, s.Labels...), labels))
	}
	if of.Listener != nil {
		addAnswer(out, *of.Listener, labels)
	}
}

func addAnswer(out *Output, a socket.Answer, labels labelSet) {
	out.addSet(probeLocalListener, truth(a.Taken()), out.join(out.set(probeLocalListener, a.Scope()), labels))
	out.addSet(probeLocalInfo, 1, out.join(out.set(probeLocalInfo, a.Standing.String()), labels))
}

// sampleFamilies are the families of the probers' own metrics, made as they come
// up: an embedded prober declares some anew for each probe.
type sampleFamilies struct {
	byMetric map[*probe.Metric]sampleFamily
	byName   map[string]*Family
}

// sampleFamily is where the samples of a metric go, and the labels they have:
// metrics with the same name may differ in these.
type sampleFamily struct{ of, labels *Family }

func newSampleFamilies() sampleFamilies {
	return sampleFamilies{map[*probe.Metric]sampleFamily{}, map[string]*Family{}}
}

func (s sampleFamilies) of(m *probe.Metric) sampleFamily {
	if f, ok := s.byMetric[m]; ok {
		return f
	}
	of, ok := s.byName[m.Name]
	f := sampleFamily{of, of}
	if !ok || !slices.Equal(of.Labels, m.Labels) {
		f.labels = gauge(m.Name, m.Help, m.Labels...)
	}
	if !ok {
		f.of, s.byName[m.Name] = f.labels, f.labels
	}
	s.byMetric[m] = f
	return f
}

// Exposition returns the metrics of one probe on request, without labels of a
// target, as blackbox_exporter exports them.
func Exposition(of verdict.Facts) []*dto.MetricFamily {
	var out Output
	addFacts(&out, newSampleFamilies(), of, nil)
	return out.sorted()
}

// ReservedLabels returns the names that a label of a target's own cannot have.
func ReservedLabels() []string {
	names := append(slices.Clone(targetLabels), targetNetns)
	for _, f := range (probes{}).Families() {
		names = append(names, f.Labels...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
