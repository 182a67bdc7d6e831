package prober

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// HTTP asks for a URL and judges the answer. It takes what the http prober of
// blackbox_exporter v0.28.0 takes, and measures the same.
//
// Package net/http speaks HTTP; every connection is made here, with the evidence
// of its socket: directly, or through a proxy. Each hop of a redirect is a
// connection of its own, whose resolved address [probe.Request].Allow is asked for.
type HTTP struct {
	dial.Resolution
	// Method is GET if it is empty.
	Method string
	// Header is sent to the hosts that the configuration names; to others only
	// what Plain reports as no secret. It has no Host and has a User-Agent.
	Header http.Header
	// Host, if not empty, is the header Host, and the name asked for in TLS.
	Host string
	// Plain reports whether a header holds no secret, by its name.
	Plain func(name string) bool
	// Body is sent; or what BodyFile returns, if that is not nil. It is called once a
	// probe.
	Body     string
	BodyFile func() ([]byte, error)

	FollowRedirects bool
	// HTTP2 offers HTTP/2 over TLS. HTTP3 uses HTTP/3, and nothing else.
	HTTP2, HTTP3 bool
	// TLSConfig returns the configuration of handshakes. It is called once a
	// probe, so that changed files are read.
	TLSConfig func() (*tls.Config, error)

	// Proxy returns the proxy for a request, as [http.Transport].Proxy; nil is none
	// for all of them. ProxyHeader is sent with CONNECT.
	Proxy       func(*http.Request) (*url.URL, error)
	ProxyHeader http.Header
	// ProxyResolves leaves the target's name to the proxy.
	ProxyResolves bool

	// Credentials adds to next what proves who we are, for the hosts that the
	// configuration names. It connects to a token server with dial. Nil adds
	// nothing.
	Credentials func(next http.RoundTripper, dial DialContext) (http.RoundTripper, error)

	// Answer is what is expected.
	Answer HTTPAnswer
}

// DialContext connects, as [net.Dialer.DialContext].
type DialContext = func(ctx context.Context, network, address string) (net.Conn, error)

// HostError says that a module and a request name different hosts.
type HostError struct{ Configured, Asked string }

// Error implements error.
func (e *HostError) Error() string {
	return fmt.Sprintf("the module has the header Host: %s, and the hostname asked for is %s", e.Configured, e.Asked)
}

// CheckHostname reports, with a [*HostError], that the module has a header Host
// with another value.
func (p *HTTP) CheckHostname(hostname string) error {
	if hostname == "" || p.Host == "" || p.Host == hostname {
		return nil
	}
	return &HostError{Configured: p.Host, Asked: hostname}
}

// The metrics of the http prober. Names, help, labels and values are those of
// blackbox_exporter.
var (
	httpDuration      = &probe.Metric{Name: "probe_http_duration_seconds", Help: "Duration of http request by phase, summed over all redirects", Labels: []string{"phase"}}
	httpContentLength = &probe.Metric{Name: "probe_http_content_length", Help: "Length of http content response"}
	httpBodyLength    = &probe.Metric{Name: "probe_http_uncompressed_body_length", Help: "Length of uncompressed response body"}
	httpRedirects     = &probe.Metric{Name: "probe_http_redirects", Help: "The number of redirects"}
	httpSSL           = &probe.Metric{Name: "probe_http_ssl", Help: "Indicates if SSL was used for the final redirect"}
	httpStatus        = &probe.Metric{Name: "probe_http_status_code", Help: "Response HTTP status code"}
	httpVersion       = &probe.Metric{Name: "probe_http_version", Help: "Returns the version of HTTP of the probe response"}
	httpLastModified  = &probe.Metric{Name: "probe_http_last_modified_timestamp_seconds", Help: "Returns the Last-Modified HTTP response header in unixtime"}

	httpFailedExpectation = &probe.Metric{Name: "probe_http_failed_expectation_info", Help: "Module key whose expectation failed; always 1.", Labels: []string{"expectation"}}

	failedDueToCEL = &probe.Metric{Name: "probe_failed_due_to_cel", Help: "Indicates if probe failed due to CEL expression not matching"}
	tlsCipher      = &probe.Metric{Name: "probe_tls_cipher_info", Help: "Returns the TLS cipher negotiated during handshake", Labels: []string{"cipher"}}
)

