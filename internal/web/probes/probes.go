// Package probes serves probes over HTTP as blackbox_exporter does: one on
// request, and the recent ones.
package probes

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/web"
)

// Options say what is served.
type Options struct {
	Runner *schedule.Runner
	// Plan returns the plan in force.
	Plan func() *schedule.Plan
	// IsBuiltIn reports whether a module that the plan lacks is a built-in one, which
	// nothing in the configuration uses.
	IsBuiltIn func(name string) bool
	// OwnHost returns this host as it is now.
	OwnHost func(ctx context.Context) *ownhost.Snapshot
	// Checked is what a check may ask of this host.
	Checked *check.Host
	// TimeoutOffset is what a probe ends earlier than Prometheus would.
	TimeoutOffset time.Duration
	// Proxied says that clients come through a proxy, so that none is known to be
	// on this host.
	Proxied bool
	// Connections is how many connections of clients are open at most.
	Connections int
}

// Server serves probes.
type Server struct {
	Options
	// slots are for the requests that probe or wait to: they have nothing to do
	// with the scrapes of /metrics, and do not hold them up.
	slots chan struct{}
}

// maxRequests is how many requests may probe or wait for a slot at once. Fewer may
// when there are fewer connections: some of them are kept for others.
const maxRequests = 512

// New returns a server.
func New(o Options) *Server {
	return &Server{Options: o, slots: make(chan struct{}, min(maxRequests, o.Connections*3/4))}
}

// The defaults of blackbox_exporter: of the parameter module, and of how long a
// probe may take when neither Prometheus nor the module says.
const (
	defaultModule  = "http_2xx"
	defaultTimeout = 120 * time.Second
)

// What a client may write, in bytes: the history keeps it. A name has no more
// than RFC 1035 2.3.4 lets it have.
const (
	maxTarget   = 2048
	maxHostname = 253
	maxNetns    = probe.MaxNetns
)

// Probe serves one probe: /probe?target=…&module=…&hostname=…&netns=…&debug=true.
func (s *Server) Probe(w http.ResponseWriter, r *http.Request) {
	plan := s.Plan()
	ask, timeout, err := s.parse(plan, r, defaultModule)
	if err != nil {
		http.Error(w, plain.Text(err.Error()), statusOf(err, http.StatusBadRequest))
		return
	}
	debug := r.URL.Query().Get("debug") == "true"
	if debug && !s.MayDebug(r) {
		http.Error(w, debugDenied, http.StatusForbidden)
		return
	}
	ask.Alone = debug
	entry, ok := s.once(w, r, plan, ask, timeout)
	if !ok {
		return
	}
	facts := s.OwnHost(r.Context()).Facts(&entry.Report)
	if debug {
		writeText(w, s.text(&entry, &facts))
		return
	}
	found := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return collector.Exposition(facts), nil })
	promhttp.HandlerFor(found, promhttp.HandlerOpts{DisableCompression: true}).ServeHTTP(w, r) // web compresses it
}

// once probes in a slot, which it gives back. If it could not, it has answered.
func (s *Server) once(w http.ResponseWriter, r *http.Request, plan *schedule.Plan, ask schedule.Ask, timeout time.Duration) (schedule.Entry, bool) {
	select {
	case s.slots <- struct{}{}:
	default:
		web.Refuse(w, fmt.Sprintf("%d probes run or wait already", cap(s.slots)))
		return schedule.Entry{}, false
	}
	defer func() { <-s.slots }()
	web.Allow(w, r, timeout)
	defer web.Work(r.Context())()
	within, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	entry, err := s.Runner.Once(within, plan, ask)
	if err != nil {
		http.Error(w, plain.Text(err.Error()), statusOf(err, http.StatusServiceUnavailable))
		return entry, false
	}
	return entry, true
}

// statusOf returns the status of an error, which is another one than usual when
// the probe is not allowed.
func statusOf(err error, usual int) int {
	if _, denied := probe.AsDenied(err); denied {
		return http.StatusForbidden
	}
	return usual
}

