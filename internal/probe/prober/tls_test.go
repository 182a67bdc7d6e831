package prober

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// underTLS makes a handshake as a server, and then serves.
func underTLS(config *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		conn := tls.Server(c, config)
		defer conn.Close()
		if conn.Handshake() == nil {
			serve(conn)
		}
	}
}

func serverConfig(c tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

func TestTLS(t *testing.T) {
	ca := newAuthority(t)
	soon, past := time.Now().Add(100*time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour).Truncate(time.Second)
	valid, expired := ca.issue(t, "name.example", soon), ca.issue(t, "name.example", past)
	other, own := ca.issue(t, "other.example", soon), porttest.SelfSigned(t, forName("name.example", soon))
	withClient := func(version uint16) *tls.Config {
		config := serverConfig(valid)
		config.ClientAuth, config.MaxVersion = tls.RequireAnyClientCert, version
		return config
	}
	old := serverConfig(valid)
	old.MaxVersion = tls.VersionTLS12
	insecure := func(name string) (*tls.Config, error) {
		return &tls.Config{ServerName: name, InsecureSkipVerify: true}, nil //nolint:gosec // what is tested
	}
	missing := func(string) (*tls.Config, error) {
		_, err := os.ReadFile("no such file")
		return nil, err
	}

	for _, tc := range []struct {
		name    string
		serve   func(net.Conn)
		config  func(string) (*tls.Config, error)
		expiry  time.Time // of the certificate that is exported; zero if none
		outcome probe.Outcome
		phase   probe.Phase
		version string // TLS version that is exported
	}{
		{"expired", underTLS(serverConfig(expired), hold), ca.trusting(), past, probe.TLSCertificate, probe.PhaseTLS, ""},
		{"of another name", underTLS(serverConfig(other), hold), ca.trusting(), soon, probe.TLSCertificate, probe.PhaseTLS, ""},
		{"self-signed", underTLS(serverConfig(own), hold), ca.trusting(), soon, probe.TLSCertificate, probe.PhaseTLS, ""},
		{"of an unknown authority", underTLS(serverConfig(valid), hold), nil, soon, probe.TLSCertificate, probe.PhaseTLS, ""},
		{"plain text", says("HTTP/1.1 400 Bad Request\r\n\r\n"), ca.trusting(), time.Time{}, probe.TLSHandshake, probe.PhaseTLS, ""},
		{"alert: no common version", underTLS(&tls.Config{MaxVersion: tls.VersionTLS10, Certificates: []tls.Certificate{valid}}, hold), ca.trusting(), time.Time{}, probe.TLSHandshake, probe.PhaseTLS, ""},
		{"wants a client certificate, TLS 1.2", underTLS(withClient(tls.VersionTLS12), hold), ca.trusting(), soon, probe.TLSHandshake, probe.PhaseTLS, ""},
		{"wants a client certificate, TLS 1.3", underTLS(withClient(tls.VersionTLS13), hold), ca.trusting(), soon, probe.TLSHandshake, probe.PhaseExchange, "TLS 1.3"},
		{"FIN", func(c net.Conn) { closeWrite(c); hold(c) }, ca.trusting(), time.Time{}, probe.Closed, probe.PhaseTLS, ""},
		{"FIN in the middle", func(c net.Conn) {
			_, _ = c.Read(make([]byte, 9))
			_, _ = io.WriteString(c, "\x16\x03\x03")
			closeWrite(c)
			hold(c)
		}, ca.trusting(), time.Time{}, probe.Closed, probe.PhaseTLS, ""},
		{"RST", func(c net.Conn) { _, _ = c.Read(make([]byte, 9)); reset(c) }, ca.trusting(), time.Time{}, probe.Reset, probe.PhaseTLS, ""},
		{"silence", hold, ca.trusting(), time.Time{}, probe.Timeout, probe.PhaseTLS, ""},
		{"missing file", underTLS(serverConfig(valid), hold), missing, time.Time{}, probe.LocalError, probe.PhaseTLS, ""},
		{"answer does not come", underTLS(serverConfig(valid), leaves("")), ca.trusting(), soon, probe.Closed, probe.PhaseExchange, "TLS 1.3"},

		{"valid", underTLS(serverConfig(valid), says("220 here\n")), ca.trusting(), soon, probe.Open, probe.PhaseNone, "TLS 1.3"},
		{"TLS 1.2", underTLS(old, says("220 here\n")), ca.trusting(), soon, probe.Open, probe.PhaseNone, "TLS 1.2"},
		{"expired, not verified", underTLS(serverConfig(expired), says("220 here\n")), insecure, past, probe.Open, probe.PhaseNone, "TLS 1.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			address := startServer(t, "tcp", "127.0.0.1:0", tc.serve)
			p := &TCP{Conversation: Conversation{TLS: true, TLSConfig: tc.config, Exchange: []Step{expect("^220")}}}
			m := probe.Module{Prober: p, Timeout: 5 * time.Second}
			if tc.outcome == probe.Timeout {
				m.Timeout = 300 * time.Millisecond
			}
			got := m.Probe(t.Context(), probe.Request{Address: address, Hostname: "name.example"})
			if got.Outcome != tc.outcome || got.Phase != tc.phase {
				t.Errorf("got %s in %q, want %s in %q: %v", got.Outcome, got.Phase, tc.outcome, tc.phase, got.Err)
			}
			if hinted := got.Err != nil && strings.Contains(got.Err.Error(), "hint: the server asks for a client certificate"); hinted != strings.HasPrefix(tc.name, "wants") {
				t.Errorf("hint there: %v: %v", hinted, got.Err)
			}
			expiry, ok := sample(got, "probe_ssl_earliest_cert_expiry")
			if ok == tc.expiry.IsZero() || ok && expiry != float64(tc.expiry.Unix()) {
				t.Errorf("expiry %v (there: %v), want %v", expiry, ok, tc.expiry.Unix())
			}
			if _, ok := sample(got, "probe_tls_version_info", tc.version); ok != (tc.version != "") {
				t.Errorf("version %q there: %v", tc.version, ok)
			}
		})
	}
}