func httpMetrics() []*probe.Metric {
	return []*probe.Metric{
		httpDuration, httpContentLength, httpBodyLength, httpRedirects, httpSSL, httpStatus, httpVersion,
		httpLastModified, httpFailedExpectation, failedDueToCEL, tlsCipher,
	}
}

// The values of the label phase that only http has.
var (
	phaseProcessing = []string{"processing"}
	phaseTransfer   = []string{"transfer"}
)

// Probe implements [probe.Prober].
func (p *HTTP) Probe(ctx context.Context, r probe.Request) probe.Result {
	return p.run(ctx, r, httpDuration, (*exchange).probe)
}

// run has an exchange do something, whose phases are a metric.
func (p *HTTP) run(ctx context.Context, r probe.Request, duration *probe.Metric, do func(*exchange) probe.Result) probe.Result {
	if err := p.CheckHostname(r.Hostname); err != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, probe.DefaultTimeout)
		defer cancel()
	}
	x := &exchange{HTTP: p, request: r, ctx: ctx, duration: duration}
	x.life, x.cancel = context.WithCancel(ctx)
	result := do(x)
	x.end()
	x.durations()
	result.Samples = x.found
	return result
}

// probe asks and judges. What it returns has no samples yet.
func (x *exchange) probe() probe.Result {
	x.atRest()
	if failed := x.prepare(probe.KindHTTP); failed != nil {
		return *failed
	}
	request, err := x.firstRequest()
	if err != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	x.beginPhases()
	response, err := x.client.Do(request)
	if response == nil {
		x.found.Set(httpRedirects, float64(x.redirects))
		return x.unanswered(err)
	}
	return x.answered(response, err)
}

// beginPhases notes that no phase took any time yet.
func (x *exchange) beginPhases() {
	for _, phase := range [][]string{probe.PhaseConnect.Labels(), probe.PhaseTLS.Labels(), phaseProcessing, phaseTransfer} {
		x.found.Set(x.duration, 0, phase...)
	}
}

// atRest notes what is measured whatever happens.
func (x *exchange) atRest() {
	x.found = make(probe.Samples, 0, 24)
	for _, m := range []*probe.Metric{httpContentLength, httpBodyLength, httpRedirects, httpSSL, httpStatus, httpVersion, failedDueToRegex} {
		x.found = append(x.found, probe.Sample{Metric: m})
	}
	if x.Answer.RejectJSON != nil || x.Answer.RequireJSON != nil {
		x.found = append(x.found, probe.Sample{Metric: failedDueToCEL})
	}
}

