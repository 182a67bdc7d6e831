// Package gate decides who may connect and ask: TLS and passwords, as
// --web.config.file says. The file is that of the exporter-toolkit, and its types
// are the toolkit's. What the toolkit reads anew for each request is kept here: a
// file that is cut, empty or gone leaves the last good one in force.
package gate

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/files"
)

const (
	// checkInterval is how often requests and handshakes look whether the files have
	// changed, and settle how long these must have been left alone.
	checkInterval = time.Second
	settle        = time.Second
	// checkTimeout is how long a request may wait for that: files may be on a file
	// system that does not answer.
	checkTimeout = 2 * time.Second
)

// Gate is what a web configuration lets through. It is safe for concurrent use.
type Gate struct {
	path    string // empty: everything passes
	logger  *slog.Logger
	inForce atomic.Pointer[rules]
	limiter *rate.Limiter
	turns   *turns

	files    *beside.Calls
	checking sync.Mutex
	checked  time.Time
	seen     stamps // at the latest check
	refused  stamps // the files that are not in force, and why
	refusal  string
	outdated atomic.Bool // there are such files
	knocked  known
}

// Open reads a web configuration; an empty path is none. The error names the file.
func Open(ctx context.Context, path string) (*Gate, error) {
	g := &Gate{path: path, turns: newTurns(), files: files.NewCalls(), logger: slog.New(slog.DiscardHandler)}
	g.inForce.Store(&rules{})
	if path == "" {
		return g, nil
	}
	r, err := files.Beside(ctx, g.files, func() (*rules, error) { return read(ctx, path) }, path)
	if err == nil {
		err = r.saysSomething()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if l := r.RateLimiterConfig; l.Interval != 0 {
		g.limiter = rate.NewLimiter(rate.Every(l.Interval), l.Burst)
	}
	g.inForce.Store(r)
	g.checked = time.Now()
	return g, nil
}

// current returns the rules in force, after a look whether the files have changed.
// Of several concurrent ones, one looks.
func (g *Gate) current() *rules {
	if g.path != "" && g.checking.TryLock() {
		defer g.checking.Unlock()
		if time.Since(g.checked) >= checkInterval {
			g.refresh()
			g.checked = time.Now()
		}
	}
	return g.inForce.Load()
}

// refresh puts changed files in force, once they are left alone and are good.
func (g *Gate) refresh() {
	before := g.inForce.Load()
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	paths := before.stamps.paths()
	now, err := files.Beside(ctx, g.files, func() (stamps, error) { return before.stamps.again(), nil }, paths...)
	if err == nil && now.equal(before.stamps) {
		g.accept()
		return
	}
	steady := now.equal(g.seen)
	if g.seen = now; err == nil && (now.isFresh(settle) || now.isAhead() && !steady) {
		return
	}
	var after *rules
	if err == nil {
		after, err = files.Beside(ctx, g.files, func() (*rules, error) { return read(ctx, g.path) }, paths...)
	}
	if err == nil {
		err = after.opens(before)
	}
	if err != nil {
		if g.refusal != err.Error() || !now.equal(g.refused) { // what it lacks may come: it is read again each time
			g.logger.Error("web configuration reload failed, the previous one stays in force", "file", g.path, "err", err)
		}
		g.refused, g.refusal = now, err.Error()
		g.outdated.Store(true)
		return
	}
	g.inForce.Store(after)
	g.accept()
	g.logger.Info("web configuration reloaded", "file", g.path)
}

// accept notes that the files are those in force.
func (g *Gate) accept() {
	g.refused, g.refusal = nil, ""
	g.outdated.Store(false)
}

// State says what became of the web configuration.
type State struct {
	// Current is false if the files have changed, and those before are still in force.
	Current bool
	// Since is when what is in force was read.
	Since time.Time
}

// State returns the state at the latest request or handshake; false without a web
// configuration.
func (g *Gate) State() (State, bool) {
	return State{Current: !g.outdated.Load(), Since: g.inForce.Load().read}, g.path != ""
}

// Handler lets those requests through to a handler that may ask.
func (g *Gate) Handler(next http.Handler) http.Handler {
	if g.path == "" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.limiter != nil && !g.limiter.Allow() {
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
			return
		}
		rules := g.current()
		for name, value := range rules.HTTPConfig.Header {
			w.Header().Set(name, value)
		}
		if len(rules.Users) > 0 && !g.knows(r, rules) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, http.StatusText(http.StatusUnauthorized), http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// TLS returns how to serve over TLS, nil for plain text.
func (g *Gate) TLS() *tls.Config {
	first := g.inForce.Load().tls
	if first == nil {
		return nil
	}
	config := first.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return g.current().tls, nil }
	return config
}
