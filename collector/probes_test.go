package collector

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

func storyAddresses() (map[netip.Addr]string, error) {
	return map[netip.Addr]string{netip.MustParseAddr("127.0.0.1"): "lo", netip.MustParseAddr("192.0.2.1"): "eth0"}, nil
}

// storyProbes are targets of every fate: open, refused by whom, not as expected,
// must be closed, not tried, in the background, with labels that clash, and one
// with every metric that a prober may export.
func storyProbes(context.Context) ([]schedule.Report, error) {
	tcp := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP}
	closed := &probe.Module{Name: "must_be_closed", Kind: probe.KindTCP, Expect: probe.Refused}
	embedded := func() *probe.Metric { // anew for each probe
		return &probe.Metric{Name: "probe_http_status_code", Help: "Response HTTP status code"}
	}
	step := func(label string) *probe.Metric {
		return &probe.Metric{Name: "probe_expect_info", Help: "Explicit content matched", Labels: []string{label}}
	}
	peer := netip.MustParseAddrPort
	at := time.Unix(1_800_000_000, 0)
	result := func(o probe.Outcome, phase probe.Phase, origin probe.Origin, to string, samples ...probe.Sample) probe.Result {
		r := probe.Result{Outcome: o, Phase: phase, Origin: origin, Duration: 250 * time.Millisecond, Samples: samples}
		if to != "" {
			r.Peer = peer(to)
		}
		return r
	}
	var every []probe.Sample
	for _, m := range prober.Metrics() {
		every = append(every, probe.Sample{Metric: m, Value: 1, Labels: m.Labels})
	}
	reports := []schedule.Report{
		{Target: &probe.Target{Address: "192.0.2.1:443", Module: tcp, Name: "web", Labels: []probe.Label{{Name: "az", Value: "a"}, {Name: "team", Value: "x\"\n\xff"}}},
			Result: result(probe.Open, 0, 0, "192.0.2.1:443")},
		{Target: &probe.Target{Address: "192.0.2.1:80", Module: tcp}, Result: result(probe.Refused, probe.PhaseConnect, probe.OriginTarget, "192.0.2.1:80")},
		{Target: &probe.Target{Address: "127.0.0.1:80", Module: tcp}, Result: result(probe.Timeout, probe.PhaseConnect, probe.OriginNone, "127.0.0.1:80")},
		{Target: &probe.Target{Address: "192.0.2.1:23", Module: closed}, Result: result(probe.Refused, probe.PhaseConnect, probe.OriginTarget, "192.0.2.1:23")},
		{Target: &probe.Target{Address: "192.0.2.9:23", Module: closed}, Result: result(probe.Open, 0, 0, "192.0.2.9:23")},
		{Target: &probe.Target{Address: "http://a.example/", Module: &probe.Module{Name: "http_2xx", Kind: probe.KindHTTP}},
			Result: result(probe.Status, probe.PhaseExchange, probe.OriginTarget, "192.0.2.9:80", probe.Sample{Metric: embedded(), Value: 503})},
		{Target: &probe.Target{Address: "http://b.example/", Module: &probe.Module{Name: "http_2xx", Kind: probe.KindHTTP}},
			Result: result(probe.Open, 0, 0, "192.0.2.9:80", probe.Sample{Metric: embedded(), Value: 200})},
		{Target: &probe.Target{Address: "192.0.2.9:25", Module: tcp, Labels: []probe.Label{{Name: "reason", Value: "mine"}, {Name: "target", Value: "mine"}}},
			Result: result(probe.Reset, probe.PhaseExchange, probe.OriginTarget, "192.0.2.9:25",
				probe.Sample{Metric: step("banner"), Value: 1, Labels: []string{"220"}}, probe.Sample{Metric: step("helo"), Value: 1, Labels: []string{"250"}})},
		{Target: &probe.Target{Address: "192.0.2.9:26", Module: tcp}, Result: probe.Result{Outcome: probe.NotRun}},
		{Target: &probe.Target{Address: "169.254.169.254:80", Module: tcp}, Result: result(probe.Denied, probe.PhaseConnect, probe.OriginLocal, "")},
		{Target: &probe.Target{Address: "192.0.2.9:27", Module: tcp, Interval: time.Minute}, Result: result(probe.Open, 0, 0, "192.0.2.9:27", every...)},
		{Target: &probe.Target{Address: "192.0.2.9:28", Module: tcp, Interval: time.Minute}, Result: probe.Result{Outcome: probe.NotRun}},
	}
	for i := range reports {
		reports[i].Tally = &schedule.Tally{}
		if reports[i].Result.Outcome != probe.NotRun {
			reports[i].Tally.Add(reports[i].Result.Outcome)
			reports[i].Tally.Add(probe.Open)
			reports[i].At = at.Add(-12500 * time.Millisecond)
		}
	}
	return reports, nil
}

