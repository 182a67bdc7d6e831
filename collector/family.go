package collector

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// Family is one metric family, declared once: Describe, Collect, the generated
// docs/metrics.md and the tests all read the same value.
type Family struct {
	Name   string
	Help   string
	Type   prometheus.ValueType
	Labels []string

	desc *prometheus.Desc
}

func gauge(name, help string, labels ...string) *Family {
	return newFamily(prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) *Family {
	return newFamily(prometheus.CounterValue, name, help, labels)
}

func newFamily(kind prometheus.ValueType, name, help string, labels []string) *Family {
	return &Family{Name: name, Help: help, Type: kind, Labels: labels, desc: prometheus.NewDesc(name, help, labels, nil)}
}

// TypeName returns the type as the exposition format spells it.
func (f *Family) TypeName() string {
	if f.Type == prometheus.CounterValue {
		return "counter"
	}
	return "gauge"
}

// metric returns a sample. Label values may come from anywhere on the host, so
// what is not UTF-8 in them is replaced.
func (f *Family) metric(value float64, labels []string) prometheus.Metric {
	for i, label := range labels {
		labels[i] = validUTF8(label)
	}
	return prometheus.MustNewConstMetric(f.desc, f.Type, value, labels...)
}

func validUTF8(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Output gathers what one collector has to say. It is emitted whole when the
// collector succeeds, and not at all when it fails.
type Output struct{ metrics []prometheus.Metric }

// add adds a sample.
func (o *Output) add(f *Family, value float64, labels ...string) {
	o.metrics = append(o.metrics, f.metric(value, labels))
}

// fold adds how many label values of a family were folded into "other".
func (o *Output) fold(f *Family, n int) { o.add(foldedSeries, float64(n), f.Name) }

// other is the label value that takes what is beyond a limit.
const other = "other"

// hostNetns is the netns label of the namespace that the exporter runs in.
const hostNetns = ""

// bind returns the labels with more behind them, in memory of its own.
func bind(labels []string, more ...string) []string {
	return append(append(make([]string, 0, len(labels)+len(more)), labels...), more...)
}
