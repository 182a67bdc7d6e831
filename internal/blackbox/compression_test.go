package blackbox_test

import (
	"io"
	"net"
	"testing"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// TestCompressionFailures has bodies that are no gzip by their very length, beside
// those whose connection was cut, which end in the same error.
func TestCompressionFailures(t *testing.T) {
	const compressed = "{compression: gzip}"
	answering := func(text string) func(*testing.T, *site) string {
		return listening("http://", func(c *net.TCPConn) {
			defer c.Close()
			if _, err := c.Read(make([]byte, 4096)); err == nil { // a request that is not read would be a reset
				io.WriteString(c, text)
			}
		})
	}
	runFailures(t, probe.KindHTTP, []failure{
		{name: "a short text", module: compressed, target: serving(withBody("ok\n")), want: "mismatch exchange target"},
		{name: "gzip where br is wanted", module: "{compression: br}", target: serving(withBody(gzipped("some text, and more of it"))), want: "mismatch exchange target"},
		{name: "text where deflate is wanted", module: "{compression: deflate}", target: serving(withBody("some text, and more of it\n")), want: "mismatch exchange target"},
		{name: "nothing", module: compressed, target: answering(raw("200 OK", "Content-Length: 0")), want: "mismatch exchange target"},
		{name: "one byte short of gzip", module: compressed, target: serving(withBody(gzipped("")[:17])), want: "mismatch exchange target"},
		{name: "a short text, cut", module: compressed, target: answering(raw("200 OK", "Content-Length: 100") + "ok\n"), want: "closed exchange target"},
		{name: "gzip, cut", module: compressed, target: answering(raw("200 OK", "Content-Length: 100") + gzipped("some text")[:15]), want: "closed exchange target"},
		{name: "the wrong status beside it", module: compressed, target: answering(raw("404 Not Found", "Content-Length: 3") + "no\n"), want: "status exchange target"},
	})
}
