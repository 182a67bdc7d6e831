package probetest_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"github.com/pion/stun/v3"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// write writes a configuration file.
func write(t *testing.T, format string, args ...any) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "port_exporter.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, format, args...), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// send sends a scrape with the timeout that Prometheus would send, on the
// test's own goroutine, and returns what reads the answer.
func send(t *testing.T, path, timeout string) (answer func() string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", porttest.ScrapeAddress, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	r, err := http.NewRequest(http.MethodGet, "http://"+porttest.ScrapeAddress+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", timeout)
	if err := r.Write(conn); err != nil {
		t.Fatal(err)
	}
	return func() string {
		response, err := http.ReadResponse(bufio.NewReader(conn), r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("status %d, %v: %s", response.StatusCode, err, body)
		}
		return string(body)
	}
}

// samplesOf returns the samples of families in an exposition, by series.
func samplesOf(t *testing.T, body string, families ...string) map[string]float64 {
	t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		if !slices.Contains(families, name) {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		samples[line[:at]] = value
	}
	return samples
}

// accept serves every connection of a listener that is of the test's namespace.
func accept(t *testing.T, address string, serve func(net.Conn)) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	porttest.Serve(t, l, serve)
	return l
}

// servers are one of each kind on loopback.
func servers(t *testing.T) (socketPath string) {
	t.Helper()
	accept(t, "127.0.0.1:1001", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	accept(t, "127.0.0.1:1002", func(c net.Conn) { fmt.Fprint(c, "SSH-2.0-test\r\n"); _, _ = io.Copy(io.Discard, c) })
	l, err := net.Listen("tcp", "127.0.0.1:1003")
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/broken" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})}
	t.Cleanup(func() { web.Close() })
	go func() { _ = web.Serve(l) }()

	pc, err := net.ListenPacket("udp", "127.0.0.1:1053")
	if err != nil {
		t.Fatal(err)
	}
	name := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.NS{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: "a.example."}}
		_ = w.WriteMsg(m)
	})}
	t.Cleanup(func() { _ = name.Shutdown() })
	go func() { _ = name.ActivateAndServe() }()
	serveSTUN(t, "127.0.0.1:1478")

	dir, err := os.MkdirTemp("", "pe") //nolint:usetesting // the path of a socket has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socketPath = filepath.Join(dir, "s")
	u, err := net.Listen("unix", socketPath)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return socketPath
}

// serveSTUN answers binding requests.
func serveSTUN(t *testing.T, address string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			m := &stun.Message{Raw: slices.Clone(b[:n])}
			if m.Decode() != nil {
				continue
			}
			at := from.(*net.UDPAddr)
			reply, err := stun.Build(stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess, &stun.XORMappedAddress{IP: at.IP, Port: at.Port}, stun.Fingerprint)
			if err == nil {
				_, _ = pc.WriteTo(reply.Raw, from)
			}
		}
	}()
}

