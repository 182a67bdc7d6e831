package probes

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// Log serves what is remembered of one probe, /logs?id=…, and without an id a list of
// those that are remembered.
func (s *Server) Log(w http.ResponseWriter, r *http.Request) {
	if !s.MayDebug(r) {
		http.Error(w, debugDenied, http.StatusForbidden)
		return
	}
	if !r.URL.Query().Has("id") {
		writeText(w, list(s.Runner.History().Entries()))
		return
	}
	id, err := strconv.ParseUint(r.URL.Query().Get("id"), 10, 64)
	if err != nil {
		http.Error(w, "the parameter id is not a number", http.StatusBadRequest)
		return
	}
	entry, ok := s.Runner.History().Entry(id)
	if !ok {
		http.Error(w, fmt.Sprintf("the probe %d is not remembered any more", id), http.StatusNotFound)
		return
	}
	facts := s.OwnHost(r.Context()).Facts(&entry.Report)
	writeText(w, s.text(&entry, &facts))
}

// list returns a line for each probe, the latest first.
func list(entries []schedule.Entry) string {
	var b strings.Builder
	b.WriteString("Recent probes; /logs?id=ID has the details of one.\n\n")
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tENDED\tOUTCOME\tMODULE\tTARGET")
	for i := range entries {
		e := &entries[i]
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\n", e.ID, e.At.UTC().Format(time.DateTime), e.Result.Outcome,
			plain.Line(e.Target.Module.Name), plain.Line(e.Target.Redacted()))
	}
	_ = t.Flush() // a strings.Builder takes everything
	return b.String()
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff") // targets have a say in it
	_, _ = fmt.Fprint(w, plain.Text(text))
}

// text returns what a probe found, for people: the outcome in a sentence first.
func (s *Server) text(e *schedule.Entry, facts *verdict.Facts) string {
	var b strings.Builder
	address := plain.Line(e.Target.Redacted())
	judged := verdict.Judge(facts)
	fmt.Fprintf(&b, "%s.\n", plain.Line(judged.Sentence))
	if facts.Listener != nil {
		fmt.Fprintf(&b, "It is an address of this host, where now %s.\n", plain.Line(facts.Listener.String()))
	}
	if judged.Next != "" {
		fmt.Fprintf(&b, "Try: %s\n", plain.Line(judged.Next))
	}
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s"+format+"\n", append([]any{name + ":"}, args...)...)
	}
	b.WriteString("\n")
	line("target", "%s", address)
	line("module", "%s (%s, expects %s)", e.Target.Module.Name, e.Target.Module.Kind, e.Target.Module.Expect)
	line("success", "%s", success(e))
	line("verdict", "%s, %s", judged.Code, judged.Place.Words())
	line("outcome", "%s (%d)", e.Result.Outcome, e.Result.Outcome)
	if e.Result.Phase != probe.PhaseNone {
		line("phase", "%s", e.Result.Phase)
	}
	line("origin", "%s", e.Result.Origin)
	if e.Result.ICMP.Offender.IsValid() {
		line("offender", "%s", e.Result.ICMP.Offender)
	}
	if e.Result.Peer.IsValid() {
		line("peer", "%s", e.Result.Peer)
	}
	if e.Result.Err != nil {
		line("error", "%s", strings.ReplaceAll(probe.Redact(e.Result.Err.Error(), e.Target.Address), "\n", "\n          "))
	}
	line("duration", "%v", e.Result.Duration)
	line("ended", "%s", e.At.UTC().Format(time.RFC3339Nano))
	writeCertificates(&b, e)
	s.writePath(&b, e)
	if e.Log != "" {
		fmt.Fprintf(&b, "\nLog of the probe:\n%s", e.Log)
	}
	b.WriteString("\nMetrics:\n")
	for _, family := range collector.Exposition(*facts) {
		if _, err := expfmt.MetricFamilyToText(&b, family); err != nil {
			fmt.Fprintf(&b, "# %v\n", err)
		}
	}
	return b.String()
}

func success(e *schedule.Entry) string {
	switch success, known := e.Target.Module.Success(e.Result); {
	case !known:
		return "not known: the target was not tried"
	case success:
		return "yes"
	default:
		return "no"
	}
}

// writePath writes the path to a target that does not answer, if it was traced.
func (s *Server) writePath(b *strings.Builder, e *schedule.Entry) {
	path, at := s.Runner.Path(e.Target, &e.Result)
	if path == nil {
		return
	}
	fmt.Fprintf(b, "\nPath, traced at %s:\n", at.UTC().Format(time.RFC3339))
	for _, fact := range check.PathEvidence(path) {
		b.WriteString(fact.Line(check.Styles{}))
	}
}

// writeCertificates writes the certificates as in the metrics.
func writeCertificates(b *strings.Builder, e *schedule.Entry) {
	for i := range e.Result.Samples {
		switch s := &e.Result.Samples[i]; s.Metric.Name {
		case "probe_ssl_last_chain_info":
			for j, label := range s.Metric.Labels {
				fmt.Fprintf(b, "certificate %s: %s\n", plain.Line(label), plain.Line(s.Labels[j]))
			}
		case "probe_ssl_earliest_cert_expiry":
			expiry := time.Unix(int64(s.Value), 0).UTC()
			fmt.Fprintf(b, "certificates valid until: %s (%.1f days)\n", expiry.Format(time.RFC3339), time.Until(expiry).Hours()/24)
		}
	}
}
