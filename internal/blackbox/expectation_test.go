package blackbox_test

import (
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestFailedExpectation has an answer fail each expectation: the metric names the key.
func TestFailedExpectation(t *testing.T) {
	const name = "probe_http_failed_expectation_info"
	body := withBody(`{"state": "down"}`)
	for _, tt := range []struct{ module, want string }{
		{"{valid_status_codes: [204]}", "valid_status_codes"},
		{"{valid_http_versions: [HTTP/2.0]}", "valid_http_versions"},
		{"{fail_if_not_ssl: true}", "fail_if_not_ssl"},
		{"{fail_if_header_matches: [{header: X-A, regexp: b}]}", "fail_if_header_matches"},
		{"{fail_if_header_not_matches: [{header: X-A, regexp: b}]}", "fail_if_header_not_matches"},
		{"{fail_if_body_matches_regexp: [down]}", "fail_if_body_matches_regexp"},
		{"{fail_if_body_not_matches_regexp: [fine]}", "fail_if_body_not_matches_regexp"},
		{"{fail_if_body_json_matches_cel: 'body.state == \"down\"'}", "fail_if_body_json_matches_cel"},
		{"{fail_if_body_json_not_matches_cel: 'body.state == \"fine\"'}", "fail_if_body_json_not_matches_cel"},
		{"{compression: gzip}", "compression"},
		{"{body_size_limit: 3B}", "body_size_limit"},
		{"{}", ""},
	} {
		r := probeWith(t, parseModule(t, probe.KindHTTP, tt.module), probe.Request{Address: web(t, body)})
		got := ""
		for _, s := range r.Samples {
			if s.Metric.Name == name {
				got += s.Labels[0]
			}
		}
		if got != tt.want || (got == "") != (r.Outcome == probe.Open) {
			t.Errorf("%s: the label is %q, and %s: %v", tt.module, got, r.Outcome, r.Err)
		}
	}
}
