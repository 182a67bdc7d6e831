package probes

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// Log serves what is remembered of one probe: /logs?id=….
func (s *Server) Log(w http.ResponseWriter, r *http.Request) {
	if !s.mayDebug(s.Plan(), r) {
		http.Error(w, debugDenied, http.StatusForbidden)
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
	writeText(w, text(&entry, &facts))
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff") // targets have a say in it
	_, _ = fmt.Fprint(w, plain.Text(text))
}

// text returns what a probe found, for people: the outcome in a sentence first.
func text(e *schedule.Entry, facts *verdict.Facts) string {
	var b strings.Builder
	address := plain.Line(probe.Redact(e.Target.Address, e.Target.Address))
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

// shown is how many of the remembered probes the status page has.
const shown = 50

// recent is the table of recent probes. html/template escapes what targets and
// clients have a say in.
func recentTable() *template.Template {
	return template.Must(template.New("recent").Parse(`<h2>Recent probes</h2>
{{- if . }}
<table>
<tr><th>when</th><th>target</th><th>module</th><th>success</th><th>outcome</th><th>seconds</th><th></th></tr>
{{- range . }}
<tr><td>{{ .When }}</td><td>{{ .Target }}</td><td>{{ .Module }}</td><td>{{ .Success }}</td><td>{{ .Outcome }}</td><td>{{ .Seconds }}</td><td><a href="logs?id={{ .ID }}">details</a></td></tr>
{{- end }}
</table>
{{- else }}
<p>None yet.</p>
{{- end }}
`))
}

// Example returns the parameters of a probe of the first configured target; empty
// without one. One whose address holds a secret is skipped: the page that the
// example is for is everybody's.
func (s *Server) Example() string {
	for _, t := range s.Plan().Targets {
		if probe.Redact(t.Address, t.Address) == t.Address {
			return url.Values{"target": {t.Address}, "module": {t.Module.Name}}.Encode()
		}
	}
	return ""
}

type recentRow struct {
	ID                                              uint64
	When, Target, Module, Success, Outcome, Seconds string
}

// Recent returns the recent probes as a table in HTML, failures that are older
// among them.
func (s *Server) Recent() string {
	entries := s.Runner.History().Entries()
	var rows []recentRow
	for i := range entries {
		e := &entries[i]
		if len(rows) >= shown && !e.Failed() {
			continue
		}
		success, _, _ := strings.Cut(success(e), ":")
		rows = append(rows, recentRow{
			ID: e.ID, When: e.At.UTC().Format(time.DateTime), Target: plain.Line(probe.Redact(e.Target.Address, e.Target.Address)),
			Module: plain.Line(e.Target.Module.Name), Success: success, Outcome: e.Result.Outcome.String(),
			Seconds: fmt.Sprintf("%.3f", e.Result.Duration.Seconds()),
		})
		if len(rows) == 2*shown {
			break
		}
	}
	var b strings.Builder
	if err := recentTable().Execute(&b, rows); err != nil {
		return "" // a strings.Builder takes everything
	}
	return b.String()
}
