package blackbox_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	upstream "github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/blackbox"
	"github.com/port-exporter/port_exporter/internal/files"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

func probeWith(t *testing.T, m blackbox.Module, r probe.Request) probe.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return newProber(t, m).Probe(ctx, r)
}

// TestSamplesAreThoseOfBlackbox runs the prober bare and in here: families,
// labels, helps and types are the same, and values that do not depend on the
// time.
func TestSamplesAreThoseOfBlackbox(t *testing.T) {
	s := newSite(t)
	server := nameServer(t, records(0, address))
	for _, tt := range []struct {
		kind, settings, target string
		run                    upstream.ProbeFn
	}{
		{probe.KindHTTP, "", web(t, withBody("hello")), upstream.ProbeHTTP},
		{probe.KindHTTP, "", web(t, redirecting(web(t, withStatus(404)))), upstream.ProbeHTTP},
		{probe.KindHTTP, "", secureWeb(t, withCertificate(s.valid)), upstream.ProbeHTTP},
		{probe.KindHTTP, "", closedPort, upstream.ProbeHTTP},
		{probe.KindHTTP, `{fail_if_body_json_matches_cel: "body.a == 1"}`, web(t, withBody(`{"a": 1}`)), upstream.ProbeHTTP},
		{probe.KindHTTP, "{preferred_ip_protocol: ip6, ip_protocol_fallback: false}", "127.0.0.1", upstream.ProbeHTTP},
		{probe.KindDNS, ask, server, upstream.ProbeDNS},
		{probe.KindDNS, "{query_name: www.test, query_type: SOA}", server, upstream.ProbeDNS},
		{probe.KindDNS, ask, closedPort, upstream.ProbeDNS},
		{probe.KindDNS, query(", ip_protocol_fallback: false"), "127.0.0.1", upstream.ProbeDNS},
		{probe.KindICMP, "", "127.0.0.1", upstream.ProbeICMP},
		{probe.KindICMP, "{ip_protocol_fallback: false}", "127.0.0.1", upstream.ProbeICMP},
	} {
		t.Run(tt.kind+" "+tt.target, func(t *testing.T) {
			m := parseModule(t, tt.kind, tt.settings)
			m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
			registry := prometheus.NewRegistry()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			success := tt.run(ctx, tt.target, m, registry, slog.New(slog.DiscardHandler))
			r := probeWith(t, m, probe.Request{Address: tt.target})
			if success != (r.Outcome == probe.Open) {
				t.Errorf("blackbox says %v, we say %v: %v", success, r.Outcome, r.Err)
			}
			if diff := cmp.Diff(described2(t, registry), describedSamples(r)); diff != "" {
				t.Errorf("samples (-blackbox +ours):\n%s", diff)
			}
		})
	}
}

func described2(t *testing.T, registry *prometheus.Registry) []string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, f := range families {
		if f.GetType() != dto.MetricType_GAUGE {
			t.Errorf("%s is a %v, and only gauges are passed on", f.GetName(), f.GetType())
		}
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetName() + "=" + l.GetValue() + ","
			}
			out = append(out, sampleText(f.GetName(), labels, f.GetHelp(), m.GetGauge().GetValue()))
		}
	}
	slices.Sort(out)
	return out
}

func describedSamples(r probe.Result) []string {
	var out []string
	for _, s := range r.Samples {
		if s.Metric.Name == "probe_http_failed_expectation_info" { // ours
			continue
		}
		var labels []string
		for i, name := range s.Metric.Labels {
			labels = append(labels, name+"="+s.Labels[i]+",")
		}
		slices.Sort(labels)
		out = append(out, sampleText(s.Metric.Name, strings.Join(labels, ""), s.Metric.Help, s.Value))
	}
	slices.Sort(out)
	return out
}

// sampleText leaves out what changes from one probe to the next.
func sampleText(name, labels, help string, value float64) string {
	if strings.HasSuffix(name, "_seconds") && !strings.HasSuffix(name, "_timestamp_seconds") {
		return fmt.Sprintf("%s{%s} %s", name, labels, help)
	}
	return fmt.Sprintf("%s{%s} %v %s", name, labels, value, help)
}

func TestHostname(t *testing.T) {
	s := newSite(t)
	var host, name string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		host, name = r.Host, r.TLS.ServerName
	}))
	server.TLS = withCertificate(s.valid)
	server.StartTLS()
	t.Cleanup(server.Close)
	for _, settings := range []string{"", "{headers: {host: server.test}}", "{headers: {X-Other: x}}"} {
		m := parseModule(t, probe.KindHTTP, settings)
		m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
		before := len(m.HTTP.Headers)
		if r := probeWith(t, m, probe.Request{Address: server.URL, Hostname: "server.test"}); r.Outcome != probe.Open {
			t.Errorf("%s: %v: %v", settings, r.Outcome, r.Err)
		}
		if host != "server.test" || name != "server.test" {
			t.Errorf("%s: Host %q, server name %q", settings, host, name)
		}
		if len(m.HTTP.Headers) != before {
			t.Errorf("%s: the module was changed: %v", settings, m.HTTP.Headers)
		}
	}
	p := newProber(t, parseModule(t, probe.KindHTTP, "{headers: {host: one.test}}")).(*prober.HTTP)
	var conflict *prober.HostError
	if err := p.CheckHostname("other.test"); !errors.As(err, &conflict) || conflict.Configured != "one.test" {
		t.Errorf("two hosts: %v", err)
	}
	if err := p.CheckHostname(""); err != nil {
		t.Error(err)
	}
}

