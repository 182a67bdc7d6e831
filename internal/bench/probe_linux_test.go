package bench

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/blackbox_exporter/config"
	blackbox "github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// BenchmarkTCPProbe probes a port on loopback as a bare dialer, as ours, as that
// of blackbox_exporter and as its handler, one probe after the other and 128 concurrently. The
// server is part of what is measured. No socket stays in TIME_WAIT, so that
// ports do not run out.
func BenchmarkTCPProbe(b *testing.B) {
	porttest.Sysctl(b, "net/ipv4/tcp_max_tw_buckets", "0")
	address := acceptAll(b)
	module := config.Module{TCP: config.TCPProbe{IPProtocolFallback: true}}
	logger := slog.New(slog.DiscardHandler)
	module.Prober, module.Timeout = "tcp", probe.DefaultTimeout
	modules := &config.Config{Modules: map[string]config.Module{"tcp": module}}
	history := &blackbox.ResultHistory{MaxResults: 100}
	quiet := &promslog.Config{Writer: io.Discard, Level: promslog.NewLevel()}
	if err := quiet.Level.Set("error"); err != nil {
		b.Fatal(err)
	}
	ours := &prober.TCP{}
	for _, way := range []struct {
		name  string
		probe func(context.Context) bool
	}{
		{"dialer", func(ctx context.Context) bool {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				return false
			}
			return conn.Close() == nil
		}},
		{"port_exporter", func(ctx context.Context) bool {
			return ours.Probe(ctx, probe.Request{Address: address}).Outcome == probe.Open
		}},
		{"blackbox_exporter", func(ctx context.Context) bool {
			return blackbox.ProbeTCP(ctx, address, module, prometheus.NewRegistry(), logger)
		}},
		{"blackbox_exporter-handler", func(ctx context.Context) bool {
			request := httptest.NewRequestWithContext(ctx, http.MethodGet, "/probe?module=tcp&target="+address, nil)
			answer := httptest.NewRecorder()
			blackbox.Handler(answer, request, modules, logger, history, 0.5, nil, nil, quiet)
			return strings.Contains(answer.Body.String(), "\nprobe_success 1\n")
		}},
	} {
		once := func(b *testing.B) {
			ctx, cancel := context.WithTimeout(context.Background(), probe.DefaultTimeout)
			defer cancel()
			if !way.probe(ctx) {
				b.Error("the probe failed")
			}
		}
		b.Run(way.name+"/one", func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				once(b)
			}
			reportProbes(b, cpuTime()-before)
		})
		b.Run(way.name+"/128", func(b *testing.B) { manyAtOnce(b, 128, once) })
	}
}

// manyAtOnce does something so many times at once, and reports how long half of
// them took at most.
func manyAtOnce(b *testing.B, atOnce int, once func(*testing.B)) {
	b.ReportAllocs()
	before := cpuTime()
	took := make([]time.Duration, max(b.N, atOnce))
	var running sync.WaitGroup
	for first := range atOnce {
		running.Go(func() {
			for i := first; i < len(took); i += atOnce {
				start := time.Now()
				once(b)
				took[i] = time.Since(start)
			}
		})
	}
	running.Wait()
	reportProbes(b, (cpuTime()-before)*time.Duration(b.N)/time.Duration(len(took)))
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// reportProbes reports CPU time, of the kernel too, and what a core can do.
func reportProbes(b *testing.B, cpu time.Duration) {
	b.ReportMetric(float64(cpu.Microseconds())/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/cpu.Seconds(), "probes/s/core")
}

// acceptAll listens on loopback and closes what it accepts once the peer does.
func acceptAll(b *testing.B) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	return listener.Addr().String()
}
