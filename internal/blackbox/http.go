package blackbox

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/blackbox_exporter/config"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// HostError says that a module and a request name different hosts.
type HostError struct{ Configured, Asked string }

// Error implements error.
func (e *HostError) Error() string {
	return fmt.Sprintf("the module has the header Host: %s, and the hostname asked for is %s", e.Configured, e.Asked)
}

// CheckHostname reports, with a [*HostError], that the module cannot take a
// hostname since it has a header Host with another value.
func (p *Prober) CheckHostname(hostname string) error {
	if hostname == "" {
		return nil
	}
	for name, value := range p.module.HTTP.Headers {
		if textproto.CanonicalMIMEHeaderKey(name) == "Host" && value != hostname {
			return &HostError{Configured: value, Asked: hostname}
		}
	}
	return nil
}

func (p *Prober) probeHTTP(ctx context.Context, r probe.Request) probe.Result {
	m := p.module
	if err := p.CheckHostname(r.Hostname); err != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	}
	if r.Hostname != "" {
		m.HTTP.Headers = withHost(m.HTTP.Headers, r.Hostname)
	}
	if err := checkTarget(ctx, r.Address); err != nil {
		result := probe.Malformed(err)
		result.Samples = samplesOf(p.execute(ctx, "http://[", &m, nil).families) // as of every target that is no URL
		return result
	}
	w := &watch{}
	if m.HTTP.UseHTTP3 {
		target := r.Address
		if r.Allow != nil {
			var result *probe.Result
			if target, result = holdToAddress(ctx, &m, r); result != nil {
				return *result
			}
		}
		w.allow = r.Allow
		f := p.execute(httptrace.WithClientTrace(ctx, w.trace()), target, &m, r.Log)
		return w.result(ctx, &m, f)
	}
	if !usesProxy(&m.HTTP) { // the relay is none that could have been meant
		m.HTTP.SkipResolvePhaseWithProxy = false
	}
	relay, err := newRelay(ctx, w, r, &m)
	if err != nil {
		outcome, origin := classify(err)
		return probe.Result{Outcome: outcome, Origin: origin, Err: err}
	}
	f := p.execute(httptrace.WithClientTrace(ctx, w.trace()), r.Address, &m, r.Log)
	relay.close()
	return w.result(ctx, &m, f)
}

// holdToAddress makes of a target what can be held to what is allowed with
// HTTP/3, which looks names up itself and takes no proxy.
func holdToAddress(ctx context.Context, m *Module, r probe.Request) (string, *probe.Result) {
	u, err := parseTarget(r.Address)
	port := uint16(443)
	if err == nil && u.Port() != "" {
		port, err = probe.Resolution{}.LookUpPort(ctx, "udp", u.Port())
	}
	if err != nil {
		malformed := probe.Malformed(err)
		return "", &malformed
	}
	at, _, failed := locate(ctx, r, m.HTTP.IPProtocol, m.HTTP.IPProtocolFallback, u.Hostname(), port)
	if failed != nil {
		return "", failed
	}
	if m.HTTP.HTTPClientConfig.TLSConfig.ServerName == "" && r.Hostname == "" {
		m.HTTP.HTTPClientConfig.TLSConfig.ServerName = serverName(m.HTTP.Headers, u.Hostname())
	}
	m.HTTP.Headers = withDefaultHost(m.HTTP.Headers, u.Host)
	u.Host = at.String()
	return u.String(), nil
}

func usesProxy(h *config.HTTPProbe) bool {
	c := h.HTTPClientConfig
	return c.ProxyURL.URL != nil || c.ProxyFromEnvironment
}

// checkTarget reports what keeps a target from being a URL, with a scheme or
// without, that leads somewhere.
func checkTarget(ctx context.Context, target string) error {
	if !strings.HasPrefix(target, "http://") && !strings.HasPrefix(target, "https://") {
		if u, err := url.Parse(target); err == nil && u.Host != "" { // the prober would ask for a host of the scheme's name
			return fmt.Errorf("the scheme %q is not http or https", u.Scheme)
		}
		target = "http://" + target // as the prober does
	}
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Port() != "" {
		if _, err := (probe.Resolution{}).LookUpPort(ctx, "tcp", u.Port()); err != nil {
			return err
		}
	}
	return probe.CheckHost(u.Hostname())
}

// parseTarget reads a target as the prober does for HTTP/3.
func parseTarget(target string) (*url.URL, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		if u, err = url.Parse("http://" + target); err != nil {
			return nil, err
		}
	}
	u.Scheme = "https"
	return u, nil
}

// serverName is the name that the prober asks TLS for: that of the header Host,
// else the target's.
func serverName(headers map[string]string, target string) string {
	for name, value := range headers {
		if textproto.CanonicalMIMEHeaderKey(name) == "Host" {
			return value
		}
	}
	return target
}

func withHost(headers map[string]string, host string) map[string]string {
	headers = maps.Clone(headers)
	if headers == nil {
		headers = map[string]string{}
	}
	headers["Host"] = host
	return headers
}

func withDefaultHost(headers map[string]string, host string) map[string]string {
	return withHost(headers, serverName(headers, host))
}

// result says what became of an http probe.
func (w *watch) result(ctx context.Context, m *Module, f findings) probe.Result {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := w.outcome(ctx, m, f)
	r.Peer = w.peer
	if failed, ok := errors.AsType[*probe.ConnectError](w.connectErr); ok {
		r.Offender = failed.Offender
	}
	r.Samples = samplesOf(f.families)
	addConnectTime(r.Samples, w.hidden)
	return withExpiry(r, append([]error{w.tlsErr}, f.log.errs...))
}

