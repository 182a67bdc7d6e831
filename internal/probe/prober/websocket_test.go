package prober

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // RFC 6455 has it in the handshake
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// socket is a server of websockets that serves each with a function.
func socket(t *testing.T, serve func(context.Context, *websocket.Conn), subprotocols ...string) string {
	t.Helper()
	server := httptest.NewServer(socketHandler(serve, subprotocols...))
	t.Cleanup(server.Close)
	return "ws" + strings.TrimPrefix(server.URL, "http") + "/chat"
}

func socketHandler(serve func(context.Context, *websocket.Conn), subprotocols ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: subprotocols})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		serve(r.Context(), conn)
	}
}

// echoes answers each message with its text.
func echoes(ctx context.Context, conn *websocket.Conn) {
	for {
		kind, message, err := conn.Read(ctx)
		if err != nil || conn.Write(ctx, kind, message) != nil {
			return
		}
	}
}

// greet says something first.
func greet(text string) func(context.Context, *websocket.Conn) {
	return func(ctx context.Context, conn *websocket.Conn) {
		if conn.Write(ctx, websocket.MessageText, []byte(text)) == nil {
			echoes(ctx, conn)
		}
	}
}

func quietly(ctx context.Context, conn *websocket.Conn) { _, _, _ = conn.Read(ctx) }

func closesWith(code websocket.StatusCode, reason string) func(context.Context, *websocket.Conn) {
	return func(_ context.Context, conn *websocket.Conn) { _ = conn.Close(code, reason) }
}

func answersWith(status int, header ...string) func(*testing.T) string {
	return func(t *testing.T) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(server.Close)
		return "ws" + strings.TrimPrefix(server.URL, "http")
	}
}

// upgraded answers the handshake itself, with more header lines, and then serves.
func upgraded(t *testing.T, header string, serve func(net.Conn)) string {
	t.Helper()
	return "ws://" + startServer(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // as above
		fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n%s\r\n",
			base64.StdEncoding.EncodeToString(sum[:]), header)
		serve(c)
	})
}

// flood sends something, and then a frame again and again until the client has gone.
func flood(first, frame []byte) func(net.Conn) {
	return func(c net.Conn) {
		go io.Copy(io.Discard, c)
		many := bytes.Repeat(frame, max(1, 16<<10/len(frame)))
		for _, err := c.Write(first); err == nil; {
			_, err = c.Write(many)
		}
	}
}

// Frames of RFC 6455, section 5.2.
var (
	frameEndless  = []byte{0x01, 0x01, 'x'}                                                        // the begin of a message
	frameMore     = append([]byte{0x00, 0x7d}, make([]byte, 125)...)                               // more of it
	frameNothing  = []byte{0x00, 0x00}                                                             // more of it, with nothing in it
	frameLarge    = append([]byte{0x01, 127, 0, 0, 0, 0, 0, 0x0f, 0, 0}, make([]byte, 960<<10)...) // the begin of one, near the limit
	framePing     = []byte{0x89, 0x00}
	frameGiant    = []byte{0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0}                // 2^40 bytes
	frameNegative = []byte{0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0}             // a length that is none
	frameReserved = []byte{0xf1, 0x00}                                       // with reserved bits
	frameClose    = append([]byte{0x88, 123, 3, 0xe8}, make([]byte, 121)...) // with a reason that is no text
)

func sends(b []byte) func(net.Conn) {
	return func(c net.Conn) { _, _ = c.Write(b); hold(c) }
}

func steps(expect, send string) []Step {
	s := Step{Send: send}
	if expect != "" {
		s.Expect = regexp.MustCompile(expect)
	}
	return []Step{s}
}

func dialogue(s ...[]Step) (all []Step) {
	for _, one := range s {
		all = append(all, one...)
	}
	return all
}

