// Package status serves the pages that people read: the host at a glance, one listener,
// one target. They are whole without a script. The exporter is a function to it, which
// reads the host once and judges it.
package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/web"
)

// Options say what is served.
type Options struct {
	// View reads the host, as a scrape does. Its error says that there is no room.
	View func(ctx context.Context) (*collector.View, error)
	// Targets returns what is remembered of the configured targets, and History the
	// recent probes.
	Targets func() []schedule.Past
	History func() []schedule.Entry
	// Path returns the path to a target with its latest result, and when it was traced;
	// nil if it is unknown.
	Path func(t *probe.Target, of *probe.Result) (probe.Path, time.Time)
	// Addresses reads the addresses of this host, each with its device.
	Addresses func() (map[netip.Addr]string, error)
	// MayDebug reports whether a client may see the details of probes. Another one gets
	// neither them nor a link that it could not follow.
	MayDebug func(r *http.Request) bool
	// Report checks the target that a request names. If it returns none, it has
	// answered.
	Report func(w http.ResponseWriter, r *http.Request) (*check.Report, bool)

	Hostname    string
	Version     string
	Started     time.Time
	LinkPrefix  string // in front of every link: "/" or "/prefix"
	MetricsPath string
	Now         func() time.Time
}

// Server serves the pages.
type Server struct {
	Options
	assets    fs.FS
	templates *template.Template
	base      string // of links, with a slash at its end
	version   string // of the assets, for their links
}

//go:embed assets
var embedded embed.FS

// Assets are the templates, styles and pictures of the pages.
func Assets() fs.FS {
	sub, err := fs.Sub(embedded, "assets")
	if err != nil {
		panic(err) // the name is constant
	}
	return sub
}

// New returns a server.
func New(o Options) *Server {
	s := &Server{Options: o, assets: Assets(), base: strings.TrimSuffix(o.LinkPrefix, "/") + "/"}
	s.templates = template.Must(template.New("").ParseFS(s.assets, "*.html"))
	sum := sha256.New()
	for _, name := range []string{"page.css", "favicon.svg"} {
		text, err := fs.ReadFile(s.assets, name)
		if err != nil {
			panic(err) // it is embedded
		}
		_, _ = sum.Write(text)
	}
	s.version = fmt.Sprintf("%x", sum.Sum(nil)[:6])
	return s
}

// policyOfPages lets a page load its styles and its picture, and nothing else.
const policyOfPages = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func header(w http.ResponseWriter, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Security-Policy", policyOfPages)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

// Asset serves a file of the pages: styles and the picture of the tab.
func (s *Server) Asset(w http.ResponseWriter, r *http.Request) {
	types := map[string]string{"page.css": "text/css; charset=utf-8", "favicon.svg": "image/svg+xml"}
	name := r.PathValue("file")
	contentType, ok := types[name]
	if !ok {
		http.NotFound(w, r)
		return
	}
	header(w, contentType)
	w.Header().Set("Cache-Control", "max-age=86400") // a link has the version
	text, err := fs.ReadFile(s.assets, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(text)
}

// Page serves the host at a glance.
func (s *Server) Page(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusBadRequest)
		return
	}
	p, ok := s.look(w, r)
	if !ok {
		return
	}
	s.render(w, http.StatusOK, "page.html", p.overview(filter))
}

// look reads the host for a page. Without room it has answered.
func (s *Server) look(w http.ResponseWriter, r *http.Request) (*sight, bool) {
	view, err := s.View(r.Context())
	if busy, ok := errors.AsType[*collector.BusyError](err); ok {
		web.Refuse(w, busy.Error())
		return nil, false
	}
	if err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusInternalServerError)
		return nil, false
	}
	return newSight(s, view, s.MayDebug(r)), true
}

func (s *Server) render(w http.ResponseWriter, status int, name string, data any) {
	var b bytes.Buffer
	if err := s.templates.ExecuteTemplate(&b, name, data); err != nil {
		http.Error(w, plain.Text(err.Error()), http.StatusInternalServerError)
		return
	}
	header(w, "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}
