package prober

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// WebSocket opens a websocket, and says and hears there what its module asks for.
// It takes what the websocket prober of blackbox_exporter after v0.28.0 takes, and
// measures the same.
//
// The handshake is an exchange of HTTP/1.1, with its headers, credentials, TLS and
// proxies. No redirect is followed: a websocket has one address.
type WebSocket struct {
	HTTP
	// Exchange has Expect, Send and Labels only. A step expects the next message, and
	// sends a text message.
	Exchange []Step
}

// maxBeats is how many pings and pongs are read; each takes some microseconds. The
// bytes of all frames are bounded by maxExchanged.
const maxBeats = 1000

// The metrics of the websocket prober. Names, help and labels are those of
// blackbox_exporter; its phase processing is without tls here, which has a phase of
// its own.
var (
	webSocketDuration = &probe.Metric{Name: "probe_websocket_duration_seconds", Help: "Duration of websocket request by phase", Labels: []string{"phase"}}
	webSocketStatus   = &probe.Metric{Name: "probe_websocket_status_code", Help: "Response HTTP status code"}
	webSocketUpgraded = &probe.Metric{Name: "probe_websocket_connection_upgraded", Help: "Indicates if the websocket connection was successfully upgraded"}
	webSocketRegex    = &probe.Metric{Name: "probe_websocket_failed_due_to_regex", Help: "Indicates if probe failed due to regex"}
)

func webSocketMetrics() []*probe.Metric {
	return []*probe.Metric{webSocketDuration, webSocketStatus, webSocketUpgraded, webSocketRegex}
}

// Probe implements [probe.Prober].
func (p *WebSocket) Probe(ctx context.Context, r probe.Request) probe.Result {
	return p.run(ctx, r, webSocketDuration, func(x *exchange) probe.Result {
		return (&upgrade{exchange: x, steps: p.Exchange}).probe()
	})
}

// upgrade is a handshake and what follows it.
type upgrade struct {
	*exchange
	steps  []Step
	conn   *websocket.Conn
	stream *boundedStream // beneath conn
	beats  int            // pings and pongs received
}

func (u *upgrade) probe() probe.Result {
	u.found = probe.NewSamples()
	for _, m := range []*probe.Metric{webSocketStatus, webSocketUpgraded, webSocketRegex} {
		u.found.Set(m, 0)
	}
	u.tunnels = true
	if failed := u.prepare(probe.KindWebSocket); failed != nil {
		return *failed
	}
	u.beginPhases()
	client := &http.Client{Transport: upgrader{u}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	conn, response, err := websocket.Dial(u.traced(), u.target.String(), &websocket.DialOptions{
		HTTPClient: client, HTTPHeader: u.Header, Host: u.askedHost(),
		OnPingReceived: func(context.Context, []byte) bool { return u.beat() },
		OnPongReceived: func(context.Context, []byte) { u.beat() },
	})
	if response == nil {
		return u.unanswered(err)
	}
	if err != nil {
		return u.result(refusalOf(response, err))
	}
	u.conn, u.stream.left = conn, maxExchanged
	u.found.Set(webSocketUpgraded, 1)
	return u.result(u.converse())
}

// result returns the result of a handshake that was answered.
func (u *upgrade) result(err error) probe.Result {
	var r probe.Result
	if err != nil {
		r = probe.Result{Phase: probe.PhaseExchange, Err: err}
		if r.Outcome, r.Origin = dial.Classify(err, dial.Evidence{Sent: true}); r.Outcome == probe.Unknown {
			r.Outcome, r.Origin = probe.Protocol, probe.OriginTarget // the library has no types for what is wrong with a frame
		}
		if u.request.Log != nil {
			u.request.Log.Error("websocket failed", "outcome", r.Outcome.String(), "err", err)
		}
	}
	u.wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	h := u.hop()
	h.end = time.Now()
	h.describe(&r)
	return r
}

// refusalOf says why an answer made no websocket.
func refusalOf(response *http.Response, err error) error {
	if response.StatusCode == http.StatusSwitchingProtocols {
		return probe.TargetFault(probe.Protocol, err)
	}
	err = fmt.Errorf("the status is %d and not 101", response.StatusCode)
	if location := response.Header.Get("Location"); location != "" && response.StatusCode/100 == 3 {
		err = fmt.Errorf("%w; it redirects to %.200q\nhint: probe the URL that the redirect leads to", err, location)
	} else if response.StatusCode/100 == 2 || response.StatusCode == http.StatusUpgradeRequired {
		err = fmt.Errorf("%w: the server speaks no websocket there\nhint: the path of the URL, or a proxy that does not pass Upgrade on", err)
	}
	return probe.TargetFault(probe.Status, err)
}

// upgrader makes the request of a handshake.
type upgrader struct{ u *upgrade }

// RoundTrip implements [http.RoundTripper].
func (t upgrader) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := t.u.client.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	t.u.found.Set(webSocketStatus, float64(response.StatusCode))
	if response.TLS != nil {
		t.u.noteTLS(response.TLS)
	}
	open, upgraded := response.Body.(io.ReadWriteCloser)
	if !upgraded {
		_ = response.Body.Close()
		response.Body = http.NoBody
		return response, nil
	}
	if err := checkSubprotocol(response); err != nil {
		_ = open.Close()
		return nil, err
	}
	t.u.stream = &boundedStream{ReadWriteCloser: open} // of a handshake that fails the library would read 1 kB more
	context.AfterFunc(t.u.life, func() { _ = open.Close() })
	response.Body = t.u.stream
	return response, nil
}

