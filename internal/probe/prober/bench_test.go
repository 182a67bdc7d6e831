package prober

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// BenchmarkTCP is a probe of a port on loopback, closed by RST so that ports do
// not run out. internal/bench has it beside its peers.
func BenchmarkTCP(b *testing.B) {
	address := startServer(b, "tcp", "127.0.0.1:0", func(net.Conn) {})
	p := &TCP{CloseReset: true}
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		if got := p.Probe(ctx, probe.Request{Address: address}); got.Outcome != probe.Open {
			b.Fatal(got.Err)
		}
		cancel()
	}
}

// BenchmarkDialer is what a bare dialer takes for the same.
func BenchmarkDialer(b *testing.B) {
	address := startServer(b, "tcp", "127.0.0.1:0", func(net.Conn) {})
	b.ReportAllocs()
	for b.Loop() {
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			b.Fatal(err)
		}
		_ = conn.(*net.TCPConn).SetLinger(0)
		_ = conn.Close()
		cancel()
	}
}
