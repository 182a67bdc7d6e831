package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/internal/cli"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

func TestProbeIsDeniedByDefault(t *testing.T) {
	base, _ := startDaemon(t)
	for path, want := range map[string]int{
		"/probe": 400, "/probe?target=127.0.0.1:1&module=nope": 400,
		"/probe?target=127.0.0.1:1&module=tcp_connect": 403, "/probe?target=name.invalid:1&module=tcp_connect&debug=true": 403,
		"/sd/probes": 200, "/logs?id=1": 404,
	} {
		if status, body := get(t, base+path); status != want {
			t.Errorf("%s: status %d, want %d: %s", path, status, want, body)
		}
	}
	if _, body := get(t, base+"/metrics"); !strings.Contains(body, "\nport_exporter_probes_in_flight 0\n") || strings.Contains(body, "port_exporter_probes_total{") {
		t.Error("something was probed")
	}
}

// TestExternalURLMeansAProxy: then nobody is known to be on this host.
func TestExternalURLMeansAProxy(t *testing.T) {
	base, _ := startDaemon(t, "--web.external-url=https://ports.example/")
	if status, body := get(t, base+"/logs?id=1"); status != 403 || !strings.Contains(body, "--web.external-url") {
		t.Errorf("status %d: %s", status, body)
	}
}

