package fleettest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestSharesInNamespace has a real Prometheus read examples/fleet/prometheus.yml, and
// the same for its other half: each host is scraped by one of the two, and each target
// probed by one of three exporters, none of which has most.
func TestSharesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	const hosts, targets = 60, 90
	dir := t.TempDir()
	write(t, dir, "hosts.yml", list("10.0.0.%d:10065", hosts))
	write(t, dir, "targets.yml", list("10.0.1.%d:443", targets))
	text := strings.Replace(porttest.ReadFile(t, "../../examples/fleet/prometheus.yml"), "- ../rules/*.yml", "- none.yml", 1)
	for _, name := range []string{"hosts.yml", "targets.yml"} {
		text = strings.Replace(text, name, filepath.Join(dir, name), 1)
	}
	first, other := scraped(t, text), scraped(t, strings.Replace(text, `regex: "0"`, `regex: "1"`, 1))
	for address := range first["port_exporter"] {
		if _, both := other["port_exporter"][address]; both {
			t.Errorf("%s is scraped by both", address)
		}
	}
	if n, m := len(first["port_exporter"]), len(other["port_exporter"]); n+m != hosts || n < hosts/4 || m < hosts/4 {
		t.Errorf("of %d hosts one has %d and the other %d", hosts, n, m)
	}
	probers := map[string]int{}
	for _, at := range first["probes"] {
		probers[at]++
	}
	if len(first["probes"]) != targets || len(probers) != 3 {
		t.Fatalf("%d targets of %d exporters: %v", len(first["probes"]), len(probers), probers)
	}
	for prober, n := range probers {
		if !strings.HasPrefix(prober, "prober-") || n < targets/6 {
			t.Errorf("%s probes %d of %d targets", prober, n, targets)
		}
	}
	for target, at := range other["probes"] {
		if first["probes"][target] != at {
			t.Errorf("%s is probed by %s and by %s", target, at, first["probes"][target])
		}
	}
}

// scraped returns where a Prometheus asks for each instance, by job.
func scraped(t *testing.T, config string) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	t.Run("prometheus", func(t *testing.T) {
		api := porttest.Prometheus(t, config)
		porttest.Await(t, "targets", func() bool {
			_, body, err := porttest.TryGet(api, "/api/v1/targets?state=active")
			var answer struct {
				Data struct {
					Active []struct {
						ScrapeURL string
						Labels    map[string]string
					} `json:"activeTargets"`
				}
			}
			if err != nil || json.Unmarshal([]byte(body), &answer) != nil {
				return false
			}
			clear(out)
			for _, a := range answer.Data.Active {
				at, err := url.Parse(a.ScrapeURL)
				if err != nil {
					t.Fatal(err)
				}
				job := a.Labels["job"]
				if out[job] == nil {
					out[job] = map[string]string{}
				}
				out[job][a.Labels["instance"]] = at.Host
			}
			return len(out) == 2
		})
	})
	return out
}

func list(format string, n int) string {
	var out strings.Builder
	out.WriteString("- targets:\n")
	for i := range n {
		fmt.Fprintf(&out, "    - "+format+"\n", i+1)
	}
	return out.String()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
