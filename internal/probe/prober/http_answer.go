package prober

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/andybalholm/brotli"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// HTTPAnswer is what an answer has to be. Its zero value is any with a status
// from 200 to 299.
type HTTPAnswer struct {
	Statuses []int
	// Versions are as in an answer: HTTP/1.1, HTTP/2.0, HTTP/3.0.
	Versions []string
	// RejectTLS and RequireTLS are of the last hop.
	RejectTLS, RequireTLS bool

	RejectHeaders, RequireHeaders []HeaderRule
	RejectBody, RequireBody       []*regexp.Regexp
	RejectJSON, RequireJSON       *JSONRule

	// Compression is what the body has to be: gzip, br, deflate; empty or identity
	// is none.
	Compression string
	// BodyLimit is how much of a body is read, in bytes, after decompression; a
	// larger one fails. Zero is what the rules of bodies need.
	BodyLimit int64
}

// HeaderRule matches a header of an answer.
type HeaderRule struct {
	Name   string
	Regexp *regexp.Regexp
	// AllowMissing passes an answer without the header.
	AllowMissing bool
}

// JSONRule is an expression over a body that is JSON.
type JSONRule struct {
	Text string
	// Holds evaluates it; an error is that it could not be.
	Holds func(ctx context.Context, body any) (bool, error)
}

const (
	// maxParsedBody is what is read of a body to read JSON in it, in bytes, where
	// the module has no limit: it takes 33 times as much memory, at worst.
	maxParsedBody = 1 << 20
	// maxBody is the same for a module that only counts the bytes. Without, one
	// that has no end is read at full speed for as long as the probe may take. It
	// is what comes at 430 Mbit/s in the 5 s of a probe.
	maxBody = 256 << 20
)

func (a *HTTPAnswer) matchesBody() bool { return len(a.RejectBody)+len(a.RequireBody) > 0 }

func (a *HTTPAnswer) parsesBody() bool { return a.RejectJSON != nil || a.RequireJSON != nil }

func (a *HTTPAnswer) bodyLimit() int64 {
	switch {
	case a.BodyLimit > 0:
		return a.BodyLimit
	case a.parsesBody():
		return maxParsedBody
	case a.matchesBody():
		return probe.MaxMatchedBody
	default:
		return maxBody
	}
}

func (a *HTTPAnswer) allowsStatus(status int) bool {
	if len(a.Statuses) > 0 {
		return slices.Contains(a.Statuses, status)
	}
	return 200 <= status && status < 300
}

// answered judges an answer. The error is why a redirect was not followed.
func (x *exchange) answered(response *http.Response, notFollowed error) probe.Result {
	if log := x.request.Log; log != nil {
		log.Debug("response", "status_code", response.StatusCode, "proto", response.Proto)
	}
	j := &judge{x: x, response: response}
	j.status(notFollowed)
	j.headers()
	j.body(notFollowed != nil)
	j.version()
	j.tls()
	x.found.Set(httpStatus, float64(response.StatusCode))
	x.found.Set(httpContentLength, float64(response.ContentLength))
	x.found.Set(httpRedirects, float64(x.redirects))
	x.wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.hop()
	h.describe(&j.result)
	if j.failed() && x.request.Log != nil {
		x.request.Log.Error("unexpected answer", "err", j.result.Err, "status_code", response.StatusCode)
	}
	return j.result
}

// judge compares an answer with what is expected. The first that it fails is the
// result; the rest is measured all the same.
type judge struct {
	x        *exchange
	response *http.Response
	result   probe.Result
}

func (j *judge) failed() bool { return j.result.Outcome != probe.Open }

func (j *judge) fail(outcome probe.Outcome, origin probe.Origin, err error) {
	if !j.failed() {
		j.result = probe.Result{Outcome: outcome, Phase: probe.PhaseExchange, Origin: origin, Err: err}
	}
}

// mismatch fails an expectation, which is the key of the module.
func (j *judge) mismatch(expectation, format string, args ...any) {
	j.failExpectation(expectation, probe.Mismatch, fmt.Errorf(format, args...))
}

func (j *judge) failExpectation(expectation string, outcome probe.Outcome, err error) {
	if !j.failed() {
		j.x.found.Set(httpFailedExpectation, 1, expectation)
	}
	j.fail(outcome, probe.OriginTarget, err)
}