func TestWebSocket(t *testing.T) {
	at := func(address string) func(*testing.T) string { return func(*testing.T) string { return address } }
	of := func(serve func(context.Context, *websocket.Conn)) func(*testing.T) string {
		return func(t *testing.T) string { return socket(t, serve) }
	}
	raw := func(serve func(net.Conn)) func(*testing.T) string {
		return func(t *testing.T) string { return upgraded(t, "", serve) }
	}
	hears := steps("hello", "")
	for _, tt := range []struct {
		name   string
		target func(*testing.T) string
		steps  []Step
		want   string // outcome, phase, origin
		err    string // in the error
		status float64
		step   float64
	}{
		// The handshake.
		{"no URL of a websocket", at("http://127.0.0.1:1/"), nil, "unknown resolve local", "hint: write it as wss://", 0, 0},
		{"nothing listens", at("ws://" + closedPort), nil, "refused connect target", "", 0, 0},
		{"no TLS", func(t *testing.T) string { return "wss" + strings.TrimPrefix(socket(t, echoes), "ws") }, nil, "tls_handshake tls target", "", 0, 0},
		{"silent", func(t *testing.T) string { return "ws://" + startServer(t, "tcp", "127.0.0.1:0", hold) }, nil, "timeout exchange none", "", 0, 0},
		{"another protocol", func(t *testing.T) string {
			return "ws://" + startServer(t, "tcp", "127.0.0.1:0", says("SSH-2.0-x\r\n"))
		}, nil, "protocol exchange target", "", 0, 0},
		{"forbidden", answersWith(403), hears, "status exchange target", "the status is 403 and not 101", 403, 0},
		{"no websocket there", answersWith(200), nil, "status exchange target", "hint: the path of the URL", 200, 0},
		{"another version", answersWith(426), nil, "status exchange target", "the server speaks no websocket there", 426, 0},
		{"elsewhere", answersWith(302, "Location", "http://127.0.0.1:1/secret"), nil, "status exchange target", `it redirects to "http://127.0.0.1:1/secret"`, 302, 0},
		{"wrong accept", answersWith(101, "Upgrade", "websocket", "Connection", "Upgrade", "Sec-WebSocket-Accept", "bm9uZQ=="), nil, "protocol exchange target", "Sec-WebSocket-Accept", 101, 0},
		{"subprotocol that was not offered", func(t *testing.T) string { return upgraded(t, "Sec-WebSocket-Protocol: soap\r\n", hold) }, nil, "protocol exchange target", `"soap", which was not offered`, 101, 0},
		{"extension that was not offered", func(t *testing.T) string {
			return upgraded(t, "Sec-WebSocket-Extensions: permessage-deflate\r\n", hold)
		}, nil, "protocol exchange target", "extensions", 101, 0},

		// The steps.
		{"closed", of(closesWith(1008, "no \x1b[31mtoken")), hears, "closed exchange target", `code 1008 "no \x1b[31mtoken"`, 101, 1},
		{"closed later", of(func(ctx context.Context, c *websocket.Conn) { _, _, _ = c.Read(ctx); _ = c.Close(1000, "") }), dialogue(steps("", "one"), hears), "closed exchange target", "step 2: the server closed the websocket, code 1000", 101, 2},
		{"ended", raw(func(net.Conn) {}), hears, "closed exchange target", "", 101, 1},
		{"reset", raw(func(c net.Conn) { time.Sleep(50 * time.Millisecond); reset(c) }), hears, "reset exchange target", "", 101, 1},
		{"silence", of(quietly), hears, "timeout exchange none", "step 1: nothing received", 101, 1},
		{"something else", of(greet("error: no session")), hears, "mismatch exchange target", `expected a message like "hello", got "error: no session"`, 101, 1},
		{"the second message would match", of(func(ctx context.Context, c *websocket.Conn) {
			_ = c.Write(ctx, 1, []byte("wait"))
			greet("hello")(ctx, c)
		}), hears, "mismatch exchange target", `got "wait"`, 101, 1},
		{"a password in the reason", of(func(ctx context.Context, c *websocket.Conn) {
			_, login, _ := c.Read(ctx)
			_ = c.Close(1008, "no such: "+string(login))
		}), dialogue(steps("", "login topsecret"), steps("welcome", "")), "closed exchange target", `code 1008 "no such: *** ***"`, 101, 2},
		{"a password repeated", of(echoes), dialogue(steps("", "login topsecret"), steps("welcome", "")), "mismatch exchange target", `got "*** ***"`, 101, 2},

		// Servers that do their worst.
		{"a giant frame", raw(flood(frameGiant, make([]byte, 1<<10))), hears, "protocol exchange target", "too long", 101, 1},
		{"a message without end", raw(flood(frameEndless, frameMore)), hears, "protocol exchange target", "too long", 101, 1},
		{"fragments with nothing in them", raw(flood(frameLarge, frameNothing)), hears, "protocol exchange target", "too long", 101, 1},
		{"pings without end", raw(flood(framePing, framePing)), hears, "protocol exchange target", "too long", 101, 1},
		{"a negative length", raw(sends(frameNegative)), hears, "protocol exchange target", "", 101, 1},
		{"reserved bits", raw(sends(frameReserved)), hears, "protocol exchange target", "", 101, 1},
		{"a frame that is cut", raw(func(c net.Conn) { _, _ = c.Write(frameGiant[:5]) }), hears, "closed exchange target", "", 101, 1},
		{"a close frame that is none", raw(sends([]byte{0x88, 1, 3})), hears, "protocol exchange target", "", 101, 1},
		{"a reason that is no text", raw(sends(frameClose)), hears, "closed exchange target", `\x00`, 101, 1},

		// What works.
		{"no step", of(quietly), nil, "open  none", "", 101, 0},
		{"greeted", of(greet("hello 7")), steps("hello ([0-9])", ""), "open  none", "", 101, 0},
		{"answered", of(greet("hello 7")), dialogue(steps("hello ([0-9])", "seven is ${1}"), steps("^seven is 7$", "")), "open  none", "", 101, 0},
		{"pinged", raw(sends(append(bytes.Clone(framePing), append([]byte{0x81, 5}, "hello"...)...))), hears, "open  none", "", 101, 0},
		{"in fragments", raw(sends([]byte{0x01, 2, 'h', 'e', 0x89, 0, 0x80, 3, 'l', 'l', 'o'})), steps("^hello$", ""), "open  none", "", 101, 0},
		{"a large message", of(greet(strings.Repeat("x", 900<<10) + "hello")), hears, "open  none", "", 101, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			timeout := time.Minute // a flood is many frames, and the race detector slow
			if strings.HasPrefix(tt.want, "timeout") {
				timeout = 500 * time.Millisecond
			}
			m := &probe.Module{Kind: probe.KindWebSocket, Prober: &WebSocket{Exchange: tt.steps}, Timeout: timeout}
			r := m.Probe(t.Context(), probe.Request{Address: tt.target(t), Bodies: probe.NewBodies(4 << 20)})
			if got := fmt.Sprintf("%s %s %s", r.Outcome, r.Phase, r.Origin); got != tt.want {
				t.Errorf("%s, want %s: %v", got, tt.want, r.Err)
			}
			if (r.Err == nil) != (r.Outcome == probe.Open) || tt.err != "" && !strings.Contains(fmt.Sprint(r.Err), tt.err) {
				t.Errorf("error %v, want %q in it", r.Err, tt.err)
			}
			checkSocketSamples(t, r, tt.status, tt.step, len(tt.steps) > 0)
		})
	}
}

