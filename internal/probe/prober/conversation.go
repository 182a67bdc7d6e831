package prober

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// Conversation is what happens on a stream once it is connected: TLS, if asked
// for, and then the steps. Its zero value is nothing, and sends nothing.
type Conversation struct {
	// TLS makes a handshake first. A step can make it later.
	TLS bool
	// TLSConfig returns the configuration of a handshake, anew each time so
	// that changed files are read. It is given the name of the target, for
	// where the configuration names no server. Nil is the system's roots.
	TLSConfig func(serverName string) (*tls.Config, error)
	// Exchange is what is said and heard, in turn.
	Exchange []Step
}

// Step is one entry of query_response of blackbox_exporter. What it has is done
// in the order of the fields.
type Step struct {
	// Expect reads lines until one matches.
	Expect *regexp.Regexp
	// Labels become probe_expect_info when Expect matched. Their values are
	// templates: ${1} and ${name} stand for what Expect captured.
	Labels []probe.Label
	// ExpectBytes must be what comes next, line or no line.
	ExpectBytes []byte
	// ExpectOneOf has the bytes of which one must be what comes next.
	ExpectOneOf []byte
	// Send is a line, sent with a line feed behind it; a template as in Labels
	// when there is an Expect.
	Send string
	// SendBytes is sent as it is.
	SendBytes []byte
	// StartTLS makes a TLS handshake.
	StartTLS bool
}

// Bounds on what a target can make the exporter read and keep.
const (
	readBuffer   = 2 << 10
	maxLine      = 64 << 10 // as blackbox_exporter has it: bufio.MaxScanTokenSize
	maxExchanged = 1 << 20  // a tenth of a second of matching, if its lines are short
)

// errTooLong says that a target sends without end.
var errTooLong = probe.TargetFault(probe.Protocol, errors.New("line or answer too long"))

// session is a conversation on one connection.
type session struct {
	*Conversation
	conn       net.Conn // the TLS connection, once there is one
	isTLS      bool
	serverName string
	peer       netip.Addr
	duration   *probe.Metric // takes the time of each phase
	samples    probe.Samples
	log        *slog.Logger // may be nil
	details    *probe.Details

	in        *bufio.Reader // of conn; made for the first step that reads
	spill     []byte        // a line longer than in
	exchanged int           // bytes read
	step      int           // the current one, from 1 on
	wants     any           // what it waits for: *regexp.Regexp or []byte
	heard     bool          // something came since then
	last      []byte        // the last line or the bytes that came, or their beginning
	phase     probe.Phase   // the current one
	wantsOurs bool          // the server asked for a certificate, and there is none
	spent     [probe.NumPhases]time.Duration
}

// run converses until all was said, or until something fails, and closes the
// connection.
func (s *session) run(ctx context.Context, result *probe.Result) {
	raw := s.conn
	s.details = probe.DetailsOf(ctx)
	if s.TLS || len(s.Exchange) > 0 {
		defer bound(ctx, raw)()
	}
	err := s.converse()
	if err != nil {
		err = s.explain(ctx, err)
		result.Outcome, result.Origin = s.classify(err)
		result.Phase, result.Err = s.phase, s.explainTLS(result.Outcome, err)
	} else if s.isTLS {
		_ = s.conn.Close() // says goodbye first
	}
	_ = raw.Close()
	result.Samples = s.samples
}

// bound gives a connection the time of ctx, until the function that it returns is
// called. That returns false if ctx had ended.
func bound(ctx context.Context, conn net.Conn) (stop func() bool) {
	deadline, _ := ctx.Deadline()
	_ = conn.SetDeadline(deadline)
	return context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
}

// result returns what an error makes of a conversation that does not explain it; nil
// is Open.
func (s *session) result(ctx context.Context, err error) (r probe.Result) {
	if err == nil {
		return r
	}
	if ctx.Err() != nil && dial.IsTimeout(err) {
		err = ctx.Err() // it may have been given up rather than have timed out
	}
	r.Phase = s.phase
	r.Outcome, r.Origin = s.classify(err)
	r.Err = s.explainTLS(r.Outcome, err)
	return r
}