func (j *judge) status(notFollowed error) {
	status := j.response.StatusCode
	err := fmt.Errorf("the status is %d", status)
	if errors.Is(notFollowed, errBodyStays) {
		j.fail(probe.Status, probe.OriginTarget, fmt.Errorf("%w, and the body is for the hosts that the configuration names, on the port of the target, and not sent in the clear after TLS\nhint: probe the URL that the redirect leads to", err))
		return
	}
	if j.x.Answer.allowsStatus(status) {
		return
	}
	if h := j.x.lastHop(); status == http.StatusProxyAuthRequired && h.isWhole() {
		j.fail(probe.Status, probe.OriginProxy, fmt.Errorf("the proxy %s: %w", h.proxy.Host, &probe.ProxyError{Outcome: probe.Status, Text: "answers with " + j.response.Status}))
		return
	}
	switch {
	case notFollowed != nil && j.x.redirects > maxRedirects:
		err = fmt.Errorf("it redirects more than %d times; %w", maxRedirects, err)
	case j.x.left && j.x.Credentials != nil && (status == http.StatusUnauthorized || status == http.StatusForbidden):
		err = fmt.Errorf("%w\nhint: the redirect led to another host, and the credentials of the module are for the target's", err)
	}
	j.failExpectation("valid_status_codes", probe.Status, err)
}

func (x *exchange) lastHop() *hop {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.hop()
}

func (j *judge) headers() {
	a := &j.x.Answer
	if j.failed() || len(a.RejectHeaders)+len(a.RequireHeaders) == 0 {
		return
	}
	for _, rule := range a.RejectHeaders {
		values := j.response.Header.Values(rule.Name)
		if len(values) == 0 && !rule.AllowMissing {
			j.mismatch("fail_if_header_matches", "there is no header %s", rule.Name)
		}
		if slices.ContainsFunc(values, rule.Regexp.MatchString) {
			j.mismatch("fail_if_header_matches", "the header %s matches %q", rule.Name, rule.Regexp)
		}
	}
	for _, rule := range a.RequireHeaders {
		values := j.response.Header.Values(rule.Name)
		switch {
		case len(values) == 0 && !rule.AllowMissing:
			j.mismatch("fail_if_header_not_matches", "there is no header %s", rule.Name)
		case len(values) > 0 && !slices.ContainsFunc(values, rule.Regexp.MatchString):
			j.mismatch("fail_if_header_not_matches", "the header %s does not match %q", rule.Name, rule.Regexp)
		}
	}
	j.x.found.Set(failedDueToRegex, number(j.failed()))
}

// body reads the body to its end or limit, unless net/http has closed it since a
// redirect was not followed.
func (j *judge) body(closed bool) {
	a := &j.x.Answer
	defer j.response.Body.Close()
	body := j.decompressed()
	counted := &counter{r: http.MaxBytesReader(nil, body, a.bodyLimit())}
	if !j.failed() && a.matchesBody() {
		j.matchBody(counted)
		j.x.found.Set(failedDueToRegex, number(j.failed()))
	}
	if !j.failed() && a.parsesBody() {
		j.parseBody(counted)
		j.x.found.Set(failedDueToCEL, number(j.failed()))
	}
	if !closed {
		if _, err := io.Copy(io.Discard, counted); err != nil {
			j.failBody(err)
		}
		j.x.found.Set(httpBodyLength, float64(counted.n))
	}
	j.x.mu.Lock()
	j.x.hop().end = time.Now()
	j.x.mu.Unlock()
	if t, err := http.ParseTime(j.response.Header.Get("Last-Modified")); err == nil {
		j.x.found.Set(httpLastModified, float64(t.Unix()))
	}
}

type counter struct {
	r io.Reader
	n int64
}

// Read implements [io.Reader].
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

// decompressed returns the body as it was before the compression that the module
// wants; as it is where it is not compressed so.
func (j *judge) decompressed() io.ReadCloser {
	raw := j.response.Body
	switch strings.ToLower(j.x.Answer.Compression) {
	case "br":
		return io.NopCloser(brotli.NewReader(raw))
	case "deflate":
		return flate.NewReader(raw)
	case "gzip":
		unpacked, err := gzip.NewReader(raw)
		if err != nil {
			j.failBody(err)
			return raw
		}
		return unpacked
	case "", "identity":
		return raw
	default:
		j.fail(probe.LocalError, probe.OriginLocal, fmt.Errorf("compression: %q is not known", j.x.Answer.Compression))
		return raw
	}
}

// isMarkless reports whether a compressed body has no mark that says how it is
// compressed: RFC 7932, RFC 1951.
func isMarkless(compression string) bool {
	return strings.EqualFold(compression, "br") || strings.EqualFold(compression, "deflate")
}

// isEncoded reports whether a body is said to be compressed as the module wants.
func (j *judge) isEncoded() bool {
	return strings.EqualFold(j.response.Header.Get("Content-Encoding"), j.x.Answer.Compression)
}

// minGzip is the size of the header and the trailer of gzip, in bytes: RFC 1952
// section 2.3. To the decompressor a body that says it is shorter than that ends
// too early, as one does whose connection was cut.
const minGzip = 18

