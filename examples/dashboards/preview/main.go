// Command preview shows the dashboards without a Grafana: it reads their JSON,
// asks a Prometheus, and draws their panels in Grafana's grid. It knows what the
// dashboards here use of Grafana's format, and no more.
//
//	go run ./examples/dashboards/preview -prometheus http://localhost:9090
//
// A page takes variables from its address: ?range=15m&instance=web1:10065
package main

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

//go:embed page.html
var page string

func main() {
	p := preview{}
	flag.StringVar(&p.prometheus, "prometheus", "http://localhost:9090", "where Prometheus is")
	flag.StringVar(&p.dir, "dashboards", "examples/dashboards", "the directory of the dashboards")
	flag.DurationVar(&p.interval, "interval", 15*time.Second, "the scrape interval")
	listen := flag.String("listen", "localhost:3300", "address to serve on")
	flag.Parse()
	fmt.Printf("http://%s/\n", *listen)
	if err := http.ListenAndServe(*listen, p); err != nil {
		fmt.Fprintln(os.Stderr, "preview:", err)
		os.Exit(1)
	}
}

type preview struct {
	prometheus, dir string
	interval        time.Duration
}

// board is a dashboard.
type board struct {
	Title      string
	Templating struct {
		List []struct{ Name, Label string }
	}
	Annotations struct{ List []annotation }
	Panels      []panel
}

// annotation is a query whose series are moments: their values, or the times at
// which there is a sample.
type annotation struct {
	IconColor, Expr, TitleFormat string
	UseValueForTime              bool
}

type panel struct {
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct {
		Defaults  field
		Overrides []struct {
			Matcher    struct{ Options string }
			Properties []struct {
				ID    string
				Value json.RawMessage
			}
		}
	}
	Transformations []struct{ Options organize }
	Targets         []struct{ Expr, LegendFormat string }
	Panels          []panel // of a collapsed row
}

type field struct {
	Unit, NoValue string
	Custom        struct {
		FillOpacity float64
		Stacking    struct{ Mode string }
	}
	Thresholds struct {
		Steps []struct {
			Color string
			Value *float64
		}
	}
}

// mapping has a word and a colour for a value.
type mapping struct {
	Options map[string]struct{ Text, Color string }
}

type organize struct {
	ExcludeByName map[string]bool
	IndexByName   map[string]int
	RenameByName  map[string]string
}

// series is a line of a chart, or a row of a table.
type series struct {
	Name   string `json:"-"`
	Metric map[string]string
	Values [][2]any // of a range
	Value  [2]any   // of a moment
}

// ServeHTTP lists the dashboards and draws the one that the path names.
func (p preview) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	files, _ := filepath.Glob(filepath.Join(p.dir, "*.json")) // the pattern is well-formed
	var shown board
	fmt.Fprint(w, page, "<nav>")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if r.URL.Path != "/"+name {
			fmt.Fprintf(w, "<a href='/%s?%s'>%s</a>\n", name, html.EscapeString(r.URL.RawQuery), name)
			continue
		}
		if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &shown) != nil {
			fmt.Fprintln(w, "cannot be read")
		}
	}
	fmt.Fprintln(w, "</nav>")
	p.draw(w, shown, r.URL.Query())
}

// draw draws the panels, those of collapsed rows too, which push the rest down.
func (p preview) draw(w io.Writer, shown board, query url.Values) {
	fmt.Fprintf(w, "<h1>%s<span>%s</span></h1><div class=vars>", html.EscapeString(shown.Title), html.EscapeString("Last "+span(query).String()))
	for _, v := range shown.Templating.List {
		if v.Name != "datasource" {
			chosen := query.Get(v.Name)
			fmt.Fprintf(w, "<label>%s<b>%s</b></label>", html.EscapeString(v.Label), html.EscapeString(cmp.Or(chosen, "All")))
		}
	}
	fmt.Fprintln(w, "</div><main>")
	marks := p.marks(shown, query)
	pushed := 0
	for _, row := range shown.Panels {
		for _, each := range append([]panel{row}, row.Panels...) {
			found, err := p.ask(each, query)
			each.GridPos.Y += pushed
			fmt.Fprintln(w, each.draw(found, marks, err))
		}
		if n := len(row.Panels); n > 0 {
			pushed += row.Panels[n-1].GridPos.Y + row.Panels[n-1].GridPos.H - row.GridPos.Y - 1
		}
	}
}

// ask runs the queries of a panel, over a range for charts.
func (p preview) ask(each panel, query url.Values) ([]series, error) {
	var all []series
	for _, t := range each.Targets {
		found, err := p.query(t.Expr, each.Type == "timeseries", query)
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			s.Name = named(t.LegendFormat, s.Metric)
			all = append(all, s)
		}
	}
	return all, nil
}

// named fills the labels in a format of Grafana's.
func named(format string, labels map[string]string) string {
	return regexp.MustCompile(`{{(\w+)}}`).ReplaceAllStringFunc(format, func(l string) string { return labels[strings.Trim(l, "{}")] })
}

func span(query url.Values) time.Duration {
	span, err := time.ParseDuration(query.Get("range"))
	if err != nil {
		return 3 * time.Hour
	}
	return span
}

// query runs an expression with the chosen variables, for a moment or for the
// range of the page.
func (p preview) query(expr string, ranged bool, query url.Values) ([]series, error) {
	end, step := time.Now(), max(p.interval, span(query)/300).Round(time.Second)
	expr = strings.NewReplacer("$__range", span(query).String(), "$__rate_interval", max(4*p.interval, step+p.interval).String()).Replace(expr)
	expr = regexp.MustCompile(`\$(\w+)`).ReplaceAllStringFunc(expr, func(name string) string {
		return cmp.Or(query.Get(strings.TrimPrefix(name, "$")), ".*")
	})
	path, values := "/api/v1/query?", url.Values{"query": {expr}}
	if ranged {
		path = "/api/v1/query_range?"
		values = url.Values{"query": {expr}, "step": {fmt.Sprint(step.Seconds())}, "start": {fmt.Sprint(end.Add(-span(query)).Unix())}, "end": {fmt.Sprint(end.Unix())}}
	}
	return p.fetch(path + values.Encode())
}

// mark is a moment that the charts show.
type mark struct {
	t           float64
	color, text string
}

func (p preview) marks(shown board, query url.Values) []mark {
	var out []mark
	seen := map[mark]bool{}
	for _, a := range shown.Annotations.List {
		found, _ := p.query(a.Expr, true, query) // the panels say what is wrong
		for _, s := range found {
			m := mark{s.Values[0][0].(float64), a.IconColor, named(a.TitleFormat, s.Metric)}
			if a.UseValueForTime {
				m.t = number(s.Values[len(s.Values)-1][1]) / 1000
			}
			if !seen[m] {
				seen[m] = true
				out = append(out, m)
			}
		}
	}
	return out
}

func (p preview) fetch(path string) ([]series, error) {
	response, err := http.Get(p.prometheus + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var answer struct {
		Error string
		Data  struct{ Result []series }
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, errors.New(answer.Error)
	}
	return answer.Data.Result, nil
}
