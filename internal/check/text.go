package check

import (
	"fmt"
	"strings"

	"github.com/port-exporter/port_exporter/internal/plain"
)

// Styles are the escape sequences around the marks, for a terminal; the zero value has
// none.
type Styles struct{ OK, Failed, Unknown, Bold, End string }

// Terminal returns the styles for a terminal that shows colours.
func Terminal() Styles {
	return Styles{OK: "\x1b[32m", Failed: "\x1b[31m", Unknown: "\x1b[33m", Bold: "\x1b[1m", End: "\x1b[0m"}
}

// Text returns the report for people: the verdict, the evidence, and what to try.
func (r *Report) Text(s Styles) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s%s.%s\n", s.Bold, plain.Line(r.Verdict.Sentence), s.End)
	for _, e := range r.Evidence() {
		b.WriteString(e.Line(s))
	}
	if next := r.nextStep(); next != "" {
		fmt.Fprintf(&b, "%sTry:%s %s\n", s.Bold, s.End, plain.Line(next))
	}
	return b.String()
}

// Line returns a fact as a line for people.
func (e *Evidence) Line(s Styles) string {
	return fmt.Sprintf("  %s%-7s%s  %-11s  %s\n", s.of(e.Mark), e.Mark, s.End, e.Topic, plain.Line(e.Text))
}

// nextStep returns what to try; nothing where all is as expected.
func (r *Report) nextStep() string {
	if r.Success {
		return ""
	}
	return r.Verdict.Next
}

func (s Styles) of(m Mark) string {
	switch m {
	case OK:
		return s.OK
	case Failed:
		return s.Failed
	default:
		return s.Unknown
	}
}
