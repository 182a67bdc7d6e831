package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/system"
)

// BenchmarkTargetsScrape is a scrape of collect[]=probes with 10,000 targets on
// loopback, 128 in flight, own listeners
// and text encoding included. The server is part of what is
// measured. It reports CPU time, wall time and the median of a probe.
func BenchmarkTargetsScrape(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(200)) // as main does
	porttest.Sysctl(b, "net/ipv4/tcp_max_tw_buckets", "0")
	const n = 10_000
	module := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP, Prober: &prober.TCP{}}
	plan := &schedule.Plan{}
	address := acceptAll(b)
	for i := range n {
		plan.Targets = append(plan.Targets, probe.Target{Address: address, Name: fmt.Sprint(i), Module: module})
	}
	runner := schedule.NewRunner(context.Background(), 0)
	defer runner.Stop()
	runner.Use(plan)
	host, err := system.Open(b.Context(), system.Auto, "/proc", "", slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	var last []schedule.Report
	exporter := collector.New(collector.Options{
		Probes: func(ctx context.Context) (reports []schedule.Report, err error) {
			last, err = runner.Results(ctx, plan)
			return last, err
		},
		Source:         host.Source,
		EphemeralPorts: host.EphemeralPorts,
		Addresses:      host.Addresses,
		Memory:         collector.NewMemory(time.Now),
		Logger:         slog.New(slog.DiscardHandler),
	})
	b.ReportAllocs()
	before, scrapes := cpuTime(), 0
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 9500*time.Millisecond)
		scrape, err := exporter.Scrape(ctx, collector.Filter{Collectors: []string{"probes"}})
		if err != nil {
			b.Fatal(err)
		}
		promhttp.HandlerFor(scrape, promhttp.HandlerOpts{}).ServeHTTP(&discardWriter{header: http.Header{}}, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		cancel()
		scrapes++
	}
	cpu := cpuTime() - before
	took := make([]time.Duration, 0, n)
	for _, r := range last {
		if r.Result.Outcome != probe.Open {
			b.Fatalf("%s: %v", r.Result.Outcome, r.Result.Err)
		}
		took = append(took, r.Result.Duration)
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[n/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(n*scrapes)/cpu.Seconds(), "probes/s/core")
	b.ReportMetric(float64(cpu.Milliseconds())/float64(scrapes), "cpu-ms/scrape")
}