// TestProbesInNamespace probes targets of every kind and every fate, and holds
// what is said of them to what is there.
func TestProbesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "eth7", "192.0.2.9")
	path := servers(t)
	porttest.Listen(t, "127.0.0.1:1004", 0)
	porttest.DialFrom(t, "127.0.0.9:40008", "127.0.0.1:1004") // its queue is full now
	porttest.Listen(t, "10.9.9.9:1005", 5, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1) })
	porttest.Listen(t, "0.0.0.0:1006", 5, porttest.BindToDevice("eth7"))

	file := write(t, `
modules:
  quick: {prober: tcp, timeout: 1s}
  must_be_closed: {prober: tcp, expect_outcome: refused}
targets:
  - {address: "127.0.0.1:1001", name: open, labels: {team: x}}
  - {address: "127.0.0.1:1002", module: ssh_banner, name: banner}
  - {address: "127.0.0.1:1003", module: ssh_banner, name: silent_banner}
  - {address: "http://127.0.0.1:1003/", name: web}
  - {address: "http://127.0.0.1:1003/broken", name: broken_web}
  - {address: "127.0.0.1:1053", module: dns_udp, name: names}
  - {address: "127.0.0.1:1478", module: stun, name: nat}
  - {address: "127.0.0.1", module: icmp, name: ping}
  - {address: %q, name: unix}
  - {address: "127.0.0.1:1009", name: refused}
  - {address: "192.0.2.1:1001", name: loopback_only}
  - {address: "192.0.2.1:1005", name: other_address}
  - {address: "192.0.2.1:1006", name: device}
  - {address: "127.0.0.1:1006", name: not_the_device}
  - {address: "127.0.0.1:1004", module: quick, name: queue_full}
  - {address: "192.0.2.9:80", module: quick, name: filtered}
  - {address: "127.0.0.1:1009", module: must_be_closed, name: closed}
  - {address: "127.0.0.1:1001", module: must_be_closed, name: not_closed}
  - {address: "127.0.0.1:1002", name: background, interval: 1s}
`, path)
	porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	started := time.Now()
	body := send(t, "/metrics", "10")()
	if took := time.Since(started); took > 9*time.Second {
		t.Errorf("the scrape took %v", took)
	}
	reasons, fine := map[string]string{}, map[string]float64{}
	named := regexp.MustCompile(`target_name="([^"]*)"`)
	for series := range samplesOf(t, body, "probe_failure_info") {
		m := regexp.MustCompile(`origin="(\w+)",phase="(\w*)",place="\w*",reason="(\w+)"`).FindStringSubmatch(series)
		reasons[named.FindStringSubmatch(series)[1]] = strings.Join(m[1:], " ")
	}
	for series, value := range samplesOf(t, body, "probe_success") {
		fine[named.FindStringSubmatch(series)[1]] = value
	}
	if diff := cmp.Diff(map[string]string{
		"silent_banner":  "none exchange timeout",
		"broken_web":     "target exchange status",
		"refused":        "target connect refused",
		"loopback_only":  "target connect refused",
		"other_address":  "target connect refused",
		"not_the_device": "target connect refused",
		"queue_full":     "none connect timeout",
		"filtered":       "none connect timeout",
		"not_closed":     "none  open",
	}, reasons); diff != "" {
		t.Errorf("failures (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]float64{
		"open": 1, "banner": 1, "web": 1, "names": 1, "nat": 1, "ping": 1, "unix": 1, "device": 1, "closed": 1, "background": 1,
		"silent_banner": 0, "broken_web": 0, "refused": 0, "loopback_only": 0, "other_address": 0, "not_the_device": 0, "queue_full": 0, "filtered": 0, "not_closed": 0,
	}, fine); diff != "" {
		t.Errorf("success (-want +got):\n%s", diff)
	}
	if !strings.Contains(body, `probe_success{module="tcp_connect",target="127.0.0.1:1001",target_name="open",team="x"} 1`) {
		t.Error("the target's own label is not there")
	}

	own := map[string]string{}
	for series := range samplesOf(t, body, "probe_local_listener_info") {
		own[named.FindStringSubmatch(series)[1]] = regexp.MustCompile(`state="(\w+)"`).FindStringSubmatch(series)[1]
	}
	for series, value := range samplesOf(t, body, "probe_local_listener") {
		scope := regexp.MustCompile(`scope="(\w*)"`).FindStringSubmatch(series)[1]
		own[named.FindStringSubmatch(series)[1]] += fmt.Sprintf(" %s %v", scope, value)
	}
	listens := "listening loopback 1"
	if diff := cmp.Diff(map[string]string{
		"open": listens, "banner": listens, "silent_banner": listens, "web": listens, "broken_web": listens, "not_closed": listens, "nat": listens, "background": listens,
		"device": "listening any 1", "refused": "not_listening  0", "closed": "not_listening  0", "loopback_only": "loopback_only loopback 0",
		"other_address": "other_address private 0", "not_the_device": "other_address any 0", "queue_full": "queue_full loopback 1",
	}, own); diff != "" {
		t.Errorf("own listeners (-want +got):\n%s", diff)
	}
	for _, name := range []string{"sockets", "listeners", "connections", "probes"} {
		if want := fmt.Sprintf("port_scrape_collector_success{collector=%q} 1\n", name); !strings.Contains(body, want) {
			t.Errorf("lacks %s", want)
		}
	}

	time.Sleep(2100 * time.Millisecond)
	body = send(t, "/metrics?collect[]=probes", "10")()
	age := samplesOf(t, body, "probe_age_seconds")
	if len(age) != 1 || slices.Collect(maps.Values(age))[0] > 3 { // the two scrapes took ten seconds
		t.Errorf("the age of what is probed each second: %v", age)
	}
	if !strings.Contains(body, `probe_success{module="tcp_connect",target="127.0.0.1:1002",target_name="background"} 1`) {
		t.Error("no result from the background")
	}
	if n := samplesOf(t, body, "probe_results_total")[`probe_results_total{module="tcp_connect",outcome="refused",target="127.0.0.1:1009",target_name="refused"}`]; n != 2 {
		t.Errorf("counted %v refusals after two scrapes", n)
	}
	if n := samplesOf(t, body, "port_exporter_probes_total")[`port_exporter_probes_total{outcome="status",prober="http"}`]; n != 1 {
		t.Errorf("counted %v probes of http with a status before this scrape", n)
	}

	// On request, as configured, and nothing else.
	if status, text := porttest.Get(t, porttest.ScrapeAddress, "/probe?module=http_2xx&target=http://127.0.0.1:1003/broken"); status != 200 ||
		!strings.Contains(text, "\nprobe_success 0\n") || !strings.Contains(text, "\nprobe_http_status_code 503\n") || !strings.Contains(text, "\nprobe_outcome_code 13\n") {
		t.Errorf("a configured target: %d\n%s", status, text)
	}
	for target, want := range map[string]int{
		"/probe?target=127.0.0.1:1001&module=ssh_banner": 403, "/probe?target=127.0.0.1:1003": 403, "/probe?module=icmp&target=127.0.0.2": 403,
		"/probe?module=unix_connect&target=/run/other": 403, "/probe": 400, "/probe?target=a:1&module=nope": 400,
	} {
		if status, text := porttest.Get(t, porttest.ScrapeAddress, target); status != want {
			t.Errorf("%s: status %d, want %d: %s", target, status, want, text)
		}
	}
	if status, page := porttest.Get(t, porttest.ScrapeAddress, "/"); status != 200 || !strings.Contains(page, ">refused</a>") || !strings.Contains(page, "127.0.0.1:1009 refuses: nothing listens on tcp port 1009 of this host.") || !strings.Contains(page, `href="/logs"`) {
		t.Errorf("the page has no probes: %d\n%s", status, page)
	}
	status, text := porttest.Get(t, porttest.ScrapeAddress, "/probe?module=tcp_connect&debug=true&target=192.0.2.1:1001")
	if status != 200 || !strings.Contains(text, "nothing listens on tcp 192.0.2.1:1001; a listener on 127.0.0.1:1001 is loopback only.") {
		t.Errorf("details: %d\n%s", status, text)
	}

	// check, by name of the module.
	for args, want := range map[string]int{"127.0.0.1:1001": 0, "127.0.0.1:1009": 1, "192.0.2.9:80 --timeout=300ms": 1, "127.0.0.1:1009 --module=must_be_closed": 0} {
		status, out, errs := command(t, append([]string{"--config.file=" + file, "check"}, strings.Fields(args)...)...)
		if status != want || out == "" {
			t.Errorf("check %s: status %d, want %d\n%s%s", args, status, want, out, errs)
		}
	}
}

