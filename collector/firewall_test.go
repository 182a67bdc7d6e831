package collector

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/firewall"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// fakeRules accept nothing but port 80, and publish as many ports as their number.
type fakeRules int

func (n fakeRules) Published() (all []firewall.Published, unclear int) {
	for i := range int(n) {
		all = append(all, firewall.Published{
			Protocol: firewall.TCP, First: uint16(40_000 + i), Last: uint16(40_000 + i),
			ToAddress: "172.17.0.2", ToPorts: "80", Rule: firewall.Position{Family: 2, Table: "nat\n\"", Chain: "DOCKER", Handle: 7},
		})
	}
	return append(all, firewall.Published{Protocol: firewall.UDP, Address: "192.0.2.1", First: 53, Last: 53, Redirect: true, ToPorts: "5353"}), 1
}

func (fakeRules) Listener(a firewall.Arrival, _ bool) firewall.Decision {
	if a.Port == 80 {
		return firewall.Decision{Verdict: firewall.Accept}
	}
	return firewall.Decision{Verdict: firewall.Drop}
}

func storyRules(context.Context) (Rules, error) { return fakeRules(1), nil }

// TestFirewallIsBounded has more published ports than are exported.
func TestFirewallIsBounded(t *testing.T) {
	o := options(porttest.Sockets{})
	o.Firewall = func(context.Context) (Rules, error) { return fakeRules(2 * maxPublished), nil }
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"firewall"}})
	if n := strings.Count(got, "\nport_published_info{"); n != maxPublished {
		t.Errorf("%d series of published ports", n)
	}
	if want := fmt.Sprintf("port_folded_items{metric=\"port_published_info\"} %d\n", maxPublished+1); !strings.Contains(got, want) {
		t.Errorf("want %s, got\n%s", want, got)
	}
}

// TestFirewallWithoutPrivilege is no failure, and no table without rules.
func TestFirewallWithoutPrivilege(t *testing.T) {
	o := options(porttest.Sockets{})
	o.Firewall = func(context.Context) (Rules, error) { return nil, firewall.ErrPrivilege }
	got := exposition(t, t.Context(), o, Filter{Collectors: []string{"firewall"}})
	for _, want := range []string{"port_firewall_read{netns=\"\"} 0\n", "port_scrape_collector_success{collector=\"firewall\"} 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("want %s, got\n%s", want, got)
		}
	}
	if strings.Contains(got, "\nport_published") {
		t.Errorf("got\n%s", got)
	}
}