// failBody notes what went wrong as a body was read.
func (j *judge) failBody(err error) {
	if length := j.response.ContentLength; strings.EqualFold(j.x.Answer.Compression, "gzip") && 0 <= length && length < minGzip {
		j.mismatch("compression", "a body of %d bytes is not gzip, which the module wants: %w", length, err)
		return
	}
	if j.x.ctx.Err() != nil {
		err = j.x.ctx.Err()
	}
	outcome, origin := classifyHTTP(err)
	large, tooLarge := errors.AsType[*http.MaxBytesError](err)
	switch {
	case tooLarge:
		j.mismatch("body_size_limit", "the body is larger than %d bytes: %w\nhint: body_size_limit of the module says how much is read", large.Limit, err)
	case errors.Is(err, probe.ErrNoRoom):
		j.fail(probe.LocalError, probe.OriginLocal, err)
	case errors.Is(err, gzip.ErrHeader), outcome == probe.Unknown && isMarkless(j.x.Answer.Compression) && !j.isEncoded():
		j.mismatch("compression", "the body is not %s, which the module wants: %w", j.x.Answer.Compression, err)
	case outcome == probe.Unknown:
		j.fail(probe.Protocol, probe.OriginTarget, err)
	default:
		j.fail(outcome, origin, err)
	}
}

// matchBody matches the body with regular expressions.
func (j *judge) matchBody(body io.Reader) {
	text, release, err := j.x.request.Bodies.Read(j.x.ctx, body, j.x.Answer.bodyLimit(), 1)
	defer release()
	if err != nil {
		j.failBody(err)
		return
	}
	for _, re := range j.x.Answer.RejectBody {
		if re.Match(text) {
			j.mismatch("fail_if_body_matches_regexp", "the body matches %q", re)
			return
		}
	}
	for _, re := range j.x.Answer.RequireBody {
		if !re.Match(text) {
			j.mismatch("fail_if_body_not_matches_regexp", "the body does not match %q", re)
			return
		}
	}
}

// jsonFactor is how much memory JSON takes, at worst, for each byte of it.
const jsonFactor = 33

// parseBody evaluates expressions over the body, which must be JSON.
func (j *judge) parseBody(body io.Reader) {
	text, release, err := j.x.request.Bodies.Read(j.x.ctx, body, j.x.Answer.bodyLimit(), jsonFactor)
	defer release()
	if err != nil {
		j.failBody(err)
		return
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		j.mismatch(keyOfJSON(&j.x.Answer), "the body is not JSON: %w", err)
		return
	}
	j.evaluate(keyRejectJSON, j.x.Answer.RejectJSON, value, false)
	j.evaluate(keyRequireJSON, j.x.Answer.RequireJSON, value, true)
}

// The keys of the rules for bodies that are JSON.
const (
	keyRejectJSON  = "fail_if_body_json_matches_cel"
	keyRequireJSON = "fail_if_body_json_not_matches_cel"
)

// keyOfJSON returns the key that requires a body to be JSON.
func keyOfJSON(a *HTTPAnswer) string {
	if a.RejectJSON != nil {
		return keyRejectJSON
	}
	return keyRequireJSON
}

func (j *judge) evaluate(key string, rule *JSONRule, value any, want bool) {
	if rule == nil || j.failed() {
		return
	}
	holds, err := rule.Holds(j.x.ctx, value)
	switch {
	case err != nil:
		j.mismatch(key, "%s cannot be evaluated: %w", rule.Text, err)
	case holds != want:
		j.mismatch(key, "%s is %t", rule.Text, holds)
	}
}

func (j *judge) version() {
	version, err := strconv.ParseFloat(strings.TrimPrefix(j.response.Proto, "HTTP/"), 64)
	if err == nil {
		j.x.found.Set(httpVersion, version)
	}
	if valid := j.x.Answer.Versions; len(valid) > 0 && !slices.Contains(valid, j.response.Proto) {
		j.mismatch("valid_http_versions", "%s is not among %s", j.response.Proto, strings.Join(valid, ", "))
	}
}

// The errors of a last hop with TLS, and without it. The shim of internal/rival knows them.
var (
	ErrTLS   = errors.New("the answer came over TLS, which the module rejects")
	ErrNoTLS = errors.New("the answer did not come over TLS, which the module requires")
)

// noteTLS notes what the last hop was secured with.
func (x *exchange) noteTLS(state *tls.ConnectionState) {
	noteCertificates(&x.found, state.PeerCertificates)
	x.found.Set(tlsVersion, 1, versionName(state.Version))
	x.found.Set(tlsCipher, 1, tls.CipherSuiteName(state.CipherSuite))
	noteChains(&x.found, state.VerifiedChains)
}

func (j *judge) tls() {
	state := j.response.TLS
	if state == nil {
		if j.x.Answer.RequireTLS {
			j.failExpectation("fail_if_not_ssl", probe.Mismatch, ErrNoTLS)
		}
		return
	}
	j.x.found.Set(httpSSL, 1)
	j.x.noteTLS(state)
	if j.x.Answer.RejectTLS {
		j.failExpectation("fail_if_ssl", probe.Mismatch, ErrTLS)
	}
}
