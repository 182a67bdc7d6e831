package prober

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// answer is a UDP server on loopback. It gives each datagram, counted from 1,
// to a function that returns what to send back, nil being nothing.
func answer(t testing.TB, host string, f func(i int, request []byte) [][]byte) string {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
	if err != nil {
		t.Skipf("SKIP-IPV6: %v", err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 65536)
		for i := 1; ; i++ {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			for _, reply := range f(i, buffer[:n]) {
				_, _ = conn.WriteToUDPAddrPort(reply, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

func always(reply string) func(int, []byte) [][]byte {
	return func(int, []byte) [][]byte { return [][]byte{[]byte(reply)} }
}

func probeFor(t testing.TB, p probe.Prober, timeout time.Duration, r probe.Request) probe.Result {
	t.Helper()
	m := probe.Module{Prober: p, Timeout: timeout}
	return m.Probe(t.Context(), r)
}

func TestUDPReplies(t *testing.T) {
	t.Parallel()
	dns := payloadNamed(t, "dns")
	echo := func(_ int, request []byte) [][]byte { return [][]byte{request} }
	good := func(_ int, query []byte) [][]byte {
		reply := bytes.Clone(query)
		reply[2] |= 0x80
		return [][]byte{reply}
	}
	for _, c := range []struct {
		name    string
		prober  UDP
		server  func(int, []byte) [][]byte
		outcome probe.Outcome
		origin  probe.Origin
		replies float64
	}{
		{"silence", UDP{Payload: dns}, func(int, []byte) [][]byte { return nil }, probe.NoReply, probe.OriginNone, 0},
		{"the query come back", UDP{Payload: dns}, echo, probe.Mismatch, probe.OriginTarget, 1},
		{"garbage", UDP{Payload: dns}, always("\x00garbage"), probe.Mismatch, probe.OriginTarget, 1},
		{"an empty reply", UDP{Payload: dns}, always(""), probe.Mismatch, probe.OriginTarget, 1},
		{"65,000 bytes", UDP{Payload: dns}, always(strings.Repeat("x", 65000)), probe.Mismatch, probe.OriginTarget, 1},
		{"a reply that does not match", UDP{Expect: regexp.MustCompile("^pong")}, always("no pong"), probe.Mismatch, probe.OriginTarget, 1},
		{"other bytes", UDP{ExpectBytes: []byte{0, 255}}, always("\x01\xff"), probe.Mismatch, probe.OriginTarget, 1},
		{"a reply of DNS that does not match", UDP{Payload: dns, Expect: regexp.MustCompile("never")}, good, probe.Mismatch, probe.OriginTarget, 1},
		{"an empty reply to an empty payload", UDP{}, always(""), probe.Open, probe.OriginNone, 1},
		{"any reply to an empty payload", UDP{}, always("x"), probe.Open, probe.OriginNone, 1},
		{"a reply that matches", UDP{Expect: regexp.MustCompile("^pong")}, always("pong!"), probe.Open, probe.OriginNone, 1},
		{"the bytes", UDP{ExpectBytes: []byte{0, 255}}, always("\x01\x00\xff"), probe.Open, probe.OriginNone, 1},
		{"a reply of DNS", UDP{Payload: dns}, good, probe.Open, probe.OriginNone, 1},
	} {
		for _, host := range []string{"127.0.0.1", "::1"} {
			t.Run(c.name+" from "+host, func(t *testing.T) {
				timeout := 5 * time.Second
				if c.outcome == probe.NoReply {
					timeout = 300 * time.Millisecond
				}
				result := probeFor(t, &c.prober, timeout, probe.Request{Address: answer(t, host, c.server)})
				if result.Outcome != c.outcome || result.Origin != c.origin {
					t.Errorf("%s (%s), want %s (%s); error: %v", result.Outcome, result.Origin, c.outcome, c.origin, result.Err)
				}
				if got, ok := valueOf(result, udpReplies); !ok || got != c.replies {
					t.Errorf("%v replies, want %v", got, c.replies)
				}
			})
		}
	}
}

// TestUDPAllIPs asks a name with two addresses, one of which answers.
func TestUDPAllIPs(t *testing.T) {
	_, port, _ := net.SplitHostPort(answer(t, "127.0.0.1", always("pong")))
	both := porttest.NameServer(t, porttest.Records("127.0.0.1", "127.0.0.2"))
	for expected, want := range map[probe.Outcome]probe.Outcome{probe.Open: probe.Refused, probe.Refused: probe.Open, probe.NoReply: probe.Open} {
		p := &UDP{Resolution: dial.Resolution{Prefer: dial.IP4, Resolver: both}, Breadth: Breadth{AllIPs: true, ExpectOutcome: expected}}
		got := probeFor(t, p, 3*time.Second, probe.Request{Address: "name.example.:" + port})
		n, _ := valueOf(got, udpAddresses)
		open, _ := valueOf(got, udpAddressesOpen)
		if got.Outcome != want || n != 2 || open != 1 {
			t.Errorf("where %s is expected: %s, %v of %v open: %v", expected, got.Outcome, open, n, got.Err)
		}
		peer := map[probe.Outcome]string{probe.Open: "127.0.0.1", probe.Refused: "127.0.0.2"}[want]
		if hash, _ := sample(got, "probe_ip_addr_hash"); got.Peer.Addr().String() != peer || hash != fnvOf(got.Peer.Addr()) {
			t.Errorf("where %s is expected: the result is that of %s", expected, got.Peer)
		}
	}
	p := &UDP{Resolution: dial.Resolution{Prefer: dial.IP4, Resolver: both}}
	if got := probeFor(t, p, 3*time.Second, probe.Request{Address: "name.example.:" + port}); got.Outcome != probe.Open {
		t.Errorf("without AllIPs: %s", got.Outcome)
	}
}

// TestUDPRetransmits lets the first datagram go unanswered.
func TestUDPRetransmits(t *testing.T) {
	t.Parallel()
	requests := make(chan []byte, 3)
	server := answer(t, "127.0.0.1", func(i int, request []byte) [][]byte {
		requests <- bytes.Clone(request)
		if i == 1 {
			return nil
		}
		return [][]byte{bytes.Clone(request)}
	})
	result := probeFor(t, &UDP{Payload: payloadNamed(t, "dns")}, 3*time.Second, probe.Request{Address: server})
	if result.Outcome != probe.Mismatch { // the query came back
		t.Errorf("outcome %s: %v", result.Outcome, result.Err)
	}
	if result.Duration < time.Second || result.Duration > 2500*time.Millisecond {
		t.Errorf("it took %s, want a little more than one second", result.Duration)
	}
	if sent, _ := valueOf(result, udpRequests); sent != 2 {
		t.Errorf("%v datagrams sent, want 2", sent)
	}
	if first, second := <-requests, <-requests; !bytes.Equal(first, second) {
		t.Errorf("the datagrams differ: %x, %x", first, second)
	}
}

func TestUDPBeforeTheFirstDatagram(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	late, stop := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer stop()
	forbidden := errors.New("forbidden")
	for _, c := range []struct {
		name    string
		ctx     context.Context
		request probe.Request
		prober  UDP
		outcome probe.Outcome
		phase   probe.Phase
	}{
		{"no port", t.Context(), probe.Request{Address: "127.0.0.1"}, UDP{}, probe.Unknown, probe.PhaseResolve},
		{"another version of IP", t.Context(), probe.Request{Address: "127.0.0.1:9"}, UDP{Resolution: dial.Resolution{NoFallback: true}}, probe.DNSNotFound, probe.PhaseResolve},
		{"not allowed", t.Context(), probe.Request{Address: "127.0.0.1:9", Allow: func(netip.AddrPort) error { return forbidden }}, UDP{}, probe.Denied, probe.PhaseConnect},
		{"cancelled", ended, probe.Request{Address: "127.0.0.1:9"}, UDP{}, probe.NotRun, probe.PhaseConnect},
		{"too late", late, probe.Request{Address: "127.0.0.1:9"}, UDP{}, probe.NotRun, probe.PhaseConnect},
		{"a source that is not ours", t.Context(), probe.Request{Address: "127.0.0.1:9"}, UDP{SourceAddress: netip.MustParseAddr("203.0.113.1")}, probe.LocalError, probe.PhaseConnect},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := c.prober.Probe(c.ctx, c.request)
			if result.Outcome != c.outcome || result.Phase != c.phase {
				t.Errorf("%s in %s, want %s in %s; error: %v", result.Outcome, result.Phase, c.outcome, c.phase, result.Err)
			}
			if sent, ok := valueOf(result, udpRequests); !ok || sent != 0 {
				t.Errorf("%v datagrams sent, want 0", sent)
			}
		})
	}
}

// TestUDPAllowSeesTheAddress checks what is asked for, and that it is asked once.
func TestUDPAllowSeesTheAddress(t *testing.T) {
	server := answer(t, "127.0.0.1", always("x"))
	var asked []string
	probeFor(t, &UDP{}, time.Second, probe.Request{Address: strings.Replace(server, "127.0.0.1", "[::ffff:127.0.0.1]", 1), Allow: func(a netip.AddrPort) error {
		asked = append(asked, a.String())
		return nil
	}})
	if diff := cmp.Diff([]string{server}, asked); diff != "" {
		t.Errorf("addresses asked for (-want +got):\n%s", diff)
	}
}

func TestUDPSamples(t *testing.T) {
	var log bytes.Buffer
	result := probeFor(t, &UDP{}, time.Second, probe.Request{
		Address: answer(t, "127.0.0.1", always("x")),
		Log:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	var got []string
	for _, s := range result.Samples {
		got = append(got, strings.Join(append([]string{s.Metric.Name}, s.Labels...), " "))
		if len(s.Labels) != len(s.Metric.Labels) {
			t.Errorf("%s has labels %q, want %q", s.Metric.Name, s.Labels, s.Metric.Labels)
		}
	}
	want := []string{
		"probe_udp_requests", "probe_udp_replies", "probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_ip_addr_hash",
		"probe_udp_duration_seconds resolve", "probe_udp_duration_seconds exchange",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if version, _ := sample(result, "probe_ip_protocol"); version != 4 {
		t.Errorf("IP version %v, want 4", version)
	}
	if !strings.Contains(log.String(), "127.0.0.1") {
		t.Errorf("log %q", &log)
	}
}

// TestUDPModuleExpectsSilence is how a port that never replies is watched.
func TestUDPModuleExpectsSilence(t *testing.T) {
	m := probe.Module{Prober: &UDP{}, Timeout: 100 * time.Millisecond, Expect: probe.NoReply}
	for _, c := range []struct {
		address string
		want    bool
	}{
		{answer(t, "127.0.0.1", always("x")), false},
		{closedPort, false},
		{answer(t, "127.0.0.1", func(int, []byte) [][]byte { return nil }), true},
	} {
		if success, known := m.Success(m.Probe(t.Context(), probe.Request{Address: c.address})); !known || success != c.want {
			t.Errorf("success %t (known: %t), want %t", success, known, c.want)
		}
	}
}

// valueOf returns a sample of a result.
func valueOf(r probe.Result, m *probe.Metric, labels ...string) (float64, bool) {
	for _, s := range r.Samples {
		if s.Metric == m && fmt.Sprint(s.Labels) == fmt.Sprint(labels) {
			return s.Value, true
		}
	}
	return 0, false
}

// BenchmarkUDP asks a server on loopback that answers immediately.
func BenchmarkUDP(b *testing.B) {
	server := answer(b, "127.0.0.1", always("x"))
	m := probe.Module{Prober: &UDP{}, Timeout: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		if result := m.Probe(b.Context(), probe.Request{Address: server}); result.Outcome != probe.Open {
			b.Fatal(result.Outcome, result.Err)
		}
	}
}

// TestUDPBroadcast has the broadcast address of a network of this host, which a
// socket of Go may send to unless that is taken from it.
func TestUDPBroadcast(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP-LINUX: it is taken from sockets on Linux only")
	}
	t.Parallel()
	for _, prober := range []probe.Prober{&UDP{}, &STUN{}} {
		result := probeFor(t, prober, 300*time.Millisecond, probe.Request{Address: "127.255.255.255:9"})
		if result.Outcome != probe.Prohibited || result.Origin != probe.OriginLocal {
			t.Errorf("%T: %s, said by %s: %v", prober, result.Outcome, result.Origin, result.Err)
		}
	}
}

func payloadNamed(t testing.TB, name string) payload.Payload {
	t.Helper()
	p, err := payload.Parse(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
