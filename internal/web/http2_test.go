package web

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestHTTP2ConnectionTakesLittle has clients that send as many requests on one
// connection as it may carry, each with as much header as is read, while none is let
// in yet: a connection of HTTP/2 takes no more than one of HTTP/1.
func TestHTTP2ConnectionTakesLittle(t *testing.T) {
	var waiting, ended atomic.Int32
	shut := make(chan struct{})
	server := NewServer(http.NotFoundHandler(), maxConnections, slog.New(slog.DiscardHandler))
	server.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { // as the gate, where passwords are compared in turn
		waiting.Add(1)
		defer ended.Add(1)
		select {
		case <-r.Context().Done():
		case <-shut:
		}
	})
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{porttest.SelfSigned(t)}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { close(shut); _ = server.Close() })

	connect := func(n, streams int, block []byte) (each int) {
		t.Helper()
		before := memory()
		waiting.Store(0)
		var conns []net.Conn
		for range n {
			conns = append(conns, requestAll(t, listener.Addr().String(), streams, block))
		}
		porttest.Await(t, "the requests", func() bool { return int(waiting.Load()) == n*streams })
		each = (memory() - before) / n
		for _, conn := range conns {
			_ = conn.Close()
		}
		porttest.Await(t, "their end", func() bool { return ended.Load() == waiting.Load() })
		ended.Store(0)
		return each
	}
	for name, block := range map[string][]byte{"many names": manyNames(450), "one line": encoded([2]string{"x", strings.Repeat("x", maxHeader)})} {
		const n = 40
		one := connect(n, 1, encoded())
		each := connect(n, maxStreams, block)
		t.Logf("%s: %d bytes each, %d with one small request", name, each, one)
		if each > connectionMemory+one { // part of it is the client's
			t.Errorf("%s: a connection takes %d bytes", name, each)
		}
	}
}

func manyNames(n int) []byte {
	fields := make([][2]string, n)
	for i := range fields {
		fields[i] = [2]string{"x" + strconv.FormatInt(int64(i), 36), "y"}
	}
	return encoded(fields...)
}

// encoded returns the header of a request with more fields.
func encoded(more ...[2]string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.SetMaxDynamicTableSize(0) // each request has the same block
	for _, field := range append([][2]string{{":method", "GET"}, {":path", "/metrics"}, {":scheme", "https"}, {":authority", "a"}}, more...) {
		_ = e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	return b.Bytes()
}

// requestAll opens a connection, and streams on it.
func requestAll(t *testing.T, address string, streams int, block []byte) net.Conn {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var out bytes.Buffer
	out.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&out, nil)
	_ = framer.WriteSettings()
	const most = 16 << 10 // of a frame
	for i := range streams {
		stream, rest := uint32(2*i+1), block
		first := rest[:min(most, len(rest))]
		rest = rest[len(first):]
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: first, EndStream: true, EndHeaders: len(rest) == 0})
		if len(rest) > 0 {
			_ = framer.WriteContinuation(stream, true, rest)
		}
	}
	if _, err := conn.Write(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	return conn
}
