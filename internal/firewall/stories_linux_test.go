package firewall

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

func read(t *testing.T) *Ruleset {
	t.Helper()
	rules, err := NewReader("/proc").Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// ufw is what ufw makes of: default deny incoming, allow 1001/tcp, allow from
// 10.1.0.0/25 to any port 1002, deny 1003, limit 2000/tcp.
const ufw = `
table ip filter {
	chain ufw-logging-deny { limit rate 3/minute burst 10 packets log prefix "[UFW BLOCK] "; }
	chain ufw-skip-to-policy-input { counter drop; }
	chain ufw-user-limit { limit rate 3/minute log prefix "[UFW LIMIT] "; reject; }
	chain ufw-user-limit-accept { accept; }
	chain ufw-user-input {
		tcp dport 1001 counter accept
		ip saddr 10.1.0.0/25 tcp dport 1002 counter accept
		ip saddr 10.1.0.0/25 udp dport 1002 counter accept
		tcp dport 1003 counter drop
		udp dport 1003 counter drop
		tcp dport 2000 ct state new limit rate 6/minute jump ufw-user-limit
		tcp dport 2000 counter jump ufw-user-limit-accept
	}
	chain ufw-not-local {
		fib daddr type local return
		fib daddr type multicast return
		fib daddr type broadcast return
		limit rate 3/minute burst 10 packets jump ufw-logging-deny
		drop
	}
	chain ufw-before-input {
		iifname "lo" counter accept
		ct state related,established counter accept
		ct state invalid jump ufw-logging-deny
		ct state invalid counter drop
		icmp type echo-request counter accept
		udp sport 67 udp dport 68 counter accept
		jump ufw-not-local
		ip daddr 224.0.0.251 udp dport 5353 accept
		jump ufw-user-input
	}
	chain ufw-after-input {
		udp dport 137 jump ufw-skip-to-policy-input
		fib daddr type broadcast jump ufw-skip-to-policy-input
	}
	chain ufw-after-logging-input { limit rate 3/minute burst 10 packets log prefix "[UFW BLOCK] "; }
	chain ufw-reject-input { }
	chain INPUT {
		type filter hook input priority 0; policy drop;
		jump ufw-before-input
		jump ufw-after-input
		jump ufw-after-logging-input
		jump ufw-reject-input
	}
	chain OUTPUT { type filter hook output priority 0; policy accept; }
}
`

// firewalld is what it makes of a zone with 1001/tcp on eth0 and one that trusts eth1.
const firewalld = `
table inet firewalld {
	chain filter_PREROUTING {
		type filter hook prerouting priority -290; policy accept;
		icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
		meta nfproto ipv6 fib saddr . mark . iif oif missing drop
	}
	chain nat_PREROUTING { type nat hook prerouting priority -90; policy accept; jump nat_PRE_zones; }
	chain nat_PRE_zones { return; }
	chain filter_IN_public_allow { tcp dport 1001 accept; }
	chain filter_IN_public_deny { ip saddr 10.1.0.130 drop; }
	chain filter_IN_public {
		jump filter_IN_public_deny
		jump filter_IN_public_allow
		meta l4proto { icmp, ipv6-icmp } accept
	}
	chain filter_IN_trusted { accept; }
	chain filter_INPUT_ZONES {
		iifname vmap { eth0 : goto filter_IN_public, eth1 : goto filter_IN_trusted }
		goto filter_IN_public
	}
	chain filter_INPUT {
		type filter hook input priority 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT { type filter hook output priority 10; policy accept; ct state { established, related } accept; oifname "lo" accept; }
}
`

// plainFirewall is what people write by hand.
const plainFirewall = `
table inet filter {
	set blocked { type ipv4_addr; flags interval; elements = { 10.1.0.130, 203.0.113.0/24 } }
	chain input {
		type filter hook input priority 0; policy drop;
		ct state vmap { established : accept, related : accept, invalid : drop }
		iif lo accept
		meta l4proto { icmp, ipv6-icmp } accept
		ip saddr @blocked drop
		tcp dport { 1001, 1002 } accept
		ip saddr 10.1.0.0/24 tcp dport 1003 accept
		iifname eth1 udp dport 1001-1010 accept
		meta l4proto tcp reject with tcp reset
		counter log prefix "dropped: "
	}
}
`

// legacyWords are rules as iptables writes them, through nftables.
const legacyWords = `
iptables-nft -P INPUT DROP
iptables-nft -N services
iptables-nft -A INPUT -i lo -j ACCEPT
iptables-nft -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-nft -A INPUT -m conntrack --ctstate INVALID -j DROP
iptables-nft -A INPUT -p icmp -j ACCEPT
iptables-nft -A INPUT -p tcp -m tcp --syn -m conntrack --ctstate NEW -j services
iptables-nft -A INPUT -p udp -m multiport --dports 1001,1005:1020 -m comment --comment dns -j ACCEPT
iptables-nft -A INPUT -m addrtype --dst-type LOCAL -p udp --dport 2000 -j REJECT
iptables-nft -A services -p tcp -m multiport --dports 1001,2000 -j ACCEPT
iptables-nft -A services -s 10.1.0.0/25 -p tcp --dport 1002 -j ACCEPT
iptables-nft -A services -i eth+ -p tcp --dport 1003 -j REJECT --reject-with tcp-reset
ip6tables-nft -A INPUT -m rt --rt-type 0 -j DROP
ip6tables-nft -A INPUT -p tcp --dport 1001 -j REJECT
`

// TestStoriesInNamespace has firewalls as they are found, compared with the kernel.
func TestStoriesInNamespace(t *testing.T) {
	for _, story := range []struct {
		name, rules, iptables string
		unknown               int               // of the decisions about single connections
		want                  map[string]string // by protocol/port, of IPv4
	}{
		{"none", "", "", 0, map[string]string{"tcp/1001": "accept"}},
		{"ufw", ufw, "", len(peers4), map[string]string{
			"tcp/1001": "accept", "tcp/1002": "limited from 10.1.0.0/25", "udp/1002": "limited from 10.1.0.0/25",
			"tcp/1003": "drop", "tcp/1010": "drop", "tcp/2000": "unknown: limit is not understood",
		}},
		{"firewalld", firewalld, "", 0, map[string]string{
			"tcp/1001": "accept", "tcp/1002": "limited from interface eth1", "udp/1002": "limited from interface eth1",
		}},
		{"plain", plainFirewall, "", 0, map[string]string{
			"tcp/1001": "accept", "tcp/1003": "limited from 10.1.0.0-10.1.0.129 10.1.0.131-10.1.0.255", "udp/1002": "limited from interface eth1",
			"tcp/2000": "reject", "udp/2000": "drop",
		}},
		{"iptables", "", legacyWords, 0, map[string]string{
			"tcp/1001": "accept", "tcp/2000": "accept", "tcp/1002": "limited from 10.1.0.0/25", "tcp/1003": "reject",
			"udp/1001": "accept", "udp/1010": "accept", "udp/1002": "drop", "udp/2000": "reject",
		}},
	} {
		t.Run(story.name, func(t *testing.T) {
			h := newHosts(t)
			porttest.IPTables(t, story.iptables)
			porttest.NFT(t, story.rules)
			if unknown := h.compare(t, story.rules+story.iptables); unknown != story.unknown {
				t.Errorf("%d decisions are unknown, want %d", unknown, story.unknown)
			}
			got := map[string]string{}
			rules := read(t)
			for name := range story.want {
				protocol, port := TCP, uint16(0)
				if strings.HasPrefix(name, "udp") {
					protocol = UDP
				}
				if _, err := fmt.Sscanf(name[4:], "%d", &port); err != nil {
					t.Fatal(err)
				}
				d := rules.Input(Arrival{Protocol: protocol, To: netip.IPv4Unspecified(), Port: port})
				t.Logf("%s: %v", name, d)
				d.Rule = Position{}
				got[name] = d.String()
			}
			if diff := cmp.Diff(story.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// peers4 are the peers with IPv4.
var peers4 = []string{"10.1.0.2", "10.1.0.3", "10.1.0.130", "10.2.0.2"}

// TestPublishedInNamespace has the rules that publish ports, and connects to some.
func TestPublishedInNamespace(t *testing.T) {
	const prerouting = "table ip nat {\n%s\n\tchain PREROUTING {\n\t\ttype nat hook prerouting priority -100;\n%s\n\t}\n}\n"
	for _, story := range []struct {
		name, rules, iptables string
		want                  []string
		reached               map[uint16]uint16 // a port, and the one that it leads to
		unclear               int
	}{
		{name: "docker", iptables: `
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
iptables-nft -t nat -A DOCKER -d 10.1.0.1/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.3:53
iptables-nft -t nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 9000:9010 -j DNAT --to-destination 172.17.0.4:9000-9010
iptables-nft -t nat -A PREROUTING -p tcp --dport 8081 -j REDIRECT --to-ports 1001
iptables-nft -t nat -A PREROUTING -p tcp --dport 8082 -j DNAT --to-destination 10.1.0.1:1002
ip6tables-nft -t nat -A PREROUTING -p tcp --dport 8443 -j DNAT --to-destination [2001:db8:9::2]:443
`, want: []string{
			"tcp any:8080%other than docker0 dnat 172.17.0.2:80 ip nat DOCKER",
			"tcp any:8081 redirect :1001 ip nat PREROUTING",
			"tcp any:8082 dnat 10.1.0.1:1002 ip nat PREROUTING",
			"tcp any:8443 dnat 2001:db8:9::2:443 ip6 nat PREROUTING",
			"tcp any:9000-9010%other than docker0 dnat 172.17.0.4:9000-9010 ip nat DOCKER",
			"udp 10.1.0.1:53%other than docker0 dnat 172.17.0.3:53 ip nat DOCKER",
		}, reached: map[uint16]uint16{8081: 1001, 8082: 1002}},
		{name: "docker by nft", rules: fmt.Sprintf(prerouting, "\tchain DOCKER {\n\t\tiifname docker0 return\n\t\tiifname != docker0 tcp dport 8080 dnat to 172.17.0.2:80\n\t}",
			"\t\tfib daddr type local jump DOCKER"), want: []string{"tcp any:8080%other than docker0 dnat 172.17.0.2:80 ip nat DOCKER"}},
		{name: "rules of nft", rules: fmt.Sprintf(prerouting, "\tmap services { type inet_service : ipv4_addr . inet_service; elements = { 8080 : 10.1.0.1 . 1001, 8081 : 172.17.0.3 . 80 } }", `
		tcp dport 8082 redirect to :1002
		tcp dport 8083-8085 redirect to :20-30
		tcp dport 1003 redirect
		iifname eth1 tcp dport { 8086, 8088-8090 } dnat to 172.17.0.4
		ip saddr 10.1.0.0/24 udp dport 53 dnat to 172.17.0.5
		dnat ip addr . port to tcp dport map @services
		dnat to tcp dport map { 8100 : 172.17.0.6, 8101-8102 : 172.17.0.7 }
		ip daddr 203.0.113.1 tcp dport 443 dnat to 172.17.0.8:8443
		tcp dport 8200-8210 dnat to 172.17.0.9:9200-9210
		`), want: []string{
			"tcp 203.0.113.1:443 dnat 172.17.0.8:8443 ip nat PREROUTING",
			"tcp any:1003 redirect : ip nat PREROUTING",
			"tcp any:8080 dnat 10.1.0.1:1001 ip nat PREROUTING",
			"tcp any:8081 dnat 172.17.0.3:80 ip nat PREROUTING",
			"tcp any:8082 redirect :1002 ip nat PREROUTING",
			"tcp any:8083-8085 redirect :20-30 ip nat PREROUTING",
			"tcp any:8086%eth1 dnat 172.17.0.4: ip nat PREROUTING",
			"tcp any:8088-8090%eth1 dnat 172.17.0.4: ip nat PREROUTING",
			"tcp any:8100 dnat 172.17.0.6: ip nat PREROUTING",
			"tcp any:8101-8102 dnat 172.17.0.7: ip nat PREROUTING",
			"tcp any:8200-8210 dnat 172.17.0.9:9200-9210 ip nat PREROUTING",
			"udp any:53 from 10.1.0.0/24 dnat 172.17.0.5: ip nat PREROUTING",
		}, reached: map[uint16]uint16{8080: 1001, 8082: 1002, 1003: 1003}},
		{name: "kube-proxy", iptables: `
iptables-nft -t nat -N KUBE-SERVICES
iptables-nft -t nat -N KUBE-NODEPORTS
iptables-nft -t nat -N KUBE-MARK-MASQ
iptables-nft -t nat -N KUBE-EXT-A
iptables-nft -t nat -N KUBE-SVC-A
iptables-nft -t nat -N KUBE-SEP-1
iptables-nft -t nat -N KUBE-SEP-2
iptables-nft -t nat -A PREROUTING -m comment --comment kubernetes -j KUBE-SERVICES
iptables-nft -t nat -A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
iptables-nft -t nat -A KUBE-NODEPORTS -p tcp -m comment --comment default/web -m tcp --dport 30080 -j KUBE-EXT-A
iptables-nft -t nat -A KUBE-EXT-A -j KUBE-MARK-MASQ
iptables-nft -t nat -A KUBE-EXT-A -j KUBE-SVC-A
iptables-nft -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
iptables-nft -t nat -A KUBE-SVC-A -m statistic --mode random --probability 0.5 -j KUBE-SEP-1
iptables-nft -t nat -A KUBE-SVC-A -j KUBE-SEP-2
iptables-nft -t nat -A KUBE-SEP-1 -p tcp -m tcp -j DNAT --to-destination 10.244.0.5:8080
iptables-nft -t nat -A KUBE-SEP-2 -p tcp -m tcp -j DNAT --to-destination 10.244.0.6:8080
`, want: []string{
			"tcp any:30080 dnat 10.244.0.5:8080 ip nat KUBE-SEP-1",
			"tcp any:30080 dnat 10.244.0.6:8080 ip nat KUBE-SEP-2",
		}},
		{name: "not understood", rules: fmt.Sprintf(prerouting, "", "\t\tmeta mark 7 tcp dport 8080 dnat to 172.17.0.2:80"), unclear: 1},
		{name: "dormant", rules: "table ip nat {\n\tflags dormant\n\tchain c {\n\t\ttype nat hook prerouting priority -100\n\t\ttcp dport 8080 redirect to :80\n\t}\n}\n"},
	} {
		t.Run(story.name, func(t *testing.T) {
			h := newHosts(t)
			porttest.IPTables(t, story.iptables)
			porttest.NFT(t, story.rules)
			rules := read(t)
			published, unclear := rules.Published()
			var got []string
			for _, p := range published {
				got = append(got, words(p))
			}
			if diff := cmp.Diff(story.want, got); diff != "" {
				t.Error(diff)
			}
			if unclear != story.unclear {
				t.Errorf("%d rules are unclear, want %d", unclear, story.unclear)
			}
			for port, leads := range story.reached {
				a := Arrival{Protocol: TCP, To: netip.MustParseAddr("10.1.0.1"), Port: port, From: netip.MustParseAddr("10.1.0.2"), Interface: "eth0"}
				if d := rules.Input(a); d.Verdict != Translated {
					t.Errorf("port %d: decided %v", port, d)
				}
				var one attempt
				h.peer.Do(t, func() { one = dial(t, a) })
				id := visit("tcp", netip.AddrPortFrom(one.arrival.From, one.arrival.FromPort), leads)
				porttest.Await(t, id, func() bool { return h.served.has(id) })
				unix.Close(one.fd)
			}
		})
	}
}

func words(p Published) string {
	protocol := map[Protocol]string{TCP: "tcp", UDP: "udp"}[p.Protocol]
	address := p.Address
	if address == "" {
		address = "any"
	}
	text := protocol + " " + address + ":" + p.Ports()
	if p.Interface != "" {
		text += "%" + p.Interface
	}
	if p.Sources != "" {
		text += " from " + p.Sources
	}
	return fmt.Sprintf("%s %s %s:%s %s", text, p.Via(), p.ToAddress, p.ToPorts, p.Rule.Source())
}

// TestLegacyInNamespace has rules of iptables-legacy, which are not read.
func TestLegacyInNamespace(t *testing.T) {
	porttest.Namespace(t)
	ask := Arrival{Protocol: TCP, To: netip.IPv4Unspecified(), Port: 80}
	if d := read(t).Input(ask); d.Verdict != Accept {
		t.Errorf("without rules: %v", d)
	}
	porttest.IPTables(t, "iptables-legacy -A INPUT -p tcp --dport 80 -j DROP")
	d := read(t).Input(ask)
	if d.Verdict != Unknown || !strings.Contains(d.Why, "iptables-legacy") {
		t.Errorf("with a rule of iptables-legacy: %v", d)
	}
	ask.To = netip.IPv6Unspecified()
	if d := read(t).Input(ask); d.Verdict != Accept {
		t.Errorf("IPv6 has no such rule: %v", d)
	}
}

// TestGenerationsInNamespace reads rules again when they have changed, and only then.
func TestGenerationsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	reader := NewReader("/proc")
	look := func() (Verdict, map[key]*chain) {
		t.Helper()
		rules, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return rules.Input(Arrival{Protocol: TCP, To: netip.IPv4Unspecified(), Port: 80}).Verdict, rules.chains
	}
	if v, _ := look(); v != Accept {
		t.Errorf("without rules: %v", v)
	}
	porttest.NFT(t, "table ip f {\n\tset s { type inet_service; }\n\tchain c {\n\t\ttype filter hook input priority 0\n\t\ttcp dport @s drop\n\t}\n}\n")
	v, first := look()
	if v != Accept {
		t.Errorf("with an empty set: %v", v)
	}
	if _, again := look(); fmt.Sprintf("%p", again) != fmt.Sprintf("%p", first) {
		t.Error("rules that have not changed were read again")
	}
	porttest.NFT(t, "add element ip f s { 80 }\nadd chain ip f n { type nat hook prerouting priority -100; }\nadd rule ip f n tcp dport 81 redirect to :80\n")
	if v, _ := look(); v != Drop {
		t.Errorf("with the port in the set: %v", v)
	}
	published := func() *Published {
		t.Helper()
		rules, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		all, _ := rules.Published()
		if len(all) != 1 {
			t.Fatalf("published: %v", all)
		}
		return &all[0]
	}
	if first := published(); published() != first {
		t.Error("published ports were looked for again")
	}
}

// TestWithoutPrivilegeInNamespace has no CAP_NET_ADMIN over its network namespace.
func TestWithoutPrivilegeInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.NFT(t, "table ip f { }\n")
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	without := had
	without[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &without[0]); err != nil { // of this thread, which ends with the test
		t.Fatal(err)
	}
	_, err := NewReader("/proc").Read(t.Context())
	if !errors.Is(err, ErrPrivilege) || !strings.Contains(fmt.Sprint(err), "CAP_NET_ADMIN") {
		t.Errorf("without CAP_NET_ADMIN: %v", err)
	}
}
