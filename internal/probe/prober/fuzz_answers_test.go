package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// The targets of this file give a prober bytes in the place of the answers of a
// server on loopback. Whatever they are, the probe ends in time, with an outcome, and
// has not taken much memory.

const (
	// turn separates what a server says in turn, each after it has heard something.
	turn = "\x00turn\x00"
	// fuzzTimeout is that of a probe, and fuzzSlack what it may take longer on a busy
	// machine.
	fuzzTimeout = 100 * time.Millisecond
	fuzzSlack   = 20 * time.Second
	// maxFuzzMemory is what a probe and its server may allocate, in bytes.
	maxFuzzMemory = 256 << 20
	// maxFuzzInput bounds an input, in bytes.
	maxFuzzInput = 64 << 10
)

// fuzzTurns serves each connection with the parts of an input, and then ends it.
func fuzzTurns(input []byte) func(net.Conn) {
	return func(c net.Conn) {
		heard := make([]byte, 4<<10)
		for part := range bytes.SplitSeq(input, []byte(turn)) {
			_ = c.SetReadDeadline(time.Now().Add(fuzzTimeout / 3))
			if n, err := c.Read(heard); n == 0 && !isTimeout(err) {
				return
			}
			if _, err := c.Write(part); err != nil {
				return
			}
		}
		if stream, ok := c.(interface{ CloseWrite() error }); ok {
			_ = stream.CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(fuzzTimeout))
		hold(c) // an RST would take what it has not read from the peer
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// onLoopback is a request that no answer leads off this host, or to a name server.
func onLoopback(address string) probe.Request {
	return probe.Request{
		Address: address,
		Allow: func(a netip.AddrPort) error {
			if a.IsValid() && !a.Addr().Unmap().IsLoopback() {
				return errors.New("only loopback")
			}
			return nil
		},
		AllowHost: func(host string) error {
			if _, err := netip.ParseAddr(host); err != nil {
				return errors.New("only addresses")
			}
			return nil
		},
		Bodies: probe.NewBodies(32 << 20),
	}
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// fuzzProbe probes once, and checks that the result is as promised.
func fuzzProbe(t *testing.T, p probe.Prober, r probe.Request) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fuzzTimeout)
	defer cancel()
	before, began := allocated(), time.Now()
	result := p.Probe(ctx, r)
	if took := time.Since(began); took > fuzzTimeout+fuzzSlack {
		t.Errorf("it took %v", took)
	}
	if took := allocated() - before; took > maxFuzzMemory {
		t.Errorf("it took %d bytes", took)
	}
	if result.Outcome >= probe.Unknown || (result.Outcome != probe.Open) != (result.Err != nil) {
		t.Errorf("outcome %s: %v", result.Outcome, result.Err)
	}
	if sentence := sentence(r.Address, &result); sentence == "" {
		t.Error("no sentence says what came of it")
	}
	if len(result.Samples) > 1000 {
		t.Errorf("%d samples", len(result.Samples))
	}
	for _, s := range result.Samples {
		if len(s.Labels) != len(s.Metric.Labels) || math.IsNaN(s.Value) {
			t.Errorf("%s%q: %v", s.Metric.Name, s.Labels, s.Value)
		}
	}
}

// skipLarge leaves out what the fuzzer makes of repetition: it takes time and finds
// nothing.
func skipLarge(t *testing.T, input []byte) {
	t.Helper()
	if len(input) > maxFuzzInput {
		t.Skip()
	}
}

// fuzzHTTP are settings that read an answer in different ways.
func fuzzHTTP() []*HTTP {
	word := regexp.MustCompile("(?i)we?ll")
	json := &JSONRule{Text: "body.ok", Holds: func(_ context.Context, body any) (bool, error) {
		fields, ok := body.(map[string]any)
		if !ok {
			return false, fmt.Errorf("it is %T", body)
		}
		return fields["ok"] == true, nil
	}}
	return []*HTTP{
		{FollowRedirects: true},
		{FollowRedirects: true, Method: http.MethodPost, Body: "text", Answer: HTTPAnswer{RequireBody: []*regexp.Regexp{word}}},
		{Answer: HTTPAnswer{RejectBody: []*regexp.Regexp{word}, BodyLimit: 100}},
		{Answer: HTTPAnswer{RequireJSON: json}},
		{Answer: HTTPAnswer{Compression: "gzip", RequireBody: []*regexp.Regexp{word}}},
		{Answer: HTTPAnswer{Compression: "deflate", RequireBody: []*regexp.Regexp{word}}},
		{Answer: HTTPAnswer{Compression: "br", RequireBody: []*regexp.Regexp{word}}},
		{Answer: HTTPAnswer{Statuses: []int{404}, Versions: []string{"HTTP/1.0"}, RequireHeaders: []HeaderRule{{Name: "X-A", Regexp: word, AllowMissing: true}}}},
		{Method: http.MethodHead, Answer: HTTPAnswer{RejectHeaders: []HeaderRule{{Name: "Set-Cookie", Regexp: word}}}},
	}
}

func decoded(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzHTTPAnswers has the answers of HTTP/1 servers: status lines, headers, bodies in
// chunks, redirects, and compressed ones.
func FuzzHTTPAnswers(f *testing.F) {
	for i, text := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200\r\nLast-Modified: Tue, 01 Jul 2025 00:00:00 GMT\r\nContent-Length: 18446744073709551616\r\n\r\nwell",
		"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{\"ok\":true}",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + string(decoded(f, "H4sIAAAAAAACAytPzckBACpH/BQEAAAA")),
		"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + string(decoded(f, "K0/NyQEA")),
		"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n" + string(decoded(f, "CwGAd2VsbAM=")),
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 404 Not Found\r\nX-A: well\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: /\x1b[2J?a=b#c\r\nSet-Cookie: a=b; Domain=.; Max-Age=-1\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://[::1%25lo]:1/\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
		"HTTP/1.1 407 Proxy Authentication Required\r\nRefresh: 0\r\n\r\n",
	} {
		f.Add([]byte(text), byte(i))
	}
	f.Add([]byte("HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"+turn+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell"), byte(1))
	settings := fuzzHTTP()
	f.Fuzz(func(t *testing.T, input []byte, which byte) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", fuzzTurns(input))
		fuzzProbe(t, settings[int(which)%len(settings)], onLoopback("http://"+address+"/"))
	})
}

// FuzzHTTP2Answers has frames of HTTP/2 under TLS.
func FuzzHTTP2Answers(f *testing.F) {
	const settings, ack = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	for i, frames := range []string{
		settings + ack + "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88",                                              // HEADERS: :status 200
		settings + ack + "\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88" + "\x00\x00\x04\x00\x01\x00\x00\x00\x01well", // and DATA
		settings + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",                        // GOAWAY
		settings + "\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x07",                                        // RST_STREAM
		settings + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678" + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff",
		settings + turn + "\x00\x00\x05\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02\x82", // PUSH_PROMISE
	} {
		f.Add([]byte(frames), byte(i))
	}
	certificate := porttest.SelfSigned(f)
	over := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{protocolHTTP2}}
	settingsOf := fuzzHTTP()
	for _, s := range settingsOf {
		s.HTTP2 = true
		s.TLSConfig = func() (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil }
	}
	f.Fuzz(func(t *testing.T, input []byte, which byte) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", afterHandshake(over, fuzzTurns(input)))
		fuzzProbe(t, settingsOf[int(which)%len(settingsOf)], onLoopback("https://"+address+"/"))
	})
}

// afterHandshake makes the handshake of a server first.
func afterHandshake(config *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(fuzzTimeout))
		conn := tls.Server(c, config)
		if conn.Handshake() == nil {
			serve(conn)
		}
	}
}