// prepare resolves the target and makes the client, or returns what failed.
func (x *exchange) prepare(kind string) *probe.Result {
	if err := x.readTarget(kind); err != nil {
		return probe.Malformed(err)
	}
	if failed := x.resolveTarget(); failed != nil {
		return failed
	}
	if err := x.makeClient(); err != nil {
		return &probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	return nil
}

// readTarget reads where the probe begins.
func (x *exchange) readTarget(kind string) error {
	to, err := probe.ParseAddress(kind, x.request.Address)
	if err != nil {
		return err
	}
	if x.target = to.URL; x.HTTP3 {
		x.target.Scheme = "https"
	}
	if to.Port != "" {
		_, err = x.LookUpPort(x.ctx, "tcp", to.Port)
	}
	return err
}

// resolveTarget looks the target's name up, unless a proxy does.
func (x *exchange) resolveTarget() *probe.Result {
	if err := x.request.Resolvable(x.target.Hostname()); err != nil {
		return &probe.Result{Outcome: probe.Denied, Phase: probe.PhaseResolve, Origin: probe.OriginLocal, Err: err}
	}
	if x.Proxy != nil && x.ProxyResolves && !x.HTTP3 {
		return nil
	}
	start := time.Now()
	addrs, err := x.From(x.request.Source).LookUp(x.ctx, x.target.Hostname())
	took := time.Since(start).Seconds()
	x.found.Set(probe.DNSLookupTime, took)
	x.found.Set(x.duration, took, probe.PhaseResolve.Labels()...)
	if err != nil {
		x.found.Address(addrOf(nil))
		return dial.FailedLookup(err)
	}
	x.found.Address(addrs[0])
	x.resolved, x.addresses = addrs[:1], addrs
	if log := x.request.Log; log != nil {
		log.Debug("resolved", "host", x.target.Hostname(), "addresses", addrs)
	}
	return nil
}

func (x *exchange) firstRequest() (*http.Request, error) {
	body, err := x.openBody()
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(x.traced(), cmp.Or(x.Method, http.MethodGet), x.target.String(), body)
	if err != nil {
		return nil, err
	}
	request.Host = x.askedHost()
	if x.Header != nil {
		request.Header = x.Header.Clone()
	}
	return request, nil
}

// askedHost returns the header Host; empty if it is the target's.
func (x *exchange) askedHost() string { return probe.ASCIIHost(cmp.Or(x.request.Hostname, x.Host)) }

func (x *exchange) makeClient() error {
	x.tls = &tls.Config{}
	if x.TLSConfig != nil {
		config, err := x.TLSConfig()
		if err != nil {
			return &probe.ConfigError{Err: err}
		}
		x.tls = config
	}
	jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	if err != nil {
		return err
	}
	x.client = &http.Client{Transport: chooser{x}, Jar: jar, CheckRedirect: x.checkRedirect}
	x.named = connector{x}
	if x.Credentials != nil {
		x.named, err = x.Credentials(connector{x}, x.dialToken)
	}
	return err
}

// openBody returns the body of the first request. That of a file is sent in chunks,
// and not again after a redirect.
func (x *exchange) openBody() (io.Reader, error) {
	switch {
	case x.BodyFile != nil:
		text, err := x.BodyFile()
		if err != nil {
			return nil, err
		}
		return struct{ io.Reader }{bytes.NewReader(text)}, nil
	case x.Body != "":
		return strings.NewReader(x.Body), nil
	default:
		return nil, nil
	}
}

// unanswered says why there was no answer.
func (x *exchange) unanswered(err error) probe.Result {
	x.wait() // whoever connects may still be about to say why it failed
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.hop()
	r := x.whyNot(h, err)
	if h != nil {
		h.describe(&r)
		if len(x.hops) == 1 && h.proxy == nil && len(x.addresses) > 0 {
			dial.NameOther(&r, dial.AtPort(x.addresses, 0))
		}
		if len(h.certificates) > 0 {
			noteCertificates(&x.found, h.certificates)
		}
	}
	if x.request.Log != nil {
		x.request.Log.Error("no answer", "outcome", r.Outcome.String(), "err", r.Err)
	}
	return r
}

// whyNot chooses among what is known the cause that came first. The caller holds
// mu.
func (x *exchange) whyNot(h *hop, err error) probe.Result {
	switch {
	case x.tooMany:
		return probe.Result{Outcome: probe.Closed, Phase: h.phase, Origin: probe.OriginTarget, Err: errTooMany}
	case h != nil && h.failed != nil:
		return *h.failed
	case x.ctx.Err() != nil:
		err = x.ctx.Err()
	}
	outcome, origin := classifyHTTP(err)
	if x.wantsToken && outcome != probe.NotRun { // the target was asked nothing
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: fmt.Errorf("there is no token for the target: %w", err)}
	}
	if h == nil {
		if outcome == probe.Unknown {
			outcome, origin = probe.LocalError, probe.OriginLocal
		}
		return probe.Result{Outcome: outcome, Origin: origin, Err: err}
	}
	r := probe.Result{Outcome: outcome, Phase: h.phase, Origin: origin, Err: err}
	if outcome == probe.TLSHandshake || outcome == probe.TLSCertificate { // in TLS 1.3 the alert may come after the handshake
		r.Phase, r.Err = probe.PhaseTLS, h.explainTLS(err)
	}
	if outcome == probe.Unknown {
		r.Outcome, r.Origin = h.byPhase()
	}
	return r
}

