package collector

import (
	"context"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

func TestBoundValue(t *testing.T) {
	long := strings.Repeat("é", maxMeasured)
	for name, tt := range map[string]struct{ value, want string }{
		"a character on the edge":    {long, long[:maxMeasured-len(ellipsis)-1] + ellipsis},
		"no UTF-8 at all":            {strings.Repeat("\xff", 300), strings.Repeat(`\xff`, 255) + "\\" + ellipsis},
		"one byte too many":          {strings.Repeat("a", maxMeasured+1), strings.Repeat("a", maxMeasured-len(ellipsis)) + ellipsis},
		"as long as it may be":       {strings.Repeat("a", maxMeasured), strings.Repeat("a", maxMeasured)},
		"as long in two-byte ones":   {long[:maxMeasured], long[:maxMeasured]},
		"escaped, and short as that": {"\xff", `\xff`},
		"empty":                      {"", ""},
	} {
		got := boundValue(tt.value)
		if got != tt.want {
			t.Errorf("%s: %d bytes, %q", name, len(got), got)
		}
		if len(got) > maxMeasured || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, valid: %v", name, len(got), utf8.ValidString(got))
		}
	}
}

// TestTargetsChooseShortLabels has a target that says 60 kB, twice, to a step
// with a label: on /metrics they are cut, and one series, on /probe they are whole.
func TestTargetsChooseShortLabels(t *testing.T) {
	metric := func() *probe.Metric {
		return &probe.Metric{Name: "probe_expect_info", Help: "Explicit content matched", Labels: []string{"banner", "step"}}
	}
	banner := strings.Repeat("a", 60_000)
	samples := []probe.Sample{
		{Metric: metric(), Value: 1, Labels: []string{banner + "1", "x"}},
		{Metric: metric(), Value: 1, Labels: []string{banner + "2", "x"}},
		{Metric: &probe.Metric{Name: "probe_other", Labels: []string{"a"}}, Value: 2, Labels: []string{"short"}},
	}
	reports := []schedule.Report{{
		Target: &probe.Target{Address: "192.0.2.1:22", Module: &probe.Module{Name: "ssh", Kind: probe.KindTCP}},
		Result: probe.Result{Samples: samples}, Tally: &schedule.Tally{},
	}}
	o := options(porttest.Sockets{})
	o.Addresses = storyAddresses
	o.Probes = func(context.Context) ([]schedule.Report, error) { return slices.Clone(reports), nil }
	text := exposition(t, t.Context(), o, Filter{Collectors: []string{"probes"}})
	var got []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "probe_expect_info{") || strings.HasPrefix(line, "probe_other{") {
			got = append(got, strings.TrimSpace(line))
		}
	}
	want := []string{
		`probe_expect_info{banner="` + banner[:maxMeasured-len(ellipsis)] + ellipsis + `",module="ssh",step="x",target="192.0.2.1:22",target_name=""} 1`,
		`probe_other{a="short",module="ssh",target="192.0.2.1:22",target_name=""} 2`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, f := range Exposition(verdict.Facts{Target: reports[0].Target, Result: &reports[0].Result}) { // of the same samples, which must be as they were
		if f.GetName() == "probe_expect_info" && (len(f.Metric) != 2 || len(f.Metric[0].Label[0].GetValue()) != len(banner)+1) {
			t.Errorf("on request: %d series, a value of %d bytes", len(f.Metric), len(f.Metric[0].Label[0].GetValue()))
		}
	}
}