func (s *session) converse() error {
	if s.TLS {
		if err := s.timed(probe.PhaseTLS, s.startTLS); err != nil {
			return err
		}
	}
	s.samples.Set(failedDueToRegex, 0)
	s.samples.Set(failedDueToBytes, 0)
	if len(s.Exchange) > 0 {
		s.samples.Set(failedStep, 0)
	}
	for i := range s.Exchange {
		step := &s.Exchange[i]
		s.step = i + 1
		err := s.timed(probe.PhaseExchange, func() error { return s.talk(step) })
		if err == nil && step.StartTLS {
			err = s.timed(probe.PhaseTLS, s.startTLS)
		}
		if err != nil {
			s.samples.Set(failedStep, float64(s.step))
			return err
		}
	}
	return s.confirm()
}

// explain adds to an error which step it ended. A timeout after something was
// received is no silence: the service answered, and not as the step expects.
func (s *session) explain(ctx context.Context, err error) error {
	switch {
	case !dial.IsTimeout(err):
	case errors.Is(ctx.Err(), context.Canceled):
		err = ctx.Err() // it was given up
	case s.heard && s.phase == probe.PhaseExchange:
		if _, isBytes := s.wants.([]byte); isBytes {
			s.samples.Set(failedDueToBytes, 1)
		} else {
			s.samples.Set(failedDueToRegex, 1)
		}
		err = s.unexpected("; nothing else came in time")
	default: // whether the socket or the context notices first is a race
		err = fmt.Errorf("nothing received: %w", context.DeadlineExceeded)
	}
	if s.step > 0 {
		err = fmt.Errorf("step %d: %w", s.step, err)
	}
	return err
}

// timed adds the time that a part takes to its phase. The phase stays that of
// the last part.
func (s *session) timed(phase probe.Phase, part func() error) error {
	s.phase = phase
	start := time.Now()
	err := part()
	s.spent[phase] += time.Since(start)
	s.samples.Set(s.duration, s.spent[phase].Seconds(), phase.Labels()...)
	return err
}

// talk does what a step has, TLS apart.
func (s *session) talk(step *Step) error {
	send := step.Send
	if step.Expect != nil {
		line, match, err := s.expect(step.Expect)
		if err != nil {
			return err
		}
		send = string(step.Expect.Expand(nil, []byte(send), line, match))
		step.noteLabels(&s.samples, line, match)
	}
	if len(step.ExpectBytes) > 0 {
		if err := s.expectBytes(step.ExpectBytes); err != nil {
			return err
		}
	}
	if len(step.ExpectOneOf) > 0 {
		if err := s.expectOneOf(step.ExpectOneOf); err != nil {
			return err
		}
	}
	if send != "" {
		if err := s.send([]byte(send + "\n")); err != nil {
			return err
		}
	}
	if len(step.SendBytes) > 0 {
		return s.send(step.SendBytes)
	}
	return nil
}

func (s *session) send(b []byte) error {
	if s.log != nil {
		s.log.Debug("send", "bytes", len(b)) // how many: a step may be a login
	}
	_, err := s.conn.Write(b)
	return err
}

// expect reads lines until one matches. An end without any line is a closed
// connection, an end behind other lines is a mismatch.
func (s *session) expect(re *regexp.Regexp) (line []byte, match []int, err error) {
	for s.waitFor(re); ; s.hear(line) {
		line, err = s.line()
		switch {
		case errors.Is(err, io.EOF):
			s.samples.Set(failedDueToRegex, 1)
			if s.heard {
				err = s.unexpected("; then the connection ended")
			}
			return nil, nil, err
		case err != nil:
			s.heard = s.heard || len(s.spill) > 0
			return nil, nil, err
		}
		if s.log != nil {
			s.log.Debug("received", "line", string(line))
		}
		if match := re.FindSubmatchIndex(line); match != nil {
			s.samples.Set(failedDueToRegex, 0)
			return line, match, nil
		}
	}
}

// waitFor begins to wait for what a step expects.
func (s *session) waitFor(wants any) { s.wants, s.heard, s.last = wants, false, s.last[:0] }

// hear notes what came instead.
func (s *session) hear(b []byte) {
	s.heard, s.last = true, append(s.last[:0], b[:min(len(b), maxKept)]...)
}

// An error shows the beginning of what was received, in bytes. More is kept, so
// that no word that was sent is cut there.
const (
	maxShown = 160
	maxKept  = 1 << 10
)

// unexpected says what the step expects, and what came.
func (s *session) unexpected(then string) error {
	shown := withoutSent(s.Exchange[:s.step], s.last)
	what := fmt.Sprintf("expected %q, got %q", s.wants, shown)
	if re, ok := s.wants.(*regexp.Regexp); ok {
		what = fmt.Sprintf("expected a line like %q, the last line was %q", re, shown)
		if len(s.spill) > 0 {
			what = fmt.Sprintf("expected a line like %q, got %d bytes without the end of a line", re, len(s.spill))
		}
	}
	return probe.TargetFault(probe.Mismatch, errors.New(what+then))
}

