package prober

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// DNS asks a name server a question, and compares its answer with what the module
// expects. Its settings and metrics are those of blackbox_exporter's dns prober.
//
// An answer with another response code is Status, one with other records
// Mismatch, and what is no answer Protocol. Over UDP a server that does not
// answer is NoReply.
type DNS struct {
	dial.Resolution
	Question  dns.Question
	Recursion bool // asks the server to resolve the name itself
	// TCP asks over TCP, and TLS over TLS on it.
	TCP, TLS bool
	// TLSConfig is as that of [Conversation].
	TLSConfig func(serverName string) (*tls.Config, error)
	// SourceAddress is the address of this host to ask from; the zero value lets
	// the kernel choose.
	SourceAddress netip.Addr
	// ValidRcodes are the response codes of an expected answer.
	ValidRcodes []int
	// The rules for the records of each section.
	Answer, Authority, Additional RecordRules
	// Unusable says why the settings cannot be used, and Unjudged why no answer can
	// be judged; nil if they can. Such a module loads, as in blackbox_exporter, and
	// each probe with it is LocalError, in the second case after it has asked.
	Unusable, Unjudged error
}

// RecordRules are what the records of a section must match, each in the form of a
// zone file: RFC 1035 section 5.1.
type RecordRules struct {
	FailIfMatches, FailIfAllMatch, FailIfNotMatches, FailIfNoneMatches []*regexp.Regexp
}

// The metrics of the dns prober. Names, help and values are those of
// blackbox_exporter.
var (
	dnsDuration   = &probe.Metric{Name: "probe_dns_duration_seconds", Help: "Duration of DNS request by phase", Labels: []string{"phase"}}
	dnsAnswers    = &probe.Metric{Name: "probe_dns_answer_rrs", Help: "Returns number of entries in the answer resource record list"}
	dnsAuthority  = &probe.Metric{Name: "probe_dns_authority_rrs", Help: "Returns number of entries in the authority resource record list"}
	dnsAdditional = &probe.Metric{Name: "probe_dns_additional_rrs", Help: "Returns number of entries in the additional resource record list"}
	dnsSucceeded  = &probe.Metric{Name: "probe_dns_query_succeeded", Help: "Displays whether or not the query was executed successfully"}
	dnsSerial     = &probe.Metric{Name: "probe_dns_serial", Help: "Returns the serial number of the zone"}
)

func dnsMetrics() []*probe.Metric {
	return []*probe.Metric{dnsDuration, dnsAnswers, dnsAuthority, dnsAdditional, dnsSucceeded, dnsSerial}
}

// phaseRequest is the phase of blackbox_exporter's dns prober that follows connect.
var phaseRequest = []string{"request"}

// Heavy reports whether a probe makes a TLS handshake.
func (p *DNS) Heavy() bool { return p.TLS }

// Misconfigured returns why every probe with the module fails, or nil.
func (p *DNS) Misconfigured() error { return cmp.Or(p.Unusable, p.Unjudged) }

// Probe implements [probe.Prober].
func (p *DNS) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	for _, phase := range [][]string{probe.PhaseResolve.Labels(), probe.PhaseConnect.Labels(), phaseRequest} {
		found.Set(dnsDuration, 0, phase...)
	}
	for _, m := range []*probe.Metric{dnsAnswers, dnsAuthority, dnsAdditional, dnsSucceeded} {
		found.Set(m, 0)
	}
	if p.Unusable != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: p.Unusable, Samples: found}
	}
	to, addrs, failed := p.Targets(ctx, probe.KindDNS, p.port(), &r, dnsDuration, &found)
	noteLookupAs(dnsDuration, &found)
	if failed != nil {
		failed.Samples = found
		return *failed
	}
	q := &dnsQuery{DNS: p, request: r, serverName: serverName(&r, to), to: addrs[0], samples: found, message: p.message()}
	result := q.run(ctx)
	result.Peer, result.Samples = addrs[0], q.samples
	dial.NameOther(&result, addrs)
	return result
}

func (p *DNS) port() string {
	if p.TLS {
		return "853"
	}
	return "53"
}

