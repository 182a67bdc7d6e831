package prober

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// says sends a text and then listens until the peer ends the connection.
func says(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = io.WriteString(c, text)
		hold(c)
	}
}

// leaves sends a text and ends the connection.
func leaves(text string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, text) }
}

// endless sends a text over and over.
func endless(text string) func(net.Conn) {
	return func(c net.Conn) {
		block := bytes.Repeat([]byte(text), 64<<10/len(text))
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
}

// drips sends a byte at a time, and never a whole line.
func drips(c net.Conn) {
	for {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// answers gives one line for each of the peer's.
func answers(lines ...string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 1<<10)
		for _, line := range lines {
			if _, err := c.Read(b); err != nil {
				return
			}
			_, _ = io.WriteString(c, line)
		}
		hold(c)
	}
}

func expect(re string) Step { return Step{Expect: regexp.MustCompile(re)} }

func TestExchange(t *testing.T) {
	t.Parallel()
	captures := Step{
		Expect: regexp.MustCompile(`^SSH-2.0-(?P<software>[^ -]+)(?: (.*))?$`), Send: "hello ${software}",
		Labels: []probe.Label{{Name: "software", Value: "${software}"}, {Name: "comment", Value: "is $2"}},
	}
	for _, tc := range []struct {
		name    string
		serve   func(net.Conn)
		steps   []Step
		outcome probe.Outcome
		origin  probe.Origin
		want    map[string]float64 // samples by name
	}{
		{"FIN at once", leaves(""), []Step{expect("^220")}, probe.Closed, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 1}},
		{"RST at once", func(c net.Conn) { time.Sleep(10 * time.Millisecond); reset(c) }, []Step{expect("^220")}, probe.Reset, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 0}},
		{"silence", says(""), []Step{expect("^220")}, probe.Timeout, probe.OriginNone,
			map[string]float64{"probe_failed_due_to_regex": 0}},
		{"drips", drips, []Step{expect("^220")}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 1, "probe_failed_step": 1}},
		{"other line, FIN", leaves("ERROR go away\n"), []Step{expect("^220")}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 1}},
		{"other line, silence", says("ERROR go away\n"), []Step{expect("^220")}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 1, "probe_failed_step": 1}},
		{"empty line, silence", says("\n"), []Step{expect("^220")}, probe.Mismatch, probe.OriginTarget, nil},
		{"line without end, silence", says("220 here"), []Step{expect("^220")}, probe.Mismatch, probe.OriginTarget, nil},
		{"line without end", endless("x"), []Step{expect("^220")}, probe.Protocol, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 0}},
		{"lines without end", endless("ERROR\n"), []Step{expect("^220")}, probe.Protocol, probe.OriginTarget, nil},
		{"line one byte too long", says(strings.Repeat("x", maxLine) + "\n"), []Step{expect("^x+$")}, probe.Protocol, probe.OriginTarget, nil},
		{"longest line", says(strings.Repeat("x", maxLine-1) + "\n"), []Step{expect("^x+$")}, probe.Open, probe.OriginNone, nil},
		{"other bytes", says("something-else"), []Step{{ExpectBytes: []byte("not-a-line")}}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_regex": 0, "probe_failed_due_to_bytes": 1}},
		{"other first byte, silence", says("N"), []Step{{ExpectBytes: []byte("SSL")}}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_bytes": 1}},
		{"too few bytes, FIN", leaves("SS"), []Step{{ExpectBytes: []byte("SSL")}}, probe.Closed, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_bytes": 0}},
		{"too few bytes, silence", says("SS"), []Step{{ExpectBytes: []byte("SSL")}}, probe.Mismatch, probe.OriginTarget,
			map[string]float64{"probe_failed_due_to_bytes": 1, "probe_failed_step": 1}},
		{"second step is not answered", answers("220 here\n", ""), []Step{{Send: "hello"}, expect("^220"), {Send: "more"}, expect("^250")}, probe.Timeout, probe.OriginNone,
			map[string]float64{"probe_failed_due_to_regex": 0, "probe_failed_step": 4}},

		{"nothing asked", hold, nil, probe.Open, probe.OriginNone,
			map[string]float64{"probe_failed_due_to_regex": 0, "probe_failed_due_to_bytes": 0, "probe_ip_protocol": 4, "probe_ip_addr_hash": 3668918509}},
		{"bytes", says("not-a-line"), []Step{{ExpectBytes: []byte("not-a-line")}}, probe.Open, probe.OriginNone,
			map[string]float64{"probe_failed_due_to_bytes": 0}},
		{"bytes behind a line", says("220 here\nS"), []Step{expect("^220"), {ExpectBytes: []byte("S")}}, probe.Open, probe.OriginNone, nil},
		{"third line", says("one\r\ntwo\r\nthree\r\n"), []Step{expect("^three$")}, probe.Open, probe.OriginNone, nil},
		{"last line has no end", leaves("220 here"), []Step{expect("^220")}, probe.Open, probe.OriginNone, nil},
		{"labels", says("SSH-2.0-OpenSSH_6.9p1 Debian-2\r\n"), []Step{captures}, probe.Open, probe.OriginNone,
			map[string]float64{"probe_expect_info": 1}},
		{"the same labels twice", says("SSH-2.0-a b\nSSH-2.0-a b\n"), []Step{captures, captures}, probe.Open, probe.OriginNone,
			map[string]float64{"probe_expect_info": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address := startServer(t, "tcp", "127.0.0.1:0", tc.serve)
			p := &TCP{Conversation: Conversation{Exchange: tc.steps}}
			m := probe.Module{Prober: p, Timeout: 5 * time.Second}
			if tc.outcome == probe.Timeout || strings.Contains(tc.name, "silence") || tc.name == "drips" {
				m.Timeout = 2 * time.Second
			}
			got := m.Probe(t.Context(), probe.Request{Address: address})
			if got.Outcome != tc.outcome || got.Origin != tc.origin {
				t.Errorf("got %s (%s), want %s (%s): %v", got.Outcome, got.Origin, tc.outcome, tc.origin, got.Err)
			}
			if failed := tc.outcome != probe.Open; failed != (got.Phase == probe.PhaseExchange) || failed != (got.Err != nil) {
				t.Errorf("phase %q, error %v", got.Phase, got.Err)
			}
			for name, want := range tc.want {
				if values := valuesOf(got, name); len(values) != 1 || values[0] != want {
					t.Errorf("%s = %v, want %v", name, values, want)
				}
			}
			if _, ok := sample(got, "probe_tcp_duration_seconds", "exchange"); ok != (tc.steps != nil) {
				t.Errorf("time of the exchange there: %v", ok)
			}
		})
	}
}

// TestUnexpectedAnswer reads the error of a service that answers something else and
// keeps the connection: redis that requires a password, a mail server that rejects.
func TestUnexpectedAnswer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		serve func(net.Conn)
		steps []Step
		want  string
	}{
		{"redis", answers("-NOAUTH Authentication required.\r\n"), []Step{{Send: "PING"}, expect("^.PONG")},
			`step 2: expected a line like "^.PONG", the last line was "-NOAUTH Authentication required."; nothing else came in time`},
		{"smtp", says("554 no service\r\n"), []Step{expect("^220")},
			`step 1: expected a line like "^220", the last line was "554 no service"; nothing else came in time`},
		{"the end", leaves("554 no service\r\n"), []Step{expect("^220")},
			`step 1: expected a line like "^220", the last line was "554 no service"; then the connection ended`},
		{"no line", says("login: "), []Step{expect("^login")}, `step 1: expected a line like "^login", got 7 bytes without the end of a line; nothing else came in time`},
		{"bytes", says("N"), []Step{{ExpectBytes: []byte("S")}}, `step 1: expected "S", got "N"`},
		{"what was sent", answers("-ERR unknown command 'LOGIN hunter2'\n"), []Step{{Send: "LOGIN hunter2"}, expect("^.OK")},
			`step 2: expected a line like "^.OK", the last line was "-ERR unknown command '*** ***'"; nothing else came in time`},
		{"silence", hold, []Step{expect("^220")}, "step 1: nothing received: context deadline exceeded"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address := startServer(t, "tcp", "127.0.0.1:0", tc.serve)
			m := probe.Module{Prober: &TCP{Conversation: Conversation{Exchange: tc.steps}}, Timeout: 2 * time.Second}
			got := m.Probe(t.Context(), probe.Request{Address: address})
			if got.Err == nil || got.Err.Error() != tc.want {
				t.Errorf("%v\nwant %s", got.Err, tc.want)
			}
		})
	}
}

