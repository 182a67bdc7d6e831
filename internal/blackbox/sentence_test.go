package blackbox_test

import (
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/verdict"
)

// TestWhoFailedIsNamed has proxies and redirects fail: sentence and error name them,
// and not the target.
func TestWhoFailedIsNamed(t *testing.T) {
	refusing := web(t, withStatus(407))
	for _, tt := range []struct{ name, module, target, sentence, err string }{
		{"proxy that is down", "{proxy_url: 'http://127.0.0.1:1'}", "http://127.0.0.2/", "http://127.0.0.2/ was not reached: the proxy 127.0.0.1:1 refuses the connection", "the proxy 127.0.0.1:1: "},
		{"proxy that wants a password", "{proxy_url: '" + refusing + "'}", "http://127.0.0.2/", "the proxy " + hostOf(refusing) + " answers with 407 ", "407"},
		{"the same, with TLS", "{proxy_url: '" + refusing + "'}", "https://127.0.0.2/", "the proxy " + hostOf(refusing) + " answers CONNECT with 407 ", "407"},
		{"redirect to a closed port", "{}", web(t, redirecting("http://127.0.0.1:1/x?token=secret")), " redirects to http://127.0.0.1:1/x: http://127.0.0.1:1/x refuses", "refused"},
		{"loop", "{}", web(t, redirecting("/")), " redirects to ", "more than 10 times"},
		{"version", "{valid_http_versions: [HTTP/2.0]}", web(t, withStatus(200)), "answers, and not what is expected", "HTTP/1.1 is not among HTTP/2.0"},
		{"header", "{fail_if_header_not_matches: [{header: X-A, regexp: b}]}", web(t, withStatus(200)), "answers, and not what is expected", "no header X-A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := probeWith(t, parseModule(t, probe.KindHTTP, tt.module), probe.Request{Address: tt.target})
			if got := verdict.Judge(&verdict.Facts{Target: &probe.Target{Address: tt.target}, Result: &r}).Sentence; !strings.Contains(got, tt.sentence) || strings.Contains(got, "secret") {
				t.Errorf("got %q, want %q in it", got, tt.sentence)
			}
			if r.Err == nil || !strings.Contains(r.Err.Error(), tt.err) {
				t.Errorf("the error is %v, want %q in it", r.Err, tt.err)
			}
		})
	}
}