// withoutSent returns what was received without the words that were sent: a
// service may repeat a password.
func withoutSent(sent []Step, received []byte) string {
	shown := string(received)
	for i := range sent {
		for word := range strings.FieldsSeq(sent[i].Send) {
			if len(word) > 3 {
				shown = strings.ReplaceAll(shown, word, "***")
			}
		}
	}
	return shown[:min(len(shown), maxShown)]
}

// noteLabels notes what was captured, under the names that the step gives it.
func (step *Step) noteLabels(found *probe.Samples, line []byte, match []int) {
	if len(step.Labels) == 0 {
		return
	}
	metric := &probe.Metric{Name: expectInfo.Name, Help: expectInfo.Help}
	var values []string
	for _, label := range step.Labels {
		metric.Labels = append(metric.Labels, label.Name)
		values = append(values, string(step.Expect.Expand(nil, []byte(label.Value), line, match)))
	}
	found.Info(metric, values)
}

// line returns the next line without its end, valid until the next call. The
// last line of a stream may have no end.
func (s *session) line() ([]byte, error) {
	in := s.reader()
	s.spill = s.spill[:0]
	for {
		part, err := in.ReadSlice('\n')
		s.exchanged += len(part)
		if len(s.spill)+len(part) > maxLine || s.exchanged > maxExchanged {
			return nil, errTooLong
		}
		if err == nil && len(s.spill) == 0 {
			return withoutEnd(part), nil
		}
		s.spill = append(s.spill, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case err == nil, errors.Is(err, io.EOF) && len(s.spill) > 0:
			return withoutEnd(s.spill), nil
		default:
			return nil, err
		}
	}
}

func withoutEnd(line []byte) []byte {
	return bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
}

// expectBytes reads as much as it wants, and no more than it takes to see that
// something else comes.
func (s *session) expectBytes(want []byte) error {
	in := s.reader()
	got := make([]byte, len(want))
	s.waitFor(want)
	for n := 0; n < len(want); {
		more, err := in.Read(got[n:])
		n += more
		if s.log != nil {
			s.log.Debug("received", "bytes", string(got[:n]))
		}
		if n > 0 {
			s.hear(got[:n])
		}
		if !bytes.HasPrefix(want, got[:n]) {
			s.samples.Set(failedDueToBytes, 1)
			return s.unexpected("")
		}
		if err != nil {
			return err
		}
	}
	s.samples.Set(failedDueToBytes, 0)
	return nil
}

// expectOneOf reads one byte.
func (s *session) expectOneOf(want []byte) error {
	s.waitFor(want)
	got, err := s.reader().ReadByte()
	if err != nil {
		return err
	}
	s.hear([]byte{got})
	if bytes.IndexByte(want, got) < 0 {
		s.samples.Set(failedDueToBytes, 1)
		return s.unexpected("")
	}
	return nil
}

func (s *session) reader() *bufio.Reader {
	if s.in == nil {
		s.in = bufio.NewReaderSize(s.conn, readBuffer)
	}
	return s.in
}

// classify says what ended a conversation.
func (s *session) classify(err error) (probe.Outcome, probe.Origin) {
	if outcome, ok := classifyTLS(err); ok {
		return outcome, originOfTLS(outcome)
	}
	outcome, origin := dial.Classify(err, dial.Evidence{Target: s.peer, Sent: true})
	if outcome == probe.Unknown && (s.isTLS || s.phase == probe.PhaseTLS) {
		// No error of the socket, so one of TLS: a record that is none, an alert.
		// With TLS 1.3 a refused client certificate is only reported to the first read.
		return probe.TLSHandshake, probe.OriginTarget
	}
	return outcome, origin
}

// explainTLS adds to the error of a handshake what the server asked for.
func (s *session) explainTLS(outcome probe.Outcome, err error) error {
	if outcome == probe.TLSHandshake && s.wantsOurs {
		return errNoCertificate(err)
	}
	return err
}

// Heavy reports whether the conversation has a TLS handshake in it.
func (c *Conversation) Heavy() bool {
	return c.TLS || slices.ContainsFunc(c.Exchange, func(s Step) bool { return s.StartTLS })
}
