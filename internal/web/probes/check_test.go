package probes

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
)

// checked asks for a check, and returns the report or the answer in its place.
func checked(s *Server, from, query string) (*check.Report, int, string) {
	r := httptest.NewRequest(http.MethodGet, "/check?"+query, nil)
	r.RemoteAddr, r.Host = from, "localhost:10065"
	w := httptest.NewRecorder()
	report, ok := s.Check(w, r)
	if ok != (report != nil) {
		return nil, 0, "a report, or none, against what it says"
	}
	return report, w.Code, w.Body.String()
}

// TestCheck checks configured and allowed targets. What is not allowed is not asked, and
// a client elsewhere gets nothing.
func TestCheck(t *testing.T) {
	open := listen(t)
	heard := &hearing{}
	plan := tcpPlan(open)
	plan.Modules["heard"] = &probe.Module{Name: "heard", Kind: probe.KindTCP, Prober: heard}
	plan.Targets = append(plan.Targets, probe.Target{Address: "named:1", Module: plan.Modules["heard"], Hostname: "configured"})
	s := server(t, plan)
	for _, tt := range []struct {
		from, query string
		status      int
		want        string
	}{
		{there, "target=" + open, 403, "checks are for clients on this host"},
		{here, "", 400, "missing parameter target"},
		{here, "target=a:1&module=nope", 400, "unknown module"},
		{here, "target=192.0.2.1:80&module=heard", 403, "hint: add it to targets"},
		{here, "target=named:1&hostname=other", 403, "hint"},
	} {
		if _, status, body := checked(s, tt.from, tt.query); status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%s: %d %s, want %d %q", tt.query, status, body, tt.status, tt.want)
		}
	}
	if len(heard.asked) > 0 {
		t.Fatalf("what is not allowed was asked: %+v", heard.asked)
	}
	report, _, body := checked(s, here, "target="+open)
	if report == nil || !report.Success || report.Target.Module.Name != "tcp_connect" || len(report.Evidence()) == 0 {
		t.Errorf("a configured target, without its module: %+v %s", report, body)
	}
	if past := plan.Pasts()[0]; len(past.Runs) != 1 || past.Tally.Count(probe.Open) != 0 {
		t.Errorf("it is remembered, and not counted: %+v", past)
	}
	if _, _, body = checked(s, here, "target=named:1"); len(heard.asked) != 1 || heard.asked[0].Hostname != "configured" || heard.asked[0].Allow == nil {
		t.Errorf("asked %+v: %s", heard.asked, body)
	}
	plan.Access = access.Control{Any: true, DebugAnywhere: true}
	if report, _, body = checked(s, there, "target=127.0.0.1:1&module=tcp_connect"); report == nil || report.Result.Outcome != probe.Refused {
		t.Errorf("where everybody may: %+v %s", report, body)
	}
	for range cap(s.slots) {
		s.slots <- struct{}{}
	}
	if _, status, _ := checked(s, here, "target="+open); status != 503 {
		t.Errorf("without a slot: %d", status)
	}
}

// TestCheckIsGivenUp has a client that goes while its check is under way: nothing reads
// the report that is still being written. The race detector says so.
func TestCheckIsGivenUp(t *testing.T) {
	s := server(t, tcpPlan("slow:1"))
	ctx, cancel := context.WithCancel(t.Context())
	began := make(chan struct{})
	s.Plan().Modules["begins"] = &probe.Module{Name: "begins", Kind: probe.KindTCP, Prober: beginning{began}}
	s.Plan().Access = access.Control{Any: true}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/check?target=127.0.0.1:1&module=begins", nil)
	r.RemoteAddr, r.Host = here, "localhost:10065"
	go func() { <-began; cancel() }()
	if report, ok := s.Check(httptest.NewRecorder(), r); ok || report != nil {
		t.Errorf("report %v", report)
	}
}

// beginning says that a probe has begun, and ends when it is given up.
type beginning struct{ began chan struct{} }

func (b beginning) Probe(ctx context.Context, _ probe.Request) probe.Result {
	close(b.began)
	<-ctx.Done()
	return probe.Result{Outcome: probe.NotRun, Err: ctx.Err()}
}
