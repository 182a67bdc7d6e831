package blackbox_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// authority signs the certificates of the test servers.
type authority struct {
	*porttest.Authority
	file string // its certificate, for ca_file
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := porttest.NewAuthority(t)
	return &authority{a, porttest.WritePEM(t, filepath.Join(t.TempDir(), "ca.pem"), tls.Certificate{Certificate: [][]byte{a.Certificate.Raw}})}
}

func expired(c *x509.Certificate)     { c.NotAfter = time.Now().Add(-time.Minute) }
func notYetValid(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }
func wrongName(c *x509.Certificate)   { c.IPAddresses, c.DNSNames = nil, []string{"other.test"} }

// web serves a handler over HTTP/1.1.
func web(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// secureWeb serves an empty page over TLS.
func secureWeb(t testing.TB, c *tls.Config) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.TLS = c
	s.Config.ErrorLog = quiet()
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

func withCertificate(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

// accept serves each connection with a function, which may take its time.
func accept(t testing.TB, serve func(*net.TCPConn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over, end := context.WithCancel(context.Background())
	t.Cleanup(func() {
		l.Close()
		end()
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(over, func() { c.Close() })
			go func() {
				defer c.Close()
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().String()
}

// request reads the header of an HTTP request.
func request(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		if line, err := r.ReadString('\n'); err != nil || line == "\r\n" {
			return
		}
	}
}

func silent(c *net.TCPConn) { io.Copy(io.Discard, c) }

func reset(c *net.TCPConn) {
	c.Read(make([]byte, 4096))
	c.SetLinger(0)
}

func closing(c *net.TCPConn) {
	c.Read(make([]byte, 4096))
}

// answering returns a server that answers an HTTP request with a text, and then
// does something else.
func answering(text string, then func(*net.TCPConn)) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		request(c)
		io.WriteString(c, text)
		if then != nil {
			then(c)
		}
	}
}

// dripping sends a byte a second.
func dripping(c *net.TCPConn) {
	for range 60 {
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
		time.Sleep(time.Second)
	}
}

// flooding sends 10 GB.
func flooding(c *net.TCPConn) {
	block := bytes.Repeat([]byte("x"), 1<<20)
	for range 10_000 {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// closedPort is one that nothing listens on. It is no port that was free a moment
// ago: a test that runs beside this one could have it by now.
const closedPort = "127.0.0.1:1"

// http2Server does something with each connection that speaks HTTP/2, and counts
// them.
func http2Server(t testing.TB, c tls.Certificate, serve func(*http2.Framer, uint32)) (url string, connections *atomic.Int32) {
	t.Helper()
	l, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{c}, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	connections = new(atomic.Int32)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go func() {
				defer conn.Close()
				io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
				framer := http2.NewFramer(conn, conn)
				framer.WriteSettings()
				for {
					frame, err := framer.ReadFrame()
					if err != nil {
						return
					}
					if headers, ok := frame.(*http2.HeadersFrame); ok {
						serve(framer, headers.StreamID)
					}
				}
			}()
		}
	}()
	return "https://" + l.Addr().String(), connections
}

func goAway(f *http2.Framer, _ uint32)       { f.WriteGoAway(0, http2.ErrCodeNo, nil) }
func resetStream(f *http2.Framer, id uint32) { f.WriteRSTStream(id, http2.ErrCodeInternal) }

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func withBody(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func withEncoding(encoding, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", encoding)
		io.WriteString(w, text)
	}
}

func withStatus(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func redirecting(to string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusFound)
	}
}

func raw(status string, header ...string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\n%s\r\n\r\n", status, strings.Join(header, "\r\n"))
}
