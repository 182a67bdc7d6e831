package blackbox_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// BenchmarkHTTP is what the relay and the rest of the adapter cost, beside the
// prober alone.
func BenchmarkHTTP(b *testing.B) {
	for name, start := range map[string]func(http.Handler) *httptest.Server{"plain": httptest.NewServer, "tls": httptest.NewTLSServer} {
		server := start(withStatus(http.StatusOK))
		b.Cleanup(server.Close)
		m := parseModule(b, probe.KindHTTP, "{tls_config: {insecure_skip_verify: true}}")
		p := newProber(b, m)
		within := func(b *testing.B, probe func(ctx context.Context) bool) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
				if !probe(ctx) {
					b.Fatal("it failed")
				}
				cancel()
			}
		}
		b.Run(name+"/blackbox", func(b *testing.B) {
			within(b, func(ctx context.Context) bool {
				return prober.ProbeHTTP(ctx, server.URL, m, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
			})
		})
		b.Run(name+"/ours", func(b *testing.B) {
			within(b, func(ctx context.Context) bool {
				return p.Probe(ctx, probe.Request{Address: server.URL}).Outcome == probe.Open
			})
		})
	}
}
