package bench

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/system"
)

// BenchmarkListenersScrape is a scrape of collect[]=listeners, text encoding
// included, with 300 listeners whose owners are known. It reports CPU time.
func BenchmarkListenersScrape(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // as main does
	for range 300 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
	}
	host, err := system.Open(b.Context(), system.Auto, "/proc", "", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	exporter := collector.New(collector.Options{
		Source:         host.Source,
		SourceName:     host.Name,
		Protocols:      host.Protocols,
		EphemeralPorts: host.EphemeralPorts,
		Owners:         host.Owners,
		Limits:         collector.Limits{Listeners: 4096, OutboundPorts: 25, OrphanedPorts: 25},
		Memory:         collector.NewMemory(time.Now),
		Logger:         slog.New(slog.DiscardHandler),
	})
	scrape := func() {
		scrape, err := exporter.Scrape(b.Context(), collector.Filter{Collectors: []string{"listeners"}})
		if err != nil {
			b.Fatal(err)
		}
		w := &discardWriter{header: http.Header{}}
		promhttp.HandlerFor(scrape, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if w.bytes < 100_000 {
			b.Fatalf("%d bytes of metrics", w.bytes)
		}
	}
	scrape()
	before, scrapes := cpuTime(), 0
	for b.Loop() {
		scrape()
		scrapes++
	}
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/1000/float64(scrapes), "cpu-ms/scrape")
}

// discardWriter is a client that counts what it is sent.
type discardWriter struct {
	header http.Header
	bytes  int
}

func (w *discardWriter) Header() http.Header { return w.header }
func (w *discardWriter) WriteHeader(int)     {}
func (w *discardWriter) Write(b []byte) (int, error) {
	w.bytes += len(b)
	return len(b), nil
}
