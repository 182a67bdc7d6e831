package collector

import (
	"slices"

	dto "github.com/prometheus/client_model/go"
)

// Family is one metric family, declared once: what is emitted, the generated
// docs/metrics.md and the tests all read the same value.
type Family struct {
	Name   string
	Help   string
	Type   dto.MetricType
	Labels []string // in the order in which Output.add takes their values

	names []*string // the labels, sorted
	order []int     // where the value of each of names is in Labels
}

func gauge(name, help string, labels ...string) *Family {
	return newFamily(dto.MetricType_GAUGE, name, help, labels)
}

func counter(name, help string, labels ...string) *Family {
	return newFamily(dto.MetricType_COUNTER, name, help, labels)
}

func histogram(name, help string, labels ...string) *Family {
	return newFamily(dto.MetricType_HISTOGRAM, name, help, labels)
}

// gaugeHistogram is a histogram of what there is now, which may fall.
func gaugeHistogram(name, help string, labels ...string) *Family {
	return newFamily(dto.MetricType_GAUGE_HISTOGRAM, name, help, labels)
}

func newFamily(kind dto.MetricType, name, help string, labels []string) *Family {
	f := &Family{Name: name, Help: help, Type: kind, Labels: labels}
	sorted := slices.Clone(labels)
	slices.Sort(sorted)
	for i, label := range sorted {
		f.names = append(f.names, &sorted[i])
		f.order = append(f.order, slices.Index(labels, label))
	}
	return f
}

// TypeName returns the type as the exposition format spells it.
func (f *Family) TypeName() string {
	switch f.Type {
	case dto.MetricType_COUNTER:
		return "counter"
	case dto.MetricType_HISTOGRAM, dto.MetricType_GAUGE_HISTOGRAM: // as the text format has both
		return "histogram"
	default:
		return "gauge"
	}
}

// other is the label value that takes what is beyond a limit.
const other = "other"

// hostNetns is the netns label of the namespace that the exporter runs in.
const hostNetns = ""

// truth is a condition as a value: 1 if it holds, 0 if not.
func truth(holds bool) float64 {
	if holds {
		return 1
	}
	return 0
}

// bind returns the labels with more behind them, in memory of its own.
func bind(labels []string, more ...string) []string {
	return append(append(make([]string, 0, len(labels)+len(more)), labels...), more...)
}