// TestTLSWithoutSteps has servers that ask for a client certificate: one rejects who
// has none, after the handshake of TLS 1.3, the other does not.
func TestTLSWithoutSteps(t *testing.T) {
	ca := newAuthority(t)
	for name, want := range map[string]struct {
		asks    tls.ClientAuthType
		outcome probe.Outcome
	}{
		"requires one": {tls.RequireAnyClientCert, probe.TLSHandshake}, "asks for one": {tls.RequestClientCert, probe.Open}, "does not ask": {tls.NoClientCert, probe.Open},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
			config.ClientAuth = want.asks
			address := startServer(t, "tcp", "127.0.0.1:0", underTLS(config, hold))
			p := &TCP{Conversation: Conversation{TLS: true, TLSConfig: ca.trusting()}}
			m := probe.Module{Prober: p, Timeout: 20 * time.Second}
			got := m.Probe(t.Context(), probe.Request{Address: address, Hostname: "name.example"})
			if got.Outcome != want.outcome {
				t.Errorf("%s in %q: %v", got.Outcome, got.Phase, got.Err)
			}
			if rejected := got.Outcome == probe.TLSHandshake; rejected && (got.Phase != probe.PhaseTLS || !strings.Contains(got.Err.Error(), "hint: the server asks for a client certificate")) {
				t.Errorf("in %q: %v", got.Phase, got.Err)
			}
		})
	}
}

func closeWrite(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() }

func TestCertificateSamples(t *testing.T) {
	ca := newAuthority(t)
	certificate := ca.issue(t, "name.example", time.Now().Add(100*time.Hour))
	address := startServer(t, "tcp", "127.0.0.1:0", underTLS(serverConfig(certificate), hold))
	p := &TCP{Conversation: Conversation{TLS: true, TLSConfig: ca.trusting()}, CloseReset: true}
	got := p.Probe(t.Context(), probe.Request{Address: address}) // the certificate is for its address too
	if got.Outcome != probe.Open {
		t.Fatalf("%s: %v", got.Outcome, got.Err)
	}
	fingerprint := sha256.Sum256(certificate.Leaf.Raw)
	if v, ok := sample(got, "probe_ssl_last_chain_info", hex.EncodeToString(fingerprint[:]), "CN=name.example", "CN=Test Authority", "name.example", "0a0b"); !ok || v != 1 {
		t.Errorf("probe_ssl_last_chain_info: %v", got.Samples)
	}
	if v, _ := sample(got, "probe_ssl_last_chain_expiry_timestamp_seconds"); v != float64(certificate.Leaf.NotAfter.Unix()) {
		t.Errorf("probe_ssl_last_chain_expiry_timestamp_seconds %v", v)
	}
	if v, ok := sample(got, "probe_tcp_duration_seconds", "tls"); !ok || v <= 0 {
		t.Errorf("time of the handshake %v", v)
	}
	p.TLSConfig = func(string) (*tls.Config, error) { return &tls.Config{InsecureSkipVerify: true}, nil } //nolint:gosec // what is tested
	got = p.Probe(t.Context(), probe.Request{Address: address})
	if v, there := sample(got, "probe_ssl_last_chain_expiry_timestamp_seconds"); got.Outcome != probe.Open || there {
		t.Errorf("without verification, %s: no chain was verified, and its expiry is %v", got.Outcome, v)
	}
}

// slow is where something takes two seconds to write.
type slow struct{}

func (slow) Write(b []byte) (int, error) { time.Sleep(2 * time.Second); return len(b), nil }

// TestGoodbyeHasNoTimeOfItsOwn has the time of a probe end between the handshake,
// after which the peer reads nothing, and the goodbye: that has no more.
func TestGoodbyeHasNoTimeOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := newAuthority(t)
		config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
		config.SessionTicketsDisabled = true // the server would wait until they are read
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go func() { _ = tls.Server(theirs, config).Handshake() }()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		s := session{Conversation: &Conversation{TLS: true, TLSConfig: ca.trusting()}, conn: ours, serverName: "name.example", duration: tcpDuration, samples: probe.NewSamples()}
		s.log = slog.New(slog.NewTextHandler(slow{}, &slog.HandlerOptions{Level: slog.LevelDebug}))
		began, result := time.Now(), probe.Result{Outcome: probe.Open}
		s.run(ctx, &result)
		if took := time.Since(began); result.Outcome != probe.Open || took != 2*time.Second {
			t.Errorf("%s after %v: %v", result.Outcome, took, result.Err)
		}
	})
}

