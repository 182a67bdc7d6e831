package cli

import (
	"encoding/xml"
	"fmt"
	"io"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
)

// What follows has the shape of JUnit's reports as CI servers read them.

type junitReport struct {
	XMLName xml.Name `xml:"testsuites"`
	Name    string   `xml:"name,attr"`
	junitCounts
	Suites []junitSuite `xml:"testsuite"`
}

type junitCounts struct {
	Tests    int `xml:"tests,attr"`
	Failures int `xml:"failures,attr"`
	Errors   int `xml:"errors,attr"`
}

type junitSuite struct {
	Name string `xml:"name,attr"`
	junitCounts
	Skipped   int         `xml:"skipped,attr"`
	Host      string      `xml:"hostname,attr"`
	Timestamp string      `xml:"timestamp,attr"`
	Time      string      `xml:"time,attr"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string      `xml:"classname,attr"`
	Name    string      `xml:"name,attr"`
	Time    string      `xml:"time,attr"`
	Failure *junitFault `xml:"failure"`
	Error   *junitFault `xml:"error"`
}

type junitFault struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr"`
	Text    string `xml:",chardata"`
}

// writeJUnit writes a case for each listener, each required rule and each thing that
// was not read. What is not expected has failed; what could not be verified is in error.
func (h *Command) writeJUnit(w io.Writer, subject string, j *judged) error {
	suite := junitSuite{Name: "policy", Host: subject, Timestamp: h.now().UTC().Format("2006-01-02T15:04:05"), Time: "0"}
	for i := range j.rows {
		suite.add(j.rows[i].junitCase())
	}
	for _, doubt := range j.doubts() {
		suite.add(junitCase{Class: "read", Name: doubt, Error: &junitFault{doubt, policy.Unverified.String(), doubt}})
	}
	faults := map[string]broken{}
	for _, b := range j.required() {
		faults[b.rule.Name] = b
	}
	for i := range j.rules {
		if r := &j.rules[i]; r.Required && !r.Ended(h.now()) {
			b, isBroken := faults[r.Name]
			suite.add(requiredCase(r, b, isBroken))
		}
	}
	text, err := xml.MarshalIndent(junitReport{Name: "port_exporter", junitCounts: suite.junitCounts, Suites: []junitSuite{suite}}, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s%s\n", xml.Header, text)
	return err
}

func (s *junitSuite) add(c junitCase) {
	s.Tests++
	if c.Failure != nil {
		s.Failures++
	}
	if c.Error != nil {
		s.Errors++
	}
	c.Time = "0"
	s.Cases = append(s.Cases, c)
}

func (r *row) junitCase() junitCase {
	c := junitCase{Class: "listeners." + r.Protocol, Name: r.title()}
	fault := &junitFault{Message: r.sentence(), Type: r.Verdict, Text: r.sentence()}
	switch {
	case !r.isFinding():
	case r.Verdict == policy.Unverified.String():
		c.Error = fault
	default:
		c.Failure = fault
	}
	return c
}

func requiredCase(r *policy.Rule, b broken, isBroken bool) junitCase {
	c := junitCase{Class: "required", Name: plain.Name(r.Name)}
	if !isBroken {
		return c
	}
	text := plain.Line(b.sentence())
	if b.unverified {
		c.Error = &junitFault{text, policy.Unverified.String(), text}
	} else {
		c.Failure = &junitFault{text, "missing", text}
	}
	return c
}