func (w *watch) outcome(ctx context.Context, m *Module, f findings) probe.Result {
	r := probe.Result{Phase: w.phase}
	switch {
	case w.denied != nil:
		r.Outcome, r.Origin, r.Err = probe.Denied, probe.OriginLocal, w.denied
	case w.tooMany:
		r.Outcome, r.Origin, r.Err = probe.Closed, probe.OriginTarget, errTooMany
	case f.success:
		r.Phase = probe.PhaseNone
	case f.panicked != nil:
		r.Outcome, r.Err = probe.Unknown, f.panicked
	case value(f.families, "probe_http_status_code") != 0:
		r.Phase = probe.PhaseExchange
		r.Outcome, r.Origin, r.Err = w.unexpected(m, f)
	default:
		r.Outcome, r.Origin, r.Err = w.unanswered(ctx, f)
		if isTLS(r.Err) || isCertificate(r.Err) { // in TLS 1.3 the server's alert may come after the handshake
			r.Phase = probe.PhaseTLS
		}
		if r.Phase == probe.PhaseNone && isNoAddress(r.Err) {
			r.Phase = probe.PhaseResolve
		}
	}
	return r
}

// unexpected says what is wrong with an answer.
func (w *watch) unexpected(m *Module, f findings) (probe.Outcome, probe.Origin, error) {
	status := int(value(f.families, "probe_http_status_code"))
	if !isValidStatus(&m.HTTP, status) {
		return probe.Status, probe.OriginTarget, fmt.Errorf("the status is %d", status)
	}
	err := f.log.last()
	if err == nil {
		return probe.Mismatch, probe.OriginTarget, errors.New("the answer is not as the module wants it")
	}
	if length := value(f.families, "probe_http_content_length"); m.HTTP.Compression == "gzip" && 0 <= length && length < minGzip {
		return probe.Mismatch, probe.OriginTarget, fmt.Errorf("a body of %.0f bytes is not gzip, which the module wants: %w", length, err)
	}
	outcome, origin := classify(err)
	if outcome != probe.Unknown {
		return outcome, origin, err
	}
	outcome = classifyBody(err)
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		err = fmt.Errorf("the body is larger than %d bytes: %w\nhint: body_size_limit of the module says how much is read", large.Limit, err)
	}
	return outcome, probe.OriginTarget, err
}

// minGzip is the size of the header and the trailer of gzip, in bytes: RFC 1952
// section 2.3. To the decompressor a body that says it is shorter than that ends
// too early, as one does whose connection was cut.
const minGzip = 18

// classifyBody says what an error is that came of a body: of its length, of
// decompressing it, of reading JSON in it.
func classifyBody(err error) probe.Outcome {
	var (
		tooLarge *http.MaxBytesError
		syntax   *json.SyntaxError
	)
	if errors.As(err, &tooLarge) || errors.As(err, &syntax) || errors.Is(err, gzip.ErrHeader) {
		return probe.Mismatch
	}
	return probe.Protocol
}

func isValidStatus(h *config.HTTPProbe, status int) bool {
	if len(h.ValidStatusCodes) > 0 {
		return slices.Contains(h.ValidStatusCodes, status)
	}
	return 200 <= status && status < 300
}

// limitBody sets how much of a body is read where the module does not say.
func limitBody(h *config.HTTPProbe) {
	switch {
	case h.BodySizeLimit > 0:
	case h.FailIfBodyJsonMatchesCEL != nil || h.FailIfBodyJsonNotMatchesCEL != nil:
		h.BodySizeLimit = maxParsedBody
	case len(h.FailIfBodyMatchesRegexp)+len(h.FailIfBodyNotMatchesRegexp) > 0:
		h.BodySizeLimit = maxMatchedBody
	default:
		h.BodySizeLimit = maxBody
	}
}

// unanswered says why there was no answer.
func (w *watch) unanswered(ctx context.Context, f findings) (probe.Outcome, probe.Origin, error) {
	err := f.log.last()
	switch {
	case w.relayErr != nil:
		err = w.relayErr
	case w.connectErr != nil: // the prober knows only that its proxy could not
		err = w.connectErr
	case w.phase == probe.PhaseTLS && w.tlsErr != nil && ctx.Err() == nil: // net/http takes the type from some
		err = w.tlsErr
	case f.overdue, err == nil && ctx.Err() != nil:
		err = context.Cause(ctx)
	case err == nil:
		err = errors.New("the prober does not say why")
	}
	outcome, origin := classify(err)
	if w.wantsToken && outcome != probe.NotRun { // nothing was asked of the target
		return probe.LocalError, probe.OriginLocal, fmt.Errorf("there is no token for the target: %w", err)
	}
	if w.relayed && w.phase == probe.PhaseConnect && w.connectErr == nil && outcome != probe.NotRun {
		return probe.LocalError, probe.OriginLocal, fmt.Errorf("blackbox: the relay did not hear of the connection: %w", err)
	}
	if outcome == probe.Unknown {
		outcome, origin = w.byPhase()
	}
	return outcome, origin, err
}

// byPhase says what an error means whose type tells nothing: net/http has many
// that it does not export.
func (w *watch) byPhase() (probe.Outcome, probe.Origin) {
	switch {
	case w.connections == 0: // before there was anything to do with the target
		return probe.LocalError, probe.OriginLocal
	case w.phase == probe.PhaseTLS:
		return probe.TLSHandshake, probe.OriginTarget
	case w.phase == probe.PhaseExchange && !w.answered:
		return probe.Closed, probe.OriginTarget
	case w.phase == probe.PhaseExchange:
		return probe.Protocol, probe.OriginTarget
	default:
		return probe.Unknown, probe.OriginNone
	}
}
