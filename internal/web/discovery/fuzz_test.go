package discovery

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// FuzzTargets has any text as the client's Host, and in the labels of listeners
// and targets: the answer is JSON, and repeats what is valid UTF-8.
func FuzzTargets(f *testing.F) {
	f.Add("h:1", "any", "127.0.0.1", "nginx", "a:1")
	f.Add("[::1", "any", "", "\u202e\x1b", "http://a/?b=\xff")
	f.Add("\x00", "loopback", "::1%eth0", "</script>", "")
	f.Fuzz(func(t *testing.T, host, scope, address, process, target string) {
		label := func(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
		info := &dto.MetricFamily{Metric: []*dto.Metric{{Label: []*dto.LabelPair{label("scope", scope), label("address", address), label("port", "1"), label("process", process)}}}}
		plan := &schedule.Plan{Targets: []probe.Target{{Address: target, Name: process, Hostname: host, Module: &probe.Module{Name: scope}}}}
		for name, handler := range map[string]http.Handler{
			"listeners": Listeners(func(context.Context) (*dto.MetricFamily, error) { return info, nil }, func() (map[netip.Addr]string, error) { return nil, nil }),
			"probes":    Probes(func() *schedule.Plan { return plan }, "/"),
		} {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = host
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, r)
			var groups []group
			if err := json.Unmarshal(w.Body.Bytes(), &groups); w.Code == http.StatusOK && (err != nil || len(groups) > 1) {
				t.Errorf("%s: %v\n%s", name, err, w.Body)
			}
			if !utf8.Valid(w.Body.Bytes()) {
				t.Errorf("%s: not UTF-8: %q", name, w.Body)
			}
		}
	})
}
