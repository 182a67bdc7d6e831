package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/collector"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

func get(t *testing.T, h http.Handler, change func(*http.Request)) []group {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://db1.example:10065/", nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	// Prometheus refuses any other status and type.
	if kind := w.Header().Get("Content-Type"); w.Code != http.StatusOK || !strings.HasPrefix(kind, "application/json") {
		t.Fatalf("status %d, type %q: %s", w.Code, kind, w.Body)
	}
	if !strings.HasPrefix(w.Body.String(), "[") {
		t.Fatalf("not a list: %s", w.Body)
	}
	var groups []group
	if err := json.Unmarshal(w.Body.Bytes(), &groups); err != nil {
		t.Fatal(err)
	}
	return groups
}

func TestProbes(t *testing.T) {
	tcp := &probe.Module{Name: "tcp_connect"}
	plan := &schedule.Plan{Targets: []probe.Target{
		{Address: "db.example:5432", Module: tcp, Name: "database", Hostname: "db", Labels: []probe.Label{{Name: "team", Value: "x"}}},
		{Address: "http://a.example/", Module: tcp},
	}}
	for prefix, path := range map[string]string{"/": "/probe", "/ports": "/ports/probe"} {
		want := []group{
			{[]string{"db.example:5432"}, map[string]string{"__metrics_path__": path, "__param_module": "tcp_connect", "__param_target": "db.example:5432",
				"__param_hostname": "db", "module": "tcp_connect", "target": "db.example:5432", "target_name": "database", "team": "x"}},
			{[]string{"http://a.example/"}, map[string]string{"__metrics_path__": path, "__param_module": "tcp_connect", "__param_target": "http://a.example/",
				"module": "tcp_connect", "target": "http://a.example/", "target_name": ""}},
		}
		if diff := cmp.Diff(want, get(t, Probes(func() *schedule.Plan { return plan }, prefix), nil)); diff != "" {
			t.Errorf("below %s (-want +got):\n%s", prefix, diff)
		}
	}
	if got := get(t, Probes(func() *schedule.Plan { return &schedule.Plan{} }, "/"), nil); len(got) != 0 {
		t.Errorf("no targets: %v", got)
	}
}

