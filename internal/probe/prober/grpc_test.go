package prober

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// serveGRPC starts a gRPC server on loopback.
func serveGRPC(t testing.TB, register func(*grpc.Server), options ...grpc.ServerOption) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	register(server)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-done })
	return listener.Addr().String()
}

// withHealth registers a health service that knows three services.
func withHealth(s *grpc.Server) {
	h := health.NewServer()
	h.SetServingStatus("up", grpc_health_v1.HealthCheckResponse_SERVING)
	h.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	h.SetServingStatus("new", grpc_health_v1.HealthCheckResponse_UNKNOWN)
	grpc_health_v1.RegisterHealthServer(s, h)
}

type checkFunc = func(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error)

// healthFunc is a health service that is a function.
type healthFunc struct {
	grpc_health_v1.UnimplementedHealthServer
	check checkFunc
}

// Check implements the service.
func (f healthFunc) Check(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	return f.check(ctx, r)
}

// answering returns how to register a function.
func answering(f checkFunc) func(*grpc.Server) {
	return func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, healthFunc{check: f}) }
}

// serveTCP gives each connection to a function, and closes it behind it.
func serveTCP(t testing.TB, f func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(conn)
			}()
		}
	}()
	return listener.Addr().String()
}

// untilGone reads until the peer is gone.
func untilGone(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

func TestGRPCOutcomes(t *testing.T) {
	t.Parallel()
	certificate := porttest.SelfSigned(t)
	trusting := trusting(certificate.Leaf)
	plain := serveGRPC(t, withHealth)
	overTLS := serveGRPC(t, withHealth, grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))

	for _, c := range []struct {
		name    string
		prober  GRPC
		request probe.Request
		outcome probe.Outcome
		origin  probe.Origin
		phase   probe.Phase
		code    codes.Code
	}{
		{"no such port", GRPC{}, probe.Request{Address: "127.0.0.1:x"}, probe.Unknown, probe.OriginLocal, probe.PhaseResolve, codes.Unavailable},
		{"refused", GRPC{}, probe.Request{Address: closedPort}, probe.Refused, probe.OriginTarget, probe.PhaseConnect, codes.Unavailable},
		{
			"not allowed", GRPC{}, probe.Request{Address: plain, Allow: func(netip.AddrPort) error { return errors.New("no") }},
			probe.Denied, probe.OriginLocal, probe.PhaseConnect, codes.Unavailable,
		},
		{"TLS to a server without", GRPC{TLS: true, TLSConfig: trusting}, probe.Request{Address: plain}, probe.TLSHandshake, probe.OriginTarget, probe.PhaseTLS, codes.Unavailable},
		{"no TLS to a server with", GRPC{}, probe.Request{Address: overTLS}, probe.Closed, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"a certificate of nobody", GRPC{TLS: true}, probe.Request{Address: overTLS}, probe.TLSCertificate, probe.OriginTarget, probe.PhaseTLS, codes.Unavailable},
		{
			"a configuration without its file", GRPC{TLS: true, TLSConfig: func(string) (*tls.Config, error) { return nil, errors.New("no file") }},
			probe.Request{Address: overTLS}, probe.LocalError, probe.OriginLocal, probe.PhaseTLS, codes.Unavailable,
		},
		{"no HTTP/2", GRPC{TLS: true, TLSConfig: trusting}, probe.Request{Address: tlsWithoutALPN(t, certificate)}, probe.Protocol, probe.OriginTarget, probe.PhaseTLS, codes.Unavailable},
		{"not serving", GRPC{Service: "down"}, probe.Request{Address: plain}, probe.Status, probe.OriginTarget, probe.PhaseExchange, codes.OK},
		{"unknown", GRPC{Service: "new"}, probe.Request{Address: plain}, probe.Status, probe.OriginTarget, probe.PhaseExchange, codes.OK},
		{"no such service", GRPC{Service: "none"}, probe.Request{Address: plain}, probe.Status, probe.OriginTarget, probe.PhaseExchange, codes.NotFound},
		{"no health service", GRPC{}, probe.Request{Address: serveGRPC(t, func(*grpc.Server) {})}, probe.Status, probe.OriginTarget, probe.PhaseExchange, codes.Unimplemented},
		{
			"unavailable, it says", GRPC{},
			probe.Request{Address: serveGRPC(t, answering(func(context.Context, *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
				return nil, status.Error(codes.Unavailable, "later")
			}))}, probe.Status, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable,
		},
		{
			"it does not answer", GRPC{},
			probe.Request{Address: serveGRPC(t, answering(func(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}))}, probe.Timeout, probe.OriginNone, probe.PhaseExchange, codes.DeadlineExceeded,
		},
		{"it says nothing", GRPC{}, probe.Request{Address: serveTCP(t, untilGone)}, probe.Timeout, probe.OriginNone, probe.PhaseExchange, codes.DeadlineExceeded},
		{"it says nothing where TLS is", GRPC{TLS: true, TLSConfig: trusting}, probe.Request{Address: serveTCP(t, untilGone)}, probe.Timeout, probe.OriginNone, probe.PhaseTLS, codes.Unavailable},
		{"it hangs up", GRPC{}, probe.Request{Address: serveTCP(t, func(net.Conn) {})}, probe.Closed, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"it hangs up when it has heard", GRPC{}, probe.Request{Address: serveTCP(t, hearAndClose)}, probe.Closed, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"it resets", GRPC{}, probe.Request{Address: serveTCP(t, hearAndReset)}, probe.Reset, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"HTTP/1.1", GRPC{}, probe.Request{Address: serveTCP(t, sayAndStay("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"))}, probe.Protocol, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"an HTTP/2 server that knows no gRPC", GRPC{}, probe.Request{Address: serveTCP(t, http2Answer("404"))}, probe.Protocol, probe.OriginTarget, probe.PhaseExchange, codes.Unimplemented},
		{"GOAWAY", GRPC{}, probe.Request{Address: serveTCP(t, goAway)}, probe.Protocol, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"a byte now and then", GRPC{}, probe.Request{Address: serveTCP(t, drip)}, probe.Timeout, probe.OriginNone, probe.PhaseExchange, codes.DeadlineExceeded},
		{"frames without end", GRPC{}, probe.Request{Address: serveTCP(t, frameFlood)}, probe.Protocol, probe.OriginTarget, probe.PhaseExchange, codes.Unavailable},
		{"serving, over TLS", GRPC{Service: "up", TLS: true, TLSConfig: trusting}, probe.Request{Address: overTLS}, probe.Open, probe.OriginNone, probe.PhaseNone, codes.OK},
		{"serving", GRPC{Service: "up"}, probe.Request{Address: plain}, probe.Open, probe.OriginNone, probe.PhaseNone, codes.OK},
		{"the server itself, by URL", GRPC{}, probe.Request{Address: "http://" + plain + "/x"}, probe.Open, probe.OriginNone, probe.PhaseNone, codes.OK},
	} {
		t.Run(c.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if c.outcome == probe.Timeout {
				timeout = 400 * time.Millisecond
			}
			result := probeFor(t, &c.prober, timeout, c.request)
			if c.outcome == probe.Closed && result.Outcome == probe.Reset && !strings.HasSuffix(c.name, "heard") {
				result.Outcome = probe.Closed // what we write to a closed port is answered by a reset, and either may be noticed first
			}
			if result.Outcome != c.outcome || result.Origin != c.origin || result.Phase != c.phase {
				t.Errorf("%s (%s) in %q, want %s (%s) in %q; error: %v", result.Outcome, result.Origin, result.Phase, c.outcome, c.origin, c.phase, result.Err)
			}
			if code, ok := valueOf(result, grpcStatus); ok != (c.outcome != probe.Denied) || ok && codes.Code(code) != c.code {
				t.Errorf("code %v, want %d", code, c.code)
			}
			if result.Duration > timeout+10*time.Second { // the machine may be loaded
				t.Errorf("it took %s of %s", result.Duration, timeout)
			}
			if _, ok := valueOf(result, sslEarliestExpiry); ok != (c.prober.TLS && (c.outcome == probe.Open || c.outcome == probe.TLSCertificate || c.name == "no HTTP/2")) {
				t.Errorf("the expiry of the certificate is there: %t", ok)
			}
		})
	}
}