// TestReloadKeepsCounters replaces the configuration: the targets that stay keep
// their counters, and those that go take theirs along.
func TestReloadKeepsCounters(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yml")
	configure := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const stays, goes = `{address: "127.0.0.1:1", name: stays}`, `{address: "127.0.0.1:1", name: goes, hostname: a}`
	configure("targets: [" + stays + ", " + goes + "]\n")
	base, _ := startDaemon(t, "--config.file="+file, "--web.enable-lifecycle")
	get(t, base+"/metrics")
	get(t, base+"/metrics?collect[]=probes")
	configure("limits: {outbound_ports: 5}\ntargets: [" + stays + "]\n")
	if status, body := request(t, http.MethodPost, base+"/-/reload"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, body := get(t, base+"/metrics")
	const counter = `probe_results_total{module="tcp_connect",outcome="refused",target="127.0.0.1:1",target_name=`
	if !strings.Contains(body, counter+`"stays"} 3`) || strings.Contains(body, `"goes"`) {
		t.Errorf("after the reload:\n%s", body)
	}
	if !strings.Contains(body, `port_exporter_probes_total{outcome="refused",prober="tcp"} 4`) { // exported before the scrape runs
		t.Error("the exporter's own counter began anew")
	}
	configure("targets: []\n")
	request(t, http.MethodPost, base+"/-/reload")
	if _, body := get(t, base+"/metrics"); strings.Contains(body, "probe_results_total{") || strings.Contains(body, `collector="probes"`) {
		t.Error("without targets something is told of them")
	}
}

// TestNoCollectorNoProbes: without the collector a target with an interval is
// probed when somebody asks, and else never.
func TestNoCollectorNoProbes(t *testing.T) {
	const target = "127.0.0.1:1"
	file := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(file, []byte("targets: [{address: \""+target+"\", interval: 1s}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	count := regexp.MustCompile(`(?m)^port_exporter_probes_total{.*} (\d+)$`)
	probes := func(base string) int {
		_, body := get(t, base+"/metrics")
		n := 0
		if found := count.FindStringSubmatch(body); found != nil {
			n, _ = strconv.Atoi(found[1])
		}
		return n
	}
	with, _ := startDaemon(t, "--config.file="+file)
	without, _ := startDaemon(t, "--config.file="+file, "--no-collector.probes")
	porttest.Await(t, "two probes in the background", func() bool { return probes(with) >= 2 })
	if got := probes(without); got != 0 {
		t.Errorf("without the collector: %d probes", got)
	}
	if status, body := get(t, without+"/probe?module=tcp_connect&target="+target); status != 200 || !strings.Contains(body, "probe_outcome_code 1\n") {
		t.Errorf("on request: status %d: %s", status, body)
	}
}

// TestLabelsOfMetricsAreReserved keeps a target from having a label that a metric
// of probes has.
func TestLabelsOfMetricsAreReserved(t *testing.T) {
	for _, name := range collector.ReservedLabels() {
		_, err := config.Parse([]byte(`targets: [{address: "127.0.0.1:1", labels: {` + name + `: x}}]`))
		if err == nil {
			t.Errorf("a target may have the label %s", name)
		}
	}
}

// TestShutdownEndsProbes stops the program in the middle of a probe that would
// last half a minute: it ends immediately, and without an error.
func TestShutdownEndsProbes(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	file := filepath.Join(t.TempDir(), "c.yml")
	text := "modules: {slow: {prober: tcp, timeout: 30s, tcp: {query_response: [{expect: never}]}}}\n" +
		"targets: [{address: " + silent.Addr().String() + ", module: slow}]\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log := &porttest.Log{}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- cli.Run(ctx, []string{"--web.listen-address=127.0.0.1:0", "--config.file=" + file}, io.Discard, log)
	}()
	base := "http://" + awaitAddress(t, log)
	answered := make(chan string, 1)
	go func() {
		response, err := http.Get(base + "/probe?module=slow&target=" + silent.Addr().String())
		if err != nil {
			answered <- err.Error()
			return
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		answered <- string(body)
	}()
	conn, err := silent.Accept() // the probe is under way
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	start := time.Now()
	cancel()
	if err := <-done; err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("it ended after %v: %v", time.Since(start), err)
	}
	if body := <-answered; !strings.Contains(body, "\nprobe_outcome_code 18\n") || strings.Contains(body, "\nprobe_success ") {
		t.Errorf("the client was not told not_run:\n%s", body)
	}
}

// TestHostnameChoosesNoCertificate has a server with a certificate for another name, as
// whoever can redirect packets has, and a module with a password. The parameter
// hostname does not make that name the right one.
func TestHostnameChoosesNoCertificate(t *testing.T) {
	authority := porttest.NewAuthority(t)
	for _, prober := range []string{"http", "tcp", "grpc"} {
		var requests atomic.Int32
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
		server.TLS = &tls.Config{Certificates: []tls.Certificate{authority.Issue(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = []string{"evil.test"}, nil })}}
		server.EnableHTTP2 = true
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.StartTLS()
		t.Cleanup(server.Close)
		dir := t.TempDir()
		ca := porttest.WritePEM(t, filepath.Join(dir, "ca.pem"), tls.Certificate{Certificate: [][]byte{authority.Certificate.Raw}})
		trust := "tls_config: {ca_file: " + ca + "}"
		target, module := strings.TrimPrefix(server.URL, "https://"), map[string]string{
			"http": "{prober: http, http: {basic_auth: {username: u, password: secret}, " + trust + "}}",
			"tcp":  "{prober: tcp, tcp: {tls: true, " + trust + ", query_response: [{send: 'AUTH secret'}]}}",
			"grpc": "{prober: grpc, grpc: {tls: true, metadata: {authorization: [secret]}, " + trust + "}}",
		}[prober]
		if prober == "http" {
			target = server.URL + "/"
		}
		file := filepath.Join(dir, "c.yml")
		if err := os.WriteFile(file, []byte("modules: {m: "+module+"}\ntargets: [{address: '"+target+"', module: m, interval: 10h}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		base, _ := startDaemon(t, "--config.file="+file)
		asked := base + "/probe?module=m&target=" + url.QueryEscape(target)
		if status, body := get(t, asked); status != 200 || !strings.Contains(body, `reason="tls_certificate"`) {
			t.Errorf("%s: without a hostname: %d %s", prober, status, body)
		}
		if status, body := get(t, asked+"&hostname=evil.test"); status != 403 {
			t.Errorf("%s: with the hostname of the certificate: %d %s", prober, status, body)
		}
		if n := requests.Load(); n != 0 {
			t.Errorf("%s: %d requests came through", prober, n)
		}
	}
}
