package status

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/policy"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// filter is what of the page somebody asked for.
type filter struct {
	text    string // in lower case
	scope   string
	verdict string
	refresh int // in seconds; 0 is never
	all     bool
	raw     string // the text as it was written
}

// The bounds of refresh, in seconds.
const (
	leastRefresh = 5
	mostRefresh  = 3600
)

// needsAttention is the verdict of all that are neither expected nor a client's.
const needsAttention = "attention"

func verdicts() []string {
	all := []string{needsAttention}
	for _, k := range policy.Kinds() {
		all = append(all, k.String())
	}
	return all
}

func scopes() []string {
	var all []string
	for _, s := range socket.Scopes() {
		all = append(all, s.String())
	}
	return all
}

// parseFilter reads the parameters q, scope, verdict, refresh and all. Empty ones are
// those of a form that was left alone.
func parseFilter(query url.Values) (filter, error) {
	f := filter{raw: query.Get("q"), scope: query.Get("scope"), verdict: query.Get("verdict"), all: query.Get("all") == "1"}
	f.text = strings.ToLower(strings.TrimSpace(f.raw))
	for _, p := range []struct {
		name, value string
		of          []string
	}{{"scope", f.scope, scopes()}, {"verdict", f.verdict, verdicts()}} {
		if p.value != "" && !slices.Contains(p.of, p.value) {
			return f, fmt.Errorf("parameter %s: unknown value %q\nhint: %s", p.name, p.value, strings.Join(p.of, ", "))
		}
	}
	if text := query.Get("refresh"); text != "" && text != "0" {
		n, err := strconv.Atoi(text)
		if err != nil || n < leastRefresh || n > mostRefresh {
			return f, fmt.Errorf("parameter refresh: %q is not a number of seconds from %d to %d\nhint: refresh=10", text, leastRefresh, mostRefresh)
		}
		f.refresh = n
	}
	return f, nil
}

// active reports whether the filter leaves anything out.
func (f filter) active() bool { return f.text != "" || f.scope != "" || f.verdict != "" }

// query returns the parameters of the same page with something changed.
func (f filter) query(change func(*filter)) string {
	change(&f)
	values := url.Values{}
	for name, value := range map[string]string{"q": f.raw, "scope": f.scope, "verdict": f.verdict} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if f.refresh > 0 {
		values.Set("refresh", strconv.Itoa(f.refresh))
	}
	if f.all {
		values.Set("all", "1")
	}
	return "?" + values.Encode()
}

// contains reports whether one of the texts has that of the filter in it.
func (f filter) contains(texts ...string) bool {
	return f.text == "" || slices.ContainsFunc(texts, func(text string) bool {
		return strings.Contains(strings.ToLower(text), f.text)
	})
}

// choice is an option of a form.
type choice struct {
	Value, Text string
	Selected    bool
}

func choices(selected, none string, values []string, name func(string) string) []choice {
	all := []choice{{"", none, selected == ""}}
	for _, v := range values {
		all = append(all, choice{v, name(v), v == selected})
	}
	return all
}

// form is the filter as a form shows it.
type form struct {
	Text            string
	Scopes          []choice
	Verdicts        []choice // nil without a policy
	Refreshes       []choice
	Active          bool
	Clear, NoReload string // the page without the filter, and without the refresh
	Refresh         int
}

func (f filter) form(hasPolicy bool) form {
	refresh := ""
	if f.refresh > 0 {
		refresh = strconv.Itoa(f.refresh)
	}
	seconds := []string{"10", "30", "60", "300"}
	if refresh != "" && !slices.Contains(seconds, refresh) {
		seconds = append(seconds, refresh)
	}
	out := form{
		Text: plain.Line(f.raw), Active: f.active(), Refresh: f.refresh,
		Scopes: choices(f.scope, "any", scopes(), func(name string) string {
			return reach(socket.Scopes()[slices.Index(scopes(), name)])
		}),
		Refreshes: choices(refresh, "never", seconds, func(s string) string { return s + " s" }),
		Clear:     f.query(func(f *filter) { *f = filter{refresh: f.refresh} }),
		NoReload:  f.query(func(f *filter) { f.refresh = 0 }),
	}
	if hasPolicy {
		out.Verdicts = choices(f.verdict, "any", verdicts(), func(v string) string {
			if v == needsAttention {
				return "needs attention"
			}
			return v
		})
	}
	return out
}
