package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// targetsPart is the part of the page about targets.
type targetsPart struct {
	Total, Matching int
	Rows            []targetRow
	ShowAll         string
}

// targetRow is a target as the page shows it.
type targetRow struct {
	Href, Name, Address, Module string
	State                       mark
	Sentence, Next              string
	Check                       string // where it is checked; empty if the client may not
	Since                       *moment
	Runs                        []runMark
	Took                        string
}

// runMark is a probe of the past.
type runMark struct {
	mark
	When moment
}

func address(t *probe.Target) string { return plain.Line(t.Redacted()) }

func (v *sight) targets(f filter) targetsPart {
	p := targetsPart{Total: len(v.pasts)}
	var chosen []*schedule.Past
	for i := range v.pasts {
		t := v.pasts[i].Target
		if f.contains(t.Name, address(t), t.Module.Name, v.pasts[i].State.String()) {
			chosen = append(chosen, &v.pasts[i])
		}
	}
	p.Matching = len(chosen)
	slices.SortStableFunc(chosen, func(a, b *schedule.Past) int { return cmp.Compare(a.State, b.State) })
	chosen, p.ShowAll = cut(chosen, f)
	for _, past := range chosen {
		p.Rows = append(p.Rows, v.target(past))
	}
	return p
}

func (v *sight) target(p *schedule.Past) targetRow {
	r := targetRow{
		Href: v.targetLink(p.Target), Name: plain.Line(p.Target.Name), Address: address(p.Target), Module: plain.Name(p.Target.Module.Name),
		State: mark{stateTone(p.State), p.State.String()}, Runs: v.runs(p),
	}
	r.Sentence, r.Next = v.explain(p)
	r.Check = v.check(p)
	if p.State != schedule.Unknown {
		r.Since = new(momentOf(p.Since, v.now))
	}
	if p.Result.Outcome.Tried() && p.State != schedule.Unknown {
		r.Took = took(p.Result.Duration)
	}
	return r
}

// explain says what the latest probe found, and what to try next.
func (v *sight) explain(p *schedule.Past) (found, next string) {
	switch {
	case p.State == schedule.Unknown && p.Target.Interval > 0:
		return "The first probe is still to come.", ""
	case p.State == schedule.Unknown:
		return "Each scrape of the metrics probes it, and there was none yet.", ""
	}
	facts := v.own.Facts(&p.Report)
	if facts.Listener != nil && facts.Listener.Listener != nil {
		if l := v.seen(facts.Listener.Listener.ListenerID); l != nil {
			facts.Owner = strings.Join(ownerNames(l.Owners), ", ")
		}
	}
	judged := verdict.Judge(&facts)
	if p.State != schedule.Passing {
		next = plain.Line(judged.Next)
	}
	return sentence(judged.Sentence, p.Target), next
}

// sentence returns a sentence about a target as one.
func sentence(text string, t *probe.Target) string {
	text = plain.Line(text)
	if !strings.HasPrefix(text, address(t)) {
		text = capital(text)
	}
	return text + "."
}

func (v *sight) runs(p *schedule.Past) []runMark {
	var all []runMark
	for _, r := range p.Runs {
		all = append(all, runMark{mark{stateTone(r.State), r.Outcome.String()}, momentOf(r.At, v.now)})
	}
	return all
}

// targetLink is the page of a target: its address without a password.
func (v *sight) targetLink(t *probe.Target) string {
	return v.link("target", "target", t.Redacted(), "module", t.Module.Name, "name", t.Name)
}

// targetsVerdict is what the verdict of the page says of targets.
func (v *sight) targetsVerdict() []clause {
	const href = "#targets"
	n := map[schedule.State]int{}
	for i := range v.pasts {
		n[v.pasts[i].State]++
	}
	total := len(v.pasts)
	if total == 0 {
		return nil
	}
	var all []clause
	verb := "fail"
	if n[schedule.Failing] == 1 {
		verb = "fails"
	}
	switch {
	case n[schedule.Failing] > 0:
		all = append(all, clause{mark{bad, fmt.Sprintf("%s of %s %s", count(n[schedule.Failing]), counted(total, "target"), verb)}, href})
	case n[schedule.Passing] == total:
		all = append(all, clause{mark{good, counted(total, "target") + ", all pass"}, href})
	default:
		all = append(all, clause{mark{plainly, "none of " + counted(total, "target") + " fails"}, href})
	}
	if n[schedule.Untried] > 0 {
		all = append(all, clause{mark{warn, counted(n[schedule.Untried], "target") + " could not be tried"}, href})
	}
	if n[schedule.Unknown] > 0 {
		all = append(all, clause{mark{unknown, counted(n[schedule.Unknown], "target") + " not probed yet"}, href})
	}
	return all
}

// labelsOf returns the labels of a target as they stand in the metrics.
func labelsOf(t *probe.Target) string {
	var all []string
	for _, l := range t.Labels {
		all = append(all, plain.Line(fmt.Sprintf("%s=%q", l.Name, l.Value)))
	}
	return strings.Join(all, ", ")
}
