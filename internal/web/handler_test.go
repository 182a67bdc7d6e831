package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func one(context.Context, Selection) (prometheus.Gatherer, error) {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "port_sockets", Help: "One."})
	g.Set(42)
	r := prometheus.NewRegistry()
	r.MustRegister(g)
	return r, nil
}

// pages are pages that name themselves.
type pages struct{}

func (pages) Page(w http.ResponseWriter, r *http.Request)     { say("overview")(w, r) }
func (pages) Listener(w http.ResponseWriter, r *http.Request) { say("one listener")(w, r) }
func (pages) Target(w http.ResponseWriter, r *http.Request)   { say("one target")(w, r) }
func (pages) Check(w http.ResponseWriter, r *http.Request)    { say("checked")(w, r) }
func (pages) Asset(w http.ResponseWriter, r *http.Request)    { say(r.PathValue("file"))(w, r) }

func handler(t *testing.T, change func(*Options)) http.Handler {
	t.Helper()
	o := Options{
		Scrape:          one,
		Self:            prometheus.NewRegistry(),
		ListenerTargets: say("listeners"),
		Probe:           say("probed"), ProbeTargets: say("targets"), ProbeLog: say("log"),
		Pages:       pages{},
		Config:      func() ([]byte, error) { return []byte("limits: {}\n"), nil },
		MetricsPath: "/metrics",
		RoutePrefix: "/",
		Logger:      slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	h, err := NewHandler(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func do(h http.Handler, method, target string, header ...string) (int, string) {
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body)
}

func TestEndpoints(t *testing.T) {
	reloads := 0
	enabled := func(o *Options) { o.Reload = func() error { reloads++; return nil } }
	broken := func(o *Options) {
		o.Reload = func() error { return errors.New("line 3: nonsense") }
		o.Config = func() ([]byte, error) { return nil, errors.New("no text") }
		o.Scrape = func(context.Context, Selection) (prometheus.Gatherer, error) {
			return nil, errors.New(`unknown collector "x"`)
		}
	}
	prefixed := func(o *Options) { o.RoutePrefix, o.MetricsPath = CleanPrefix("ports/"), "/m" }
	for _, tt := range []struct {
		name           string
		change         func(*Options)
		method, target string
		status         int
		want           string
	}{
		{"unknown path", nil, "GET", "/nope", 404, ""},
		{"unknown below metrics", nil, "GET", "/metrics/x", 404, ""},
		{"metrics by POST", nil, "POST", "/metrics", 405, ""},
		{"bad collector", broken, "GET", "/metrics?collect[]=x", 400, `unknown collector "x"`},
		{"config broken", broken, "GET", "/config", 500, "no text"},
		{"reload by GET", enabled, "GET", "/-/reload", 405, "POST"},
		{"reload not enabled", nil, "POST", "/-/reload", 403, "--web.enable-lifecycle"},
		{"reload broken", broken, "POST", "/-/reload", 500, "previous configuration stays in force: line 3"},
		{"outside the prefix", prefixed, "GET", "/m", 404, ""},

		{"overview", nil, "GET", "/?q=x", 200, "overview"},
		{"page of a listener", prefixed, "GET", "/ports/listener?port=1", 200, "one listener"},
		{"page of a target", nil, "GET", "/target?target=a:1", 200, "one target"},
		{"check", prefixed, "GET", "/ports/check?target=a:1", 200, "checked"},
		{"what pages load", prefixed, "GET", "/ports/static/page.css", 200, "page.css"},
		{"metrics", nil, "GET", "/metrics", 200, "port_sockets 42"},
		{"one family", nil, "GET", "/metrics?name[]=other", 200, ""},
		{"probe", prefixed, "GET", "/ports/probe?target=a:1", 200, "probed"},
		{"probe by POST", nil, "POST", "/probe", 405, ""},
		{"targets", nil, "GET", "/sd/probes", 200, "targets"},
		{"listeners", prefixed, "GET", "/ports/sd/listeners", 200, "listeners"},
		{"log of a probe", nil, "GET", "/logs?id=1", 200, "log"},
		{"config", nil, "GET", "/config", 200, "limits: {}"},
		{"healthy", nil, "GET", "/-/healthy", 200, "healthy"},
		{"ready", nil, "GET", "/-/ready", 200, "ready"},
		{"reload", enabled, "POST", "/-/reload", 200, "reloaded"},
		{"prefixed metrics", prefixed, "GET", "/ports/m", 200, "port_sockets 42"},
		{"prefixed overview", prefixed, "GET", "/ports/", 200, "overview"},
		{"root with a prefix", prefixed, "GET", "/", 302, "/ports/"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := do(handler(t, tt.change), tt.method, tt.target)
			if status != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s %s: %d %q; want %d %q", tt.method, tt.target, status, body, tt.status, tt.want)
			}
		})
	}
	if reloads != 1 {
		t.Errorf("%d reloads, want 1", reloads)
	}
}

