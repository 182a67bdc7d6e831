package status

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/common/expfmt"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

func bigHost() *host {
	h := busyHost()
	var all porttest.Sockets
	for i := range 300 {
		all = append(all, porttest.Socket(socket.TCP, socket.Listen, fmt.Sprintf("127.0.0.1:%d", 1000+i), ""))
	}
	for i := range 10_000 {
		all = append(all, porttest.Socket(socket.TCP, socket.Established, fmt.Sprintf("127.0.0.1:%d", 1000+i%300), "10.0.0.9:50000"))
	}
	h.Source, h.Limits.Listeners = all, 4096
	return h
}

// BenchmarkPage and BenchmarkScrape read the same host: the page must not cost more.
func BenchmarkPage(b *testing.B) {
	s := bigHost().server()
	for b.Loop() {
		w := httptest.NewRecorder()
		s.Page(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

func BenchmarkScrape(b *testing.B) {
	e := collector.New(bigHost().Options)
	for b.Loop() {
		g, err := e.Scrape(b.Context(), collector.Filter{})
		if err != nil {
			b.Fatal(err)
		}
		families, err := g.Gather()
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(io.Discard, f); err != nil {
				b.Fatal(err)
			}
		}
	}
}
