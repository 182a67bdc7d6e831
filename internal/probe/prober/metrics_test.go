package prober

import (
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestMetrics compares the list with what a probe with everything emits.
func TestMetrics(t *testing.T) {
	known := map[string]*probe.Metric{}
	for _, m := range Metrics() {
		if m.Help == "" || known[m.Name] != nil {
			t.Errorf("%s has no help or is there twice", m.Name)
		}
		known[m.Name] = m
	}
	ca := newAuthority(t)
	config := serverConfig(ca.issue(t, "name.example", time.Now().Add(time.Hour)))
	address := startServer(t, "tcp", "127.0.0.1:0", underTLS(config, says("220 here\n")))
	step := expect("^220 (.*)")
	step.Labels = []probe.Label{{Name: "said", Value: "$1"}}
	p := &TCP{Breadth: Breadth{AllIPs: true}, Conversation: Conversation{TLS: true, TLSConfig: ca.trusting(), Exchange: []Step{step}}}
	got := p.Probe(t.Context(), probe.Request{Address: address})
	if got.Outcome != probe.Open {
		t.Fatalf("%s: %v", got.Outcome, got.Err)
	}
	for _, s := range got.Samples {
		m := known[s.Metric.Name]
		switch {
		case m == nil:
			t.Errorf("%s is not listed", s.Metric.Name)
		case m != s.Metric && m != expectInfo || m.Help != s.Metric.Help:
			t.Errorf("%s is another metric than the listed one", s.Metric.Name)
		case len(s.Labels) != len(s.Metric.Labels):
			t.Errorf("%s has %d values for the labels %v", m.Name, len(s.Labels), s.Metric.Labels)
		}
	}
}