// TestTwoScrapesShareARunInNamespace has concurrent scrapes of two Prometheus servers.
func TestTwoScrapesShareARunInNamespace(t *testing.T) {
	porttest.Namespace(t)
	var connections atomic.Int64
	accept(t, "127.0.0.1:1001", func(c net.Conn) {
		connections.Add(1)
		time.Sleep(2 * time.Second) // the second scrape comes meanwhile, on a slow machine too
		fmt.Fprint(c, "SSH-2.0-slow\r\n")
	})
	porttest.StartDaemon(t, "port_exporter", "--config.file="+write(t, `targets: [{address: "127.0.0.1:1001", module: ssh_banner}]`))
	send(t, "/metrics?collect[]=listeners", "5")() // it is up
	first := send(t, "/metrics", "20")             // a quarter of it, 5 s, is how far apart they may begin
	second := send(t, "/metrics", "20")
	for _, body := range []string{first(), second()} {
		if !strings.Contains(body, `probe_success{module="ssh_banner",target="127.0.0.1:1001",target_name=""} 1`) {
			t.Error("a scrape without a result")
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections for two scrapes at once", n)
	}
}

// TestTenThousandDroppedTargetsInNamespace has a network that swallows
// everything, and targets that would answer behind it in the queue.
func TestTenThousandDroppedTargetsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "eth7", "192.0.2.9")
	accept(t, "127.0.0.1:1001", func(net.Conn) {})
	var text strings.Builder
	text.WriteString("modules: {quick: {prober: tcp, timeout: 1s}}\ntargets:\n")
	for port := range 10_000 {
		fmt.Fprintf(&text, "- {address: \"192.0.2.9:%d\", module: quick}\n", port+1)
	}
	text.WriteString("- {address: \"127.0.0.1:1001\"}\n")
	// The race detector takes a second for ten thousand targets, and two where
	// other packages are tested at the same time.
	porttest.StartDaemon(t, "port_exporter", "--timeout-offset=2500ms", "--config.file="+write(t, "%s", &text))

	var body string
	for range 2 { // what leaks would add up
		began := time.Now()
		body = send(t, "/metrics", "10")()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("a scrape took %v, and Prometheus waits for 10 s", took)
		}
	}
	codes := map[float64]int{}
	for _, code := range samplesOf(t, body, "probe_outcome_code") {
		codes[code]++
	}
	success := samplesOf(t, body, "probe_success")
	if codes[2]+codes[18] != 10_001 || codes[2] < 128 || codes[2] > 8*128 || len(success) != codes[2] {
		t.Errorf("outcomes by code: %v; %d have a success", codes, len(success))
	}
	// A target counts as silent only after all of its module's time.
	for series, seconds := range samplesOf(t, body, "probe_duration_seconds") {
		if _, told := success[strings.Replace(series, "probe_duration_seconds", "probe_success", 1)]; told && seconds < 0.99 {
			t.Fatalf("%s is called silent after %v s", series, seconds)
		}
	}
	for _, name := range []string{"sockets", "listeners", "connections", "probes"} {
		if want := fmt.Sprintf("port_scrape_collector_success{collector=%q} 1\n", name); !strings.Contains(body, want) {
			t.Errorf("lacks %s", want)
		}
	}
	self := samplesOf(t, send(t, "/metrics?collect[]=listeners", "5")(), "go_goroutines", "go_memstats_sys_bytes", "process_open_fds", "port_exporter_probes_in_flight")
	if self["go_goroutines"] > 40 || self["process_open_fds"] > 40 || self["go_memstats_sys_bytes"] > 150e6 || self["port_exporter_probes_in_flight"] != 0 {
		t.Errorf("left behind after the scrapes: %v", self)
	}
	t.Logf("%v, %v", codes, self)
}

