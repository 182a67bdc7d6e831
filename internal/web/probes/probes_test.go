package probes

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/check"
	"github.com/port-exporter/port_exporter/internal/ownhost"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/access"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// listen returns the address of a listener that accepts and hangs up.
func listen(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	porttest.Serve(t, l, func(net.Conn) {})
	return l.Addr().String()
}

// hang takes its time until the probe is cut off.
type hang struct{}

func (hang) Probe(ctx context.Context, _ probe.Request) probe.Result {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	<-ctx.Done()
	return probe.Result{Outcome: probe.Timeout, Phase: probe.PhaseConnect, Err: errors.New("cut off with " + left.Round(100*time.Millisecond).String())}
}

// named is a prober whose module has a name for the target already.
type named struct{ prober.TCP }

func (*named) CheckHostname(name string) error {
	if name != "" && name != "mine" {
		return errors.New("the module says mine")
	}
	return nil
}

func server(t *testing.T, plan *schedule.Plan) *Server {
	t.Helper()
	r := schedule.NewRunner(t.Context(), 0)
	t.Cleanup(r.Stop)
	r.Use(plan)
	return New(Options{
		Connections: 1024, Checked: &check.Host{},
		Runner: r, Plan: func() *schedule.Plan { return plan }, TimeoutOffset: 500 * time.Millisecond,
		IsBuiltIn: func(name string) bool { return name == "icmp" },
		OwnHost: func(ctx context.Context) *ownhost.Snapshot {
			addresses := func() (map[netip.Addr]string, error) {
				return map[netip.Addr]string{netip.MustParseAddr("127.0.0.1"): "lo"}, nil
			}
			return ownhost.New(addresses, func() (*socket.Table, error) {
				return socket.ReadListening(porttest.Sockets{}.Sockets(ctx, socket.Listening), socket.Criteria{})
			})
		},
	})
}

func tcpPlan(targets ...string) *schedule.Plan {
	tcp := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP, Prober: &prober.TCP{}}
	slow := &probe.Module{Name: "slow", Kind: probe.KindTCP, Prober: hang{}, Timeout: time.Second}
	p := &schedule.Plan{Modules: map[string]*probe.Module{"tcp_connect": tcp, "http_2xx": {Name: "http_2xx", Kind: probe.KindHTTP, Prober: &prober.TCP{}}, "slow": slow,
		"named": {Name: "named", Kind: probe.KindHTTP, Prober: &named{}}}}
	for _, t := range targets {
		p.Targets = append(p.Targets, probe.Target{Address: t, Module: tcp})
	}
	return p
}

func get(handler http.HandlerFunc, target, from string, header ...string) (int, string) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr, r.Host = from, "localhost:10065"
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	handler(w, r)
	body, _ := io.ReadAll(w.Result().Body)
	return w.Code, string(body)
}

const (
	here  = "127.0.0.1:1234"
	there = "192.0.2.7:1234"
)

func TestProbe(t *testing.T) {
	open := listen(t)
	plan := tcpPlan(open, "127.0.0.1:1", "slow:1")
	plan.Targets[2].Module = plan.Modules["slow"]
	s := server(t, plan)
	for _, tt := range []struct {
		name, target, from string
		header             []string
		status             int
		want               string
	}{
		{"no target", "/probe", there, nil, 400, "missing parameter target"},
		{"unknown module", "/probe?target=a:1&module=nope", there, nil, 400, "unknown module \"nope\"\nhint: use a module of /config, or a built-in one that a rule or target names"},
		{"built-in module that nothing names", "/probe?target=a&module=icmp", there, nil, 403, "the built-in module \"icmp\" is not for requests, since there are modules in the configuration and none of its rules or targets names it\nhint: add a rule to probes.allow that does: modules: [icmp]"},
		{"bad timeout", "/probe?target=a:1", there, []string{"X-Prometheus-Scrape-Timeout-Seconds", "soon"}, 400, "soon"},
		{"not configured", "/probe?target=192.0.2.1:80&module=tcp_connect", there, nil, 403, "hint: add it to targets"},
		{"not configured, from here", "/probe?target=192.0.2.1:80&module=tcp_connect", here, nil, 403, "hint: add it to targets"},
		{"configured with another module", "/probe?target=" + open, there, nil, 403, "hint"},
		{"hostname against the module", "/probe?target=a:1&module=named&hostname=other", there, nil, 400, "the module says mine"},
		{"a target without end", "/probe?module=tcp_connect&target=" + strings.Repeat("a", maxTarget+1), there, nil, 400, "target has 2049 bytes"},
		{"a hostname without end", "/probe?module=tcp_connect&target=" + open + "&hostname=" + strings.Repeat("a", maxHostname+1), there, nil, 400, "hostname has 254 bytes"},
		{"debug from elsewhere", "/probe?module=tcp_connect&debug=true&target=" + open, there, nil, 403, "debug_from_anywhere"},
		{"debug through a proxy", "/probe?module=tcp_connect&debug=true&target=" + open, here, []string{"X-Forwarded-For", "192.0.2.7"}, 403, "debug_from_anywhere"},

		{"open", "/probe?module=tcp_connect&target=" + open, there, nil, 200, "\nprobe_success 1\n"},
		{"outcome", "/probe?module=tcp_connect&target=" + open, there, nil, 200, "\nprobe_outcome_code 0\n"},
		{"refused", "/probe?module=tcp_connect&target=127.0.0.1:1", there, nil, 200, "\nprobe_failure_info{origin=\"target\",phase=\"connect\",place=\"here\",reason=\"refused\"} 1\n"},
		{"refused, success", "/probe?module=tcp_connect&target=127.0.0.1:1", there, nil, 200, "\nprobe_success 0\n"},
		{"own host", "/probe?module=tcp_connect&target=127.0.0.1:1", there, nil, 200, "\nprobe_local_listener{scope=\"\"} 0\n"},
		{"debug", "/probe?module=tcp_connect&debug=true&target=127.0.0.1:1", here, nil, 200, "127.0.0.1:1 refuses: nothing listens on tcp port 1 of this host"},
		{"debug, own host", "/probe?module=tcp_connect&debug=true&target=127.0.0.1:1", here, nil, 200, "where now nothing listens on tcp port 1 of this host.\n"},
		{"debug, log", "/probe?module=tcp_connect&debug=true&target=" + open, here, nil, 200, "msg=resolved"},
		{"the module's timeout", "/probe?module=slow&debug=true&target=slow:1", here, nil, 200, "cut off with 1s"},
		{"Prometheus' timeout", "/probe?module=slow&debug=true&target=slow:1", here, []string{"X-Prometheus-Scrape-Timeout-Seconds", "0.9"}, 200, "cut off with 400ms"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, body := get(s.Probe, tt.target, tt.from, tt.header...)
			if status != tt.status || !strings.Contains("\n"+body, tt.want) {
				t.Errorf("status %d, want %d with %q\n%s", status, tt.status, tt.want, body)
			}
		})
	}
}

