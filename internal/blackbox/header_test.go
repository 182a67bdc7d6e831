package blackbox_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestHeadersTakeLittleMemory has servers send the header lines that take most memory
// for their length, without end, by each version of HTTP.
func TestHeadersTakeLittleMemory(t *testing.T) {
	s := newSite(t)
	lines := []byte("HTTP/1.1 200 OK\r\n" + shortLines(1<<20))
	one := accept(t, func(c *net.TCPConn) {
		c.Read(make([]byte, 4096))
		c.Write(lines)
		<-t.Context().Done()
	})
	flood := encodedFields(64 << 10)
	endless, _ := http2Server(t, s.valid, func(f *http2.Framer, id uint32) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id})
		for part := range slices.Chunk(flood, 16<<10) {
			if f.WriteContinuation(id, false, part) != nil {
				return
			}
		}
	})
	large := encodedFields(2000)
	two, _ := http2Server(t, s.valid, func(f *http2.Framer, id uint32) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: large, EndHeaders: true})
	})
	const tooLarge = "header of the answer is larger than 64 kB"
	for name, tt := range map[string]struct{ module, target, want string }{
		"HTTP/1":          {"{}", "http://" + one, tooLarge},
		"HTTP/2":          {"{tls_config: {insecure_skip_verify: true}}", two, tooLarge},
		"HTTP/2, endless": {"{tls_config: {insecure_skip_verify: true}}", endless, "PROTOCOL_ERROR"},
		"HTTP/3":          {"{enable_http2: false, enable_http3: true, tls_config: {insecure_skip_verify: true}}", http3Header(t, s.valid, 1<<20), tooLarge},
		"HTTP/3, packed":  {"{enable_http2: false, enable_http3: true, tls_config: {insecure_skip_verify: true}}", http3Header(t, s.valid, 60<<10), tooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProber(t, parseModule(t, probe.KindHTTP, tt.module))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := p.Probe(ctx, probe.Request{Address: tt.target})
			runtime.ReadMemStats(&after)
			if got := described(r); got != "protocol exchange target" || !strings.Contains(fmt.Sprint(r.Err), tt.want) {
				t.Errorf("%s: %v", got, r.Err)
			}
			took := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d kB", took>>10)
			if took > 8<<20 {
				t.Errorf("it took %d MiB", took>>20)
			}
		})
	}
}

// TestLargeHeaders are read as long as they are within the limit: 60 kB of cookies.
func TestLargeHeaders(t *testing.T) {
	handler := func(w http.ResponseWriter, _ *http.Request) {
		for range 15 {
			w.Header().Add("Set-Cookie", "a="+strings.Repeat("b", 4000))
		}
	}
	secure := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	for _, target := range []string{web(t, handler), secure.URL} {
		if r := probeWith(t, parseModule(t, probe.KindHTTP, "{tls_config: {insecure_skip_verify: true}}"), probe.Request{Address: target}); r.Outcome != probe.Open {
			t.Errorf("%s: %v", described(r), r.Err)
		}
	}
}

// shortLines are as many lines of a header as fit, each with a name of its own.
func shortLines(size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%x:\n", i)
	}
	return b.String()
}

// encodedFields is a header of HTTP/2 of so many fields.
func encodedFields(n int) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	e.WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
	e.SetMaxDynamicTableSize(0)
	for i := range n {
		e.WriteField(hpack.HeaderField{Name: fmt.Sprintf("%x", i)})
	}
	return b.Bytes()
}

// http3Header is a server that answers with a header of so many fields of one byte:
// RFC 9204, section 4.5.2.
func http3Header(t *testing.T, c tls.Certificate, size int) string {
	t.Helper()
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	transport := &quic.Transport{Conn: socket}
	t.Cleanup(func() { transport.Close(); socket.Close() }) // with its connections
	l, err := transport.Listen(&tls.Config{Certificates: []tls.Certificate{c}, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	const status200, acceptEncoding = 0xc0 | 25, 0xc0 | 31
	section := append([]byte{0, 0, status200}, bytes.Repeat([]byte{acceptEncoding}, size)...)
	answer := append(quicvarint.Append([]byte{1}, uint64(len(section))), section...)
	go func() {
		for {
			conn, err := l.Accept(t.Context())
			if err != nil {
				return
			}
			go func() {
				if stream, err := conn.AcceptStream(t.Context()); err == nil {
					stream.Write(answer)
					io.Copy(io.Discard, stream)
				}
			}()
		}
	}()
	return "https://" + l.Addr().String()
}