func tlsWithoutALPN(t testing.TB, certificate tls.Certificate) string {
	t.Helper()
	return serveTCP(t, func(conn net.Conn) {
		untilGone(tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{certificate}}))
	})
}

func hearAndClose(conn net.Conn) {
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	untilGone(conn)
}

func hearAndReset(conn net.Conn) {
	hearAndClose(conn)
	_ = conn.(*net.TCPConn).SetLinger(0)
}

func sayAndStay(text string) func(net.Conn) {
	return func(conn net.Conn) {
		_, _ = io.WriteString(conn, text)
		untilGone(conn)
	}
}

// drip sends its settings a byte at a time.
func drip(conn net.Conn) {
	for _, b := range []byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00") {
		if _, err := conn.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// asHTTP2 reads the preface and the settings of a client, and sends its own.
func asHTTP2(conn net.Conn) *http2.Framer {
	_, _ = io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	return framer
}

// goAway takes no stream.
func goAway(conn net.Conn) {
	framer := asHTTP2(conn)
	_ = framer.WriteGoAway(0, http2.ErrCodeNo, []byte("closed for today"))
	untilGone(conn)
}

// frameFlood sends frames of a type that nobody knows, which are to be ignored.
func frameFlood(conn net.Conn) {
	framer := asHTTP2(conn)
	go untilGone(conn)
	for framer.WriteRawFrame(0xbb, 0, 0, make([]byte, 16<<10)) == nil {
	}
}

// http2Answer answers the first request with a status and nothing else.
func http2Answer(code string) func(net.Conn) {
	return func(conn net.Conn) {
		framer := asHTTP2(conn)
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if headers, ok := frame.(*http2.HeadersFrame); ok {
				var block bytes.Buffer
				_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: code})
				_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: headers.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true})
			}
		}
	}
}

