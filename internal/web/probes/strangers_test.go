package probes

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/prober"
)

// evil would forge lines of a page, drive a terminal and turn the direction of text.
const evil = "evil\nsuccess:   yes\r\n\x1b[2J\u009b31m\x7f\u202etxt\u2028"

// TestStrangersTextIsText has a server whose certificate and banner do what they can to
// the page for people, to the log that it has, and to the metrics.
func TestStrangersTextIsText(t *testing.T) {
	certificate := porttest.SelfSigned(t, func(c *x509.Certificate) {
		c.Subject.CommonName, c.Subject.Organization = evil, []string{evil}
	})
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func(c net.Conn) {
				defer c.Close()
				_, _ = io.WriteString(c, strings.ReplaceAll(evil, "\n", "")+"\n")
				_, _ = io.Copy(io.Discard, c)
			}(c)
		}
	}()
	plan := tcpPlan()
	plan.Modules["banner"] = &probe.Module{Name: "banner", Kind: probe.KindTCP, Prober: &prober.TCP{Conversation: prober.Conversation{
		TLS: true,
		TLSConfig: func(string) (*tls.Config, error) {
			return &tls.Config{InsecureSkipVerify: true}, nil
		},
		Exchange: []prober.Step{{Expect: regexp.MustCompile(`(evil.*)`), Labels: []probe.Label{{Name: "banner", Value: "${1}"}}}},
	}}}
	plan.Targets = []probe.Target{{Address: listener.Addr().String(), Module: plan.Modules["banner"]}}
	s := server(t, plan)
	_, page := get(s.Probe, "/probe?module=banner&debug=true&target="+listener.Addr().String(), here)
	_, metrics := get(s.Probe, "/probe?module=banner&target="+listener.Addr().String(), here)
	_, remembered := get(s.Log, "/logs?id=1", here)
	_, table := get(s.Log, "/logs", here)
	for name, body := range map[string]string{"page": page, "metrics": metrics, "log": remembered, "table": table} {
		if bad := strings.IndexFunc(body, func(r rune) bool { return r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl) }); bad >= 0 {
			t.Errorf("%s: %q is in it", name, body[bad:min(len(body), bad+50)])
		}
		if name != "table" && !strings.Contains(body, `\u202etxt`) {
			t.Errorf("%s: what the server sent is not in it:\n%s", name, body)
		}
		if n := len(regexp.MustCompile(`(?m)^success:`).FindAllString(body, -1)); n > 1 {
			t.Errorf("%s: %d lines begin with success:\n%s", name, n, body)
		}
	}
}
