package blackbox_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestTokenServerThatHangs has one that takes requests for a token and says
// nothing: that is no fault of the target, and nothing is left of the requests.
func TestTokenServerThatHangs(t *testing.T) {
	tokens := accept(t, silent)
	m := parseModule(t, probe.KindHTTP, fmt.Sprintf("{oauth2: {client_id: a, client_secret: b, token_url: 'http://%s/'}}", tokens))
	p, target := newProber(t, m), web(t, withStatus(200))
	settle(t)
	before := runtime.NumGoroutine()
	var probes sync.WaitGroup
	for range 20 {
		probes.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			r := p.Probe(ctx, probe.Request{Address: target})
			if r.Outcome != probe.LocalError || !strings.Contains(fmt.Sprint(r.Err), "no token") {
				t.Errorf("%s: %v", described(r), r.Err)
			}
		})
	}
	probes.Wait()
	settle(t)
	for range 40 { // what serves the tokens in the test ends a little later
		if runtime.NumGoroutine() <= before+2 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d goroutines before 20 probes, %d after", before, runtime.NumGoroutine())
}

// TestToken has a token server that works, and one behind a proxy.
func TestToken(t *testing.T) {
	tokens := web(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token": "secret", "token_type": "Bearer", "expires_in": 60}`)
	})
	proxy := httpProxy(t, hostOf(tokens), nil)
	for _, more := range []string{"", ", proxy_url: 'http://" + proxy.address + "'"} {
		got := make(chan string, 1)
		target := accept(t, func(c *net.TCPConn) {
			b := make([]byte, 4096)
			n, _ := c.Read(b)
			got <- string(b[:n])
			io.WriteString(c, raw("200 OK", "Content-Length: 0"))
		})
		m := parseModule(t, probe.KindHTTP, fmt.Sprintf("{oauth2: {client_id: a, client_secret: b, token_url: '%s/'%s}}", tokens, more))
		r := probeWith(t, m, probe.Request{Address: target})
		if r.Outcome != probe.Open {
			t.Fatalf("%s: %s: %v", more, described(r), r.Err)
		}
		if head := <-got; !strings.Contains(head, "Authorization: Bearer secret\r\n") {
			t.Errorf("%s: the target got %q", more, head)
		}
		if asked := proxy.took(); (len(asked) == 1) != (more != "") {
			t.Errorf("%s: the proxy was asked for %q", more, asked)
		}
	}
	settle(t)
}

// TestTokenServerThatIsDown is a local error, with its cause.
func TestTokenServerThatIsDown(t *testing.T) {
	m := parseModule(t, probe.KindHTTP, "{oauth2: {client_id: a, client_secret: b, token_url: 'http://127.0.0.1:1/'}}")
	r := probeWith(t, m, probe.Request{Address: web(t, withStatus(200))})
	if got := described(r); got != "local_error none local" {
		t.Errorf("%s: %v", got, r.Err)
	}
}

// TestJSONTakesLittleMemory has a server send what takes most memory as JSON.
func TestJSONTakesLittleMemory(t *testing.T) {
	text := raw("200 OK", "Connection: close") + "[" + strings.Repeat("[],", 5<<20) + "[]]"
	target := accept(t, answering(text, nil))
	p := newProber(t, parseModule(t, probe.KindHTTP, `{fail_if_body_json_matches_cel: "body.size() == 1"}`))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := p.Probe(ctx, probe.Request{Address: target})
	runtime.ReadMemStats(&after)
	if got := described(r); got != "mismatch exchange target" {
		t.Errorf("%s: %v", got, r.Err)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
		t.Errorf("it took %d MiB for a body of 15 MiB", took>>20)
	}
}

// TestEndlessBody has a body of 10 GB be given up in time.
func TestEndlessBody(t *testing.T) {
	target := accept(t, answering(raw("200 OK", "Connection: close"), flooding))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r := newProber(t, parseModule(t, probe.KindHTTP, "")).Probe(ctx, probe.Request{Address: target})
	if got := described(r); got != "mismatch exchange target" {
		t.Errorf("%s: %v", got, r.Err)
	}
	if n := byName(r)["probe_http_uncompressed_body_length"]; n != 256<<20 {
		t.Errorf("it read %v bytes", n)
	}
	if !strings.Contains(r.Err.Error(), "hint: body_size_limit") {
		t.Errorf("no hint: %v", r.Err)
	}
	target = accept(t, answering(raw("200 OK", "Connection: close"), flooding))
	r = probeWith(t, parseModule(t, probe.KindHTTP, "{body_size_limit: 10MB}"), probe.Request{Address: target})
	if n := byName(r)["probe_http_uncompressed_body_length"]; n != 10<<20 {
		t.Errorf("it read %v bytes, and the module says 10 MB", n)
	}
}