// info is a series of port_listener_info with some of its labels.
func info(labels ...string) *dto.Metric {
	m := &dto.Metric{}
	for i := 0; i < len(labels); i += 2 {
		m.Label = append(m.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	return m
}

func TestListeners(t *testing.T) {
	serve := func(m ...*dto.Metric) http.Handler {
		return Listeners(func(context.Context) (*dto.MetricFamily, error) { return &dto.MetricFamily{Metric: m}, nil }, own)
	}
	local := &net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 10065}
	without := func(r *http.Request) {
		r.Host = ""
		*r = *r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
	}
	for _, tt := range []struct {
		name          string
		scope, listen string
		change        func(*http.Request)
		want          string
	}{
		{"every address", "any", "0.0.0.0", nil, "db1.example:80"},
		{"every address of IPv6", "any", "::", func(r *http.Request) { r.Host = "[2001:db8::1]:10065" }, "[2001:db8::1]:80"},
		{"asked without a port", "any", "::", func(r *http.Request) { r.Host = "db1" }, "db1:80"},
		{"asked without a host", "any", "0.0.0.0", without, "192.0.2.7:80"},
		{"asked over something else", "any", "::", func(r *http.Request) { r.Host = "" }, "localhost:80"},
		{"one address", "public", "192.0.2.7", nil, "192.0.2.7:80"},
		{"loopback", "loopback", "::1", nil, "[::1]:80"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := get(t, serve(info("address", tt.listen, "port", "80", "process", "nginx", "scope", tt.scope)), tt.change)
			want := []group{{[]string{tt.want}, map[string]string{
				"__meta_port_listener_address": tt.listen, "__meta_port_listener_port": "80",
				"__meta_port_listener_process": "nginx", "__meta_port_listener_scope": tt.scope,
			}}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if got := get(t, serve(), nil); len(got) != 0 {
		t.Errorf("nothing listens: %v", got)
	}
}

func own() (map[netip.Addr]string, error) {
	all := map[netip.Addr]string{}
	for addr, device := range map[string]string{
		"127.0.0.1": "lo", "::1": "lo", "192.0.2.7": "eth0", "192.0.2.9": "eth0", "2001:db8::7": "eth0", "fe80::7": "eth0", "198.51.100.1": "vt0",
	} {
		all[netip.MustParseAddr(addr)] = device
	}
	return all, nil
}

// TestReach gives no target that the client cannot reach.
func TestReach(t *testing.T) {
	for _, tt := range []struct {
		name, address, device, scope, dual string
		asked                              string
		want                               string // empty: left out
	}{
		{"dual stack by IPv4", "::", "", "any", "true", "192.0.2.7", "192.0.2.7"},
		{"V6ONLY by IPv4", "::", "", "any", "false", "192.0.2.9", "2001:db8::7"},
		{"IPv4 by IPv6", "0.0.0.0", "", "any", "false", "2001:db8::7", "192.0.2.7"},
		{"V6ONLY by name", "::", "", "any", "false", "db1", "db1"},
		{"on another device", "0.0.0.0", "vt0", "any", "false", "192.0.2.7", "198.51.100.1"},
		{"on another device, by name", "0.0.0.0", "vt0", "any", "false", "db1", "198.51.100.1"},
		{"on the device", "0.0.0.0", "eth0", "any", "false", "192.0.2.9", "192.0.2.9"},
		{"on a device without such an address", "::", "vt0", "any", "false", "db1", ""},
		{"link local", "fe80::7", "eth0", "link_local", "false", "db1", ""},
		{"multicast", "224.0.0.251", "", "multicast", "false", "db1", ""},
		{"broadcast", "192.0.2.255", "", "link_local", "false", "db1", ""},
		{"of a standby", "192.0.2.8", "", "public", "false", "db1", ""},
		{"loopback", "127.0.0.5", "", "loopback", "false", "db1", "127.0.0.5"},
	} {
		h := Listeners(func(context.Context) (*dto.MetricFamily, error) {
			return &dto.MetricFamily{Metric: []*dto.Metric{info("address", tt.address, "port", "80", "interface", tt.device, "scope", tt.scope, "dual_stack", tt.dual)}}, nil
		}, own)
		var got string
		for _, g := range get(t, h, func(r *http.Request) { r.Host = net.JoinHostPort(tt.asked, "10065") }) {
			got, _, _ = net.SplitHostPort(g.Targets[0])
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestFilter has queries and the ports of the listeners that they want; an error is
// never an empty list.
func TestFilter(t *testing.T) {
	h := Listeners(func(context.Context) (*dto.MetricFamily, error) {
		return &dto.MetricFamily{Metric: []*dto.Metric{
			info("address", "0.0.0.0", "port", "80", "protocol", "tcp", "scope", "any", "process", "nginx", "interface", ""),
			info("address", "192.0.2.7", "port", "53", "protocol", "udp", "scope", "public", "process", "named", "interface", ""),
			info("address", "127.0.0.1", "port", "6379", "protocol", "tcp", "scope", "loopback", "process", "", "interface", "lo"),
		}}, nil
	}, own)
	for query, want := range map[string]string{
		"":                                    "80 53 6379",
		"protocol=tcp":                        "80 6379",
		"protocol=tcp&protocol=udp":           "80 53 6379",
		"protocol=tcp&scope=any&scope=public": "80",
		"scope=private":                       "",
		"process=":                            "6379",
		"process=nginx&process=named":         "80 53",
		"interface=":                          "80 53",
		"port=80&port=6379&address=0.0.0.0":   "80",
		"unit=a":                              "",
	} {
		var ports []string
		for _, g := range get(t, h, func(r *http.Request) { r.URL.RawQuery = query }) {
			ports = append(ports, g.Labels["__meta_port_listener_port"])
		}
		if got := strings.Join(ports, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	for query, want := range map[string]string{
		"protcol=tcp":      `unknown parameter "protcol"`,
		"protocol=tpc":     `unknown value "tpc"`,
		"scope=any,public": "repeat the parameter",
		"scope=":           `scope: unknown value ""`,
		"dual_stack=1":     "the values are true, false",
		"%1b[31m=x":        `unknown parameter "\x1b[31m"`,
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/sd/listeners?"+query, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Body.String(), "hint: ") {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
		}
	}
}

// TestFilterKnowsEveryLabel compares the parameters with the labels that there are.
func TestFilterKnowsEveryLabel(t *testing.T) {
	for _, f := range collector.Families() {
		if f.Name == "port_listener_info" {
			if diff := cmp.Diff(f.Labels, listenerLabels); diff != "" {
				t.Errorf("(-labels +parameters):\n%s", diff)
			}
			return
		}
	}
	t.Error("there is no port_listener_info")
}

// TestFailureIsNoEmptyList: for that Prometheus would drop every target.
func TestFailureIsNoEmptyList(t *testing.T) {
	w := httptest.NewRecorder()
	Listeners(func(context.Context) (*dto.MetricFamily, error) { return nil, errors.New("no netlink") }, own).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/sd/listeners", nil))
	if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "no netlink") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}