// FuzzProxyAnswers has the answers of HTTP proxies, to CONNECT and to requests that
// they pass on.
func FuzzProxyAnswers(f *testing.F) {
	for i, text := range []string{
		"HTTP/1.1 200 Connection established\r\n\r\n" + turn + "\x15\x03\x01\x00\x02\x02\x28",
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"\x1b\"\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9\r\nVia: 1.1 p\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\n\r\nno answer",
		"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.0 503 \r\n\r\n",
		"SSH-2.0-OpenSSH\r\n",
	} {
		f.Add([]byte(text), i%2 == 0)
	}
	f.Fuzz(func(t *testing.T, input []byte, tunnel bool) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", fuzzTurns(input))
		p := &HTTP{
			Proxy:       http.ProxyURL(&url.URL{Scheme: "http", Host: address, User: url.UserPassword("u", "p")}),
			ProxyHeader: http.Header{"X-A": {"b"}},
			Answer:      HTTPAnswer{RequireBody: []*regexp.Regexp{regexp.MustCompile("well")}},
		}
		target := "http://127.0.0.1:1/"
		if tunnel {
			target = "https://127.0.0.1:1/"
		}
		fuzzProbe(t, p, onLoopback(target))
	})
}

// FuzzSOCKSAnswers has the answers of SOCKS proxies: RFC 1928, RFC 1929.
func FuzzSOCKSAnswers(f *testing.F) {
	for i, text := range []string{
		"\x05\x00" + turn + "\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50" + turn + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"\x05\x02" + turn + "\x01\x00" + turn + "\x05\x00\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x50",
		"\x05\x02" + turn + "\x01\x01",
		"\x05\x00" + turn + "\x05\x05\x00\x03\x04host\x00\x50",
		"\x05\xff",
		"\x00\x5a\x00\x00\x00\x00\x00\x00",
		"HTTP/1.1 400 Bad Request\r\n\r\n",
	} {
		f.Add([]byte(text), byte(i))
	}
	f.Fuzz(func(t *testing.T, input []byte, which byte) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", fuzzTurns(input))
		proxy := &url.URL{Scheme: []string{"socks5", "socks5h"}[which&1], Host: address}
		if which&2 != 0 {
			proxy.User = url.UserPassword("u", "p")
		}
		target := "http://127.0.0.1:1/"
		if which&4 != 0 {
			target = "https://127.0.0.1:1/"
		}
		fuzzProbe(t, &HTTP{Proxy: http.ProxyURL(proxy)}, onLoopback(target))
	})
}

