package cli

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// control is what an auditor asks of the listeners of a host.
type control struct {
	id, asks string
	concerns func(*row) bool
}

// controls returns the controls that a policy is evidence for. Their numbers are
// those of the CIS benchmarks for Debian 12, Ubuntu 24.04 and RHEL 9, and of the
// DISA requirements guide for operating systems.
func controls() []control {
	return []control{
		{"CIS 2.1.22", "only approved services listen on a network interface",
			func(r *row) bool { return r.Scope != socket.ScopeLoopback.String() && r.Interface != "lo" }},
		{"STIG SRG-OS-000096-GPOS-00050 (CCI-000382)", "ports, protocols and services that are not approved are prohibited or restricted",
			func(*row) bool { return true }},
	}
}

// result says whether a control is met, and what of. One of which something is in
// doubt is not verified.
func (c control) result(rows []row, inDoubt bool) (result, evidence string) {
	counts := map[string]int{}
	all := 0
	for i := range rows {
		if c.concerns(&rows[i]) {
			counts[rows[i].Verdict]++
			all++
		}
	}
	result = "met"
	switch {
	case counts[policy.Unexpected.String()]+counts[policy.Forbidden.String()] > 0:
		result = "**not met**"
	case inDoubt, counts[policy.Unverified.String()]+counts[policy.Undecided.String()] > 0:
		result = "**not verified**"
	}
	evidence = fmt.Sprintf("%d listeners", all)
	for _, k := range policy.Kinds() {
		evidence += fmt.Sprintf(", %d %s", counts[k.String()], k)
	}
	return result, evidence
}

// writeReport writes, in Markdown, what the policy says of the listeners for those
// who audit the host.
func (h *Command) writeReport(w io.Writer, subject string, j *judged) error {
	m := &markdown{}
	m.line("# Listening services of %s", escapeMarkdown(subject))
	m.table([]string{"what", "which"}, [][]string{
		{"host", subject},
		{"time", h.now().UTC().Format(time.RFC3339)},
		{"policy", h.ConfigFile},
		{"rules", strconv.Itoa(len(j.rules))},
		{"tool", strings.TrimSpace("port_exporter " + h.Version)},
	})
	m.line("## Controls")
	m.verbatim([]string{"control", "what it asks", "result", "evidence"}, controlRows(j))
	m.line("A listener is approved when the first rule of the policy that matches it expects it. Whether the rules are " +
		"justified is for the reader to judge, by their comments. An undecided one is a UDP socket that may be a client's. " + j.leftOut())
	m.line("## Findings")
	m.findings(j.rows)
	for _, b := range j.required() {
		m.line("- %s", escapeMarkdown(plain.Line(b.sentence())))
	}
	for _, doubt := range j.doubts() {
		m.line("- %s", escapeMarkdown(doubt))
	}
	m.line("## Approved listeners")
	m.approved(j)
	m.line("## Exceptions that end")
	m.exceptions(j.rules, h.now())
	_, err := io.WriteString(w, m.String())
	return err
}

// leftOut says what the verdicts are not about.
func (j *judged) leftOut() string {
	if policy.NamesOthers(j.rules) {
		return "Firewalls were not looked at."
	}
	return "Firewalls and other network namespaces were not looked at."
}

func controlRows(j *judged) [][]string {
	var out [][]string
	for _, c := range controls() {
		result, evidence := c.result(j.rows, len(j.doubts()) > 0)
		out = append(out, []string{c.id, c.asks, result, evidence})
	}
	return out
}

// markdown is a text with paragraphs and tables.
type markdown struct{ strings.Builder }

func (m *markdown) line(format string, args ...any) { fmt.Fprintf(m, format+"\n\n", args...) }

// table writes cells as they read; an empty table is a sentence.
func (m *markdown) table(header []string, rows [][]string) {
	for i := range rows {
		for k, cell := range rows[i] {
			rows[i][k] = escapeMarkdown(plain.Line(cell))
		}
	}
	m.verbatim(header, rows)
}

// verbatim writes cells that are Markdown.
func (m *markdown) verbatim(header []string, rows [][]string) {
	if len(rows) == 0 {
		m.line("None.")
		return
	}
	m.row(header)
	m.row(strings.Fields(strings.Repeat("--- ", len(header))))
	for _, cells := range rows {
		m.row(cells)
	}
	m.WriteString("\n")
}

func (m *markdown) row(cells []string) {
	for _, cell := range cells {
		m.WriteString("| " + cmp.Or(cell, "–") + " ")
	}
	m.WriteString("|\n")
}

// identity are the cells of a listener and its owner, headed by identityHeader.
func (r *row) identity() []string {
	place := r.place()
	if r.Netns != "" {
		place += " in " + plain.Name(r.Netns)
	}
	return []string{r.Protocol, place, r.service(), r.reach(), r.program(), r.User, r.Unit, r.Container, r.Rule, r.Comment}
}

func identityHeader() []string {
	return []string{"protocol", "address", "port", "scope", "process", "user", "unit", "container", "rule", "comment"}
}

func (m *markdown) findings(rows []row) {
	var cells [][]string
	for i := range rows {
		if r := &rows[i]; r.isFinding() {
			cells = append(cells, append([]string{r.Verdict, r.Severity}, r.identity()...))
		}
	}
	m.table(append([]string{"verdict", "severity"}, identityHeader()...), cells)
}

func (m *markdown) approved(j *judged) {
	until := map[string]string{}
	for _, r := range j.rules {
		if !r.Until.IsZero() {
			until[r.Name] = r.Until.Format(time.DateOnly)
		}
	}
	var cells [][]string
	for i := range j.rows {
		if r := &j.rows[i]; r.Verdict == policy.Expected.String() {
			cells = append(cells, append(r.identity(), until[r.Rule]))
		}
	}
	m.table(append(identityHeader(), "until"), cells)
}

func (m *markdown) exceptions(rules []policy.Rule, now time.Time) {
	var cells [][]string
	for i := range rules {
		r := &rules[i]
		if r.Until.IsZero() {
			continue
		}
		state := "holds"
		if r.Ended(now) {
			state = "ended"
		}
		cells = append(cells, []string{r.Name, r.Comment, r.Until.Format(time.DateOnly), state})
	}
	m.table([]string{"rule", "comment", "last day", "state"}, cells)
}

// escapeMarkdown returns the text so that Markdown shows it as it is.
func escapeMarkdown(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strings.ContainsRune("\\`*_{}[]<>|#~&", c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}