// valuesOf returns the values of all samples of a name.
func valuesOf(r probe.Result, name string) []float64 {
	var values []float64
	for _, s := range r.Samples {
		if s.Metric.Name == name {
			values = append(values, s.Value)
		}
	}
	return values
}

// TestSent compares what a probe sends with its steps; by default nothing.
func TestSent(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hears string
		steps []Step
		want  string
	}{
		{"nothing", "220 here\n", nil, ""},
		{"line", "", []Step{{Send: "PING"}}, "PING\n"},
		{"no template without an Expect", "", []Step{{Send: "${1} $x"}}, "${1} $x\n"},
		{"template", "220 a b\n", []Step{{Expect: regexp.MustCompile(`^220 (\w) (?P<name>\w)`), Send: "${1}:${name}:${3}"}}, "a:b:\n"},
		{"bytes", "", []Step{{SendBytes: []byte{0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f}}}, "\x00\x00\x00\x08\x04\xd2\x16\x2f"},
		{"line, then bytes", "", []Step{{Send: "a", SendBytes: []byte("b")}, {Send: "c"}}, "a\nbc\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var heard bytes.Buffer
			var serving sync.WaitGroup
			serving.Add(1)
			address := startServer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
				defer serving.Done()
				_, _ = io.WriteString(c, tc.hears)
				_, _ = io.Copy(&heard, c)
			})
			p := &TCP{Conversation: Conversation{Exchange: tc.steps}}
			if got := p.Probe(t.Context(), probe.Request{Address: address}); got.Outcome != probe.Open {
				t.Fatalf("%s: %v", got.Outcome, got.Err)
			}
			serving.Wait()
			if diff := cmp.Diff(tc.want, heard.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestSentIsNotLogged has a login among the steps: /config hides it, and so must
// what debug=true and /logs show.
func TestSentIsNotLogged(t *testing.T) {
	address := startServer(t, "tcp", "127.0.0.1:0", says("220 here\n"))
	p := &TCP{Conversation: Conversation{Exchange: []Step{{Expect: regexp.MustCompile("^220"), Send: "PASS hunter2"}, {SendBytes: []byte("hunter2")}}}}
	var log strings.Builder
	debug := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if got := p.Probe(t.Context(), probe.Request{Address: address, Log: debug}); got.Outcome != probe.Open {
		t.Fatalf("%s: %v", got.Outcome, got.Err)
	}
	if text := log.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "msg=send bytes=13") {
		t.Errorf("the log has what was sent, or not how much:\n%s", text)
	}
}

