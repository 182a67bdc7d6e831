package prober

import (
	"bytes"
	"context"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/stun/v3"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// leakCase is a prober with a server that does its worst.
type leakCase struct {
	prober probe.Prober
	target string
}

func hostileDatagrams(t *testing.T) []leakCase {
	t.Helper()
	dns := &UDP{Payload: payloadNamed(t, "dns")}
	whole := bytes.Repeat([]byte("x"), 65000)
	flood := answer(t, "127.0.0.1", func(int, []byte) [][]byte { return [][]byte{whole, nil, whole, []byte("x"), whole} })
	silent := answer(t, "127.0.0.1", func(int, []byte) [][]byte { return nil })
	slow := answer(t, "127.0.0.1", func(int, []byte) [][]byte { time.Sleep(time.Millisecond); return [][]byte{[]byte("slow")} })
	// Its other address answers nobody, so that the tests of the NAT wait.
	halfSTUN := answer(t, "127.0.0.1", func(_ int, b []byte) [][]byte {
		request := &stun.Message{Raw: bytes.Clone(b)}
		if request.Decode() != nil {
			return nil
		}
		response, err := stun.Build(request, stun.BindingSuccess,
			&stun.XORMappedAddress{IP: []byte{127, 0, 0, 1}, Port: 1}, &stun.OtherAddress{IP: []byte{127, 0, 0, 9}, Port: 1999})
		if err != nil {
			return nil
		}
		return [][]byte{response.Raw, []byte("garbage"), response.Raw}
	})
	var cases []leakCase
	for _, target := range []string{flood, silent, slow, halfSTUN, closedPort} {
		cases = append(cases, leakCase{dns, target}, leakCase{&UDP{}, target}, leakCase{&STUN{}, target})
	}
	return cases
}

func hostileGRPC(t *testing.T) []leakCase {
	t.Helper()
	hangs := serveGRPC(t, answering(func(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}))
	ca := newAuthority(t)
	config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
	config.NextProtos = []string{protocolHTTP2}
	overTLS := &GRPC{TLS: true, TLSConfig: ca.trusting()}
	cases := []leakCase{
		{&GRPC{}, hangs}, {&GRPC{}, closedPort}, {&GRPC{}, serveGRPC(t, withHealth)}, {overTLS, hangs},
		{overTLS, serveTCP(t, underTLS(config, hold))}, {overTLS, serveTCP(t, underTLS(config, goAway))},
		{overTLS, serveTCP(t, underTLS(config, frameFlood))},
	}
	for _, serve := range []string{
		serveTCP(t, hold), serveTCP(t, drips), serveTCP(t, endless("x")), serveTCP(t, reset), serveTCP(t, goAway),
		serveTCP(t, frameFlood), serveTCP(t, http2Answer("200")), serveTCP(t, leaves("HTTP/1.1 400 Bad Request\r\n\r\n")),
	} {
		cases = append(cases, leakCase{&GRPC{}, serve})
	}
	return cases
}

// TestLeaksOfDatagramsAndGRPC probes servers that do their worst a thousand
// times each way, and then counts what is left.
func TestLeaksOfDatagramsAndGRPC(t *testing.T) {
	for name, cases := range map[string][]leakCase{"datagrams": hostileDatagrams(t), "grpc": hostileGRPC(t)} {
		t.Run(name, func(t *testing.T) {
			const probes, atOnce = 1000, 32
			goroutines, descriptors := runtime.NumGoroutine(), openDescriptors(t)
			allocated := porttest.HeapInUse()
			var running sync.WaitGroup
			slots := make(chan struct{}, atOnce)
			var lock sync.Mutex
			var slowest time.Duration
			outcomes := map[probe.Outcome]int{}
			for i := range probes {
				slots <- struct{}{}
				running.Go(func() {
					defer func() { <-slots }()
					c := cases[i%len(cases)]
					m := probe.Module{Prober: c.prober, Timeout: 50 * time.Millisecond}
					result := m.Probe(t.Context(), probe.Request{Address: c.target, Hostname: "name.example", Allow: func(netip.AddrPort) error { return nil }})
					lock.Lock()
					defer lock.Unlock()
					slowest = max(slowest, result.Duration)
					outcomes[result.Outcome]++
				})
			}
			running.Wait()
			t.Logf("slowest %s, outcomes %v, heap grew by %d kB", slowest, outcomes, (porttest.HeapInUse()-allocated)/1024)
			if slowest > 2*time.Second { // two cores, 32 probes and their servers
				t.Errorf("a probe with 50 ms took %s", slowest)
			}
			if outcomes[probe.Unknown]+outcomes[probe.LocalError] > 0 {
				t.Errorf("outcomes %v, want none unknown", outcomes)
			}
			awaitNothingLeft(t, goroutines, descriptors)
		})
	}
}

// awaitNothingLeft waits until servers have ended their sides.
func awaitNothingLeft(t *testing.T, goroutines, descriptors int) {
	t.Helper()
	for range 100 {
		if runtime.NumGoroutine() <= goroutines && openDescriptors(t) <= descriptors {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	stacks := make([]byte, 64<<10)
	stacks = stacks[:runtime.Stack(stacks, true)]
	t.Errorf("%d goroutines of %d, %d descriptors of %d are left\n%s", runtime.NumGoroutine(), goroutines,
		openDescriptors(t), descriptors, strings.TrimSpace(string(stacks)))
}