// checkSubprotocol reports that a server chose a protocol that was not offered, and
// hides the choice from the library, which knows of no offer.
func checkSubprotocol(response *http.Response) error {
	const name = "Sec-WebSocket-Protocol"
	chosen := response.Header.Get(name)
	response.Header.Del(name)
	if chosen == "" {
		return nil
	}
	for offered := range strings.SplitSeq(strings.Join(response.Request.Header.Values(name), ","), ",") {
		if strings.TrimSpace(offered) == chosen {
			return nil
		}
	}
	return probe.TargetFault(probe.Protocol, fmt.Errorf("the server chose the subprotocol %.100q, which was not offered", chosen))
}

// boundedStream is a connection of which only so much is read.
type boundedStream struct {
	io.ReadWriteCloser
	left int
}

// Read implements [io.Reader].
func (s *boundedStream) Read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, errTooLong
	}
	n, err := s.ReadWriteCloser.Read(b[:min(len(b), s.left)])
	s.left -= n
	return n, err
}

// beat counts a ping or pong, and reports whether it is answered. Too many end the
// reading.
func (u *upgrade) beat() bool {
	if u.beats++; u.beats <= maxBeats {
		return true
	}
	u.stream.left = 0
	return false
}

// converse does the steps, and ends the websocket.
func (u *upgrade) converse() error {
	u.conn.SetReadLimit(-1) // the stream has a limit
	if len(u.steps) > 0 {
		u.found.Set(failedStep, 0)
	}
	for i := range u.steps {
		if err := u.do(i); err != nil {
			u.found.Set(webSocketRegex, 1)
			u.found.Set(failedStep, float64(i+1))
			_ = u.conn.CloseNow()
			return fmt.Errorf("step %d: %w", i+1, u.explain(err))
		}
	}
	u.stream.left = 0 // the goodbye is said, and not waited for
	_ = u.conn.Close(websocket.StatusNormalClosure, "")
	return nil
}

// explain returns the end of the probe's time as what ended a step, whatever noticed
// it first.
func (u *upgrade) explain(err error) error {
	_, isFault := errors.AsType[*probe.Fault](err)
	switch over := u.ctx.Err(); {
	case isFault || over == nil:
		return err
	case errors.Is(over, context.DeadlineExceeded):
		return fmt.Errorf("nothing received: %w", over)
	default:
		return over
	}
}

// do does a step, which are numbered from 0.
func (u *upgrade) do(i int) error {
	step := &u.steps[i]
	send := step.Send
	if step.Expect != nil {
		message, release, err := u.receive(u.steps[:i+1])
		defer release()
		if err != nil {
			return err
		}
		match := step.Expect.FindSubmatchIndex(message)
		if match == nil {
			shown := withoutSent(u.steps[:i+1], message[:min(len(message), maxKept)])
			return probe.TargetFault(probe.Mismatch, fmt.Errorf("expected a message like %q, got %q", step.Expect, shown))
		}
		send = string(step.Expect.Expand(nil, []byte(send), message, match))
		step.noteLabels(&u.found, message, match)
	}
	if send == "" {
		return nil
	}
	if u.request.Log != nil {
		u.request.Log.Debug("send", "bytes", len(send)) // how many: a step may be a login
	}
	return u.conn.Write(u.life, websocket.MessageText, []byte(send))
}

// receive returns the next message, valid until release is called. A reason to close may
// repeat what was sent.
func (u *upgrade) receive(sent []Step) (message []byte, release func(), err error) {
	_, body, err := u.conn.Reader(u.life)
	if err == nil {
		message, release, err = u.request.Bodies.Read(u.ctx, body, maxExchanged, 1)
	}
	if release == nil {
		release = func() {}
	}
	closed, isClosed := errors.AsType[websocket.CloseError](err)
	switch {
	case isClosed:
		err = probe.TargetFault(probe.Closed, fmt.Errorf("the server closed the websocket, code %d %q", closed.Code, withoutSent(sent, []byte(closed.Reason))))
	case errors.Is(err, probe.ErrNoRoom):
		err = &probe.Fault{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: err}
	case err == nil && u.request.Log != nil:
		u.request.Log.Debug("received", "message", string(message[:min(len(message), maxKept)]))
	}
	return message, release, err
}
