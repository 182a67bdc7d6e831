package prober

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
)

// GRPC asks a server for its health (grpc.health.v1.Health/Check). SERVING is
// Open; another state, or a status that the server sends, is Status.
//
// It takes what the grpc prober of blackbox_exporter takes and measures the
// same, except that the address which was resolved, and is reported, is the one that
// is asked, and that the time of the probe bounds it. The connection is made
// here and handed to the gRPC library, so that each failure keeps its cause.
type GRPC struct {
	dial.Resolution
	// Service is whose health is asked for; empty is the server's own.
	Service string
	// TLS makes a handshake first.
	TLS bool
	// TLSConfig is as that of [Conversation]. The protocol offered is h2.
	TLSConfig func(serverName string) (*tls.Config, error)
	// Metadata is sent along. Keys that end in -bin have binary values.
	Metadata map[string][]string
}

// Bounds on what a server can make the exporter read. An answer has some tens
// of bytes.
const (
	maxHealthAnswer  = 4 << 10
	maxHealthHeaders = 16 << 10
	maxHealthStream  = 1 << 20 // frames of all kinds
)

// protocolHTTP2 is what ALPN calls HTTP/2 over TLS, RFC 9113 section 3.2. A server
// has to choose it for gRPC.
const protocolHTTP2 = "h2"

var errNoHTTP2 = errors.New("the server does not choose HTTP/2")

// The metrics of the grpc prober. Names, help and values are those of
// blackbox_exporter; its phase check is without connect and tls here, which have
// phases of their own.
var (
	grpcDuration = &probe.Metric{Name: "probe_grpc_duration_seconds", Help: "Duration of gRPC request by phase", Labels: []string{"phase"}}
	grpcSSL      = &probe.Metric{Name: "probe_grpc_ssl", Help: "Indicates if SSL was used for the connection"}
	grpcStatus   = &probe.Metric{Name: "probe_grpc_status_code", Help: "Response gRPC status code"}
	grpcHealth   = &probe.Metric{Name: "probe_grpc_healthcheck_response", Help: "Response HealthCheck response", Labels: []string{"serving_status"}}
)

// phaseCheck is the phase of blackbox_exporter's grpc prober that asks.
var phaseCheck = []string{"check"}

func grpcMetrics() []*probe.Metric {
	return []*probe.Metric{grpcDuration, grpcSSL, grpcStatus, grpcHealth}
}

// Probe implements [probe.Prober].
func (p *GRPC) Probe(ctx context.Context, r probe.Request) probe.Result {
	found := probe.NewSamples()
	noteHealth(&found, codes.Unavailable, "")
	found.Set(grpcSSL, 0)
	found.Set(grpcDuration, 0, phaseCheck...)
	to, addrs, failed := p.Targets(ctx, probe.KindGRPC, p.port(), &r, grpcDuration, &found)
	if failed != nil {
		return *failed
	}
	start := time.Now()
	conn, failure := (&dial.Attempt{Target: addrs[0], Source: r.Source, Device: r.Device, Allow: r.Allow, Exchanges: true}).Connect(ctx)
	found.Set(grpcDuration, time.Since(start).Seconds(), probe.PhaseConnect.Labels()...)
	if failure != nil {
		result := failure.Result(addrs[0])
		result.Samples = found
		dial.NameOther(&result, addrs)
		return result
	}
	defer conn.Close()
	return p.talk(ctx, &r, to, conn, addrs[0], found)
}

func (p *GRPC) port() string {
	if p.TLS {
		return "443"
	}
	return "80"
}

// talk makes TLS and asks.
func (p *GRPC) talk(ctx context.Context, r *probe.Request, to probe.Address, conn net.Conn, peer netip.AddrPort, found probe.Samples) probe.Result {
	s := &session{
		Conversation: &Conversation{TLSConfig: p.tlsConfig}, conn: conn, serverName: serverName(r, to), peer: peer.Addr(),
		duration: grpcDuration, samples: found, log: r.Log, details: probe.DetailsOf(ctx), phase: probe.PhaseExchange,
	}
	err := p.secure(ctx, s)
	if err == nil {
		err = p.ask(ctx, r, to, s)
	}
	result := s.result(ctx, err)
	result.Peer, result.Samples = peer, s.samples
	return result
}

