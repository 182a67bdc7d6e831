package route

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

const (
	blackholed4, blackholed6     = "203.0.113.1", "2001:db8:3::1"
	unreachable4, unreachable6   = "203.0.113.65", "2001:db8:3:1::1"
	prohibited4, prohibited6     = "203.0.113.129", "2001:db8:3:2::1"
	forbidden4, forbidden6       = "203.0.113.193", "2001:db8:3:3::1"
	networkBlack4, networkBlack6 = "203.0.113.0/26", "2001:db8:3::/64"
	networkUn4, networkUn6       = "203.0.113.64/26", "2001:db8:3:1::/64"
	networkPro4, networkPro6     = "203.0.113.128/26", "2001:db8:3:2::/64"
)

// TestGetInNamespace asks for one route of each kind, as ip(8) knows them, as a user
// without privilege could.
func TestGetInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	for network, kind := range map[string]int{
		networkBlack4: unix.RTN_BLACKHOLE, networkBlack6: unix.RTN_BLACKHOLE, networkUn4: unix.RTN_UNREACHABLE, networkUn6: unix.RTN_UNREACHABLE,
		networkPro4: unix.RTN_PROHIBIT, networkPro6: unix.RTN_PROHIBIT,
	} {
		porttest.RouteType(t, network, kind)
	}
	ip(t, "-4 rule add pref 50 to 203.0.113.193 prohibit")
	ip(t, "-6 rule add pref 50 to 2001:db8:3:3::1 prohibit")
	porttest.Dial(t, listening(t, n)) // the router is a neighbour now
	for _, tt := range []struct {
		to, want string // of String
		kind     string
		known    bool // the neighbour
	}{
		{porttest.ServerIP4, "via " + porttest.RouterClientIP4 + " on eth0, from " + porttest.ClientIP4 + ", MTU 1500", Unicast, true},
		{porttest.ServerIP6, "via " + porttest.RouterClientIP6 + " on eth0, from " + porttest.ClientIP6 + ", MTU 1500", Unicast, false},
		{porttest.RouterClientIP4, "directly on eth0, from " + porttest.ClientIP4 + ", MTU 1500", Unicast, true},
		{porttest.ClientIP4, "an address of this host, from " + porttest.ClientIP4 + ", MTU 65536", Local, false},
		{"127.0.0.1", "an address of this host, from 127.0.0.1, MTU 65536", Local, false},
		{"::ffff:127.0.0.1", "an address of this host, from 127.0.0.1, MTU 65536", Local, false},
		{blackholed4, "route blackhole " + networkBlack4 + ", table main", Blackhole, false},
		{blackholed6, "route blackhole " + networkBlack6 + ", table main", Blackhole, false},
		{unreachable4, "route unreachable " + networkUn4 + ", table main", Unreachable, false},
		{unreachable6, "route unreachable " + networkUn6 + ", table main", Unreachable, false},
		{prohibited4, "route prohibit " + networkPro4 + ", table main", Prohibit, false},
		{prohibited6, "route prohibit " + networkPro6 + ", table main", Prohibit, false},
		{forbidden4, "rule 50: from all to 203.0.113.193/32 prohibit", Prohibit, false},
		{forbidden6, "rule 50: from all to 2001:db8:3:3::1/128 prohibit", Prohibit, false},
	} {
		got, err := Get(Query{To: netip.MustParseAddr(tt.to)})
		if err != nil || got.String() != tt.want || got.Type != tt.kind || got.IsOut() != (tt.kind == Unicast || tt.kind == Local) {
			t.Errorf("%s: %q %+v, %v; want %q", tt.to, got.String(), got, err, tt.want)
		}
		if tt.known && got.Neighbour != "reachable" && got.Neighbour != "stale" && got.Neighbour != "delay" && got.Neighbour != "probe" {
			t.Errorf("%s: neighbour %q", tt.to, got.Neighbour)
		}
	}
	porttest.DeleteRoute(t, "0.0.0.0/0")
	porttest.DeleteRoute(t, "::/0")
	for _, to := range []string{porttest.ServerIP4, porttest.ServerIP6} {
		if got, err := Get(Query{To: netip.MustParseAddr(to)}); err != nil || got.String() != "no route" {
			t.Errorf("%s: %+v, %v", to, got, err)
		}
	}
}