func (p *DNS) message() *dns.Msg {
	m := &dns.Msg{Question: []dns.Question{p.Question}}
	m.Id, m.RecursionDesired = dns.Id(), p.Recursion
	return m
}

// dnsQuery is one question to one server.
type dnsQuery struct {
	*DNS
	request    probe.Request
	serverName string
	to         netip.AddrPort
	message    *dns.Msg
	samples    probe.Samples
	answer     *dns.Msg // of the server
}

func (q *dnsQuery) run(ctx context.Context) probe.Result {
	packed, err := q.message.Pack()
	if err != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: fmt.Errorf("query_name: %w", err)}
	}
	var result probe.Result
	if q.TCP {
		result = q.askTCP(ctx, packed)
	} else {
		result = q.askUDP(ctx, packed)
	}
	if result.Outcome != probe.Open {
		return result
	}
	q.note()
	if q.Unjudged != nil {
		return probe.Result{Outcome: probe.LocalError, Origin: probe.OriginLocal, Err: q.Unjudged}
	}
	if err := q.judge(); err != nil {
		result = probe.Result{Outcome: probe.Mismatch, Phase: probe.PhaseExchange, Origin: probe.OriginTarget, Err: err}
		if fault, ok := errors.AsType[*probe.Fault](err); ok {
			result.Outcome = fault.Outcome
		}
	}
	return result
}

// took notes how long connecting and asking took, as far as it came to that.
func (q *dnsQuery) took(began, connected time.Time) {
	q.samples.Set(dnsDuration, connected.Sub(began).Seconds(), probe.PhaseConnect.Labels()...)
	q.samples.Set(dnsDuration, time.Since(connected).Seconds(), phaseRequest...)
}

// askUDP sends the question once, as blackbox_exporter does.
func (q *dnsQuery) askUDP(ctx context.Context, packed []byte) probe.Result {
	began := time.Now()
	d := &dial.Datagrams{Target: q.to, Source: source(&q.request, q.SourceAddress), Device: q.request.Device, Allow: q.request.Allow}
	if err := d.Connect(ctx); err != nil {
		q.took(began, time.Now())
		return d.Failed(probe.PhaseConnect, err)
	}
	defer d.Conn.Close()
	connected := time.Now()
	err := d.Exchange(ctx, packed, []time.Duration{0}, q.takeDatagram)
	q.took(began, connected)
	if errors.Is(err, dial.ErrIgnored) { // many answers, all to other questions
		err = dial.ErrNoReply
	}
	if err != nil {
		return d.Failed(probe.PhaseExchange, err)
	}
	return probe.Result{}
}

// takeDatagram ignores answers to other questions: they may be late, or forged.
func (q *dnsQuery) takeDatagram(b []byte) error {
	if len(b) >= 2 && binary.BigEndian.Uint16(b) != q.message.Id {
		return dial.ErrIgnored
	}
	return q.take(b)
}

// take reads an answer.
func (q *dnsQuery) take(b []byte) error {
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		return probe.TargetFault(probe.Protocol, fmt.Errorf("the answer is no DNS message: %w", err))
	}
	if m.Id != q.message.Id {
		return probe.TargetFault(probe.Protocol, fmt.Errorf("the answer has the id %d, and the question %d", m.Id, q.message.Id))
	}
	if !m.Response {
		return probe.TargetFault(probe.Protocol, errors.New("what came back is a question and no answer (bit QR, RFC 1035 section 4.1.1)"))
	}
	if q.request.Log != nil {
		q.request.Log.Debug("answer", "message", m.String())
	}
	q.answer = &m
	return nil
}

func (q *dnsQuery) askTCP(ctx context.Context, packed []byte) probe.Result {
	began := time.Now()
	a := dial.Attempt{Target: q.to, Source: source(&q.request, q.SourceAddress), Device: q.request.Device, Allow: q.request.Allow, Exchanges: true}
	conn, failed := a.Connect(ctx)
	if failed != nil {
		q.took(began, time.Now())
		return failed.Result(q.to)
	}
	defer conn.Close()
	defer bound(ctx, conn)()
	s := &session{
		Conversation: &Conversation{TLSConfig: q.TLSConfig}, conn: conn, serverName: q.serverName, peer: q.to.Addr(),
		samples: q.samples, log: q.request.Log, phase: probe.PhaseTLS,
	}
	var err error
	if q.TLS {
		err = s.startTLS()
		q.samples = s.samples
	}
	connected := time.Now()
	if err == nil {
		s.phase = probe.PhaseExchange
		err = q.converse(s.conn, packed)
	}
	q.took(began, connected)
	return s.result(ctx, err)
}