// parse reads the parameters of a probe; without one the module is byDefault. Its
// errors are the client's.
func (s *Server) parse(plan *schedule.Plan, r *http.Request, byDefault string) (ask schedule.Ask, timeout time.Duration, err error) {
	query := r.URL.Query()
	for parameter, most := range map[string]int{"target": maxTarget, "hostname": maxHostname, "netns": maxNetns} {
		if n := len(query.Get(parameter)); n > most {
			return ask, 0, fmt.Errorf("parameter %s has %d bytes\nhint: the limit is %d", parameter, n, most)
		}
	}
	name := cmp.Or(query.Get("module"), byDefault)
	module, err := s.module(plan, name)
	if err != nil {
		return ask, 0, err
	}
	if query.Get("target") == "" {
		return ask, 0, fmt.Errorf("missing parameter target\nhint: /probe?target=host:port&module=%s", name)
	}
	if p, ok := module.Prober.(interface{ CheckHostname(string) error }); ok {
		if err := p.CheckHostname(query.Get("hostname")); err != nil {
			return ask, 0, err
		}
	}
	timeout, err = web.Timeout(r.Header.Get(web.TimeoutHeader), defaultTimeout, defaultTimeout, s.TimeoutOffset)
	return schedule.Ask{Target: query.Get("target"), Module: module, Hostname: query.Get("hostname"), Netns: query.Get("netns")}, timeout, err
}

// module returns the module of a name. Where modules are configured, a built-in one
// is there for requests when a target or a rule names it.
func (s *Server) module(plan *schedule.Plan, name string) (*probe.Module, error) {
	if m, ok := plan.Modules[name]; ok {
		return m, nil
	}
	if s.IsBuiltIn(name) {
		return nil, &probe.DeniedError{
			Reason: fmt.Sprintf("the built-in module %q is not for requests, since there are modules in the configuration and none of its rules or targets names it", name),
			Hint:   fmt.Sprintf("add a rule to probes.allow that does: modules: [%s]", name),
		}
	}
	return nil, fmt.Errorf("unknown module %q\nhint: use a module of /config, or a built-in one that a rule or target names", name)
}

const (
	debugDenied = "the details of a probe are for clients on this host\n" + hintLocal
	hintLocal   = "hint: use http://localhost without a proxy and without --web.external-url, or set probes.debug_from_anywhere"
)

// MayDebug reports whether a client may see the details of probes: the log, the
// addresses, the certificates. One behind a proxy on this host is not on this
// host, nor is a site that a browser on this host was led to by its name, or whose page
// asks in the browser's name.
func (s *Server) MayDebug(r *http.Request) bool {
	if s.Plan().Access.DebugAnywhere {
		return true
	}
	client, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && client.Addr().Unmap().IsLoopback() && isLoopback(r.Host) && !s.Proxied && !isForwarded(r) && !isEmbedded(r)
}

// isLoopback reports whether the host of a request, with a port or without, is
// this host to everybody who writes it.
func isLoopback(host string) bool {
	u := url.URL{Host: host}
	name := u.Hostname()
	addr, err := netip.ParseAddr(name)
	return err == nil && addr.Unmap().IsLoopback() || strings.EqualFold(name, "localhost")
}

// isEmbedded reports whether a page of another site asks, with its pictures or scripts:
// https://www.w3.org/TR/fetch-metadata/. A link that somebody follows may lead here.
func isEmbedded(r *http.Request) bool {
	return r.Header.Get("Sec-Fetch-Site") == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate"
}

// isForwarded reports whether a request shows signs of a proxy. nginx adds none
// of the headers unless configured to, but speaks HTTP/1.0 then.
func isForwarded(r *http.Request) bool {
	if !r.ProtoAtLeast(1, 1) {
		return true
	}
	for name := range r.Header {
		switch name = http.CanonicalHeaderKey(name); name {
		case "Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "X-Cluster-Client-Ip", "Fastly-Client-Ip", "Cdn-Loop":
			return true
		}
		for _, prefix := range []string{"X-Forwarded", "X-Envoy-", "X-Original-", "Cf-"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}