func TestScrapeHasDeadlineAndFilters(t *testing.T) {
	var left time.Duration
	var selected Selection
	h := handler(t, func(o *Options) {
		o.TimeoutOffset = 500 * time.Millisecond
		o.Scrape = func(ctx context.Context, s Selection) (prometheus.Gatherer, error) {
			deadline, _ := ctx.Deadline()
			left, selected = time.Until(deadline), s
			return one(ctx, s)
		}
	})
	if status, _ := do(h, "GET", "/metrics?collect[]=a&collect[]=b&name[]=c&exclude[]=d", "X-Prometheus-Scrape-Timeout-Seconds", "3.0"); status != 200 {
		t.Errorf("status %d", status)
	}
	if left < 2*time.Second || left > 2500*time.Millisecond {
		t.Errorf("%v left of a scrape timeout of 3 s, want a little below 2.5 s", left)
	}
	want := Selection{Collectors: []string{"a", "b"}, Families: []string{"c"}, Excluded: []string{"d"}}
	if diff := cmp.Diff(want, selected); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestScrapeTimeout(t *testing.T) {
	const offset = 500 * time.Millisecond
	for header, want := range map[string]time.Duration{
		"": 10 * time.Second, "10": 9500 * time.Millisecond, "10.000000": 9500 * time.Millisecond,
		"0.6": 300 * time.Millisecond, "0.001": 500 * time.Microsecond, "1e300": longestScrape - offset, "+Inf": longestScrape - offset,
	} {
		if got, err := Timeout(header, defaultTimeout, longestScrape, offset); got != want || err != nil {
			t.Errorf("%q: %v, %v; want %v", header, got, err, want)
		}
	}
	for _, header := range []string{"0", "-1", "NaN", "-Inf", "soon", "10s"} {
		if got, err := Timeout(header, defaultTimeout, longestScrape, offset); err == nil {
			t.Errorf("%q was taken for %v", header, got)
		}
	}
	if status, body := do(handler(t, nil), "GET", "/metrics", "X-Prometheus-Scrape-Timeout-Seconds", "soon"); status != 400 || !strings.Contains(body, `"soon"`) {
		t.Errorf("a bad header: %d %s", status, body)
	}
}

func TestMaxRequests(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	h := handler(t, func(o *Options) {
		o.MaxRequests = 1
		o.Scrape = func(ctx context.Context, s Selection) (prometheus.Gatherer, error) {
			started <- struct{}{}
			<-finish
			return one(ctx, s)
		}
	})
	first := make(chan int)
	go func() {
		status, _ := do(h, "GET", "/metrics")
		first <- status
	}()
	<-started
	if status, body := do(h, "GET", "/metrics", TimeoutHeader, "0.1"); status != 503 || !strings.Contains(body, "--web.max-requests") {
		t.Errorf("a second scrape: %d %s", status, body)
	}
	if status, _ := do(h, "GET", "/sd/listeners", TimeoutHeader, "0.1"); status != 503 {
		t.Errorf("discovery, which reads the host too, is not limited: %d", status)
	}
	if status, _ := do(h, "GET", "/-/healthy"); status != 200 {
		t.Errorf("health is limited too: %d", status)
	}
	close(finish)
	if status := <-first; status != 200 {
		t.Errorf("the first scrape: %d", status)
	}
	go func() { <-started }()
	if status, _ := do(h, "GET", "/metrics"); status != 200 {
		t.Errorf("a third scrape, after the first: %d", status)
	}
}

// slowPages are made until they may end.
type slowPages struct {
	pages
	started, finish chan struct{}
}

func (p slowPages) Page(http.ResponseWriter, *http.Request) {
	p.started <- struct{}{}
	<-p.finish
}

// TestPagesHoldUpNoScrape has as many pages made as may be: further ones are refused, and
// scrapes are answered.
func TestPagesHoldUpNoScrape(t *testing.T) {
	slow := slowPages{started: make(chan struct{}), finish: make(chan struct{})}
	h := handler(t, func(o *Options) { o.MaxRequests, o.Pages = 1, slow })
	var all sync.WaitGroup
	for range maxViews {
		all.Go(func() { do(h, "GET", "/") })
		<-slow.started
	}
	for _, path := range []string{"/", "/listener", "/target"} {
		if status, body := do(h, "GET", path, TimeoutHeader, "0.1"); status != 503 || !strings.Contains(body, "pages are in progress") {
			t.Errorf("%s, beyond the limit: %d %s", path, status, body)
		}
	}
	if status, body := do(h, "GET", "/metrics"); status != 200 {
		t.Errorf("a scrape meanwhile: %d %s", status, body)
	}
	close(slow.finish)
	all.Wait()
}

func TestGatherErrorsDoNotHideTheRest(t *testing.T) {
	broken := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("no memory") })
	var log bytes.Buffer
	h := handler(t, func(o *Options) {
		o.Self = broken
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	if status, body := do(h, "GET", "/metrics"); status != 200 || !strings.Contains(body, "port_sockets 42") {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(log.String(), "no memory") {
		t.Errorf("the error is not logged: %s", log.String())
	}
}

// TestHandlerMetrics counts what got no slot, and what was not gathered whole,
// over requests that each have a handler of their own.
func TestHandlerMetrics(t *testing.T) {
	broken := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return nil, errors.New("no memory") })
	self := prometheus.NewRegistry()
	started, finish := make(chan struct{}), make(chan struct{})
	h := handler(t, func(o *Options) {
		o.Self, o.HandlerMetrics, o.MaxRequests = self, self, 1
		o.Scrape = func(_ context.Context, s Selection) (prometheus.Gatherer, error) {
			if s.Collectors != nil {
				started <- struct{}{}
				<-finish
			}
			return broken, nil
		}
	})
	first := make(chan int)
	go func() {
		status, _ := do(h, "GET", "/metrics?collect[]=slow")
		first <- status
	}()
	<-started
	if status, _ := do(h, "GET", "/metrics", TimeoutHeader, "0.1"); status != 503 {
		t.Errorf("a second scrape: %d", status)
	}
	close(finish)
	if status := <-first; status != 200 {
		t.Errorf("the first: %d", status)
	}
	_, body := do(h, "GET", "/metrics")
	for _, want := range []string{
		`promhttp_metric_handler_requests_total{code="200"} 1`, `promhttp_metric_handler_requests_total{code="503"} 1`,
		`promhttp_metric_handler_errors_total{cause="gathering"} 1`, "promhttp_metric_handler_requests_in_flight 1",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
}
