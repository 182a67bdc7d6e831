// Package web serves the exporter over HTTP: metrics, status page and
// lifecycle endpoints. It knows the exporter only as something to scrape.
package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/plain"
)

// Options say what is served, and where.
type Options struct {
	// Scrape returns one scrape, which ends with ctx, of what is selected. An error
	// is the client's (status 400). Gathering it may return a [BusyError].
	Scrape func(ctx context.Context, s Selection) (prometheus.Gatherer, error)
	// Self gathers the metrics about the process.
	Self prometheus.Gatherer
	// HandlerMetrics takes promhttp's own metrics about the requests for metrics,
	// for Self to gather; nil leaves them out.
	HandlerMetrics prometheus.Registerer
	// MaxRequests is how many may read the host at once; zero is no limit.
	MaxRequests int
	// TimeoutOffset is what a scrape ends earlier than Prometheus would.
	TimeoutOffset time.Duration

	// ListenerTargets serves the listeners for service discovery. It reads the host,
	// so it has the limit and the deadline of a scrape.
	ListenerTargets http.Handler
	// Probe serves probes on request, ProbeTargets the targets for service
	// discovery, and ProbeLog what is remembered of one probe.
	Probe, ProbeTargets, ProbeLog http.Handler
	// Pages are the pages for people.
	Pages Pages

	// Config returns the text of the configuration in force.
	Config func() ([]byte, error)
	// Reload loads the configuration again; nil where that is not enabled.
	Reload func() error

	// Profiles serves profiles of the process.
	Profiles bool

	MetricsPath string // --web.telemetry-path
	RoutePrefix string // where all of it is served: "/" or "/prefix"
	Logger      *slog.Logger
}

// Pages serves the pages for people. The first three read the host, so they have
// the deadline of a scrape. A check has those of a probe.
type Pages interface {
	Page(http.ResponseWriter, *http.Request)     // the host at a glance
	Listener(http.ResponseWriter, *http.Request) // one listener
	Target(http.ResponseWriter, *http.Request)   // one target
	Check(http.ResponseWriter, *http.Request)    // probes a target, and takes the way there apart
	// Asset serves what the pages load; the value "file" of the path names it.
	Asset(http.ResponseWriter, *http.Request)
}

// Selection is what of the metrics a client wants; empty means everything.
type Selection struct {
	Collectors []string // collect[]
	Excluded   []string // exclude[]: all collectors but these
	Families   []string // name[]
}

// NewHandler returns the handler of every endpoint.
func NewHandler(o Options) (http.Handler, error) {
	prefix := strings.TrimSuffix(o.RoutePrefix, "/")
	mux := http.NewServeMux()
	var unread answers
	sent := func(handler http.Handler) http.Handler { return unread.sent(guarded(handler, o.Logger)) }
	exposed := func(handler http.Handler) http.Handler { return unread.sent(compressed(guarded(handler, o.Logger))) }
	readers, views, pages := scrapeSlots(o.MaxRequests), pageSlots(maxViews), pageSlots(maxPages)
	view := func(handler http.HandlerFunc) http.Handler {
		return timely(sent(views.bound(handler)), o.TimeoutOffset)
	}
	page := func(handler http.Handler) http.Handler { return sent(pages.bound(handler)) }

	mux.Handle("GET "+prefix+"/{$}", view(o.Pages.Page))
	mux.Handle("GET "+prefix+"/listener", view(o.Pages.Listener))
	mux.Handle("GET "+prefix+"/target", view(o.Pages.Target))
	mux.Handle("GET "+prefix+"/check", sent(http.HandlerFunc(o.Pages.Check)))
	mux.Handle("GET "+prefix+"/static/{file}", page(http.HandlerFunc(o.Pages.Asset)))
	mux.Handle("GET "+prefix+"/sd/listeners", timely(sent(readers.bound(o.ListenerTargets)), o.TimeoutOffset))
	mux.Handle("GET "+prefix+"/probe", exposed(o.Probe))
	mux.Handle("GET "+prefix+"/sd/probes", page(o.ProbeTargets))
	mux.Handle("GET "+prefix+"/logs", page(o.ProbeLog))
	mux.Handle("GET "+prefix+"/config", page(http.HandlerFunc(o.serveConfig)))
	mux.HandleFunc("GET "+prefix+"/-/healthy", say("port_exporter is healthy.\n"))
	mux.HandleFunc("GET "+prefix+"/-/ready", say("port_exporter is ready.\n"))
	mux.HandleFunc(prefix+"/-/reload", o.serveReload)
	if o.Profiles {
		addProfiles(mux, prefix+"/debug/pprof/")
	}
	if prefix != "" {
		mux.Handle("GET /{$}", http.RedirectHandler(prefix+"/", http.StatusFound))
	}
	metrics := prefix + o.MetricsPath
	if _, taken := mux.Handler(&http.Request{Method: http.MethodGet, URL: &url.URL{Path: metrics}}); taken != "" {
		return nil, fmt.Errorf("--web.telemetry-path=%q: path is invalid or used by another page\nhint: /metrics", o.MetricsPath)
	}
	mux.Handle("GET "+metrics, o.counted(timely(exposed(readers.bound(http.HandlerFunc(o.serveMetrics))), o.TimeoutOffset)))
	return mux, nil
}

