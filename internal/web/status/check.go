package status

import (
	"net/http"

	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// checkPage is the page of a check.
type checkPage struct {
	head
	Heading        string
	Verdict        mark
	Sentence, Next string
	Place          string
	Evidence       []evidence
	Again          string // where the target is checked again
}

// evidence is a fact that was looked at.
type evidence struct {
	mark
	Topic, Fact string
}

// Check serves the page of a check, which it makes.
func (s *Server) Check(w http.ResponseWriter, r *http.Request) {
	report, ok := s.Report(w, r)
	if !ok {
		return
	}
	s.render(w, http.StatusOK, "check.html", s.checkPage(report))
}

func (s *Server) checkPage(r *check.Report) checkPage {
	t := r.Target
	p := checkPage{head: s.head("check of "+address(t), s.Now()), Heading: address(t), Again: s.checkLink(t)}
	p.Sentence = sentence(r.Verdict.Sentence, t)
	switch {
	case r.Success:
		p.Verdict = mark{good, "as expected"}
	case r.Known:
		p.Verdict = mark{bad, "not as expected"}
	default:
		p.Verdict = mark{warn, "not tried"}
	}
	if !r.Success {
		p.Next, p.Place = plain.Line(r.Verdict.Next), r.Verdict.Place.Words()
	}
	p.Evidence = evidenceOf(r.Evidence(), t)
	return p
}

// evidenceOf returns facts as a page shows them.
func evidenceOf(facts []check.Evidence, t *probe.Target) (all []evidence) {
	for _, e := range facts {
		all = append(all, evidence{mark{evidenceTone(e.Mark), e.Mark.String()}, e.Topic, plain.Line(probe.Redact(e.Text, t.Address))})
	}
	return all
}

func evidenceTone(m check.Mark) tone {
	switch m {
	case check.OK:
		return good
	case check.Failed:
		return bad
	case check.Unknown:
		return unknown
	default:
		return unknown
	}
}

// checkLink is where a target is checked; empty if its address holds a password.
func (s *Server) checkLink(t *probe.Target) string {
	if t.Redacted() != t.Address {
		return ""
	}
	return s.link("check", "target", t.Address, "module", t.Module.Name, "hostname", t.Hostname, "netns", t.Netns)
}

// check is where a client that may can have a failing target checked; empty otherwise.
func (v *sight) check(p *schedule.Past) string {
	if !v.local || p.State == schedule.Passing {
		return ""
	}
	return v.checkLink(p.Target)
}