func TestExpectInfo(t *testing.T) {
	address := startServer(t, "tcp", "127.0.0.1:0", says("SSH-2.0-OpenSSH_6.9p1 Debian-2\r\n"))
	p := &TCP{Conversation: Conversation{Exchange: []Step{{
		Expect: regexp.MustCompile(`^SSH-2.0-(?P<software>[^ -]+)(?: (.*))?$`),
		Labels: []probe.Label{{Name: "software", Value: "${software}"}, {Name: "comment", Value: "is ${2}"}, {Name: "none", Value: "$3"}},
	}}}}
	got := p.Probe(t.Context(), probe.Request{Address: address})
	for _, s := range got.Samples {
		if s.Metric.Name == "probe_expect_info" {
			if diff := cmp.Diff([][]string{{"software", "comment", "none"}, {"OpenSSH_6.9p1", "is Debian-2", ""}}, [][]string{s.Metric.Labels, s.Labels}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			return
		}
	}
	t.Errorf("no probe_expect_info: %v", got.Err)
}

// TestNotConnected has what a probe that does not get that far says.
func TestNotConnected(t *testing.T) {
	_, port, _ := net.SplitHostPort(closedPort)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tc := range []struct {
		name    string
		ctx     context.Context
		prober  TCP
		request probe.Request
		outcome probe.Outcome
		phase   probe.Phase
		origin  probe.Origin
	}{
		{"no port", t.Context(), TCP{}, probe.Request{Address: "127.0.0.1"}, probe.Unknown, probe.PhaseResolve, probe.OriginLocal},
		{"port of no service", t.Context(), TCP{}, probe.Request{Address: "127.0.0.1:no-such-service"}, probe.Unknown, probe.PhaseResolve, probe.OriginLocal},
		{"unknown name", t.Context(), TCP{Resolution: dial.Resolution{Resolver: porttest.NameServer(t, porttest.RCode(3))}}, probe.Request{Address: "name.example.:80"}, probe.DNSNotFound, probe.PhaseResolve, probe.OriginNone},
		{"refused", t.Context(), TCP{}, probe.Request{Address: closedPort}, probe.Refused, probe.PhaseConnect, probe.OriginTarget},
		{"given up", cancelled, TCP{}, probe.Request{Address: closedPort}, probe.NotRun, probe.PhaseConnect, probe.OriginLocal},
		{"denied", t.Context(), TCP{}, probe.Request{Address: closedPort, Allow: deny}, probe.Denied, probe.PhaseConnect, probe.OriginLocal},
		{"denied as IPv4", t.Context(), TCP{}, probe.Request{Address: "[::ffff:127.0.0.1]:" + port, Allow: denyIPv4}, probe.Denied, probe.PhaseConnect, probe.OriginLocal},
		{"denied by its name's address", t.Context(), TCP{Resolution: dial.Resolution{Resolver: porttest.NameServer(t, porttest.Records("127.0.0.1"))}},
			probe.Request{Address: "name.example.:" + port, Allow: denyIPv4}, probe.Denied, probe.PhaseConnect, probe.OriginLocal},
		{"source of another host", t.Context(), TCP{SourceAddress: netip.MustParseAddr("192.0.2.1")}, probe.Request{Address: closedPort}, probe.LocalError, probe.PhaseConnect, probe.OriginLocal},
		{"source of the other version", t.Context(), TCP{SourceAddress: netip.MustParseAddr("::1")}, probe.Request{Address: closedPort}, probe.LocalError, probe.PhaseConnect, probe.OriginLocal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.prober.Probe(tc.ctx, tc.request)
			if got.Outcome != tc.outcome || got.Phase != tc.phase || got.Origin != tc.origin {
				t.Errorf("got %s in %q (%s), want %s in %q (%s): %v", got.Outcome, got.Phase, got.Origin, tc.outcome, tc.phase, tc.origin, got.Err)
			}
			if got.Err == nil {
				t.Error("no error")
			}
		})
	}
}

