package bench

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"testing"
	"time"
)

// idleScrapes is how many scrapes a round has: of so many a tick of 10 ms is little.
var idleScrapes = flag.Int("scrapes", 200, "number of scrapes in a round of BenchmarkIdleScrape")

// BenchmarkIdleScrape scrapes the running program on a host with a few sockets, which
// is what most hosts are, as Prometheus does: OpenMetrics, gzip, one connection. Beside
// it, in turn, a node_exporter with its defaults and one with its tcpstat collector only
// (prometheus-node-exporter in PATH; without it they are missing). It reports the median
// CPU time of a scrape, and the resident memory of each.
func BenchmarkIdleScrape(b *testing.B) {
	const rounds = 5
	servers := []*server{startDaemon(b)}
	if path, err := exec.LookPath("prometheus-node-exporter"); err == nil {
		servers = append(servers,
			startServer(b, "node_exporter", "127.0.0.1:9100", path, "--web.listen-address=127.0.0.1:9100"),
			startServer(b, "tcpstat", "127.0.0.1:9101", path,
				"--collector.disable-defaults", "--collector.tcpstat", "--web.listen-address=127.0.0.1:9101"))
	} else {
		b.Log("no prometheus-node-exporter in PATH: it is not measured")
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	for _, s := range servers { // what is read once has been read
		s.scrapeAsPrometheus(b, client, 20)
	}
	for b.Loop() {
		cpu := map[string][]time.Duration{}
		for range rounds {
			for _, s := range servers {
				start := s.cpuTime(b)
				s.scrapeAsPrometheus(b, client, *idleScrapes)
				cpu[s.name] = append(cpu[s.name], (s.cpuTime(b)-start)/time.Duration(*idleScrapes))
			}
		}
		ours := median(cpu["port_exporter"]).Seconds()
		for _, s := range servers {
			b.ReportMetric(median(cpu[s.name]).Seconds()*1000, s.name+"-cpu-ms")
			b.ReportMetric(ours/median(cpu[s.name]).Seconds(), "x-"+s.name)
			b.ReportMetric(s.peakMemory(b)/1e6, s.name+"-peak-rss-MB")
		}
	}
}

// scrapeAsPrometheus scrapes n times, and discards the answers.
func (s *server) scrapeAsPrometheus(b *testing.B, client *http.Client, n int) {
	b.Helper()
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+s.address+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1")
	request.Header.Set("Accept-Encoding", "gzip")
	request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "10")
	for range n {
		response, err := client.Do(request)
		if err != nil {
			b.Fatal(err)
		}
		_, err = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			b.Fatal(fmt.Errorf("%s: status %d, %w", s.name, response.StatusCode, err))
		}
	}
}