// TestMayDebug has clients that seem to be on this host and are not, by what a
// proxy or a browser adds.
func TestMayDebug(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*http.Request)
		proxied bool
		may     bool
	}{
		{"from elsewhere", func(r *http.Request) { r.RemoteAddr = there }, false, false},
		{"no address", func(r *http.Request) { r.RemoteAddr = "@" }, false, false},
		{"a site that resolves to loopback", func(r *http.Request) { r.Host = "evil.example:10065" }, false, false},
		{"a site that starts like one", func(r *http.Request) { r.Host = "localhost.evil.example" }, false, false},
		{"an address of another host", func(r *http.Request) { r.Host = "192.0.2.1:10065" }, false, false},
		{"no host", func(r *http.Request) { r.Host = "" }, false, false},
		{"nginx as it comes", func(r *http.Request) { r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.0", 1, 0 }, false, false},
		{"Forwarded", func(r *http.Request) { r.Header.Set("Forwarded", "for=192.0.2.7") }, false, false},
		{"X-Forwarded-For", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.7") }, false, false},
		{"X-Forwarded-For, empty", func(r *http.Request) { r.Header.Set("X-Forwarded-For", "") }, false, false},
		{"X-Forwarded-Host", func(r *http.Request) { r.Header.Set("X-Forwarded-Host", "a.example") }, false, false},
		{"X-Forwarded-Proto", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") }, false, false},
		{"X-Real-IP", func(r *http.Request) { r.Header.Set("X-Real-IP", "192.0.2.7") }, false, false},
		{"Via", func(r *http.Request) { r.Header.Set("Via", "1.1 varnish") }, false, false},
		{"Cloudflare", func(r *http.Request) { r.Header.Set("CF-Connecting-IP", "192.0.2.7") }, false, false},
		{"Envoy", func(r *http.Request) { r.Header.Set("X-Envoy-External-Address", "192.0.2.7") }, false, false},
		{"Akamai", func(r *http.Request) { r.Header.Set("True-Client-IP", "192.0.2.7") }, false, false},
		{"a CDN", func(r *http.Request) { r.Header.Set("CDN-Loop", "a.example") }, false, false},
		{"a picture in a page of another site", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "no-cors")
		}, false, false},
		{"--web.external-url", func(*http.Request) {}, true, false},

		{"localhost", func(*http.Request) {}, false, true},
		{"a link from another site", func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			r.Header.Set("Sec-Fetch-Mode", "navigate")
		}, false, true},
		{"localhost without a port", func(r *http.Request) { r.Host = "LocalHost" }, false, true},
		{"loopback", func(r *http.Request) { r.Host = "127.0.0.2:10065" }, false, true},
		{"loopback of IPv6", func(r *http.Request) { r.Host, r.RemoteAddr = "[::1]:10065", "[::1]:1" }, false, true},
		{"loopback of IPv6 without a port", func(r *http.Request) { r.Host = "[::1]" }, false, true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/logs?id=1", nil)
		r.RemoteAddr, r.Host = here, "localhost:10065"
		tt.change(r)
		plan := &schedule.Plan{}
		s := New(Options{Plan: func() *schedule.Plan { return plan }, Proxied: tt.proxied})
		if got := s.MayDebug(r); got != tt.may {
			t.Errorf("%s: %t", tt.name, got)
		}
		if plan.Access.DebugAnywhere = true; !s.MayDebug(r) {
			t.Errorf("%s: not even where everybody may", tt.name)
		}
	}
}

// TestDeniedByAddress has a name that is allowed until it is resolved.
func TestDeniedByAddress(t *testing.T) {
	plan := tcpPlan()
	plan.Access = access.Control{DebugAnywhere: true, Rules: []access.Rule{{
		Hosts: []string{"localhost", "*.invalid"}, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}}}
	s := server(t, plan)
	status, body := get(s.Probe, "/probe?module=tcp_connect&target=localhost:1", there)
	if status != 200 || !strings.Contains(body, "probe_outcome_code 17\n") || strings.Contains(body, "probe_success") {
		t.Errorf("status %d\n%s", status, body)
	}
	for _, learned := range []string{"probe_ip_", "probe_dns_lookup", "probe_duration", "probe_local_listener", "probe_tcp_duration"} {
		if strings.Contains(body, learned) {
			t.Errorf("a denied answer has %s:\n%s", learned, body)
		}
	}
	if status, body := get(s.Probe, "/probe?module=tcp_connect&target=127.0.0.1:1", there); status != 403 {
		t.Errorf("a number that is not allowed: status %d\n%s", status, body)
	}
	if _, body := get(s.Probe, "/probe?module=tcp_connect&target=localhost:1&debug=true", there); !strings.Contains(body, "not known: the target was not tried") {
		t.Errorf("debug anywhere:\n%s", body)
	}
}

// TestOnlyOursBesideBlackbox checks the names of the metrics of a plain probe.
func TestOnlyOursBesideBlackbox(t *testing.T) {
	open := listen(t)
	_, body := get(server(t, tcpPlan(open)).Probe, "/probe?module=tcp_connect&target="+open, there)
	got := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)(\{[^}]*\})? `).FindAllStringSubmatch(body, -1) {
		got[m[1]+m[2]] = true
	}
	for _, blackbox := range []string{
		"probe_success", "probe_duration_seconds", "probe_dns_lookup_time_seconds", "probe_failed_due_to_regex", "probe_ip_addr_hash", "probe_ip_protocol",
	} {
		if !got[blackbox] {
			t.Errorf("lacks %s, without labels:\n%s", blackbox, body)
		}
	}
	if strings.Contains(body, "target=") || strings.Contains(body, "probe_results_total") || strings.Contains(body, "probe_age") {
		t.Errorf("has what only /metrics has:\n%s", body)
	}
}

func TestTooManyRequests(t *testing.T) {
	s := server(t, tcpPlan("127.0.0.1:1"))
	for range maxRequests {
		s.slots <- struct{}{}
	}
	if status, body := get(s.Probe, "/probe?module=tcp_connect&target=127.0.0.1:1", there); status != 503 {
		t.Errorf("status %d: %s", status, body)
	}
}

func TestHistory(t *testing.T) {
	plan := tcpPlan("127.0.0.1:1")
	plan.Access.Any = true
	plan.Modules["<b>"] = &probe.Module{Name: "<b>", Kind: probe.KindHTTP, Prober: &prober.TCP{}}
	s := server(t, plan)
	if status, page := get(s.Log, "/logs", here); status != 200 || strings.Contains(page, "127.0.0.1:1") {
		t.Errorf("before the first probe: %d\n%s", status, page)
	}
	get(s.Probe, "/probe?module=tcp_connect&target=127.0.0.1:1", there)
	get(s.Probe, "/probe?module=%3Cb%3E&target=http://me:s3cret@%3Cscript%3E.invalid:1/", there)
	_, page := get(s.Log, "/logs", here)
	id := regexp.MustCompile(`(?m)^(\d+) +\S+ \S+ +(\w+) `).FindAllStringSubmatch(page, -1)
	if len(id) != 2 || id[1][2] != "refused" || strings.Contains(page, "s3cret") {
		t.Fatalf("the list of probes:\n%s", page)
	}
	for _, m := range id {
		status, body := get(s.Log, "/logs?id="+m[1], here)
		if status != 200 || !strings.Contains(body, "probe_outcome_code") || strings.Contains(body, "s3cret") {
			t.Errorf("status %d:\n%s", status, body)
		}
	}
	for target, want := range map[string]int{"/logs?id=999": 404, "/logs?id=x": 400, "/logs?id=": 400} {
		if status, _ := get(s.Log, target, here); status != want {
			t.Errorf("%s: status %d, want %d", target, status, want)
		}
	}
	for _, path := range []string{"/logs", "/logs?id=" + id[0][1]} {
		if status, _ := get(s.Log, path, there); status != 403 {
			t.Errorf("%s for a client elsewhere: status %d", path, status)
		}
	}
}
