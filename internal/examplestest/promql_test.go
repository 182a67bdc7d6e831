package examplestest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/scanner"

	"github.com/google/go-cmp/cmp"
)

// query is what a PromQL expression names. It is read token by token and not
// understood: promtool does that.
type query struct {
	selectors []selector
	labels    []string // of by, on, group_left and their siblings
	made      []string // by label_replace and label_join
}

type selector struct {
	metric string
	labels []string // of its matchers
}

// reader reads the tokens of an expression. calls holds the parentheses that
// are open.
type reader struct {
	scanner.Scanner
	query
	calls []call
	err   error
}

type call struct {
	function string
	argument int
}

func parseQuery(expr string) (query, error) {
	var r reader
	r.Init(strings.NewReader(expr))
	r.Mode = scanner.ScanIdents | scanner.ScanInts | scanner.ScanFloats | scanner.ScanStrings
	r.IsIdentRune = func(c rune, i int) bool {
		return c == '_' || c == ':' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9'
	}
	r.Error = func(_ *scanner.Scanner, msg string) { r.fail(msg) }
	for token := r.Scan(); token != scanner.EOF && r.err == nil; token = r.Scan() {
		r.take(token)
	}
	return r.query, r.err
}

func (r *reader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("at byte %d: %s", r.Pos().Offset, what)
	}
}

func (r *reader) take(token rune) {
	switch token {
	case scanner.Ident:
		r.word(r.TokenText())
	case '(':
		r.calls = append(r.calls, call{})
	case ')':
		r.calls = r.calls[:max(0, len(r.calls)-1)]
	case ',':
		if n := len(r.calls); n > 0 {
			r.calls[n-1].argument++
		}
	case '[':
		r.until(']')
	case '{':
		r.fail("a selector without a name")
	case scanner.String:
		// The second argument of both functions is the label that they make.
		if n := len(r.calls); n > 0 && r.calls[n-1].argument == 1 && strings.HasPrefix(r.calls[n-1].function, "label_") {
			r.made = append(r.made, strings.Trim(r.TokenText(), `"`))
		}
	}
}

func (r *reader) word(word string) {
	next := r.next()
	switch {
	case slices.Contains([]string{"by", "without", "on", "ignoring", "group_left", "group_right"}, word):
		if next == '(' {
			r.labels = append(r.labels, r.until(')')...)
		}
	case slices.Contains([]string{"and", "or", "unless", "bool"}, word):
	case word == "offset":
		r.Scan() // 15
		r.Scan() // m
	case next == '(':
		r.Scan()
		r.calls = append(r.calls, call{function: word})
	case next == '{':
		r.selectors = append(r.selectors, selector{word, r.until('}')})
	case slices.ContainsFunc([]string{"sum", "avg", "min", "max", "count", "topk", "bottomk", "quantile", "group"}, func(a string) bool { return a == word }):
		// sum by (job) (...)
	default:
		r.selectors = append(r.selectors, selector{metric: word})
	}
}

// next looks at the token that follows without taking it.
func (r *reader) next() rune {
	for r.Peek() == ' ' || r.Peek() == '\n' {
		r.Next()
	}
	return r.Peek()
}

// until reads up to an end and returns the words on the way.
func (r *reader) until(end rune) []string {
	var words []string
	for token := r.Scan(); token != end && r.err == nil; token = r.Scan() {
		switch token {
		case scanner.Ident:
			words = append(words, r.TokenText())
		case scanner.EOF:
			r.fail("no " + strconv.QuoteRune(end))
		}
	}
	return words
}

func TestParseQuery(t *testing.T) {
	tests := []struct {
		expr string
		want query
		bad  bool
	}{
		{expr: `sum by (job`, bad: true},
		{expr: `{__name__="up"}`, bad: true},
		{expr: `up{job="x"`, bad: true},
		{expr: `rate(up["5m])`, bad: true},
		{expr: `1 + 2e3`},
		{expr: `up == bool 1`, want: query{selectors: []selector{{metric: "up"}}}},
		{expr: `sum without (a, b) (x:y:z{c="d,e=", f!~"}"}[1d:15m] offset 15m) > 0.8`, want: query{
			selectors: []selector{{"x:y:z", []string{"c", "f"}}}, labels: []string{"a", "b"},
		}},
		{expr: "max_over_time(a[3m])\n unless on (b) c / ignoring(d) group_left (e) topk by (f) (1, g)", want: query{
			selectors: []selector{{metric: "a"}, {metric: "c"}, {metric: "g"}}, labels: []string{"b", "d", "e", "f"},
		}},
		{expr: `label_replace(max(a{b="c"}), "d", "$1", "e", "(.*)")`, want: query{
			selectors: []selector{{"a", []string{"b"}}}, made: []string{"d"},
		}},
	}
	for _, tt := range tests {
		got, err := parseQuery(tt.expr)
		if (err != nil) != tt.bad {
			t.Errorf("%s: error %v, want one: %t", tt.expr, err, tt.bad)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(query{}, selector{})); !tt.bad && diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.expr, diff)
		}
	}
}