// FuzzGRPCAnswers has frames of HTTP/2 in the place of a health check's answer.
func FuzzGRPCAnswers(f *testing.F) {
	const settings, ack = "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "\x00\x00\x00\x04\x01\x00\x00\x00\x00"
	headers := func(flags byte, block string) string {
		return "\x00\x00" + string(rune(len(block))) + "\x01" + string(rune(flags)) + "\x00\x00\x00\x01" + block
	}
	const grpcType, okTrailer = "\x88\x40\x0ccontent-type\x10application/grpc", "\x40\x0bgrpc-status\x010"
	for _, text := range []string{
		settings + ack + turn + headers(4, grpcType) + "\x00\x00\x07\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x02\x08\x01" + headers(5, okTrailer),
		settings + ack + turn + headers(5, grpcType+"\x40\x0bgrpc-status\x0212"),
		settings + ack + turn + headers(5, "\x88\x40\x0ccontent-type\x09text/html"),
		settings + turn + "\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"HTTP/1.1 400 Bad Request\r\n\r\n",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", fuzzTurns(input))
		fuzzProbe(t, &GRPC{Service: "s", Metadata: map[string][]string{"a-bin": {"\x00"}}}, onLoopback(address))
	})
}

// unverified has a version of TLS at most, and trusts everyone.
func unverified(most uint16) func(string) (*tls.Config, error) {
	return func(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true, MaxVersion: most}, nil }
}

// tapped remembers what is written.
type tapped struct {
	net.Conn
	written bytes.Buffer
}

func (c *tapped) Write(b []byte) (int, error) {
	c.written.Write(b)
	return c.Conn.Write(b)
}

// firstFlight returns what a server says first in a handshake.
func firstFlight(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	server := &tapped{Conn: theirs}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = tls.Server(server, config).Handshake()
		_ = theirs.Close()
	}()
	_ = tls.Client(ours, &tls.Config{InsecureSkipVerify: true, MaxVersion: config.MaxVersion}).Handshake()
	_ = ours.Close()
	<-ended
	return server.written.Bytes()
}