func TestProbesFail(t *testing.T) {
	o := options(porttest.Sockets{})
	o.Probes = func(context.Context) ([]schedule.Report, error) { return nil, errors.New("the exporter stops") }
	got := exposition(t, t.Context(), o, Filter{})
	if !strings.Contains(got, `port_scrape_collector_success{collector="probes"} 0`) || strings.Contains(got, "probe_success") {
		t.Error(got)
	}
}

// TestProbesWithoutListeners checks that all probes are exported where the
// listeners cannot be read.
func TestProbesWithoutListeners(t *testing.T) {
	o := options(&broken{porttest.Sockets{}, socket.Listening, []error{errors.New("no netlink")}})
	o.Probes, o.Addresses = storyProbes, storyAddresses
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"probes"}})
	if !strings.Contains(got, `port_scrape_collector_success{collector="probes"} 1`) || strings.Contains(got, "probe_local_listener{") {
		t.Error(got)
	}
}

func TestProbesByFamily(t *testing.T) {
	for family, want := range map[string]int{"probe_success": 1, "probe_http_status_code": 1, "port_exporter_probes_total": 0} {
		o := options(porttest.Sockets{})
		o.Probes, o.Addresses = storyProbes, storyAddresses
		got := exposition(t, t.Context(), o, Filter{Families: []string{family}})
		if n := strings.Count(got, "port_scrape_collector_success{"); n != want {
			t.Errorf("%s: %d collectors ran, want %d", family, n, want)
		}
	}
}

// TestExposition compares the answer of /probe with that of blackbox_exporter: no
// label that is not the metric's own.
func TestExposition(t *testing.T) {
	reports, _ := storyProbes(t.Context())
	var text strings.Builder
	facts := verdict.Facts{Target: reports[5].Target, Result: &reports[5].Result, Listener: &socket.Answer{Standing: socket.NotListening}}
	for _, f := range Exposition(facts) {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, "#") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`probe_duration_seconds 0.25`,
		`probe_failure_info{origin="target",phase="exchange",place="there",reason="status"} 1`,
		`probe_http_status_code 503`,
		`probe_local_listener{scope=""} 0`,
		`probe_local_listener_info{state="not_listening"} 1`,
		`probe_outcome_code 13`,
		`probe_success 0`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestProbesAreLean bounds the allocations of ten thousand targets.
func TestProbesAreLean(t *testing.T) {
	tcp := &probe.Module{Name: "tcp_connect", Kind: probe.KindTCP}
	const n = 10_000
	reports := make([]schedule.Report, n)
	metrics := prober.Metrics()[:6]
	for i := range reports {
		var samples []probe.Sample
		for _, m := range metrics {
			samples = append(samples, probe.Sample{Metric: m, Value: 1, Labels: m.Labels})
		}
		reports[i] = schedule.Report{Target: &probe.Target{Address: fmt.Sprintf("192.0.2.1:%d", i), Module: tcp, Labels: []probe.Label{{Name: "az", Value: "a"}}},
			Result: probe.Result{Samples: samples}, Tally: &schedule.Tally{}}
		reports[i].Tally.Add(probe.Open)
	}
	c := probes{results: func(context.Context) ([]schedule.Report, error) { return reports, nil }, addresses: storyAddresses}
	perTarget := testing.AllocsPerRun(3, func() {
		var out Output
		if err := c.Collect(t.Context(), &Snapshot{}, &out); err != nil {
			t.Fatal(err)
		}
	}) / n
	if perTarget > 4 {
		t.Errorf("%.1f allocations a target", perTarget)
	}
}
