package prober

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// natRow is a row of the STUN section of docs/diagnosis.md, and more of what a
// router can do.
type natRow struct {
	name string
	// nft are the chains of the router's table. CLIENT and SERVER are addresses,
	// IP is ip or ip6.
	nft  string
	want natSeen
}

func natRows() []natRow {
	const postrouting = "chain post {\n type nat hook postrouting priority 100\n oifname eth1 meta l4proto udp %\n}\n"
	masquerade := func(how string) string { return strings.Replace(postrouting, "%", "masquerade "+how, 1) }
	const (
		independent = "endpoint-independent"
		address     = "address-dependent"
		both        = "address-and-port-dependent"
	)
	return []natRow{
		{name: "none", want: natSeen{"0", "1", independent, independent}},
		{name: "masquerade", nft: masquerade(""), want: natSeen{"1", "1", independent, both}},
		{name: "masquerade to a port range", nft: masquerade("to :20000-21000"), want: natSeen{"1", "0", independent, both}},
		{name: "masquerade fully random", nft: masquerade("fully-random"), want: natSeen{"1", "0", both, both}},
		{
			name: "full cone", want: natSeen{"1", "1", independent, independent},
			nft: masquerade("") + "chain pre {\n type nat hook prerouting priority -100\n iifname eth1 meta l4proto udp dnat to CLIENT\n}\n",
		},
		{
			name: "a firewall that keeps state", want: natSeen{"0", "1", independent, both},
			nft: "chain forward {\n type filter hook forward priority 0\n iifname eth1 ct state new drop\n}\n",
		},
		{
			name: "a firewall that lets one address in", want: natSeen{"0", "1", independent, address},
			nft: "chain forward {\n type filter hook forward priority 0\n iifname eth1 IP saddr != SERVER ct state new drop\n}\n",
		},
	}
}

// TestSTUNBehindNATInNamespace puts nftables between a client and a server of
// RFC 5780.
func TestSTUNBehindNATInNamespace(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		second := map[string]string{"ip4": "198.51.100.3", "ip6": "2001:db8:2::3"}[f.name]
		prefix := map[string]string{"ip4": "/24", "ip6": "/64"}[f.name]
		ip := map[string]string{"ip4": "ip", "ip6": "ip6"}[f.name]
		for _, row := range natRows() {
			t.Run(f.name+"/"+row.name, func(t *testing.T) {
				t.Parallel()
				n := porttest.NewNetwork(t)
				n.Server.Do(t, func() {
					porttest.Address(t, "eth0", second+prefix)
					serveSTUN(t, [2]string{f.server, second}, [2]int{3478, 3479})
				})
				if row.nft != "" {
					chains := strings.NewReplacer("CLIENT", f.client, "SERVER", f.server, "IP", ip).Replace(row.nft)
					n.Router.Do(t, func() { porttest.NFT(t, "table "+ip+" test {\n"+chains+"}\n") })
				}
				result := probeFor(t, &STUN{}, 5*time.Second, probe.Request{Address: net.JoinHostPort(f.server, "3478")})
				if result.Outcome != probe.Open {
					t.Fatalf("%s in %s: %v", result.Outcome, result.Phase, result.Err)
				}
				if diff := cmp.Diff(row.want, natOf(result)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}