// FuzzTLSRecords has records of TLS in the place of a server's handshake.
func FuzzTLSRecords(f *testing.F) {
	certificate := porttest.SelfSigned(f)
	versions := []uint16{tls.VersionTLS12, tls.VersionTLS13}
	for i, version := range versions {
		f.Add(firstFlight(f, &tls.Config{Certificates: []tls.Certificate{certificate}, MaxVersion: version}), byte(i))
	}
	f.Add([]byte("\x15\x03\x03\x00\x02\x02\x28"), byte(0))
	f.Add([]byte("\x16\x03\x03\x00\x04\x00\x00\x00\x00"), byte(0)) // HelloRequest
	f.Add([]byte("220 ready\r\n"), byte(1))
	f.Fuzz(func(t *testing.T, input []byte, which byte) {
		skipLarge(t, input)
		address := startServer(t, "tcp", "127.0.0.1:0", fuzzTurns(input))
		fuzzProbe(t, &TCP{Conversation: Conversation{TLS: true, TLSConfig: unverified(versions[int(which)%2])}}, onLoopback(address))
	})
}

// FuzzCertificates has certificates of a server whose handshake is as it should be.
func FuzzCertificates(f *testing.F) {
	strange := porttest.SelfSigned(f, func(c *x509.Certificate) {
		c.Subject.CommonName, c.Subject.Organization = "a\x1b[2J\nb", []string{strings.Repeat("o", 200), "\u202e"}
		c.DNSNames, c.EmailAddresses = []string{"*.a", "b"}, []string{"a@b"}
		c.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}}
	})
	valid := porttest.SelfSigned(f)
	f.Add(strange.Certificate[0], false)
	f.Add(valid.Certificate[0], true)
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, der []byte, first bool) {
		skipLarge(t, der)
		config := &tls.Config{MaxVersion: tls.VersionTLS12}
		chain := tls.Certificate{Certificate: [][]byte{valid.Certificate[0], der}, PrivateKey: valid.PrivateKey}
		if leaf, err := x509.ParseCertificate(der); first && err == nil && leaf.PublicKeyAlgorithm == x509.ECDSA {
			// The signature is not that of its key, but it has been read by then.
			chain.Certificate = [][]byte{der}
		}
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &chain, nil }
		address := startServer(t, "tcp", "127.0.0.1:0", afterHandshake(config, hold))
		fuzzProbe(t, &TCP{Conversation: Conversation{TLS: true, TLSConfig: unverified(0)}}, onLoopback(address))
	})
}

// FuzzConversations has what servers of query_response say.
func FuzzConversations(f *testing.F) {
	f.Add([]byte("220 here\r\n"+turn+"250 STARTTLS\r\n"+turn+"\x15\x03\x01\x00\x02\x02\x28"), true)
	f.Add([]byte("SN220 \xff\x1b\r\n"), false)
	mail := []Step{
		{Expect: regexp.MustCompile("^220 ?(?P<who>.*)$"), Labels: []probe.Label{{Name: "who", Value: "${who} ${1} $nobody"}}, Send: "EHLO ${1}"},
		{Expect: regexp.MustCompile("^250[ -]STARTTLS")}, {StartTLS: true},
	}
	raw := []Step{{SendBytes: []byte{0}, ExpectBytes: []byte("SN")}, {Expect: regexp.MustCompile("2")}}
	f.Fuzz(func(t *testing.T, input []byte, lines bool) {
		skipLarge(t, input)
		c := Conversation{Exchange: raw, TLSConfig: unverified(0)}
		if lines {
			c.Exchange = mail
		}
		greeting, rest, _ := bytes.Cut(input, []byte(turn))
		address := startServer(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
			_, _ = conn.Write(greeting) // these servers speak first
			fuzzTurns(rest)(conn)
		})
		fuzzProbe(t, &TCP{Conversation: c}, onLoopback(address))
	})
}

