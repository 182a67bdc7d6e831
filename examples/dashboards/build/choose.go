package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// families has the labels of each metric.
type families map[string][]string

// readLabels reads the tables of docs/metrics.md.
func readLabels(document string) (families, error) {
	text, err := os.ReadFile(document)
	if err != nil {
		return nil, err
	}
	out := families{"up": nil, "ALERTS": nil}
	row := regexp.MustCompile("(?m)^\\| `((?:port|probe)_[a-z0-9_]+)` \\| ([^|]*) \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		labels := strings.FieldsFunc(m[3], func(r rune) bool { return r == ' ' || r == ',' })
		if strings.HasPrefix(m[1], "probe_") {
			labels = append(labels, "module", "target")
		}
		out[m[1]] = labels
		if m[2] == "histogram" {
			out[m[1]+"_bucket"] = labels
		}
	}
	if len(out) < 100 {
		return nil, fmt.Errorf("%s has the labels of %d metrics", document, len(out))
	}
	return out, nil
}

// variables are those that a metric with the label is selected by. A service is
// the port that it listens on.
var variables = []struct{ label, variable string }{
	{"netns", "netns"}, {"port", "service"}, {"module", "module"}, {"target", "target"},
}

var word = regexp.MustCompile(`"[^"]*"|'[^']*'|[a-zA-Z_:][a-zA-Z0-9_:]*\{?`)

// choose adds the matchers of the chosen hosts to each metric of a query, and those
// of the board's other variables to a metric that has their label.
func (labels families) choose(expr string, offered []string) string {
	return word.ReplaceAllStringFunc(expr, func(metric string) string {
		name, more := strings.CutSuffix(metric, "{")
		has, known := labels[name]
		level, _, recorded := strings.Cut(name, ":port_")
		if !known && !recorded {
			return metric
		}
		matchers := []string{`cluster=~"$cluster"`, `job=~"$job"`}
		if known || !strings.HasPrefix(level, "job") { // what is summed over hosts has no instance
			matchers = append(matchers, `instance=~"$instance"`)
		}
		for _, v := range variables {
			if slices.Contains(has, v.label) && slices.Contains(offered, v.variable) {
				matchers = append(matchers, fmt.Sprintf(`%s=~"$%s"`, v.label, v.variable))
			}
		}
		end := "}"
		if more {
			end = ", "
		}
		return name + "{" + strings.Join(matchers, ", ") + end
	})
}
