package web

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/port-exporter/port_exporter/internal/netaddr"
)

// serve serves a handler with so many connections until the test ends.
func serve(t *testing.T, handler http.Handler, most int) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(handler, most, slog.New(slog.DiscardHandler))
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// dial opens a connection and sends text.
func dial(t *testing.T, address, text string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	return conn
}

// scraped returns the status of a scrape on a connection of its own.
func scraped(t *testing.T, address string) int {
	t.Helper()
	conn := dial(t, address, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Errorf("a scrape: %v", err)
		return 0
	}
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Errorf("a scrape: %v", err)
	}
	return response.StatusCode
}

// largeSize is in bytes: more than the kernel buffers for a connection, and less than
// half of what may wait to be read.
const largeSize = 14_000_000

// large is a scrape of that size.
func large(t *testing.T) func(context.Context, Selection) (prometheus.Gatherer, error) {
	t.Helper()
	v := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "port_sockets", Help: "Many."}, []string{"n"})
	for i := range 100 {
		v.WithLabelValues(strconv.Itoa(i) + strings.Repeat("x", largeSize/100)).Set(1)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(v)
	return func(context.Context, Selection) (prometheus.Gatherer, error) { return r, nil }
}

// TestBodiesAreNotWaitedFor announces bodies that never come. Each endpoint answers
// nevertheless, and closes the connection.
func TestBodiesAreNotWaitedFor(t *testing.T) {
	address := serve(t, handler(t, func(o *Options) { o.MaxRequests = 1 }), maxConnections)
	for _, path := range []string{"/metrics", "/", "/config", "/sd/probes", "/sd/listeners", "/probe", "/logs", "/-/healthy", "/nope"} {
		for _, body := range []string{"Content-Length: 5\r\n\r\n", "Content-Length: 1000000\r\n\r\nxy", "Transfer-Encoding: chunked\r\n\r\n5\r\nx"} {
			for _, method := range []string{"GET", "HEAD", "POST"} {
				began := time.Now()
				conn := dial(t, address, method+" "+path+" HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: 600\r\n"+body)
				reader := bufio.NewReader(conn)
				response, err := http.ReadResponse(reader, &http.Request{Method: method})
				if err != nil {
					t.Fatalf("%s %s: %v", method, path, err)
				}
				if _, err := io.Copy(io.Discard, response.Body); err != nil || !response.Close {
					t.Errorf("%s %s %q: %v, %v", method, path, body, response.Header, err)
				}
				if _, err := reader.ReadByte(); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s %s: the connection is still open", method, path)
				}
				if took := time.Since(began); took > maxSending/2 {
					t.Errorf("%s %s %q: answered after %v", method, path, body, took)
				}
			}
		}
	}
}