// vocabulary has the labels of every metric that a query may name.
type vocabulary map[string][]string

// readVocabulary reads the metrics from docs/metrics.md and adds what Prometheus
// itself makes and what our rules record.
func readVocabulary(t *testing.T) vocabulary {
	t.Helper()
	all := vocabulary{"up": nil, "ALERTS": {"alertname", "alertstate", "severity"}}
	maps.Copy(all, readFamilies(t))
	for _, r := range readRules(t) {
		if r.kind != "record" {
			continue
		}
		q, err := parseQuery(r.expr)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		all[r.name] = all.labels(q)
	}
	return all
}

// ofTarget are the labels of a target. The cluster is one that a user may add.
var ofTarget = []string{"cluster", "job", "instance"}

// labels returns every label that the result of a query may have.
func (all vocabulary) labels(q query) []string {
	out := slices.Clone(ofTarget)
	for _, s := range q.selectors {
		out = append(out, all[s.metric]...)
	}
	return append(out, q.made...)
}

// check says what of a query there is not.
func (all vocabulary) check(expr string) []string {
	q, err := parseQuery(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, s := range q.selectors {
		labels, ok := all[s.metric]
		if !ok {
			out = append(out, "no metric "+s.metric)
			continue
		}
		for _, l := range s.labels {
			if !slices.Contains(slices.Concat(ofTarget, labels), l) {
				out = append(out, fmt.Sprintf("%s has no label %s", s.metric, l))
			}
		}
	}
	for _, l := range q.labels {
		if !slices.Contains(all.labels(q), l) {
			out = append(out, "no metric of the query has a label "+l)
		}
	}
	return out
}

func TestVocabularyCheck(t *testing.T) {
	all := vocabulary{"up": nil, "port_sockets": {"netns", "state"}}
	tests := []struct {
		expr string
		want []string
	}{
		{`up{`, []string{"at byte 3: no '}'"}},
		{`port_socket`, []string{"no metric port_socket"}},
		{`port_sockets{port="1"}`, []string{"port_sockets has no label port"}},
		{`sum by (port) (port_sockets)`, []string{"no metric of the query has a label port"}},
		{`sum by (job, state) (port_sockets{instance="a", netns=""}) * on (job) up`, nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, all.check(tt.expr)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.expr, diff)
		}
	}
}

// Every rule asks for metrics that there are, by labels that they have, and so
// do its annotations.
func TestRuleQueries(t *testing.T) {
	all := readVocabulary(t)
	for _, r := range readRules(t) {
		for _, problem := range all.check(r.expr) {
			t.Errorf("%s: %s", r.name, problem)
		}
		q, _ := parseQuery(r.expr)
		for _, m := range regexp.MustCompile(`\$labels\.(\w+)`).FindAllStringSubmatch(r.text, -1) {
			if !slices.Contains(all.labels(q), m[1]) {
				t.Errorf("%s: its annotations tell the label %s, which no metric of it has", r.name, m[1])
			}
		}
	}
}

// The same for every query of every panel and its legend.
func TestDashboardVocabulary(t *testing.T) {
	all := readVocabulary(t)
	for _, d := range readDashboards(t) {
		for _, p := range d.panels() {
			for _, target := range p.Targets {
				expr := allChosen("5m").Replace(target.Expr)
				for _, problem := range all.check(expr) {
					t.Errorf("%s: %s: %s", d.Title, p.Title, problem)
				}
				q, _ := parseQuery(expr)
				for _, m := range legendLabels(target.LegendFormat) {
					if !slices.Contains(all.labels(q), m) || strings.Contains(expr, " by (") && !slices.Contains(q.labels, m) {
						t.Errorf("%s: %s: the legend has %s, which the query does not keep", d.Title, p.Title, m)
					}
				}
			}
		}
	}
}

func legendLabels(format string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`{{ *(\w+) *}}`).FindAllStringSubmatch(format, -1) {
		out = append(out, m[1])
	}
	return out
}
