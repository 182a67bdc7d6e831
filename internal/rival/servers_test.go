package rival

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/tls"
	"encoding/binary"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/quic-go/quic-go/http3"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// site is what the servers of the cases have in common.
type site struct {
	*porttest.Authority
	t     *testing.T
	ca    string // file of the authority
	valid tls.Certificate
	gone  string // a file that vanishes
}

func newSite(t *testing.T) *site {
	a := porttest.NewAuthority(t)
	s := &site{Authority: a, t: t}
	s.ca = porttest.WritePEM(t, filepath.Join(t.TempDir(), "ca.pem"), tls.Certificate{Certificate: [][]byte{a.Certificate.Raw}})
	s.valid = a.Issue(t)
	s.gone = filepath.Join(t.TempDir(), "gone")
	text, err := os.ReadFile(s.ca)
	if err != nil || os.WriteFile(s.gone, text, 0o600) != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) file(c tls.Certificate) string {
	return porttest.WritePEM(s.t, filepath.Join(s.t.TempDir(), "certificate.pem"), c)
}

// web serves a handler over HTTP/1.1.
func (s *site) web(handler http.HandlerFunc) string {
	server := httptest.NewServer(handler)
	s.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// web6 does so over IPv6, or returns nothing.
func (s *site) web6(handler http.HandlerFunc) string {
	l, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return ""
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	server.Start()
	s.t.Cleanup(server.Close)
	return server.URL
}

// secure serves a handler over TLS, with HTTP/2 too.
func (s *site) secure(handler http.HandlerFunc, change ...func(*tls.Config)) string {
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{s.valid}}
	for _, f := range change {
		f(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	s.t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return server.URL
}

// quic serves a handler over HTTP/3.
func (s *site) quic(handler http.HandlerFunc) string {
	c, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	server := &http3.Server{Handler: handler, TLSConfig: http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{s.valid}})}
	go server.Serve(c)
	s.t.Cleanup(func() { server.Close(); c.Close() })
	return "https://" + c.LocalAddr().String()
}

// raw answers each connection with a text, and closes it.
func (s *site) raw(text string) string {
	return "http://" + s.accept(func(c net.Conn) {
		if head(c) != "" {
			io.WriteString(c, text)
		}
	})
}

func (s *site) accept(serve func(net.Conn)) string {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	porttest.Serve(s.t, l, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		serve(c)
	})
	return l.Addr().String()
}

// head reads the header of a request.
func head(c net.Conn) string {
	r, text := bufio.NewReader(c), ""
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return ""
		}
		text += line
		if line == "\r\n" {
			return text
		}
	}
}

// httpProxy goes where it is asked to, if user and password are right, where there
// are any.
func (s *site) httpProxy(login string) string {
	return s.accept(func(near net.Conn) {
		request := head(near)
		first, _, _ := strings.Cut(request, "\r\n")
		words := strings.Fields(first)
		if len(words) != 3 || login != "" && !strings.Contains(request, "Proxy-Authorization: Basic "+login+"\r\n") {
			io.WriteString(near, "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		to := words[1]
		if words[0] != http.MethodConnect {
			to, _, _ = strings.Cut(strings.TrimPrefix(to, "http://"), "/")
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			io.WriteString(near, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			return
		}
		defer far.Close()
		if words[0] == http.MethodConnect {
			io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		} else {
			io.WriteString(far, request)
		}
		go io.Copy(far, near)
		io.Copy(near, far)
	})
}

// socksProxy speaks SOCKS5 without a password: RFC 1928.
func (s *site) socksProxy() string {
	return s.accept(func(near net.Conn) {
		read := func(n int) []byte {
			b := make([]byte, n)
			io.ReadFull(near, b)
			return b
		}
		read(int(read(2)[1]))
		near.Write([]byte{5, 0})
		host := ""
		switch read(4)[3] {
		case 1:
			host = netip.AddrFrom4([4]byte(read(4))).String()
		case 3:
			host = string(read(int(read(1)[0])))
		}
		far, err := net.Dial("tcp", net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(read(2))))))
		if err != nil {
			near.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		defer far.Close()
		near.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
		go io.Copy(far, near)
		io.Copy(near, far)
	})
}

// Handlers.

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) }
}

func redirect(to string, code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, code) }
}

// only answers 200 to requests that are as they should be, and 418 to others.
func only(right func(*http.Request) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !right(r) {
			w.WriteHeader(http.StatusTeapot)
		}
	}
}

func sent(name, value string) http.HandlerFunc {
	return only(func(r *http.Request) bool { return r.Header.Get(name) == value })
}

func withHeader(name, value string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.Header().Set(name, value) }
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func deflated(text string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, 6)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}

func brotlied(text string) string {
	var b bytes.Buffer
	w := brotli.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.String()
}