// TestStartTLS has an SMTP-like dialogue, in which the server says more before
// the handshake than it may: that must not count as said under TLS.
func TestStartTLS(t *testing.T) {
	ca := newAuthority(t)
	config := serverConfig(ca.issue(t, "name.example", time.Now().Add(100*time.Hour)))
	serve := func(injected string) func(net.Conn) {
		return func(c net.Conn) {
			lines := bufio.NewScanner(c)
			_, _ = io.WriteString(c, "220 name.example ESMTP\r\n")
			for lines.Scan() {
				switch strings.TrimSpace(lines.Text()) {
				case "EHLO prober":
					_, _ = io.WriteString(c, "250-name.example\r\n250-STARTTLS\r\n250 DSN\r\n")
				case "STARTTLS":
					_, _ = fmt.Fprintf(c, "220 go ahead\r\n%s", injected)
					underTLS(config, answers("250-AUTH\r\n"))(c)
					return
				}
			}
		}
	}
	dialogue := []Step{
		expect("^220.*ESMTP"), {Send: "EHLO prober"}, expect("^250-STARTTLS"), {Send: "STARTTLS"}, expect("^220"),
		{StartTLS: true}, {Send: "EHLO prober"}, expect("^250-(AUTH|INJECTED)"), {Send: "QUIT"},
	}
	for _, tc := range []struct {
		name     string
		injected string
		config   func(string) (*tls.Config, error)
		outcome  probe.Outcome
		phase    probe.Phase
	}{
		{"unknown authority", "", nil, probe.TLSCertificate, probe.PhaseTLS},
		{"no configuration", "", func(string) (*tls.Config, error) { return nil, errors.New("no such file") }, probe.LocalError, probe.PhaseTLS},
		{"said before the handshake", "250-INJECTED\r\n", ca.trusting(), probe.Open, probe.PhaseNone},
		{"as it should be", "", ca.trusting(), probe.Open, probe.PhaseNone},
	} {
		t.Run(tc.name, func(t *testing.T) {
			address := startServer(t, "tcp", "127.0.0.1:0", serve(tc.injected))
			steps := append([]Step(nil), dialogue...)
			if tc.injected != "" {
				steps[7] = Step{Expect: regexp.MustCompile("^250-(.*)"), Labels: []probe.Label{{Name: "said", Value: "$1"}}}
			}
			p := &TCP{Conversation: Conversation{TLSConfig: tc.config, Exchange: steps}}
			m := probe.Module{Prober: p}
			got := m.Probe(t.Context(), probe.Request{Address: address})
			if got.Outcome != tc.outcome || got.Phase != tc.phase {
				t.Errorf("got %s in %q, want %s in %q: %v", got.Outcome, got.Phase, tc.outcome, tc.phase, got.Err)
			}
			if tc.injected != "" {
				if _, ok := sample(got, "probe_expect_info", "AUTH"); !ok {
					t.Error("what was injected in plain text counts as said under TLS")
				}
			}
			for _, phase := range []string{"resolve", "connect", "tls", "exchange"} {
				if _, ok := sample(got, "probe_tcp_duration_seconds", phase); !ok {
					t.Errorf("no time of phase %s", phase)
				}
			}
		})
	}
}

func TestServerName(t *testing.T) {
	for _, tc := range []struct {
		name       string
		configured string
		request    probe.Request
		want       string
	}{
		{"the target's", "", probe.Request{Address: "host.example:443"}, "host.example"},
		{"an address", "", probe.Request{Address: "[2001:db8::1]:443"}, "2001:db8::1"},
		{"hostname", "", probe.Request{Address: "host.example:443", Hostname: "name.example"}, "name.example"},
		{"no ASCII", "", probe.Request{Address: "münchen.example:443"}, "xn--mnchen-3ya.example"},
		{"hostname that is no ASCII", "", probe.Request{Address: "192.0.2.1:443", Hostname: "münchen.example"}, "xn--mnchen-3ya.example"},
		{"the module's", "module.example", probe.Request{Address: "host.example:443", Hostname: "name.example"}, "module.example"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			to, err := probe.ParseAddress(probe.KindTCP, tc.request.Address)
			if err != nil {
				t.Fatal(err)
			}
			s := session{serverName: serverName(&tc.request, to), Conversation: &Conversation{TLSConfig: func(string) (*tls.Config, error) {
				return &tls.Config{ServerName: tc.configured}, nil
			}}}
			config, err := s.tlsConfig()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, config.ServerName); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	s := session{Conversation: &Conversation{}}
	if _, err := s.tlsConfig(); err == nil {
		t.Error("there is no name to verify, and no error")
	}
}