// fuzzDatagrams answers each datagram by the next part of an input, from the last on
// again, with the bytes of the question that make it count.
func fuzzDatagrams(t *testing.T, input []byte, patch func(answer, question []byte)) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	parts := bytes.Split(input, []byte(turn))
	go func() {
		defer close(ended)
		question := make([]byte, 64<<10)
		for i := 0; ; i++ {
			n, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			answer := bytes.Clone(parts[i%len(parts)])
			patch(answer, question[:n])
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	return conn.LocalAddr().String()
}

// FuzzDNSAnswers has answers of name servers over UDP and TCP. Most have the id of the
// question: without they do not count.
func FuzzDNSAnswers(f *testing.F) {
	question := dns.Question{Name: "a.example.", Qtype: dns.TypeSOA, Qclass: dns.ClassINET}
	answer := new(dns.Msg)
	answer.SetQuestion(question.Name, question.Qtype)
	answer.Response = true
	for _, text := range []string{
		"a.example. 60 IN SOA ns.example. root.example. 2025010101 1 1 1 1", "a.example. 60 IN TXT \"\x1b[2J\" \"\xff\"",
		"a.example. 60 IN CNAME a.example.", "a.example. 60 IN TYPE65534 \\# 3 010203",
	} {
		record, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		answer.Answer = append(answer.Answer, record)
		packed, err := answer.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed, byte(len(answer.Answer)))
	}
	f.Add([]byte("\x00\x00\x82\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x00\x00\x06\x00\x01"), byte(1)) // truncated
	f.Add([]byte("\x00\x00\x80\x00\x00\x00\xff\xff\x00\x00\x00\x00\xc0\x0c"), byte(0))
	rule := RecordRules{FailIfMatches: []*regexp.Regexp{regexp.MustCompile("x1")}, FailIfNoneMatches: []*regexp.Regexp{regexp.MustCompile("ns")}}
	f.Fuzz(func(t *testing.T, input []byte, which byte) {
		if len(input) > 16<<10 {
			t.Skip()
		}
		p := &DNS{Question: question, ValidRcodes: []int{dns.RcodeSuccess}, TCP: which&1 != 0}
		if which&2 != 0 {
			p.Answer, p.Authority, p.Additional = rule, rule, rule
		}
		patch := func(answer, question []byte) {
			if which&4 == 0 && len(question) >= 2 {
				copy(answer, question[:min(2, len(answer))])
			}
		}
		address := ""
		if p.TCP {
			address = startServer(t, "tcp", "127.0.0.1:0", func(c net.Conn) { answerStream(c, input, which&8 != 0, patch) })
		} else {
			address = fuzzDatagrams(t, input, patch)
		}
		fuzzProbe(t, p, onLoopback(address))
	})
}

// answerStream answers a question over TCP, with a length that is right or part of the
// input.
func answerStream(c net.Conn, input []byte, framed bool, patch func(answer, question []byte)) {
	question := make([]byte, 4<<10)
	n, err := c.Read(question)
	if err != nil || n < 2 {
		return
	}
	answer := bytes.Clone(input)
	if framed {
		patch(answer[min(2, len(answer)):], question[2:n])
	} else {
		patch(answer, question[2:n])
		answer = append([]byte{byte(len(answer) >> 8), byte(len(answer))}, answer...)
	}
	_, _ = c.Write(answer)
}

// FuzzSTUNAnswers has answers of STUN servers, and those to the tests of how a NAT
// behaves: RFC 5780. Most have the transaction of the question.
func FuzzSTUNAnswers(f *testing.F) {
	const id = "0123456789ab"
	mapped := "\x01\x01\x00\x0c\x21\x12\xa4\x42" + id + "\x00\x20\x00\x08\x00\x01\x21\x13\x5e\x12\xa4\x43"
	other := "\x01\x01\x00\x18\x21\x12\xa4\x42" + id + "\x00\x20\x00\x08\x00\x01\x21\x13\x5e\x12\xa4\x43" + "\x80\x2c\x00\x08\x00\x01\x00\x09\x7f\x00\x00\x02"
	failed := "\x01\x11\x00\x10\x21\x12\xa4\x42" + id + "\x00\x09\x00\x0b\x00\x00\x04\x14Unknown\x1b"
	for i, text := range []string{mapped, other, other + turn + mapped + turn + failed, failed, "\x01\x01\xff\xff\x21\x12\xa4\x42" + id} {
		f.Add([]byte(text), i == 4)
	}
	f.Fuzz(func(t *testing.T, input []byte, stranger bool) {
		if len(input) > 16<<10 {
			t.Skip()
		}
		address := fuzzDatagrams(t, input, func(answer, question []byte) {
			if !stranger && len(question) >= 20 && len(answer) >= 20 {
				copy(answer[4:20], question[4:20])
			}
		})
		fuzzProbe(t, &STUN{}, onLoopback(address))
	})
}
