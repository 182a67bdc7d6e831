package web

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// records is what a server logs while a test reads it.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// breakingPoint is where the tests panic: its name must be in the stack.
func breakingPoint() { panic("boom\nlevel=INFO") }

// TestPanics has handlers that panic, before they answer and in the middle. Each is
// answered by 500 and logged whole, and takes nothing from the requests after it.
func TestPanics(t *testing.T) {
	var log records
	logger := slog.New(slog.NewTextHandler(&log, nil))
	registry := prometheus.NewRegistry()
	panics := func(http.ResponseWriter, *http.Request) { breakingPoint() }
	h := handler(t, func(o *Options) {
		o.Logger, o.MaxRequests, o.HandlerMetrics = logger, 1, registry
		o.Scrape = func(_ context.Context, s Selection) (prometheus.Gatherer, error) {
			if len(s.Collectors) > 0 {
				breakingPoint()
			}
			return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return registry.Gather() }), nil
		}
		o.Probe = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(http.StatusOK)
			_, _ = io.WriteString(w, "half")
			breakingPoint()
		})
		o.ProbeLog, o.ProbeTargets, o.ListenerTargets = http.HandlerFunc(panics), http.HandlerFunc(panics), http.HandlerFunc(panics)
		o.Config = func() ([]byte, error) { breakingPoint(); return nil, nil }
		o.Reload = func() error { breakingPoint(); return nil }
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(h, maxConnections, logger)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })

	requests := []string{"GET /metrics?collect[]=x", "GET /probe", "GET /logs", "GET /sd/probes", "GET /sd/listeners", "GET /config", "POST /-/reload"}
	for range 3 * maxPages { // a slot that is not given back would be missed
		for _, request := range requests {
			status, header, body := asked(t, listener.Addr().String(), request)
			if status != 500 || header.Get("Content-Encoding") != "" || strings.Contains(body, "half") || !strings.Contains(body, "the exporter has a fault") {
				t.Fatalf("%s: %d %v %q", request, status, header, body)
			}
		}
	}
	if got, want := strings.Count(log.String(), `in="request handler"`), 3*maxPages*len(requests); got != want {
		t.Errorf("%d panics are logged, want %d", got, want)
	}
	for line := range strings.Lines(log.String()) {
		if !strings.Contains(line, "web.breakingPoint") || !strings.Contains(line, "NewServer") && !strings.Contains(line, "net/http.(*conn).serve") {
			t.Fatalf("the stack is not whole: %s", line)
		}
	}
	status, _, body := asked(t, listener.Addr().String(), "GET /metrics")
	if want := `promhttp_metric_handler_requests_total{code="500"} 24`; status != 200 || !strings.Contains(body, want) {
		t.Errorf("afterwards: %d, lacks %s:\n%s", status, want, body)
	}
}

// TestPanicOfWhatIsSent has a handler without an answer in memory, which panics when a
// part of it has been sent: the connection is closed, so that nothing takes it for the
// whole.
func TestPanicOfWhatIsSent(t *testing.T) {
	var log records
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half")
		_ = http.NewResponseController(w).Flush()
		breakingPoint()
	}), maxConnections, slog.New(slog.NewTextHandler(&log, nil)))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	conn := dial(t, listener.Addr().String(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("a part is taken for the whole: %q", body)
	}
	if !strings.Contains(log.String(), "web.breakingPoint") {
		t.Errorf("log: %s", log.String())
	}
}

// asked sends a request on a connection of its own.
func asked(t *testing.T, address, request string) (status int, header http.Header, body string) {
	t.Helper()
	conn := dial(t, address, request+" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	defer conn.Close()
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return response.StatusCode, response.Header, string(text)
}
