package probes

import (
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/blackbox_exporter/config"
	"github.com/prometheus/blackbox_exporter/prober"
	"github.com/prometheus/common/promslog"
)

// TestHelpAsBlackbox has blackbox_exporter's own handler probe the same target:
// each of its families is here too, with the same type and help.
func TestHelpAsBlackbox(t *testing.T) {
	target := listen(t)
	_, ours := get(server(t, tcpPlan(target)).Probe, "/probe?module=tcp_connect&target="+target, there)

	modules := &config.Config{Modules: map[string]config.Module{"tcp_connect": {Prober: "tcp", Timeout: 5 * time.Second, TCP: config.DefaultTCPProbe}}}
	w := httptest.NewRecorder()
	prober.Handler(w, httptest.NewRequest("GET", "/probe", nil), modules, promslog.NewNopLogger(), &prober.ResultHistory{MaxResults: 1}, 0.5,
		url.Values{"target": {target}, "module": {"tcp_connect"}}, nil, &promslog.Config{Level: promslog.NewLevel()})

	lines := regexp.MustCompile(`(?m)^# .*$`).FindAllString(w.Body.String(), -1)
	if len(lines) < 12 {
		t.Fatalf("blackbox_exporter says:\n%s", w.Body)
	}
	for _, line := range lines {
		if !strings.Contains(ours, line+"\n") {
			t.Errorf("lacks %q", line)
		}
	}
}