func say(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, text) }
}

func (o Options) serveConfig(w http.ResponseWriter, _ *http.Request) {
	text, err := o.Config()
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(text)
}

// longestReload is how long a client waits for a reload.
const longestReload = time.Minute

func (o Options) serveReload(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method != http.MethodPost && r.Method != http.MethodPut:
		w.Header().Set("Allow", "POST, PUT")
		http.Error(w, "reload with POST", http.StatusMethodNotAllowed)
	case o.Reload == nil:
		http.Error(w, "reloading over HTTP is not enabled\nhint: start with --web.enable-lifecycle, or send SIGHUP", http.StatusForbidden)
	default:
		Allow(w, r, longestReload)
		if err := o.Reload(); err != nil {
			http.Error(w, plain.Text(fmt.Sprintf("reload failed, the previous configuration stays in force: %v", err)), http.StatusInternalServerError)
			return
		}
		say("reloaded\n")(w, r)
	}
}

// counted counts the requests of a handler, those that get no slot among them.
func (o Options) counted(handler http.Handler) http.Handler {
	if o.HandlerMetrics == nil {
		return handler
	}
	return promhttp.InstrumentMetricHandler(o.HandlerMetrics, handler)
}

// serveMetrics serves a scrape, which ends with the context of the request.
func (o Options) serveMetrics(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	scrape, err := o.Scrape(r.Context(), Selection{Collectors: query["collect[]"], Excluded: query["exclude[]"], Families: query["name[]"]})
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusBadRequest)
		return
	}
	families, err := together{o.Self, scrape}.Gather()
	if busy, ok := errors.AsType[*BusyError](err); ok {
		Refuse(w, busy.Reason)
		return
	}
	promhttp.HandlerFor(gathered(families, err), promhttp.HandlerOpts{
		ErrorLog:          whileConnected{ctx: r.Context(), logger: o.Logger},
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true,
		Registry:          o.HandlerMetrics, // the counter of errors is made once, and found again

		DisableCompression: true, // see compressed
	}).ServeHTTP(w, r)
}

// BusyError is the error of a scrape that there is no room for: it is answered by
// status 503.
type BusyError struct{ Reason string }

func (e *BusyError) Error() string { return e.Reason }

// gathered gathers what was gathered before.
func gathered(families []*dto.MetricFamily, err error) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, err })
}

// whileConnected logs what of a scrape cannot be served, until the client has gone.
type whileConnected struct {
	ctx    context.Context
	logger *slog.Logger
}

// Println implements promhttp.Logger.
func (l whileConnected) Println(v ...any) {
	if !errors.Is(l.ctx.Err(), context.Canceled) {
		l.logger.Error("scrape response is incomplete", "err", fmt.Sprint(v...))
	}
}

// together gathers from several that share no family, sorted by name. Unlike
// prometheus.Gatherers it does not check every sample, which takes longer than
// to make it.
type together []prometheus.Gatherer

// Gather implements [prometheus.Gatherer].
func (all together) Gather() ([]*dto.MetricFamily, error) {
	var families []*dto.MetricFamily
	var errs []error
	for _, g := range all {
		some, err := g.Gather()
		families, errs = append(families, some...), append(errs, err)
	}
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, errors.Join(errs...)
}

// CleanPrefix returns a prefix as Options has it: "" and "/" are "/",
// "a/b/" is "/a/b".
func CleanPrefix(prefix string) string { return "/" + strings.Trim(prefix, "/") }