// TestSourceInNamespace has a source address that a rule routes elsewhere.
func TestSourceInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	porttest.Address(t, "eth0", "192.0.2.9/24")
	ip(t, "route add blackhole default table 77")
	ip(t, "rule add pref 60 from 192.0.2.9 table 77")
	to := netip.MustParseAddr(porttest.ServerIP4)
	if got, err := Get(Query{To: to, From: netip.MustParseAddr("192.0.2.9")}); err != nil || got.String() != "route blackhole all, table 77" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Get(Query{To: to, From: netip.MustParseAddr(porttest.ClientIP4)}); err != nil || got.Type != Unicast || got.Source.String() != porttest.ClientIP4 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := Get(Query{To: to, From: netip.MustParseAddr("198.18.0.1")}); err == nil {
		t.Errorf("a source that is not of this host has a route: %+v", got)
	}
}

// TestRoutesByPortInNamespace has rules that choose by protocol and port, and compares
// what a query is answered with ip(8).
func TestRoutesByPortInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	pings := map[string]uint8{"-4": unix.IPPROTO_ICMP, "-6": unix.IPPROTO_ICMPV6}
	for family, to := range map[string]string{"-4": porttest.ServerIP4, "-6": porttest.ServerIP6} {
		ip(t, family+" rule add pref 40 ipproto udp prohibit")
		ip(t, family+" rule add pref 50 ipproto tcp dport 8000-8099 prohibit")
		ip(t, family+" rule add pref 60 ipproto tcp dport 25 table 77")
		ip(t, family+" route add blackhole default table 77")
		for _, tt := range []struct {
			protocol uint8
			port     uint16
			want     string // of String; empty is a way out
		}{
			{pings[family], 0, ""},
			{unix.IPPROTO_TCP, 80, ""},
			{unix.IPPROTO_TCP, 7999, ""},
			{unix.IPPROTO_TCP, 8000, "rule 50: from all to all ipproto tcp dport 8000-8099 prohibit"},
			{unix.IPPROTO_TCP, 8099, "rule 50: from all to all ipproto tcp dport 8000-8099 prohibit"},
			{unix.IPPROTO_TCP, 8100, ""},
			{unix.IPPROTO_TCP, 25, "route blackhole all, table 77"},
			{unix.IPPROTO_UDP, 53, "rule 40: from all to all ipproto udp prohibit"},
		} {
			got, err := Get(Query{To: netip.MustParseAddr(to), Protocol: tt.protocol, Port: tt.port})
			if err != nil || got.IsOut() != (tt.want == "") || tt.want != "" && got.String() != tt.want {
				t.Errorf("%s, protocol %d, port %d: %q, %v; want %q", to, tt.protocol, tt.port, got.String(), err, tt.want)
			}
			command := []string{"route", "get", to, "ipproto", fmt.Sprint(tt.protocol)}
			if tt.port != 0 {
				command = append(command, "dport", fmt.Sprint(tt.port))
			}
			if out, err := exec.Command("ip", command...).CombinedOutput(); (err == nil) != got.IsOut() {
				t.Errorf("ip %v: %v %s; got %q", command, err, out, got.String())
			}
		}
	}
}

// TestManyRoutesInNamespace has more routes than are looked through: which of them decides
// is left out, and not taken to be the default route.
func TestManyRoutesInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	var batch strings.Builder
	batch.WriteString("route replace blackhole default\n")
	for i := range maxRoutes + 1 {
		fmt.Fprintf(&batch, "route add blackhole 20.%d.%d.0/24\n", i>>8, i&255)
	}
	add := exec.Command("ip", "-batch", "-")
	add.Stdin = strings.NewReader(batch.String())
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	last := netip.MustParseAddr(fmt.Sprintf("20.%d.%d.1", maxRoutes>>8, maxRoutes&255))
	if got, err := Get(Query{To: last}); err != nil || got.String() != "a route of type blackhole" {
		t.Errorf("%v, %v", got.String(), err)
	}
}

// TestFailedNeighbourInNamespace has a host on the link that is not there.
func TestFailedNeighbourInNamespace(t *testing.T) {
	porttest.NewNetwork(t)
	to := netip.MustParseAddr("192.0.2.77")
	if got, _ := Get(Query{To: to}); got.Neighbour != "none" {
		t.Errorf("before: %+v", got)
	}
	ip(t, "neighbour replace 192.0.2.77 dev eth0 nud failed")
	if got, _ := Get(Query{To: to}); got.Neighbour != "failed" {
		t.Errorf("after: %+v", got)
	}
}

// listening has a listener at the server, and returns its address.
func listening(t *testing.T, n *porttest.Network) string {
	n.Server.Do(t, func() { porttest.Listen(t, "[::]:80", 5) })
	return porttest.ServerIP4 + ":80"
}

func ip(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", command, err, out)
	}
}