// TestGRPCRequest is what a server sees of a probe.
func TestGRPCRequest(t *testing.T) {
	type seen struct {
		Service   string
		Metadata  map[string][]string
		Authority []string
		Deadline  bool
	}
	var got seen
	address := serveGRPC(t, answering(func(ctx context.Context, r *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		_, deadline := ctx.Deadline()
		got = seen{r.GetService(), map[string][]string{}, md.Get(":authority"), deadline}
		for _, key := range []string{"authorization", "key", "key-bin"} {
			got.Metadata[key] = md.Get(key)
		}
		return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
	}))
	prober := &GRPC{Service: "s", Metadata: map[string][]string{"Authorization": {"Bearer token"}, "key": {"1", "2"}, "key-bin": {"\x00\xff"}}}
	for _, hostname := range []string{"", "example.com"} {
		if result := probeFor(t, prober, time.Second, probe.Request{Address: address, Hostname: hostname}); result.Outcome != probe.Open {
			t.Fatalf("%s: %v", result.Outcome, result.Err)
		}
		want := seen{"s", map[string][]string{"authorization": {"Bearer token"}, "key": {"1", "2"}, "key-bin": {"\x00\xff"}}, []string{hostname}, true}
		if hostname == "" {
			want.Authority = []string{address}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("hostname %q (-want +got):\n%s", hostname, diff)
		}
	}
}

func TestGRPCSamples(t *testing.T) {
	result := probeFor(t, &GRPC{}, time.Second, probe.Request{Address: serveGRPC(t, withHealth)})
	var got []string
	for _, s := range result.Samples {
		got = append(got, strings.Join(append([]string{s.Metric.Name}, s.Labels...), " "))
	}
	want := []string{
		"probe_grpc_status_code",
		"probe_grpc_healthcheck_response UNKNOWN", "probe_grpc_healthcheck_response SERVING",
		"probe_grpc_healthcheck_response NOT_SERVING", "probe_grpc_healthcheck_response SERVICE_UNKNOWN",
		"probe_grpc_ssl", "probe_grpc_duration_seconds check", "probe_dns_lookup_time_seconds", "probe_ip_protocol", "probe_ip_addr_hash",
		"probe_grpc_duration_seconds resolve", "probe_grpc_duration_seconds connect",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("samples (-want +got):\n%s", diff)
	}
	if serving, _ := valueOf(result, grpcHealth, "SERVING"); serving != 1 {
		t.Errorf("serving is %v, want 1", serving)
	}
}

// TestGRPCClientCertificate has a server reject a client without a certificate, which
// it says after the handshake of the client: whether the client is still writing then
// is chance, and the outcome is not.
func TestGRPCClientCertificate(t *testing.T) {
	ca := newAuthority(t)
	config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
	config.ClientAuth, config.NextProtos = tls.RequireAnyClientCert, []string{protocolHTTP2}
	address := startServer(t, "tcp", "127.0.0.1:0", underTLS(config, hold))
	m := &probe.Module{Kind: probe.KindGRPC, Prober: &GRPC{TLS: true, TLSConfig: ca.trusting()}, Timeout: 20 * time.Second}
	for i := range 60 {
		got := m.Probe(t.Context(), probe.Request{Address: address})
		if got.Outcome != probe.TLSHandshake || !strings.Contains(got.Err.Error(), "asks for a client certificate") {
			t.Fatalf("probe %d: %s: %v", i, got.Outcome, got.Err)
		}
	}
}