// TestRequestIsBare shows that the relay is not to be seen in what the server
// gets, nor in the metrics.
func TestRequestIsBare(t *testing.T) {
	var got string
	url := web(t, func(w http.ResponseWriter, r *http.Request) {
		got = fmt.Sprintf("%s %s %s %v", r.Method, r.RequestURI, r.Host, r.Header)
		io.WriteString(w, "x")
	})
	r := probeWith(t, parseModule(t, probe.KindHTTP, ""), probe.Request{Address: url + "/path?a=b"})
	want := fmt.Sprintf("GET /path?a=b %s map[Connection:[close] User-Agent:[Blackbox-Exporter/]]", strings.TrimPrefix(url, "http://"))
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if r.Peer.String() != strings.TrimPrefix(url, "http://") {
		t.Errorf("the peer is %v, want %s", r.Peer, url)
	}
}

// TestConnectTime has a TLS server behind a slow look-up of its name: what the
// relay took to connect counts as connecting, as it would without it.
func TestConnectTime(t *testing.T) {
	s := newSite(t)
	m := parseModule(t, probe.KindHTTP, "")
	m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
	r := probeWith(t, m, probe.Request{Address: secureWeb(t, withCertificate(s.valid))})
	got := byName(r)
	connect, handshake := got["probe_http_duration_seconds{connect}"], got["probe_http_duration_seconds{tls}"]
	if connect <= 0 || handshake <= 0 || connect > 1 || handshake > 1 {
		t.Errorf("connect %v, tls %v", connect, handshake)
	}
}

func TestGoAwayIsBounded(t *testing.T) {
	s := newSite(t)
	url, connections := http2Server(t, s.valid, goAway)
	m := parseModule(t, probe.KindHTTP, "")
	m.HTTP.HTTPClientConfig.TLSConfig.CAFile = s.file
	start := time.Now()
	r := probeWith(t, m, probe.Request{Address: url})
	if n := connections.Load(); n > 12 {
		t.Errorf("it made %d connections", n)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	if r.Outcome != probe.Closed {
		t.Errorf("%v: %v", r.Outcome, r.Err)
	}
}

// TestCancelled has who asked go away: that says nothing of the target.
func TestCancelled(t *testing.T) {
	for kind, settings := range map[string]string{probe.KindHTTP: "", probe.KindDNS: askTCP} {
		m := parseModule(t, kind, settings)
		ctx, cancel := context.WithCancel(t.Context())
		target := accept(t, silent)
		time.AfterFunc(100*time.Millisecond, cancel)
		start := time.Now()
		r := newProber(t, m).Probe(ctx, probe.Request{Address: target})
		if took := time.Since(start); took > probe.DefaultTimeout-time.Second || r.Outcome != probe.NotRun {
			t.Errorf("%s: %v after %v: %v", kind, r.Outcome, took, r.Err)
		}
	}
}

// TestLog has what the prober logs come to who wants to read it.
func TestLog(t *testing.T) {
	var text strings.Builder
	log := slog.New(slog.NewTextHandler(&text, &slog.HandlerOptions{Level: slog.LevelDebug})).With("target", "t")
	probeWith(t, parseModule(t, probe.KindHTTP, ""), probe.Request{Address: web(t, withStatus(404)), Log: log})
	for _, want := range []string{"level=DEBUG", "level=ERROR", "target=t", "status_code=404"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log lacks %s:\n%s", want, text.String())
		}
	}
}

func TestNew(t *testing.T) {
	for _, kind := range []string{"", "tcp", "unix", "grpc", "HTTP"} {
		if _, err := blackbox.New(blackbox.Module{Prober: kind}, files.NewReader()); err == nil {
			t.Errorf("%q was accepted", kind)
		}
	}
}

// TestDescriptors probes what hangs, often, and looks at what is left open.
func TestDescriptors(t *testing.T) {
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("SKIP-PROC: no /proc/self/fd here")
		}
		return len(entries)
	}
	s := newSite(t)
	targets := []string{"http://" + accept(t, silent), "https://" + accept(t, silent), "http://" + closedPort, secureWeb(t, &tls.Config{Certificates: []tls.Certificate{s.valid}})}
	p := newProber(t, parseModule(t, probe.KindHTTP, ""))
	round := func() {
		for _, target := range targets {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
			p.Probe(ctx, probe.Request{Address: target})
			cancel()
		}
	}
	round()
	settle(t)
	before := count()
	for range 50 {
		round()
	}
	settle(t)
	for range 100 {
		if count() <= before+8 { // what the servers of the test have not closed yet
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("%d descriptors before, %d after 200 probes", before, count())
}
