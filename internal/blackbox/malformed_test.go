package blackbox_test

import (
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestMalformedTargets has each prober say of what is no target for it what the
// others say, with the measurements that it has without one.
func TestMalformedTargets(t *testing.T) {
	for _, tt := range []struct {
		prober, module string
		sample         string
		targets        []string
	}{
		{probe.KindHTTP, "{}", "probe_http_status_code", []string{"", "http://", "http://a b/", "http://127.0.0.1:port/", "http://127.0.0.1:0/", "https://127.0.0.1:70000/", "http://:80/", "ftp://127.0.0.1/", "http://[::1/"}},
		{probe.KindHTTP, "{enable_http3: true, enable_http2: false}", "probe_http_status_code", []string{"https://a b/", "https://127.0.0.1:70000/"}},
		{probe.KindDNS, "{query_name: example.org}", "probe_dns_query_succeeded", []string{"", ":53", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000", "127.0.0.1:no-such-service", "a b", "https://127.0.0.1"}},
		{probe.KindICMP, "{}", "probe_icmp_duration_seconds{resolve}", []string{"", "127.0.0.1:80", "localhost:80", "a b", "http://127.0.0.1/"}},
	} {
		p := newProber(t, parseModule(t, tt.prober, tt.module))
		for _, target := range tt.targets {
			got := p.Probe(t.Context(), probe.Request{Address: target})
			if described(got) != "unknown resolve local" || got.Err == nil {
				t.Errorf("%s %q: %s: %v", tt.prober, target, described(got), got.Err)
			}
			if _, ok := byName(got)[tt.sample]; !ok {
				t.Errorf("%s %q: %v lacks %s", tt.prober, target, byName(got), tt.sample)
			}
		}
	}
}
