package blackbox_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// firewalled are name servers behind a packet filter, or a router that forbids
// them. The router sends five errors to one host and then one a second
// (error_burst of its routes), so that there are no more cases of it.
var firewalled = []failure{
	{name: "target's firewall, admin-prohibited, UDP", module: ask, target: at("127.0.0.1:1053"), want: "prohibited exchange target_firewall"},
	{name: "target's firewall, admin-prohibited, TCP", module: askTCP, target: at("127.0.0.1:1053"), want: "prohibited connect target_firewall"},
	{name: "target's firewall, host-prohibited, UDP", module: ask, target: at("127.0.0.1:1054"), want: "prohibited exchange target_firewall"},
	{name: "target's firewall, port-unreachable, TCP", module: askTCP, target: at("127.0.0.1:1055"), want: "refused connect target_firewall"},
	{name: "target's firewall, tcp reset", module: askTCP, target: at("127.0.0.1:1056"), want: "refused connect target"},
	{name: "own firewall drops, UDP", module: ask, target: at("127.0.0.1:1057"), want: "prohibited exchange local"},
	{name: "own firewall drops, UDP from an address", module: query(", source_ip_address: 127.0.0.1"), target: at("127.0.0.1:1057"), want: "prohibited exchange local"},
	{name: "router's firewall, UDP", module: ask, target: at(routerProhibited), want: "prohibited exchange network"},
	{name: "router's firewall, TCP", module: askTCP, target: at(routerProhibited), want: "prohibited connect network"},
	{name: "no route, TCP", module: askTCP, target: at(unrouted), want: "unreachable connect local"},
	{name: "nobody listens, UDP", module: ask, target: at("127.0.0.1:1059"), want: "refused exchange target"},
	{name: "dropped, UDP", module: ask, target: at("127.0.0.1:1058"), want: "no_reply exchange none"},
}

// TestDNSBehindFirewallsInNamespace compares the result for a name server with what
// tcp and udp say of the same rule.
func TestDNSBehindFirewallsInNamespace(t *testing.T) {
	if os.Getenv(inside) == "" {
		runInside(t)
		return
	}
	furnish(t)
	porttest.NFT(t, `table inet filter {
	chain input {
		type filter hook input priority 0
		udp dport 1053 reject with icmpx admin-prohibited
		tcp dport 1053 reject with icmpx admin-prohibited
		udp dport 1054 ip protocol udp reject with icmp host-prohibited
		tcp dport 1055 reject with icmpx port-unreachable
		tcp dport 1056 reject with tcp reset
		udp dport 1058 drop
	}
	chain output {
		type filter hook output priority 0
		udp dport 1057 drop
	}
}
`)
	s := newSite(t)
	t.Run("all", func(t *testing.T) {
		for _, f := range firewalled {
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				f.timeout = 4 * time.Second
				began := time.Now()
				result := f.run(t, probe.KindDNS, s)
				if got := described(result); got != f.want {
					t.Errorf("got %s, want %s\n%v", got, f.want, result.Err)
				}
				if took := time.Since(began); took > 5*time.Second || !strings.HasPrefix(f.want, "no_reply") && took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				if strings.HasSuffix(f.want, "network") && result.ICMP.Offender.String() != "198.18.0.2" {
					t.Errorf("the offender is %v", result.ICMP.Offender)
				}
			})
		}
	})
	settle(t)
}