// secure makes the handshake, for as long as ctx allows.
func (p *GRPC) secure(ctx context.Context, s *session) error {
	if !p.TLS {
		return nil
	}
	raw := s.conn
	stop := bound(ctx, raw)
	defer func() {
		if stop() {
			_ = raw.SetDeadline(time.Time{})
		}
	}()
	if err := s.timed(probe.PhaseTLS, s.startTLS); err != nil {
		return err
	}
	if s.conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != protocolHTTP2 {
		return probe.TargetFault(probe.Protocol, errNoHTTP2)
	}
	s.samples.Set(grpcSSL, 1)
	return nil
}

func (p *GRPC) ask(ctx context.Context, r *probe.Request, to probe.Address, s *session) error {
	s.phase = probe.PhaseExchange
	authority := probe.ASCIIHost(r.Hostname)
	if authority == "" && p.TLS {
		authority = s.serverName
	} else if authority == "" {
		authority = net.JoinHostPort(to.Host, to.Port)
	}
	start := time.Now()
	state, code, err := p.check(ctx, &bounded{Conn: s.conn, left: maxHealthStream}, authority)
	s.samples.Set(grpcDuration, time.Since(start).Seconds(), phaseCheck...)
	noteHealth(&s.samples, code, state)
	return err
}

// tlsConfig is TLSConfig with the protocol that gRPC wants.
func (p *GRPC) tlsConfig(serverName string) (*tls.Config, error) {
	config := &tls.Config{}
	if p.TLSConfig != nil {
		given, err := p.TLSConfig(serverName)
		if err != nil {
			return nil, err
		}
		config = given.Clone()
	}
	config.NextProtos = []string{protocolHTTP2}
	return config, nil
}

// check asks on a connection, which it closes. The state is empty when none
// came; the code is that of the server, or the library's word for what kept one
// from coming.
func (p *GRPC) check(ctx context.Context, conn *bounded, authority string) (state string, code codes.Code, err error) {
	answered := &answerWatch{}
	client, err := grpc.NewClient("passthrough:///connected",
		grpc.WithContextDialer(conn.once),
		grpc.WithTransportCredentials(handshaken(conn.Conn)),
		grpc.WithAuthority(authority),
		grpc.WithStatsHandler(answered),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDisableHealthCheck(), grpc.WithDisableRetry(),
		grpc.WithIdleTimeout(0),
		grpc.WithMaxHeaderListSize(maxHealthHeaders),
		grpc.WithReadBufferSize(maxHealthAnswer), grpc.WithWriteBufferSize(maxHealthAnswer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxHealthAnswer)),
	)
	if err != nil {
		return "", codes.Internal, &probe.ConfigError{Err: err}
	}
	defer conn.closeBehind(ctx, client)
	outgoing := metadata.MD{}
	for key, values := range p.Metadata {
		outgoing.Append(key, values...) // in lower case, as HTTP/2 wants it
	}
	answer, err := grpc_health_v1.NewHealthClient(client).Check(metadata.NewOutgoingContext(ctx, outgoing),
		&grpc_health_v1.HealthCheckRequest{Service: p.Service})
	code = status.Code(err)
	switch {
	case err == nil && answer.GetStatus() == grpc_health_v1.HealthCheckResponse_SERVING:
		return answer.GetStatus().String(), code, nil
	case err == nil:
		return answer.GetStatus().String(), code, probe.TargetFault(probe.Status, fmt.Errorf("the service is %s", answer.GetStatus()))
	case code == codes.DeadlineExceeded:
		return "", code, fmt.Errorf("%w: %w", context.DeadlineExceeded, err) // whoever of the two notices first
	case answered.yes():
		return "", code, probe.TargetFault(probe.Status, err)
	case conn.failure() != nil:
		return "", code, conn.failure()
	case ctx.Err() != nil:
		return "", code, ctx.Err()
	}
	return "", code, probe.TargetFault(probe.Protocol, err)
}