func checkSocketSamples(t *testing.T, r probe.Result, status, step float64, conversed bool) {
	t.Helper()
	want := map[string]float64{"probe_websocket_status_code": status}
	want["probe_websocket_connection_upgraded"] = number(status == 101 && (r.Outcome == probe.Open || step > 0))
	want["probe_websocket_failed_due_to_regex"] = number(step > 0)
	if conversed && want["probe_websocket_connection_upgraded"] == 1 {
		want["probe_failed_step"] = step
	}
	for name, value := range want {
		if got, ok := sample(r, name); !ok || got != value {
			t.Errorf("%s is %v (%v), want %v", name, got, ok, value)
		}
	}
}

// TestWebSocketOverTLS opens a websocket with TLS, by a name.
func TestWebSocketOverTLS(t *testing.T) {
	ca, soon := newAuthority(t), time.Now().Add(100*time.Hour).Truncate(time.Second)
	server := httptest.NewUnstartedServer(socketHandler(greet("hello")))
	server.TLS = serverConfig(ca.issue(t, "name.example", soon))
	server.StartTLS()
	t.Cleanup(server.Close)
	p := &WebSocket{Exchange: steps("hello", ""), HTTP: HTTP{TLSConfig: func() (*tls.Config, error) { return ca.trusting()("") }}}
	request := probe.Request{Address: "wss" + strings.TrimPrefix(server.URL, "https"), Hostname: "name.example"}
	r := p.Probe(t.Context(), request)
	if r.Outcome != probe.Open {
		t.Fatalf("%s: %v", r.Outcome, r.Err)
	}
	if got, _ := sample(r, "probe_ssl_earliest_cert_expiry"); got != float64(soon.Unix()) {
		t.Errorf("expiry %v, want %v", got, soon.Unix())
	}
	for _, phase := range []string{"resolve", "connect", "tls", "processing", "transfer"} {
		if took, ok := sample(r, "probe_websocket_duration_seconds", phase); !ok || phase != "resolve" && took <= 0 {
			t.Errorf("%s took %v (%v)", phase, took, ok)
		}
	}
	r = (&WebSocket{}).Probe(t.Context(), request)
	if got, _ := sample(r, "probe_ssl_earliest_cert_expiry"); r.Outcome != probe.TLSCertificate || got != float64(soon.Unix()) {
		t.Errorf("without the authority: %s, expiry %v: %v", r.Outcome, got, r.Err)
	}
}

