package exporter_test

import (
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/config"
	"github.com/port-exporter/port_exporter/exporter"
)

func TestOptionsThatCannotWork(t *testing.T) {
	for want, o := range map[string]exporter.Options{
		`Collectors: "nope"`:   {Collectors: []string{"nope"}},
		`Source: "nope"`:       {Source: "nope"},
		"must not be negative": {MaxScrapes: -1},
	} {
		if _, err := exporter.New(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestRegistry registers an exporter with a policy and a target twice: with a registry that
// checks every sample, and as a gatherer. Both have the same families, those of every kind
// among them.
func TestRegistry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := config.Parse([]byte(`
policy: {rules: []}
targets:
  - {address: "` + l.Addr().String() + `", module: tcp_connect, labels: {team: a}}
`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := exporter.New(t.Context(), exporter.Options{Config: c, Collectors: []string{"sockets", "listeners", "policy", "probes"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()

	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(e)
	registered, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	gathered, err := e.Gatherer(t.Context()).Gather()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(gathered), names(registered)); diff != "" {
		t.Errorf("families (-gatherer +registry):\n%s", diff)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if !hasLabel(registered, "port_listener_info", "port", port) || !hasLabel(registered, "probe_success", "team", "a") {
		t.Errorf("the listener on port %s, or its probe, is missing", port)
	}
}

// TestGathererEnds has a scrape whose time is over: no collector succeeds, and the caller
// does not wait.
func TestGathererEnds(t *testing.T) {
	e, err := exporter.New(t.Context(), exporter.Options{Collectors: []string{"sockets"}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	families, err := e.Gatherer(ctx).Gather()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names(families), "port_sockets") {
		t.Error("a scrape without time has sockets")
	}
}

func names(families []*dto.MetricFamily) []string {
	var out []string
	for _, f := range families {
		out = append(out, f.GetName())
	}
	return out
}

func hasLabel(families []*dto.MetricFamily, family, name, value string) bool {
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == family && slices.ContainsFunc(m.Label, func(l *dto.LabelPair) bool { return l.GetName() == name && l.GetValue() == value }) {
				return true
			}
		}
	}
	return false
}