// noteHealth notes the answer; the state is empty when there was none.
func noteHealth(found *probe.Samples, code codes.Code, state string) {
	found.Set(grpcStatus, float64(code))
	for i := range len(grpc_health_v1.HealthCheckResponse_ServingStatus_name) {
		name := grpc_health_v1.HealthCheckResponse_ServingStatus(i).String()
		found.Set(grpcHealth, number(name == state), name)
	}
}

// bounded is a connection that ends after so many bytes, lets the gRPC library
// set no deadline, and remembers why it failed: the library makes a text of it.
type bounded struct {
	net.Conn
	mu     sync.Mutex
	left   int
	dialed bool
	err    error
}

// once hands the connection out, a single time.
func (b *bounded) once(context.Context, string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dialed {
		return nil, errors.New("the only connection of this probe is gone")
	}
	b.dialed = true
	return b, nil
}

// closeBehind closes the client, which says goodbye first: not when time is over,
// and not for longer than there is time. While a call runs it is the call's
// context that ends it, so that the library can distinguish a timeout from a failure.
func (b *bounded) closeBehind(ctx context.Context, client *grpc.ClientConn) {
	until, _ := ctx.Deadline()
	if ctx.Err() != nil {
		until = time.Unix(1, 0)
	}
	_ = b.Conn.SetDeadline(until)
	_ = client.Close()
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left -= n; b.left < 0 && err == nil {
		n, err = 0, errTooLong
	}
	b.remember(err)
	return n, err
}

func (b *bounded) Write(p []byte) (int, error) {
	n, err := b.Conn.Write(p)
	last := err
	if err != nil {
		last = b.lastWord(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.remember(last)
	return n, err
}

// lastWordWait is how long a read may wait for what the server said before it ended
// the connection. It is there already.
const lastWordWait = time.Second

// lastWord returns why a connection ended on which a write failed: an alert of TLS
// may be waiting, which says more than the failure of the write.
func (b *bounded) lastWord(failed error) error {
	_ = b.Conn.SetReadDeadline(time.Now().Add(lastWordWait))
	_, err := b.Conn.Read(make([]byte, 1))
	if err == nil || dial.IsTimeout(err) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return failed
	}
	return err
}

// remember keeps the first error that is not our own closing.
func (b *bounded) remember(err error) {
	if b.err == nil && !errors.Is(err, net.ErrClosed) {
		b.err = err
	}
}

func (b *bounded) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (*bounded) SetDeadline(time.Time) error      { return nil }
func (*bounded) SetReadDeadline(time.Time) error  { return nil }
func (*bounded) SetWriteDeadline(time.Time) error { return nil }

// handshaken returns credentials for a connection on which the handshake, if
// there was to be one, is done.
func handshaken(conn net.Conn) credentials.TransportCredentials {
	if conn, ok := conn.(*tls.Conn); ok {
		return doneTLS{insecure.NewCredentials(), conn.ConnectionState()}
	}
	return insecure.NewCredentials()
}

type doneTLS struct {
	credentials.TransportCredentials
	state tls.ConnectionState
}

func (d doneTLS) ClientHandshake(_ context.Context, _ string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return conn, credentials.TLSInfo{State: d.state, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}, nil
}

func (d doneTLS) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (d doneTLS) Clone() credentials.TransportCredentials { return d }

// answerWatch notes whether the trailers of an answer came, and so whether a
// status is the server's own word.
type answerWatch struct {
	mu   sync.Mutex
	came bool
}

func (w *answerWatch) yes() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.came
}

// HandleRPC implements [stats.Handler].
func (w *answerWatch) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.InTrailer); ok {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.came = true
	}
}

// TagRPC implements [stats.Handler].
func (*answerWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements [stats.Handler].
func (*answerWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements [stats.Handler].
func (*answerWatch) HandleConn(context.Context, stats.ConnStats) {}
