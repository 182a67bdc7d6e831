package fleettest

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var (
	hosts = flag.Int("fleet", 0, "how many hosts TestFleetInNamespace simulates; without it, none")
	lasts = flag.Duration("fleet.for", 4*time.Minute, "how long a Prometheus scrapes them")
)

// TestFleetInNamespace lets a real Prometheus with all our rules scrape that many hosts,
// each every 30 seconds, and logs what it takes. A host is the recorded scrape of a
// typical one: its counters grow, its gauges change, and now and then a listener on an
// ephemeral port goes and another comes.
func TestFleetInNamespace(t *testing.T) {
	if *hosts == 0 {
		t.Skip("SKIP-FLEET: simulates hosts only when asked to, with -fleet")
	}
	porttest.Namespace(t)
	typicalHost(t)
	porttest.Listen(t, "127.0.0.1:45678", 16) // the one that comes and goes
	fleet := record(scrapeHost(t, typicalPolicy))
	listener, err := net.Listen("tcp", "127.0.0.1:10066")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: fleet, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()

	rules, err := filepath.Abs("../../examples/rules")
	if err != nil {
		t.Fatal(err)
	}
	api := porttest.Prometheus(t, fmt.Sprintf(`
global: {scrape_interval: 30s, scrape_timeout: 25s, evaluation_interval: 30s}
rule_files: [%s/*.yml]
scrape_configs:
  - job_name: port_exporter
    file_sd_configs: [{files: [%s]}]
    relabel_configs:
      - {source_labels: [__address__], target_label: instance}
      - {source_labels: [__address__], target_label: __metrics_path__, replacement: "/$1"}
      - {target_label: __address__, replacement: "127.0.0.1:10066"}
  - job_name: prometheus
    static_configs: [{targets: ["127.0.0.1:9090"]}]
`, rules, targetFile(t, *hosts)))
	time.Sleep(*lasts)
	report(t, api)
}

func targetFile(t *testing.T, n int) string {
	t.Helper()
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("host%04d", i))
	}
	text, err := json.Marshal([]map[string]any{{"targets": names}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hosts.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// recording is a scrape, line by line.
type recording struct {
	lines []line
	began time.Time
}

type line struct {
	series  string
	value   float64
	counter bool
	moves   bool // a gauge that is no limit, flag or time
}

func record(body string) recording {
	out := recording{began: time.Now()}
	kinds := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		kinds[m[1]] = m[2]
	}
	moving := regexp.MustCompile(`^port_(sockets|inbound|outbound|owner)|queue_length|_bytes$|_used$`)
	for text := range strings.Lines(body) {
		text = strings.TrimSpace(text)
		cut := strings.LastIndexByte(text, ' ')
		if strings.HasPrefix(text, "#") || cut < 0 {
			continue
		}
		name, _, _ := strings.Cut(text[:cut], "{")
		value, _ := strconv.ParseFloat(text[cut+1:], 64) // the exporter writes numbers
		out.lines = append(out.lines, line{text[:cut], value, kinds[name] == "counter", kinds[name] == "gauge" && moving.MatchString(name)})
	}
	return out
}

// ServeHTTP answers as one of the hosts, by the path.
func (r recording) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var host uint64
	fmt.Sscanf(request.URL.Path, "/host%d", &host)
	elapsed := time.Since(r.began)
	// Every five minutes one listener moves to another port, on each host at its own time.
	turn := (uint64(elapsed.Seconds()) + host*37) / 300
	port := strconv.FormatUint(32768+(host*7919+turn*104729)%28232, 10)
	random := rand.New(rand.NewPCG(host, uint64(elapsed.Seconds())))
	var out []byte
	for _, l := range r.lines {
		value := l.value
		switch {
		case l.counter:
			value += float64(int(elapsed.Seconds() * float64(host%10) / 5))
		case l.moves && value > 1:
			value = float64(int(value * (0.7 + 0.6*random.Float64())))
		}
		out = append(out, strings.ReplaceAll(l.series, "45678", port)...)
		out = append(out, ' ')
		out = strconv.AppendFloat(out, value, 'g', -1, 64)
		out = append(out, '\n')
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = w.Write(out)
}

// report logs what the Prometheus itself says.
func report(t *testing.T, api string) {
	t.Helper()
	for _, q := range []string{
		`count(up{job="port_exporter"} == 1)`,
		`sum(scrape_samples_scraped{job="port_exporter"}) / count(up{job="port_exporter"})`,
		`prometheus_tsdb_head_series`,
		`rate(prometheus_tsdb_head_samples_appended_total[2m])`,
		`quantile(0.99, scrape_duration_seconds{job="port_exporter"})`,
		`process_resident_memory_bytes{job="prometheus"} / 2^20`,
		`rate(process_cpu_seconds_total{job="prometheus"}[2m])`,
		`sort_desc(prometheus_rule_group_last_duration_seconds)`,
		`sum(prometheus_rule_group_iterations_missed_total)`,
		`sum(prometheus_rule_evaluation_failures_total)`,
		`count by (alertname, alertstate) (ALERTS)`,
		`sum(count by (__name__) ({__name__=~"(job|instance|job_.*):port_.*"}))`,
	} {
		began := time.Now()
		_, body := porttest.Get(t, api, "/api/v1/query?query="+url.QueryEscape(q))
		var answer struct {
			Data struct {
				Result []struct {
					Metric map[string]string
					Value  [2]any
				}
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil {
			t.Fatalf("%s: %v %s", q, err, body)
		}
		t.Logf("%s (%s)", q, time.Since(began).Round(time.Millisecond))
		for _, r := range answer.Data.Result {
			t.Logf("    %v %s%s", r.Value[1], filepath.Base(r.Metric["rule_group"]), r.Metric["alertname"])
		}
	}
	var version strings.Builder
	cmd := exec.Command("prometheus", "--version")
	cmd.Stdout, cmd.Stderr = &version, &version
	if err := cmd.Run(); err == nil {
		t.Log(strings.SplitN(version.String(), "\n", 2)[0])
	}
}
