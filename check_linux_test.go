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

// TestCheckNamesTheRuleInNamespace has a firewall of this host in the way.
func TestCheckNamesTheRuleInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	porttest.Listen(t, "0.0.0.0:82", 1)
	porttest.NFT(t, `table inet filter {
	chain output {
		type filter hook output priority 0; policy accept;
		ip daddr 198.51.100.2 tcp dport 81 reject with tcp reset
		ip daddr 198.51.100.2 tcp dport 83 drop
	}
	chain input {
		type filter hook input priority 0; policy drop;
		ct state established,related accept
		iifname "lo" accept
		ip saddr 10.0.0.0/8 tcp dport 82 accept
	}
}
`)
	for target, want := range map[string]string{
		"198.51.100.2:81":          `is rejected by a firewall rule of this host \(inet filter output handle \d+\)`,
		"198.51.100.2:83":          `is dropped by a firewall rule of this host \(inet filter output handle \d+\)`,
		porttest.ClientIP4 + ":82": `firewall +for other hosts: limited from 10\.0\.0\.0/8 \(inet filter input handle \d+\)`,
	} {
		out, said, _ := endedAs(t, nil, "port_exporter", "check", "--timeout=1s", target)
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("%s: want %s, said %q\n%s", target, want, said, out)
		}
	}
}
