package blackbox_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// nameServer answers over UDP and TCP on the same port.
func nameServer(t testing.TB, answer dns.HandlerFunc) string {
	t.Helper()
	for range 20 {
		udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp4", udp.LocalAddr().String())
		if err != nil {
			udp.Close() // the TCP port of that number is taken
			continue
		}
		serveNames(t, &dns.Server{PacketConn: udp, Handler: answer})
		serveNames(t, &dns.Server{Listener: tcp, Handler: answer})
		return udp.LocalAddr().String()
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

func serveNames(t testing.TB, s *dns.Server) {
	t.Helper()
	started := make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go s.ActivateAndServe()
	<-started
	t.Cleanup(func() { s.Shutdown() })
}

func naming(answer dns.HandlerFunc) func(*testing.T, *site) string {
	return func(t *testing.T, _ *site) string { return nameServer(t, answer) }
}

// records answers with resource records.
func records(rcode int, rrs ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetRcode(q, rcode)
		for _, text := range rrs {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			r.Answer = append(r.Answer, rr)
		}
		w.WriteMsg(r)
	}
}

func wrongID(w dns.ResponseWriter, q *dns.Msg) {
	r := new(dns.Msg)
	r.SetReply(q)
	r.Id++
	w.WriteMsg(r)
}

// rubbish answers with the right id and nothing else that is right.
func rubbish(w dns.ResponseWriter, q *dns.Msg) {
	b := make([]byte, 40)
	binary.BigEndian.PutUint16(b, q.Id)
	binary.BigEndian.PutUint16(b[2:], 0x8180)
	binary.BigEndian.PutUint16(b[4:], 9)
	for i := 12; i < len(b); i++ {
		b[i] = 0xff
	}
	w.Write(b)
}

func ignoring(dns.ResponseWriter, *dns.Msg) {}

// echo sends back what it gets.
func echo(w dns.ResponseWriter, question *dns.Msg) { _ = w.WriteMsg(question) }

// silentPort takes datagrams and answers none.
func silentPort(t *testing.T, _ *site) string {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

// overTLS serves names over TLS.
func overTLS(c func(s *site, t *testing.T) tls.Certificate) func(*testing.T, *site) string {
	return func(t *testing.T, s *site) string {
		l, err := tls.Listen("tcp4", "127.0.0.1:0", withCertificate(c(s, t)))
		if err != nil {
			t.Fatal(err)
		}
		serveNames(t, &dns.Server{Listener: l, Handler: records(dns.RcodeSuccess)})
		return l.Addr().String()
	}
}

const address = "www.test. 300 IN A 192.0.2.1"

// query is the module's settings with more of them.
func query(more string) string {
	return "{query_name: www.test, query_type: A" + more + "}"
}

var (
	ask         = query("")
	askTCP      = query(", transport_protocol: tcp")
	askTLS      = query(", transport_protocol: tcp, dns_over_tls: true")
	dnsFailures = []failure{
		{name: "nothing listens, UDP", module: ask, target: at(closedPort), want: "refused exchange target"},
		{name: "nothing listens, TCP", module: askTCP, target: at(closedPort), want: "refused connect target"},
		{name: "nothing listens, TLS", module: askTLS, target: at(closedPort), want: "refused connect target"},
		{name: "silent, UDP", module: ask, target: silentPort, want: "no_reply exchange none"},
		{name: "silent, TCP", module: askTCP, target: listening("", silent), want: "timeout exchange none"},
		{name: "ignores the question, UDP", module: ask, target: naming(ignoring), want: "no_reply exchange none"},
		{name: "ignores the question, TCP", module: askTCP, target: naming(ignoring), want: "timeout exchange none"},
		{name: "drips", module: askTCP, target: listening("", func(c *net.TCPConn) { c.Write([]byte{0, 100}); dripping(c) }), want: "timeout exchange none"},
		{name: "closed", module: askTCP, target: listening("", closing), want: "closed exchange target"},
		{name: "reset", module: askTCP, target: listening("", reset), want: "reset exchange target"},
		{name: "rubbish, UDP", module: ask, target: naming(rubbish), want: "protocol exchange target"},
		{name: "rubbish, TCP", module: askTCP, target: naming(rubbish), want: "protocol exchange target"},
		{name: "another protocol", module: askTCP, target: listening("", func(c *net.TCPConn) { c.Write([]byte("\x00\x0422\r\n")); silent(c) }), want: "protocol exchange target"},
		{name: "the id of another question, UDP", module: ask, target: naming(wrongID), want: "no_reply exchange none"},
		{name: "the id of another question, TCP", module: askTCP, target: naming(wrongID), want: "protocol exchange target"},
		{name: "the question sent back, UDP", module: ask, target: naming(echo), want: "protocol exchange target"},
		{name: "the question sent back, TCP", module: askTCP, target: naming(echo), want: "protocol exchange target"},
		{name: "NXDOMAIN", module: ask, target: naming(records(dns.RcodeNameError)), want: "status exchange target"},
		{name: "SERVFAIL", module: ask, target: naming(records(dns.RcodeServerFailure)), want: "status exchange target"},
		{name: "REFUSED, TCP", module: askTCP, target: naming(records(dns.RcodeRefused)), want: "status exchange target"},
		{name: "NXDOMAIN is wanted", module: query(", valid_rcodes: [NXDOMAIN]"), target: naming(records(dns.RcodeSuccess, address)), want: "status exchange target"},
		{name: "a record that must not be", module: query(", validate_answer_rrs: {fail_if_matches_regexp: ['192.0.2.1']}"), target: naming(records(0, address)), want: "mismatch exchange target"},
		{name: "records that must be", module: query(", validate_answer_rrs: {fail_if_not_matches_regexp: ['198.51.100.1']}"), target: naming(records(0, address)), want: "mismatch exchange target"},
		{name: "a record that must be", module: query(", validate_answer_rrs: {fail_if_none_matches_regexp: ['198.51.100.1']}"), target: naming(records(0, address)), want: "mismatch exchange target"},
		{name: "no record", module: query(", validate_answer_rrs: {fail_if_not_matches_regexp: [x]}"), target: naming(records(0)), want: "mismatch exchange target"},
		{name: "no authority", module: query(", validate_authority_rrs: {fail_if_none_matches_regexp: [x]}"), target: naming(records(0)), want: "mismatch exchange target"},
		{name: "nothing additional", module: query(", validate_additional_rrs: {fail_if_not_matches_regexp: [x]}"), target: naming(records(0)), want: "mismatch exchange target"},
		{name: "a validator that is no regexp", module: query(", validate_answer_rrs: {fail_if_matches_regexp: ['(']}"), target: naming(records(0, address)), want: "local_error none local"},
		{name: "certificate expired", module: askTLS, target: overTLS(func(s *site, t *testing.T) tls.Certificate { return s.Issue(t, expired) }), want: "tls_certificate tls target"},
		{name: "certificate for another name", module: askTLS, target: overTLS(func(s *site, t *testing.T) tls.Certificate { return s.Issue(t, wrongName) }), want: "tls_certificate tls target"},
		{name: "no TLS", module: askTLS, target: naming(records(0)), want: "timeout tls none"},
		{name: "another protocol for TLS", module: askTLS, target: listening("", func(c *net.TCPConn) { c.Write([]byte("SSH-2.0-OpenSSH_9\r\n")); silent(c) }), want: "tls_handshake tls target"},
		{name: "TLS over UDP", module: query(", dns_over_tls: true"), target: at("127.0.0.1"), want: "local_error none local"},
		{name: "a source that is not here", module: query(", source_ip_address: 192.0.2.77"), target: at("127.0.0.1"), want: "local_error connect local"},
		{name: "no address of that version", module: query(", ip_protocol_fallback: false"), target: at("127.0.0.1"), want: "dns_not_found resolve none"},
		{name: "denied", module: ask, target: naming(records(0)), deny: "127.", want: "denied connect local"},
	}
)

func TestDNSFailures(t *testing.T) {
	runFailures(t, probe.KindDNS, dnsFailures)
}

// TestDNSKeepsItsDeadline has a server that takes two thirds of the time to
// accept TLS, and more than that to answer: the prober alone would take 3.4 s, since
// it begins to count anew.
func TestDNSKeepsItsDeadline(t *testing.T) {
	s := newSite(t)
	target := accept(t, func(c *net.TCPConn) {
		time.Sleep(1400 * time.Millisecond)
		secure := tls.Server(c, withCertificate(s.valid))
		if secure.Handshake() == nil {
			time.Sleep(4 * time.Second)
		}
	})
	m := parseModule(t, probe.KindDNS, askTLS)
	m.DNS.TLSConfig.CAFile = s.file
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	start := time.Now()
	r := newProber(t, m).Probe(ctx, probe.Request{Address: target})
	if took := time.Since(start); took > 3*time.Second || r.Outcome != probe.Timeout {
		t.Errorf("%v after %v: %v", r.Outcome, took, r.Err)
	}
	settle(t)
}

// TestDNSOpen has the prober's metrics come with an answer, and the time of our
// own look-up among them.
func TestDNSOpen(t *testing.T) {
	for _, settings := range []string{ask, askTCP} {
		var asked []netip.AddrPort
		m := parseModule(t, probe.KindDNS, settings)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		server := nameServer(t, records(0, address))
		_, port, _ := net.SplitHostPort(server)
		r := newProber(t, m).Probe(ctx, probe.Request{
			Address: "localhost:" + port,
			Allow: func(a netip.AddrPort) error {
				asked = append(asked, a)
				return nil
			},
		})
		if fmt.Sprint(asked) == "[[::1]:"+port+"]" {
			t.Skip("SKIP-IPV4: localhost is ::1 here, where the server does not listen")
		}
		if r.Outcome != probe.Open || r.Err != nil || r.Peer.String() != server {
			t.Errorf("%s: %v from %v: %v", settings, r.Outcome, r.Peer, r.Err)
		}
		if fmt.Sprint(asked) != "["+server+"]" {
			t.Errorf("asked for %v, want %v", asked, server)
		}
		got := byName(r)
		if got["probe_dns_query_succeeded"] != 1 || got["probe_dns_answer_rrs"] != 1 || got["probe_ip_protocol"] != 4 {
			t.Errorf("%s: %v", settings, got)
		}
		if got["probe_dns_lookup_time_seconds"] <= 0 || got[`probe_dns_duration_seconds{resolve}`] != got["probe_dns_lookup_time_seconds"] {
			t.Errorf("%s: the look-up took %v: %v", settings, got["probe_dns_lookup_time_seconds"], got)
		}
	}
}

// byName returns the samples by the name and the values of the labels.
func byName(r probe.Result) map[string]float64 {
	out := map[string]float64{}
	for _, s := range r.Samples {
		name := s.Metric.Name
		if len(s.Labels) > 0 {
			name = fmt.Sprintf("%s{%s}", name, s.Labels[0])
		}
		out[name] = s.Value
	}
	return out
}