// converse asks over a stream: RFC 1035 section 4.2.2.
func (q *dnsQuery) converse(conn net.Conn, packed []byte) error {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, len(packed)+2), uint16(len(packed)))
	if _, err := conn.Write(append(b, packed...)); err != nil {
		return err
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return err
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	return q.take(answer)
}

// note notes the measurements of an answer.
func (q *dnsQuery) note() {
	q.samples.Set(dnsAnswers, float64(len(q.answer.Answer)))
	q.samples.Set(dnsAuthority, float64(len(q.answer.Ns)))
	q.samples.Set(dnsAdditional, float64(len(q.answer.Extra)))
	q.samples.Set(dnsSucceeded, 1)
	if q.Question.Qtype != dns.TypeSOA {
		return
	}
	q.samples.Set(dnsSerial, 0)
	for _, rr := range q.answer.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			q.samples.Set(dnsSerial, float64(soa.Serial))
		}
	}
}

// judge says what is wrong with an answer, or nil.
func (q *dnsQuery) judge() error {
	if !slices.Contains(q.ValidRcodes, q.answer.Rcode) {
		return probe.TargetFault(probe.Status, fmt.Errorf("the response code is %s, not %s", nameOfRcode(q.answer.Rcode), namesOfRcodes(q.ValidRcodes)))
	}
	for _, section := range []struct {
		name    string
		records []dns.RR
		rules   *RecordRules
	}{
		{"answer", q.answer.Answer, &q.Answer}, {"authority", q.answer.Ns, &q.Authority}, {"additional", q.answer.Extra, &q.Additional},
	} {
		if err := section.rules.check(section.records); err != nil {
			return fmt.Errorf("%s records: %w%s", section.name, err, truncation(q.answer))
		}
	}
	return nil
}

// truncation adds that an answer is not whole: RFC 1035 section 4.1.1.
func truncation(m *dns.Msg) string {
	if !m.Truncated {
		return ""
	}
	return "; the answer is truncated (TC)\nhint: transport_protocol: tcp gets the whole answer"
}

func nameOfRcode(code int) string {
	if name, ok := dns.RcodeToString[code]; ok {
		return name
	}
	return fmt.Sprint(code)
}

func namesOfRcodes(codes []int) string {
	names := make([]string, len(codes))
	for i, code := range codes {
		names[i] = nameOfRcode(code)
	}
	return strings.Join(names, " or ")
}

// check compares the records of a section with the rules.
func (r *RecordRules) check(records []dns.RR) error {
	if len(records) == 0 && len(r.FailIfNotMatches)+len(r.FailIfNoneMatches) > 0 {
		return errors.New("there is none")
	}
	all, any := true, false
	for _, record := range records {
		text := record.String()
		matches := func(re *regexp.Regexp) bool { return re.MatchString(text) }
		misses := func(re *regexp.Regexp) bool { return !re.MatchString(text) }
		if i := slices.IndexFunc(r.FailIfMatches, matches); i >= 0 {
			return fmt.Errorf("%q matches %q", text, r.FailIfMatches[i])
		}
		if i := slices.IndexFunc(r.FailIfNotMatches, misses); i >= 0 {
			return fmt.Errorf("%q does not match %q", text, r.FailIfNotMatches[i])
		}
		all = all && !slices.ContainsFunc(r.FailIfAllMatch, misses)
		any = any || slices.ContainsFunc(r.FailIfNoneMatches, matches)
	}
	switch {
	case len(r.FailIfAllMatch) > 0 && !all:
		return errors.New("not all match fail_if_all_match_regexp")
	case len(r.FailIfNoneMatches) > 0 && !any:
		return errors.New("none matches fail_if_none_matches_regexp")
	default:
		return nil
	}
}
