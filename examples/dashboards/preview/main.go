// Command preview shows the dashboards without a Grafana: it reads their JSON,
// asks a Prometheus, and draws their panels in Grafana's grid. It knows what the
// dashboards here use of Grafana's format, and no more.
//
//	go run ./examples/dashboards/preview -prometheus http://localhost:9090
//
// A page takes variables from its address: ?range=15m&instance=web1:10065
package main

import (
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

type panel struct {
	Type, Title, Description string
	GridPos                  struct{ X, Y, W, H int }
	FieldConfig              struct{ Defaults field }
	Transformations          []struct{ Options organize }
	Targets                  []struct{ Expr, LegendFormat string }
	Panels                   []panel // of a collapsed row
}

type field struct {
	Unit, NoValue string
	Custom        struct{ Stacking struct{ Mode string } }
	Thresholds    struct {
		Steps []struct {
			Color string
			Value *float64
		}
	}
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
	var shown struct{ Panels []panel }
	fmt.Fprint(w, page)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		fmt.Fprintf(w, "<a href='/%s?%s'>%s</a>\n", name, html.EscapeString(r.URL.RawQuery), name)
		if r.URL.Path != "/"+name {
			continue
		}
		if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &shown) != nil {
			fmt.Fprintln(w, "cannot be read")
		}
	}
	p.draw(w, shown.Panels, r.URL.Query())
}

// draw draws the panels, those of collapsed rows too, which push the rest down.
func (p preview) draw(w io.Writer, panels []panel, query url.Values) {
	fmt.Fprintln(w, "<main>")
	pushed := 0
	for _, row := range panels {
		for _, each := range append([]panel{row}, row.Panels...) {
			found, err := p.ask(each, query)
			each.GridPos.Y += pushed
			fmt.Fprintln(w, each.draw(found, err))
		}
		if n := len(row.Panels); n > 0 {
			pushed += row.Panels[n-1].GridPos.Y + row.Panels[n-1].GridPos.H - row.GridPos.Y - 1
		}
	}
}

// ask runs the queries of a panel, over a range for charts.
func (p preview) ask(each panel, query url.Values) ([]series, error) {
	span, err := time.ParseDuration(query.Get("range"))
	if err != nil {
		span = 3 * time.Hour
	}
	end, step := time.Now(), max(p.interval, span/300).Round(time.Second)
	variables := []string{"$__range", span.String(), "$__rate_interval", max(4*p.interval, step+p.interval).String()}
	for _, name := range []string{"job", "instance", "target", "module"} {
		value := query.Get(name)
		if value == "" {
			value = ".*"
		}
		variables = append(variables, "$"+name, value)
	}
	path, values := "/api/v1/query?", url.Values{}
	if each.Type == "timeseries" {
		path, values = "/api/v1/query_range?", url.Values{"step": {fmt.Sprint(step.Seconds())}, "start": {fmt.Sprint(end.Add(-span).Unix())}, "end": {fmt.Sprint(end.Unix())}}
	}
	var all []series
	for _, t := range each.Targets {
		values.Set("query", strings.NewReplacer(variables...).Replace(t.Expr))
		found, err := p.fetch(path + values.Encode())
		if err != nil {
			return nil, err
		}
		for _, s := range found {
			s.Name = regexp.MustCompile(`{{(\w+)}}`).ReplaceAllStringFunc(t.LegendFormat, func(l string) string { return s.Metric[strings.Trim(l, "{}")] })
			all = append(all, s)
		}
	}
	return all, nil
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