func deny(netip.AddrPort) error { return errors.New("not here") }

func denyIPv4(addr netip.AddrPort) error {
	if addr.Addr().Is4() {
		return errors.New("not by IPv4")
	}
	return nil
}

func TestAllIPs(t *testing.T) {
	address := startServer(t, "tcp", "127.0.0.1:0", hold)
	_, port, _ := net.SplitHostPort(address)
	two := porttest.NameServer(t, porttest.Records("127.0.0.1", "127.0.0.2"))
	for _, tc := range []struct {
		name      string
		addresses []string
		expect    probe.Outcome
		allow     func(netip.AddrPort) error
		outcome   probe.Outcome
		peer      string
		open      float64
	}{
		{"one of two refuses", []string{"127.0.0.1", "127.0.0.2"}, probe.Open, nil, probe.Refused, "127.0.0.2", 1},
		{"one of two is open, and must not", []string{"127.0.0.2", "127.0.0.1"}, probe.Refused, nil, probe.Open, "127.0.0.1", 1},
		{"one refuses, one is open, and neither must", []string{"127.0.0.2", "127.0.0.1"}, probe.Timeout, nil, probe.Open, "127.0.0.1", 1},
		{"one is open, one refuses, and neither must", []string{"127.0.0.1", "127.0.0.2"}, probe.Timeout, nil, probe.Open, "127.0.0.1", 1},
		{"one refuses, one is denied", []string{"127.0.0.1", "127.0.0.2"}, probe.Open, denyFirst, probe.Refused, "127.0.0.2", 0},
		{"one is open, one is denied", []string{"127.0.0.1"}, probe.Open, denyFirst, probe.Denied, "127.0.0.1", 0},
		{"all open", []string{"127.0.0.1"}, probe.Open, nil, probe.Open, "127.0.0.1", 1},
		{"all closed, as they must", []string{"127.0.0.2", "127.0.0.3"}, probe.Refused, nil, probe.Refused, "127.0.0.2", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := &TCP{Resolution: dial.Resolution{Prefer: dial.IP4, Resolver: porttest.NameServer(t, porttest.Records(tc.addresses...))}, Breadth: Breadth{AllIPs: true, ExpectOutcome: tc.expect}}
			got := p.Probe(t.Context(), probe.Request{Address: "name.example.:" + port, Allow: tc.allow})
			if got.Outcome != tc.outcome || got.Peer.Addr().String() != tc.peer {
				t.Errorf("got %s of %s, want %s of %s: %v", got.Outcome, got.Peer, tc.outcome, tc.peer, got.Err)
			}
			n, _ := sample(got, "probe_tcp_addresses")
			open, _ := sample(got, "probe_tcp_addresses_open")
			if n != float64(len(tc.addresses)) || open != tc.open {
				t.Errorf("%v addresses, %v of them open, want %d and %v", n, open, len(tc.addresses), tc.open)
			}
			if hash, _ := sample(got, "probe_ip_addr_hash"); hash != fnvOf(got.Peer.Addr()) {
				t.Errorf("the hash is not that of the peer")
			}
		})
	}
	p := &TCP{Resolution: dial.Resolution{Prefer: dial.IP4, Resolver: two}}
	if got := p.Probe(t.Context(), probe.Request{Address: "name.example.:" + port}); got.Outcome != probe.Open {
		t.Errorf("without AllIPs: %s", got.Outcome)
	}
}

