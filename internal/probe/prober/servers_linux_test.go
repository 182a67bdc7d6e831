package prober

import (
	"crypto/tls"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestServersInNamespace probes real servers.
func TestServersInNamespace(t *testing.T) {
	t.Parallel()
	porttest.Namespace(t)
	ca := newAuthority(t)
	dir := t.TempDir()
	soon, past := time.Now().Add(100*time.Hour).Truncate(time.Second), time.Now().Add(-time.Hour).Truncate(time.Second)
	var blocks strings.Builder
	for port, c := range map[string]tls.Certificate{
		"8443": ca.issue(t, "name.example", soon),
		"8444": ca.issue(t, "name.example", past),
		"8445": ca.issue(t, "other.example", soon),
		"8446": porttest.SelfSigned(t, forName("name.example", soon)),
	} {
		pem := porttest.WritePEM(t, filepath.Join(dir, port), c)
		fmt.Fprintf(&blocks, "server { listen 127.0.0.1:%s ssl; ssl_certificate %[2]s; ssl_certificate_key %[2]s; location / { return 200; } }\n", port, pem)
	}
	porttest.Nginx(t, dir, blocks.String())
	redis := porttest.Redis(t)
	certificate := ca.issue(t, "name.example", soon)
	porttest.Postgres(t, &certificate)
	porttest.AwaitListening(t, "127.0.0.1:8443", "127.0.0.1:8444", "127.0.0.1:8445", "127.0.0.1:8446", "127.0.0.1:6379", "127.0.0.1:5432", redis)

	var (
		none     = Conversation{}
		http     = Conversation{TLS: true, TLSConfig: ca.trusting(), Exchange: []Step{{Send: "GET / HTTP/1.0\r\nHost: name.example\r\n\r"}, expect("^HTTP/1.1 200 ")}}
		ping     = Conversation{Exchange: []Step{{Send: "PING"}, expect(`^\+PONG$`)}}
		authWant = Conversation{Exchange: []Step{{Send: "PING"}, expect("^-NOAUTH"), {Send: "QUIT"}}}
		// SSLRequest of the PostgreSQL protocol: length 8, code 80877103.
		request  = Step{SendBytes: []byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}}
		postgres = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{request, {ExpectBytes: []byte("S")}, {StartTLS: true}}}
		asLine   = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{{Send: string(request.SendBytes)}, {ExpectBytes: []byte("S")}, {StartTLS: true}}}
		distrust = Conversation{Exchange: postgres.Exchange}
		refusing = Conversation{TLSConfig: ca.trusting(), Exchange: []Step{request, {ExpectBytes: []byte("N")}}}
	)
	for _, tc := range []struct {
		name    string
		prober  probe.Prober
		address string
		outcome probe.Outcome
		phase   probe.Phase
		expiry  time.Time // zero if no certificate is exported
	}{
		{"nginx", &TCP{Conversation: http}, "127.0.0.1:8443", probe.Open, probe.PhaseNone, soon},
		{"nginx, expired", &TCP{Conversation: http}, "127.0.0.1:8444", probe.TLSCertificate, probe.PhaseTLS, past},
		{"nginx, of another name", &TCP{Conversation: http}, "127.0.0.1:8445", probe.TLSCertificate, probe.PhaseTLS, soon},
		{"nginx, self-signed", &TCP{Conversation: http}, "127.0.0.1:8446", probe.TLSCertificate, probe.PhaseTLS, soon},
		{"nginx, plain text", &TCP{Conversation: ping}, "127.0.0.1:8443", probe.Mismatch, probe.PhaseExchange, time.Time{}},
		{"nginx, connect", &TCP{Conversation: none}, "127.0.0.1:8443", probe.Open, probe.PhaseNone, time.Time{}},
		{"redis", &TCP{Conversation: ping, CloseReset: true}, "127.0.0.1:6379", probe.Open, probe.PhaseNone, time.Time{}},
		{"redis, something else expected", &TCP{Conversation: authWant}, "127.0.0.1:6379", probe.Mismatch, probe.PhaseExchange, time.Time{}},
		{"redis, unix", &Unix{Conversation: ping}, redis, probe.Open, probe.PhaseNone, time.Time{}},
		{"PostgreSQL", &TCP{Conversation: postgres}, "127.0.0.1:5432", probe.Open, probe.PhaseNone, soon},
		{"PostgreSQL, as blackbox.yml has it", &TCP{Conversation: asLine}, "127.0.0.1:5432", probe.Open, probe.PhaseNone, soon},
		{"PostgreSQL, unknown authority", &TCP{Conversation: distrust}, "127.0.0.1:5432", probe.TLSCertificate, probe.PhaseTLS, soon},
		{"PostgreSQL, no TLS expected", &TCP{Conversation: refusing}, "127.0.0.1:5432", probe.Mismatch, probe.PhaseExchange, time.Time{}},
		{"nobody", &TCP{}, "127.0.0.1:1", probe.Refused, probe.PhaseConnect, time.Time{}},
	} {
		// No subtest: the namespace is that of this thread.
		m := probe.Module{Prober: tc.prober, Timeout: 10 * time.Second}
		if tc.outcome == probe.Timeout {
			m.Timeout = time.Second
		}
		got := m.Probe(t.Context(), probe.Request{Address: tc.address, Hostname: "name.example"})
		if got.Outcome != tc.outcome || got.Phase != tc.phase {
			t.Errorf("%s: got %s in %q, want %s in %q: %v", tc.name, got.Outcome, got.Phase, tc.outcome, tc.phase, got.Err)
		}
		expiry, ok := sample(got, "probe_ssl_earliest_cert_expiry")
		if ok == tc.expiry.IsZero() || ok && expiry != float64(tc.expiry.Unix()) {
			t.Errorf("%s: expiry %v (there: %v), want %v", tc.name, expiry, ok, tc.expiry.Unix())
		}
	}
}
