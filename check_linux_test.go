package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestCheckOfFullQueueInNamespace checks a service of this host that does not accept:
// the first line names the cause, and no other.
func TestCheckOfFullQueueInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:81", 1)
	for range 2 { // a queue takes one more than its limit
		porttest.Dial(t, "127.0.0.1:81")
	}
	out, said, status := endedAs(t, nil, "port_exporter", "check", "--timeout=1s", "127.0.0.1:81")
	full := regexp.MustCompile(`^127\.0\.0\.1:81 does not take the connection: the accept queue of .*\(pid \d+.*\) is full \(2 of 1\)\.$`)
	headline, rest, _ := strings.Cut(out, "\n")
	if status != 1 || !full.MatchString(headline) ||
		!strings.Contains(rest, "listens on 127.0.0.1:81 (this host only), queue 2/1, full: the service does not accept") {
		t.Errorf("status %d, said %q\n%s", status, said, out)
	}
}