// TestWebSocketIsAllowed asks the rules before a packet is sent.
func TestWebSocketIsAllowed(t *testing.T) {
	target := socket(t, echoes)
	no := errors.New("no")
	for name, request := range map[string]probe.Request{
		"address": {Address: target, Allow: func(netip.AddrPort) error { return no }},
		"host":    {Address: target, AllowHost: func(string) error { return no }},
	} {
		if r := (&WebSocket{}).Probe(t.Context(), request); r.Outcome != probe.Denied {
			t.Errorf("%s: %s: %v", name, r.Outcome, r.Err)
		}
	}
}

// TestWebSocketSubprotocol offers protocols in a header.
func TestWebSocketSubprotocol(t *testing.T) {
	p := &WebSocket{HTTP: HTTP{Header: http.Header{"Sec-Websocket-Protocol": {"v9.chat, chat"}}}}
	if r := p.Probe(t.Context(), probe.Request{Address: socket(t, quietly, "chat")}); r.Outcome != probe.Open {
		t.Errorf("%s: %v", r.Outcome, r.Err)
	}
}

// TestWebSocketSaysGoodbye ends with a close frame, and does not wait for an answer.
func TestWebSocketSaysGoodbye(t *testing.T) {
	heard := make(chan error, 1)
	target := socket(t, func(ctx context.Context, conn *websocket.Conn) {
		_, _, err := conn.Read(ctx)
		heard <- err
	})
	if r := (&WebSocket{}).Probe(t.Context(), probe.Request{Address: target}); r.Outcome != probe.Open {
		t.Fatal(r.Err)
	}
	if err := <-heard; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the server heard %v", err)
	}
	start := time.Now()
	if r := (&WebSocket{}).Probe(t.Context(), probe.Request{Address: upgraded(t, "", hold)}); r.Outcome != probe.Open {
		t.Fatal(r.Err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("a server that does not answer the goodbye was waited for %v", took)
	}
}

// TestWebSocketLeavesNothing counts goroutines behind probes of all ends.
func TestWebSocketLeavesNothing(t *testing.T) {
	targets := []string{
		socket(t, echoes), socket(t, quietly), socket(t, closesWith(1000, "")), answersWith(403)(t),
		upgraded(t, "", flood(framePing, framePing)), upgraded(t, "", reset),
	}
	probeAll := func() {
		for _, target := range targets {
			m := &probe.Module{Kind: probe.KindWebSocket, Prober: &WebSocket{Exchange: steps("hello", "")}, Timeout: 100 * time.Millisecond}
			if r := m.Probe(t.Context(), probe.Request{Address: target}); r.Duration > 5*time.Second {
				t.Errorf("%s took %v", target, r.Duration)
			}
		}
	}
	probeAll()
	before := runtime.NumGoroutine()
	for range 5 {
		probeAll()
	}
	for deadline := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before+5; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, before %d", runtime.NumGoroutine(), before)
		}
	}
}