// TestFewDescriptorsInNamespace runs with so few that 128 probes would use them
// up.
func TestFewDescriptorsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	accept(t, "127.0.0.1:1001", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	var text strings.Builder
	text.WriteString("targets:\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "- {address: \"127.0.0.1:1001\", name: \"%d\", hostname: \"h%d\"}\n", i, i)
	}
	program, err := exec.LookPath("port_exporter")
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"256", "64"} {
		stop := porttest.StartDaemon(t, "sh", "-c", `ulimit -n `+limit+`; exec "$@"`, "sh", program, "--config.file="+write(t, "%s", &text))
		body := send(t, "/metrics", "10")()
		codes := map[float64]int{}
		for _, code := range samplesOf(t, body, "probe_outcome_code") {
			codes[code]++
		}
		if diff := cmp.Diff(map[float64]int{0: 2000}, codes); diff != "" {
			t.Errorf("%s descriptors: -want +got:\n%s", limit, diff)
		}
		if !strings.Contains(body, `port_scrape_collector_success{collector="listeners"} 1`) {
			t.Errorf("%s descriptors: the listeners were not read", limit)
		}
		stop()
	}
}

// TestPrometheusProbesInNamespace has a real Prometheus scrape /metrics, discover
// the targets and probe them, and probe others by the relabelling of its manual.
func TestPrometheusProbesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	dir := t.TempDir()
	certificate := porttest.SelfSigned(t)
	accept(t, "127.0.0.1:1443", func(c net.Conn) {
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{certificate}}).Handshake()
	})
	accept(t, "127.0.0.1:1001", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	file := write(t, `
modules:
  tls: {prober: tcp, tcp: {tls: true, tls_config: {ca_file: %s}}}
targets:
  - {address: "127.0.0.1:1443", module: tls, name: secure, labels: {team: x}}
  - {address: "127.0.0.1:1443", module: tls_connect, name: untrusted}
  - {address: "127.0.0.1:1001", name: open}
  - {address: "127.0.0.1:1009", name: refused}
`, porttest.WritePEM(t, filepath.Join(dir, "pem"), certificate))
	porttest.StartDaemon(t, "port_exporter", "--config.file="+file)

	manual, err := os.ReadFile("docs/diagnosis.md")
	if err != nil {
		t.Fatal(err)
	}
	discovery := regexp.MustCompile("(?s)```yaml\n(scrape_configs:\n.*?)```").FindSubmatch(manual)
	if discovery == nil {
		t.Fatal("docs/diagnosis.md has no scrape configuration")
	}
	text := "global: {scrape_interval: 1s, scrape_timeout: 1s}\n" + strings.ReplaceAll(string(discovery[1]), "localhost:10065", porttest.ScrapeAddress) + `
  - job_name: port_exporter
    static_configs: [{targets: ['127.0.0.1:10065']}]
  - job_name: blackbox
    metrics_path: /probe
    params: {module: [tcp_connect]}
    static_configs: [{targets: ['127.0.0.1:1001', '127.0.0.1:1009', '127.0.0.1:1008']}]
    relabel_configs:
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {target_label: __address__, replacement: '127.0.0.1:10065'}
`
	api := porttest.Prometheus(t, text)
	for query, want := range map[string]string{
		// The queries of existing alerts and dashboards, on both endpoints.
		`count(probe_success{job="port_exporter"} == 0)`:                                                     "2",
		`count(probe_success{job="probes"} == 0)`:                                                            "2",
		`count(probe_success{job="blackbox"} == 0)`:                                                          "1",
		`floor((probe_ssl_earliest_cert_expiry{job="port_exporter",target_name="secure"} - time()) / 28800)`: "1",
		`floor((probe_ssl_earliest_cert_expiry{job="probes",target_name="secure"} - time()) / 28800)`:        "1",
		`probe_success{job="blackbox",instance="127.0.0.1:1001"}`:                                            "1",
		// Certificates that are not to be trusted have an expiry too.
		`count(probe_ssl_earliest_cert_expiry{job="probes",target_name="untrusted"})`:               "1",
		`probe_outcome_code{job="probes",instance="127.0.0.1:1443",module="tls_connect"}`:           "10",
		`probe_outcome_code{job="port_exporter",module="tls_connect"}`:                              "10",
		`probe_failure_info{job="probes",instance="127.0.0.1:1009",reason="refused"}`:               "1",
		`probe_success{job="probes",instance="127.0.0.1:1443",module="tls",team="x"}`:               "1",
		`count(up{job="probes"} == 1)`:                                                              "4",
		`up{job="blackbox",instance="127.0.0.1:1008"}`:                                              "0", // not configured
		`probe_local_listener{job="blackbox",instance="127.0.0.1:1009",scope=""}`:                   "0",
		`probe_local_listener_info{job="blackbox",instance="127.0.0.1:1009",state="not_listening"}`: "1",
		`count(probe_results_total{job="port_exporter",outcome="refused"} > 0)`:                     "1",
		`count(scrape_duration_seconds{job=~"probes|blackbox"} < 0.5)`:                              "7",
	} {
		porttest.AwaitAnswer(t, api, query, want)
	}
}

