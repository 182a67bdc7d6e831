package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// namespaces is how many namespaces there are.
var namespaces = flag.Int("namespaces", 100, "number of network namespaces to make for the benchmark of all namespaces")

// openBPF skips a benchmark where BPF may not be used.
func openBPF(b *testing.B) *bpfwalk.Engine {
	b.Helper()
	engine, err := bpfwalk.Open(b.Context())
	if errors.Is(err, errors.ErrUnsupported) {
		b.Skipf("SKIP-BPF: %v", err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(engine.Close)
	return engine
}

// BenchmarkNamespaces reads namespaces of ten listeners and four UDP sockets each: their
// listeners, and then, with a thousandth of -sockets more in each, all of their sockets. It
// reports the median CPU time of the BPF programs, and of sock_diag in each namespace.
func BenchmarkNamespaces(b *testing.B) {
	porttest.Namespace(b)
	engine := openBPF(b)
	spaces := make([]*porttest.Space, *namespaces)
	for i := range spaces {
		spaces[i] = porttest.NewSpace(b)
		spaces[i].Do(b, func() { listenOnTen(b) })
	}
	inEach := func(states socket.StateSet) func() error {
		return func() error {
			for _, space := range spaces {
				var err error
				if space.Do(b, func() { err = discard(states, 0) }); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for b.Loop() {
		report(b, []method{
			{"listeners-bpf", func() error { return readAll(b.Context(), engine, socket.Listening) }},
			{"listeners-sock_diag", inEach(1 << socket.Listen)}, // of TCP alone
		})
		if *sockets >= 1000 {
			for _, space := range spaces {
				space.Do(b, func() { startMakers(b, *sockets/1000).fill(b, *sockets/1000) })
			}
			report(b, []method{
				{"all-bpf", func() error { return readAll(b.Context(), engine, socket.Listening|socket.Connections) }},
				{"all-sock_diag", inEach(socket.Connections)},
			})
		}
	}
}

// report makes a few rounds of methods.
func report(b *testing.B, methods []method) {
	b.Helper()
	const rounds = 5
	cpu := make([][]time.Duration, len(methods))
	for range rounds {
		for i, m := range methods {
			start := cpuTime()
			if err := m.read(); err != nil {
				b.Fatalf("%s: %v", m.name, err)
			}
			cpu[i] = append(cpu[i], cpuTime()-start)
		}
	}
	for i, m := range methods {
		b.ReportMetric(median(cpu[i]).Seconds()*1000, m.name+"-cpu-ms")
	}
}

func listenOnTen(b *testing.B) {
	b.Helper()
	for i := range 10 {
		porttest.Listen(b, fmt.Sprintf("0.0.0.0:%d", 80+i), 16)
	}
	for i := range 4 {
		porttest.UDP(b, fmt.Sprintf("0.0.0.0:%d", 53+i))
	}
}

// readAll reads the sockets of all namespaces but ours.
func readAll(ctx context.Context, engine *bpfwalk.Engine, want socket.StateSet) error {
	all, err := engine.Read(ctx, nil)
	if err != nil {
		return err
	}
	listeners := 0
	for _, n := range all[1:] {
		if n.Source == nil {
			continue
		}
		for s, err := range n.Source.Sockets(ctx, want) {
			if err != nil && !errors.Is(err, socket.ErrMalformed) {
				return err
			}
			if s.State == socket.Listen {
				listeners++
			}
		}
	}
	if listeners < 10**namespaces {
		return fmt.Errorf("%d listeners of %d namespaces", listeners, *namespaces)
	}
	return nil
}
