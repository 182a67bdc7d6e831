package probes

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"unicode/utf8"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// FuzzProbeParameters has any text as the query, the Host and the timeout of a
// request, where nothing may be probed: no probe is made, and the answer is text.
func FuzzProbeParameters(f *testing.F) {
	for _, query := range []string{"", "target=a:1&module=m", "target=%00&module=m&hostname=%1b", "target=127.0.0.1:1&module=icmp&debug=true", "target=%zz", "module=m&target=http://a/%0d%0a", ";", "target=a:1&target=b:1&module=m"} {
		f.Add(query, "h", "1")
		f.Add(query, "localhost", "1e400")
		f.Add(query, "\x00", "-1")
	}
	tried := 0
	module := &probe.Module{Name: "m", Kind: "tcp", Prober: counting{&tried}}
	plan := &schedule.Plan{Modules: map[string]*probe.Module{"m": module}}
	f.Fuzz(func(t *testing.T, query, host, timeout string) {
		r := schedule.NewRunner(t.Context(), 0)
		r.Use(plan)
		defer r.Stop()
		s := New(Options{Connections: 1024, Runner: r, Plan: func() *schedule.Plan { return plan }, IsBuiltIn: func(name string) bool { return name == "icmp" }})
		request := httptest.NewRequest(http.MethodGet, "/probe", nil)
		request.URL.RawQuery, request.Host = query, host
		request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
		w := httptest.NewRecorder()
		s.Probe(w, request)
		if tried > 0 || w.Code == http.StatusOK {
			t.Errorf("%q was probed: %d", query, w.Code)
		}
		if !utf8.Valid(w.Body.Bytes()) {
			t.Errorf("%q", w.Body)
		}
	})
}

// counting is a prober that must not be asked.
type counting struct{ tried *int }

func (c counting) Probe(context.Context, probe.Request) probe.Result {
	*c.tried++
	return probe.Result{}
}