// TestPrometheusFindsListenersInNamespace has a real Prometheus find another
// exporter by what listens here, as docs/discovery.md says.
func TestPrometheusFindsListenersInNamespace(t *testing.T) {
	manual, err := os.ReadFile("docs/discovery.md")
	if err != nil {
		t.Fatal(err)
	}
	job := regexp.MustCompile("(?s)```yaml\n(scrape_configs:\n.*?)```").FindSubmatch(manual)
	if job == nil {
		t.Fatal("docs/discovery.md has no scrape configuration")
	}
	porttest.Namespace(t)
	porttest.Listen(t, "0.0.0.0:8080", 16) // of no exporter
	porttest.StartDaemon(t, "port_exporter")
	porttest.Start(t, exec.Command("port_exporter", "--web.listen-address=:9100"))

	const url = "/sd/listeners\n"
	text := "global: {scrape_interval: 1s, scrape_timeout: 1s}\n" +
		strings.NewReplacer("localhost:10065", porttest.ScrapeAddress, url, url+"        refresh_interval: 1s\n").Replace(string(job[1]))
	api := porttest.Prometheus(t, text)
	porttest.AwaitAnswer(t, api, `up{job="exporters",instance="127.0.0.1:9100"}`, "1")
	porttest.AwaitAnswer(t, api, `up{job="exporters",instance="127.0.0.1:10065"}`, "1")
	porttest.AwaitAnswer(t, api, `count(up)`, "2")
}

// TestProbeListensOnNothingInNamespace reads the sockets while an http probe
// waits: none of them listens for it.
func TestProbeListensOnNothingInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:8080", 64) // takes connections and says nothing
	config := write(t, `
targets:
  - {address: "http://127.0.0.1:8080/", module: slow, interval: 1s}
modules:
  slow: {prober: http, timeout: 800ms}
`)
	porttest.StartDaemon(t, "port_exporter", "--config.file="+config)
	waited := 0.0
	for range 40 {
		got := porttest.Scrape(t, "port_sockets")
		if n := got[`port_sockets{family="ipv4",protocol="tcp",state="listen"}`]; n != 2 {
			t.Fatalf("%v sockets listen, want 2: %v", n, got)
		}
		waited += got[`port_sockets{family="ipv4",protocol="tcp",state="established"}`]
		time.Sleep(50 * time.Millisecond)
	}
	if waited == 0 {
		t.Error("no probe was seen in 2 s: the test shows nothing")
	}
}