// errTooMany bounds the connections of one probe. Each of ten redirects, which is
// the most that is followed, takes one. Without a limit net/http connects again
// for as long as a server answers GOAWAY: 1,092 times in 3 s.
var errTooMany = fmt.Errorf("the server ends each connection before it answers; %d were made", maxConnections)

const maxConnections = 12

// maxRedirects is how many redirects are followed.
const maxRedirects = 10

var (
	errNotFollowed = errors.New("redirect not followed")
	// errBodyStays: a body is a text of the configuration, and may hold a password.
	errBodyStays = errors.New("redirect not followed with the body")
)

// checkRedirect decides whether a redirect is followed, and takes from the request
// what must not go where it leads.
func (x *exchange) checkRedirect(next *http.Request, via []*http.Request) error {
	x.redirects = len(via)
	if log := x.request.Log; log != nil {
		log.Debug("redirect", "location", withoutSecrets(next.URL))
	}
	if x.redirects > maxRedirects || !x.FollowRedirects {
		return errNotFollowed
	}
	last := via[len(via)-1].URL
	if next.Header.Get("Referer") != "" && x.Header.Get("Referer") == "" {
		next.Header.Set("Referer", referer(last, next.URL))
	}
	if !x.isNamed(next.URL) || last.Scheme == "https" && next.URL.Scheme == "http" {
		x.left = true // and whatever that host redirects to is its choice; nor goes a secret in the clear
	}
	if x.left {
		for name := range next.Header {
			if name != "Referer" && !x.isPlain(name) {
				next.Header.Del(name)
			}
		}
		next.Header.Set("Referer", referer(last, next.URL))
		if next.Header.Get("Referer") == "" {
			next.Header.Del("Referer")
		}
		if next.Body != nil && next.Body != http.NoBody {
			return errBodyStays
		}
	}
	return nil
}

func (x *exchange) isPlain(name string) bool { return x.Plain != nil && x.Plain(name) }

// isNamed reports whether a URL leads to a host that the configuration names, and to
// the port of the target: the host is the target's, or the one that it is called
// towards the target. From http on port 80 a redirect to https on port 443 is to the
// same site.
func (x *exchange) isNamed(u *url.URL) bool {
	host := probe.CanonicalHost(u.Hostname())
	named := host == probe.CanonicalHost(x.target.Hostname()) ||
		host == hostOnly(x.request.Hostname) && !x.request.IsAsked() || host == hostOnly(x.Host)
	from, to := portOf(x.target), portOf(u)
	return named && (from == to || from == "80" && x.target.Scheme == "http" && to == "443" && u.Scheme == "https")
}

func portOf(u *url.URL) string {
	_, port, _ := net.SplitHostPort(hostPort(u))
	return port
}

// hostOnly returns the host of what may have a port; something that is no host
// for nothing.
func hostOnly(host string) string {
	if host == "" {
		return "\x00"
	}
	return probe.CanonicalHost((&url.URL{Host: host}).Hostname())
}

// referer returns the header Referer for a request to a URL from one that was
// asked for before: without what may be secret in it, and for another host
// without its path.
func referer(from, to *url.URL) string {
	if from.Scheme == "https" && to.Scheme == "http" {
		return ""
	}
	shown := &url.URL{Scheme: from.Scheme, Host: from.Host, Path: "/"}
	if from.Scheme == to.Scheme && from.Host == to.Host {
		shown.Path, shown.RawPath = from.Path, from.RawPath
	}
	return shown.String()
}

// withoutSecrets returns a URL without user, query and fragment.
func withoutSecrets(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
