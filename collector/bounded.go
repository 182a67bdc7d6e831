package collector

import (
	"context"
	"slices"
	"unicode/utf8"

	"github.com/port-exporter/port_exporter/internal/plain"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
)

// maxMeasured is the longest value of a label, in bytes, that a measurement of a
// configured target has. Such a value may be the target's own words: a banner, the
// names in a certificate. Prometheus gives up the whole scrape for one that is
// above label_value_length_limit, and here that is the scrape of everything else
// too.
const maxMeasured = 1 << 10

const ellipsis = "…"

// bounded returns results whose measurements have no label value above
// [maxMeasured].
func bounded(results ProbeResults) ProbeResults {
	return func(ctx context.Context) ([]schedule.Report, error) {
		reports, err := results(ctx)
		for i := range reports {
			reports[i].Result.Samples = boundSamples(reports[i].Result.Samples)
		}
		return reports, err
	}
}

// boundSamples leaves the samples that it is given as they are, for others have
// them too. Of those that would be the same series the first stands.
func boundSamples(samples []probe.Sample) []probe.Sample {
	isLong := func(value string) bool { return len(plain.Line(value)) > maxMeasured }
	if !slices.ContainsFunc(samples, func(s probe.Sample) bool { return slices.ContainsFunc(s.Labels, isLong) }) {
		return samples
	}
	kept := make([]probe.Sample, 0, len(samples))
	for _, s := range samples {
		short := probe.Sample{Metric: s.Metric, Value: s.Value}
		for _, value := range s.Labels {
			short.Labels = append(short.Labels, boundValue(value))
		}
		if !slices.ContainsFunc(kept, func(k probe.Sample) bool { return isSameSeries(k, short) }) {
			kept = append(kept, short)
		}
	}
	return kept
}

func isSameSeries(a, b probe.Sample) bool {
	return a.Metric.Name == b.Metric.Name && slices.Equal(a.Metric.Labels, b.Metric.Labels) && slices.Equal(a.Labels, b.Labels)
}

// boundValue returns a value as it is exposed, cut between two characters where it
// is too long.
func boundValue(value string) string {
	text := plain.Line(value)
	if len(text) <= maxMeasured {
		return text
	}
	end := maxMeasured - len(ellipsis)
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + ellipsis
}