// TestSlowReadersHoldNoSlot has a client that does not read its answer, and one slot.
func TestSlowReadersHoldNoSlot(t *testing.T) {
	address := serve(t, handler(t, func(o *Options) { o.MaxRequests, o.Scrape = 1, large(t) }), maxConnections)
	slow := dial(t, address, "GET /metrics HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: 600\r\n\r\n")
	if _, err := io.ReadFull(slow, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if status := scraped(t, address); status != http.StatusOK {
		t.Errorf("another client gets %d", status)
	}
}

// TestUnreadAnswersAreBounded has the answers that wait longest given up.
func TestUnreadAnswersAreBounded(t *testing.T) {
	address := serve(t, handler(t, func(o *Options) { o.Scrape = large(t) }), maxConnections)
	unread := func() net.Conn {
		conn := dial(t, address, "GET /metrics HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: 600\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	first := unread()
	time.Sleep(stalled + 500*time.Millisecond) // it counts as stalled, and more so on a slow machine
	for range maxUnread / largeSize {
		unread()
	}
	n, err := io.Copy(io.Discard, first)
	if errors.Is(err, os.ErrDeadlineExceeded) || n >= largeSize {
		t.Errorf("the first answer is whole, or still waits: %d bytes, %v", n, err)
	}
}

// TestConnectionsMakeRoom opens more connections than there may be, idle ones and
// ones in the middle of a header. A scrape gets through, and the number stays.
func TestConnectionsMakeRoom(t *testing.T) {
	const most = 16
	address := serve(t, handler(t, nil), most)
	var conns []net.Conn
	for range 10 * most {
		conns = append(conns, dial(t, address, "GET /-/healthy HTTP/1.1\r\nHost: a\r\n"))
	}
	if status := scraped(t, address); status != http.StatusOK {
		t.Errorf("a scrape: %d", status)
	}
	open := 0
	for _, conn := range conns {
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			open++
		}
	}
	if open >= most {
		t.Errorf("%d connections are open, and there may be %d", open, most)
	}
}

// TestWhoMakesRoom chooses the connection that is closed for a new one.
func TestWhoMakesRoom(t *testing.T) {
	at := func(client byte, waiting int64, requests int) *connection {
		remote := &net.TCPAddr{IP: net.IPv4(192, 0, 2, client), Port: 1}
		return &connection{client: netaddr.Client(addressed{remote: remote}.RemoteAddr().String()), waiting: time.Unix(waiting, 0), requests: requests}
	}
	for name, tt := range map[string]struct {
		open []*connection // the first is chosen
		made byte          // the client of the new one
	}{
		"longest waiting":                {[]*connection{at(1, 10, 0), at(1, 11, 0), at(1, 12, 0)}, 3},
		"not who waits for us":           {[]*connection{at(1, 12, 0), at(1, 10, 1), at(1, 11, 2)}, 3},
		"of the client with most":        {[]*connection{at(2, 11, 0), at(2, 12, 0), at(1, 10, 0)}, 3},
		"when all wait, of who has most": {[]*connection{at(1, 10, 1), at(1, 11, 1), at(2, 9, 1)}, 3},
		"when all wait, the new one":     {[]*connection{nil, at(1, 10, 1), at(1, 11, 1)}, 1},
	} {
		c := &connections{open: map[net.Conn]*connection{}}
		made := at(tt.made, 99, 0)
		c.open[&addressed{}] = made
		want := tt.open[0]
		if want == nil {
			want, tt.open = made, tt.open[1:]
		}
		for _, each := range tt.open {
			c.open[&addressed{}] = each
		}
		if got := c.longestWaiting(made); got != want {
			t.Errorf("%s: %+v is closed", name, got)
		}
	}
	one := netaddr.Client(addressed{remote: &net.TCPAddr{IP: net.ParseIP("2001:db8::1")}}.RemoteAddr().String())
	other := netaddr.Client(addressed{remote: &net.TCPAddr{IP: net.ParseIP("2001:db8::ffff:2")}}.RemoteAddr().String())
	if one != other || !one.IsValid() {
		t.Errorf("%v and %v are two clients", one, other)
	}
	if unix := netaddr.Client(addressed{remote: &net.UnixAddr{Name: "@"}}.RemoteAddr().String()); unix.IsValid() {
		t.Errorf("a unix socket has the address %v", unix)
	}
}

// addressed is a connection that has an address.
type addressed struct {
	net.Conn
	remote net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.remote }

// TestHeaders are cut at 16 kB.
func TestHeaders(t *testing.T) {
	address := serve(t, handler(t, nil), maxConnections)
	for size, want := range map[int]int{maxHeader: http.StatusOK, 2 * maxHeader: http.StatusRequestHeaderFieldsTooLarge} {
		conn := dial(t, address, "GET /metrics HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("x", size)+"\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || response.StatusCode != want {
			t.Errorf("a header of %d bytes: %v, %v; want status %d", size, response, err, want)
		}
	}
}

func TestConnections(t *testing.T) {
	for _, tt := range []struct {
		descriptors uint64
		memory      int64
		want        int
	}{
		{0, math.MaxInt64, 640}, {1, math.MaxInt64, 4}, {64, math.MaxInt64, 16}, {1024, math.MaxInt64, 256}, {1 << 40, math.MaxInt64, 640},
		{0, 64 << 20, 51}, {0, 16 << 20, 12}, {0, 0, 4}, {0, -1, 4}, {64, 64 << 20, 16},
	} {
		if got := Connections(tt.descriptors, tt.memory); got != tt.want {
			t.Errorf("%d descriptors and %d bytes: %d connections, want %d", tt.descriptors, tt.memory, got, tt.want)
		}
	}
}

// TestBusyScrape has a scrape that there is no room for answered as such, and not
// by what there is besides.
func TestBusyScrape(t *testing.T) {
	h := handler(t, func(o *Options) {
		o.Scrape = func(context.Context, Selection) (prometheus.Gatherer, error) {
			return gathered(nil, &BusyError{Reason: "128 collectors"}), nil
		}
	})
	if status, body := do(h, "GET", "/metrics"); status != 503 || !strings.Contains(body, "128 collectors") {
		t.Errorf("%d %s", status, body)
	}
}

// TestConnectionTakesLittle holds many connections in the middle of a header that is
// as long as it may be, and made of lines that take the most memory.
func TestConnectionTakesLittle(t *testing.T) {
	address := serve(t, handler(t, nil), maxConnections)
	for name, header := range map[string]string{
		"one line":   "X: " + strings.Repeat("x", maxHeader),
		"many lines": strings.Repeat("X: y\r\n", maxHeader/6),
		"many names": func() string {
			var b strings.Builder
			for i := range maxHeader / 8 {
				b.WriteString("X" + strconv.FormatInt(int64(i), 36) + ":y\r\n")
			}
			return b.String()
		}(),
	} {
		const n = 200
		before := memory()
		var conns []net.Conn
		for range n {
			conns = append(conns, dial(t, address, "GET /metrics HTTP/1.1\r\nHost: a\r\n"+header))
		}
		time.Sleep(time.Second) // for the server to read it; the less it has read, the less it takes
		each := (memory() - before) / n
		t.Logf("%s: %d bytes each", name, each)
		if each > connectionMemory {
			t.Errorf("%s: a connection takes %d bytes", name, each)
		}
		for _, conn := range conns {
			_ = conn.Close()
		}
	}
}

func memory() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}
