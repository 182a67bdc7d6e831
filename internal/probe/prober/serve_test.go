package prober

import (
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// startServer listens, does something to each connection, and returns its
// address. When the test ends, the connections do.
func startServer(t testing.TB, network, address string, serve func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var open sync.Map
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open.Store(conn, true)
			serving.Go(func() {
				serve(conn)
				_ = conn.Close()
				open.Delete(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		open.Range(func(conn, _ any) bool { _ = conn.(net.Conn).Close(); return true })
		serving.Wait()
	})
	return listener.Addr().String()
}

// closedPort is one that nothing listens on, neither TCP nor UDP. It is no port
// that was free a moment ago: a test that runs beside this one could have it by
// now.
const closedPort = "127.0.0.1:1"

// hold says nothing until the peer ends the connection.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// reset ends the connection with an RST.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// sample returns the value of a measurement with the given labels.
func sample(r probe.Result, name string, labels ...string) (float64, bool) {
	for _, s := range r.Samples {
		if s.Metric.Name == name && slices.Equal(s.Labels, labels) {
			return s.Value, true
		}
	}
	return 0, false
}

// fnvOf is the hash that blackbox_exporter makes of an address.
func fnvOf(addr netip.Addr) float64 {
	h := fnv.New32a()
	_, _ = h.Write(addr.AsSlice())
	return float64(h.Sum32())
}
