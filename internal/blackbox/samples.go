package blackbox

import (
	"crypto/x509"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// earliestExpiry is as blackbox_exporter declares it, in prober/prober.go.
var earliestExpiry = probe.Metric{Name: "probe_ssl_earliest_cert_expiry", Help: "Returns last SSL chain expiry in unixtime"}

// samplesOf returns the measurements of a registry. The probers make gauges
// only; a test holds them to it.
func samplesOf(families []*dto.MetricFamily) []probe.Sample {
	var out []probe.Sample
	for _, f := range families {
		metric := &probe.Metric{Name: f.GetName(), Help: f.GetHelp()}
		for i, m := range f.GetMetric() {
			s := probe.Sample{Metric: metric, Value: m.GetGauge().GetValue()}
			for _, l := range m.GetLabel() {
				if i == 0 {
					metric.Labels = append(metric.Labels, l.GetName())
				}
				s.Labels = append(s.Labels, l.GetValue())
			}
			out = append(out, s)
		}
	}
	return out
}

// value returns a measurement that has no labels, or 0.
func value(families []*dto.MetricFamily, name string) float64 {
	for _, f := range families {
		if f.GetName() == name && len(f.GetMetric()) == 1 {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// setLookup puts the time that our look-up of a name took in the place of the
// prober's, which was given an address.
func setLookup(samples []probe.Sample, took time.Duration) {
	for i := range samples {
		s := &samples[i]
		phase := len(s.Labels) == 1 && s.Metric.Labels[0] == "phase" && s.Labels[0] == "resolve"
		if s.Metric.Name == "probe_dns_lookup_time_seconds" || phase {
			s.Value = took.Seconds()
		}
	}
}

// expiryOf returns when the first of the certificates expires.
func expiryOf(certificates []*x509.Certificate) (earliest time.Time) {
	for _, c := range certificates {
		if earliest.IsZero() || c.NotAfter.Before(earliest) {
			earliest = c.NotAfter
		}
	}
	return earliest
}