func denyFirst(addr netip.AddrPort) error {
	if addr.Addr() == netip.MustParseAddr("127.0.0.1") {
		return errors.New("not the first")
	}
	return nil
}

// FuzzLine compares the lines of a session with those of [bufio.Scanner], which
// blackbox_exporter reads, whatever pieces they come in.
func FuzzLine(f *testing.F) {
	f.Add([]byte("220 here\r\n\r\r\n\nlast"), uint16(3))
	f.Add([]byte("a line longer than the buffer\nx\n"), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		pieces := &inPieces{b: b, size: int(piece) + 1}
		s := session{in: bufio.NewReaderSize(pieces, 16)}
		scanner := bufio.NewScanner(bytes.NewReader(b))
		for scanner.Scan() {
			line, err := s.line()
			if err != nil {
				t.Fatalf("%v instead of %q", err, scanner.Bytes())
			}
			if !bytes.Equal(line, scanner.Bytes()) {
				t.Fatalf("got %q, want %q", line, scanner.Bytes())
			}
		}
		line, err := s.line()
		if tooLong := scanner.Err() != nil; err == nil || tooLong != errors.Is(err, errTooLong) {
			t.Fatalf("%q and %v at the end, want %v", line, err, scanner.Err())
		}
	})
}

// inPieces gives at most size bytes at a time.
type inPieces struct {
	b    []byte
	size int
}

func (p *inPieces) Read(b []byte) (int, error) {
	if len(p.b) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.b)
	p.b = p.b[n:]
	return n, nil
}
