package prober

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// family has the addresses of a [porttest.Network] in one version of IP.
type family struct {
	name                   string
	client, router, server string
	behindRouter           string // the router's end of the server's network
	deadNear, deadFar      string // addresses of no host, in the client's and in the server's network
	elsewhere              string // an address that the router has no route to
	elsewhereNet           string
	serverNet              string
	unspecified            string // the network that is everything
}

func families() [2]family {
	return [2]family{
		{
			name: "ip4", client: porttest.ClientIP4, router: porttest.RouterClientIP4, server: porttest.ServerIP4,
			behindRouter: porttest.RouterServerIP4, deadNear: "192.0.2.99", deadFar: "198.51.100.99",
			elsewhere: "203.0.113.1", elsewhereNet: "203.0.113.0/24", serverNet: "198.51.100.0/24", unspecified: "0.0.0.0/0",
		},
		{
			name: "ip6", client: porttest.ClientIP6, router: porttest.RouterClientIP6, server: porttest.ServerIP6,
			behindRouter: porttest.RouterServerIP6, deadNear: "2001:db8:1::99", deadFar: "2001:db8:2::99",
			elsewhere: "2001:db8:3::1", elsewhereNet: "2001:db8:3::/64", serverNet: "2001:db8:2::/64", unspecified: "::/0",
		},
	}
}

// udpRow is a row of the UDP section of docs/diagnosis.md.
type udpRow struct {
	name string
	only string // ip4 or ip6; empty is both
	// arrange makes the network what the row wants.
	arrange func(t *testing.T, n *porttest.Network, f family)
	target  func(f family) string // nil is the server
	timeout time.Duration         // zero is 300 ms
	outcome probe.Outcome
	origin  probe.Origin
	phase   probe.Phase
	// offender is who sends the ICMP error; nil is nobody.
	offender func(f family) string
	// atLeast and atMost bound how long the probe takes; atMost zero is atLeast and
	// 900 ms.
	atLeast, atMost time.Duration
	requests        float64
}

const (
	quick    = 900 * time.Millisecond // less than the second after which a datagram is sent again
	noWait   = 300 * time.Millisecond // enough where nobody will answer
	answered = 2 * time.Second        // more than enough where somebody does
	// Three requests of ARP or ND that nobody answers, one second apart. A second
	// round would take six seconds.
	forARP, forARPAtMost = 3 * time.Second, 5 * time.Second
)

func udpRows() []udpRow {
	server := func(f family) string { return f.server }
	router := func(f family) string { return f.router }
	client := func(f family) string { return f.client }
	elsewhere := func(f family) string { return f.elsewhere }
	answers := func(t *testing.T, n *porttest.Network, f family) { echoServer(t, n, f, 7) }
	filter := func(where func(*porttest.Network) *porttest.Space, hook, rule string) func(*testing.T, *porttest.Network, family) {
		return func(t *testing.T, n *porttest.Network, f family) {
			answers(t, n, f)
			where(n).Do(t, func() { porttest.Filter(t, hook, rule) })
		}
	}
	onServer := func(n *porttest.Network) *porttest.Space { return n.Server }
	onRouter := func(n *porttest.Network) *porttest.Space { return n.Router }
	onClient := func(n *porttest.Network) *porttest.Space { return n.Client }
	clientRoute := func(kind int) func(*testing.T, *porttest.Network, family) {
		return func(t *testing.T, _ *porttest.Network, f family) { porttest.RouteType(t, f.serverNet, kind) }
	}

	return []udpRow{
		{name: "the port is closed", outcome: probe.Refused, origin: probe.OriginTarget, offender: server},
		{
			name: "the server's firewall rejects", arrange: filter(onServer, "input", "udp dport 7 reject with icmpx type port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginTarget, offender: server,
		},
		{
			name: "the router rejects", arrange: filter(onRouter, "forward", "udp dport 7 reject with icmpx type port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "our own firewall rejects", arrange: filter(onClient, "output", "udp dport 7 reject with icmpx type port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginLocal, offender: client,
		},
		{
			name: "3/13 of the server", arrange: filter(onServer, "input", "udp dport 7 reject with icmpx type admin-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginTargetFirewall, offender: server,
		},
		{
			name: "3/13 of the router", arrange: filter(onRouter, "forward", "udp dport 7 reject with icmpx type admin-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "3/9", only: "ip4", arrange: filter(onRouter, "forward", "udp dport 7 reject with icmp type net-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "3/10", only: "ip4", arrange: filter(onRouter, "forward", "udp dport 7 reject with icmp type host-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "the router's route prohibits", target: elsewhere,
			arrange: func(t *testing.T, n *porttest.Network, f family) {
				n.Router.Do(t, func() { porttest.RouteType(t, f.elsewhereNet, unix.RTN_PROHIBIT) })
			},
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "our own firewall drops", arrange: filter(onClient, "output", "udp dport 7 drop"),
			outcome: probe.Prohibited, origin: probe.OriginLocal,
		},
		{name: "our own route prohibits", arrange: clientRoute(unix.RTN_PROHIBIT), outcome: probe.Prohibited, origin: probe.OriginLocal, phase: probe.PhaseConnect},
		{name: "the router has no route", target: elsewhere, outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: router},
		{
			name: "3/1 of the router", target: elsewhere,
			arrange: func(t *testing.T, n *porttest.Network, f family) {
				n.Router.Do(t, func() { porttest.RouteType(t, f.elsewhereNet, unix.RTN_UNREACHABLE) })
			},
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: router,
		},
		{
			name: "3/2 of the server", only: "ip4", arrange: filter(onServer, "input", "udp dport 7 reject with icmp type prot-unreachable"),
			outcome: probe.Unreachable, origin: probe.OriginTargetFirewall, offender: server,
		},
		{
			name: "a routing loop", target: elsewhere, arrange: routingLoop,
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: server,
		},
		{
			name: "a dead host on our own segment", target: func(f family) string { return f.deadNear }, timeout: 9 * time.Second,
			outcome: probe.Unreachable, origin: probe.OriginLocal, offender: client, atLeast: forARP, atMost: forARPAtMost,
		},
		{
			name: "a dead host behind the router", target: func(f family) string { return f.deadFar }, timeout: 9 * time.Second,
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: router, atLeast: forARP, atMost: forARPAtMost,
		},
		{name: "our own route is a blackhole", arrange: clientRoute(unix.RTN_BLACKHOLE), outcome: probe.Unreachable, origin: probe.OriginLocal, phase: probe.PhaseConnect},
		{name: "our own route is unreachable", arrange: clientRoute(unix.RTN_UNREACHABLE), outcome: probe.Unreachable, origin: probe.OriginLocal, phase: probe.PhaseConnect},
		{
			name:    "we have no route",
			arrange: func(t *testing.T, _ *porttest.Network, f family) { porttest.DeleteRoute(t, f.unspecified) },
			outcome: probe.Unreachable, origin: probe.OriginLocal, phase: probe.PhaseConnect,
		},
		{
			name: "the server's firewall drops", arrange: filter(onServer, "input", "udp dport 7 drop"),
			outcome: probe.NoReply, atLeast: noWait, requests: 1,
		},
		{
			name: "the router drops", arrange: filter(onRouter, "forward", "udp dport 7 drop"),
			outcome: probe.NoReply, atLeast: noWait, requests: 1,
		},
		{
			name: "the router drops what comes back", arrange: filter(onRouter, "forward", "udp sport 7 drop"),
			outcome: probe.NoReply, atLeast: noWait, requests: 1,
		},
		{
			name: "the router's route is a blackhole", target: elsewhere,
			arrange: func(t *testing.T, n *porttest.Network, f family) {
				n.Router.Do(t, func() { porttest.RouteType(t, f.elsewhereNet, unix.RTN_BLACKHOLE) })
			},
			outcome: probe.NoReply, atLeast: noWait, requests: 1,
		},
		{
			name: "the server says nothing", arrange: func(t *testing.T, n *porttest.Network, f family) { silentServer(t, n, f, 7) },
			outcome: probe.NoReply, atLeast: 4 * time.Second, timeout: 4 * time.Second, atMost: 5 * time.Second, requests: 3, // at 0, 1 and 3 s
		},
		{
			name: "the first datagram is lost", timeout: 2900 * time.Millisecond,
			arrange: filter(onRouter, "forward", "udp dport 7 limit rate over 1/hour burst 1 packets accept; udp dport 7 drop"),
			outcome: probe.Open, atLeast: time.Second, atMost: 2500 * time.Millisecond, requests: 2,
		},
		{name: "the server answers", arrange: answers, outcome: probe.Open, requests: 1},
	}
}

// echoServer answers on a port of the server.
func echoServer(t *testing.T, n *porttest.Network, f family, port int) {
	t.Helper()
	conn := silentServer(t, n, f, port)
	go func() { // until the test closes the socket
		buffer := make([]byte, 2048)
		for {
			length, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(buffer[:length], from)
		}
	}()
}

func silentServer(t *testing.T, n *porttest.Network, f family, port int) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	n.Server.Do(t, func() {
		var err error
		if conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(f.server), Port: port}); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// routingLoop makes router and server send a datagram to each other until its
// hops are used up, which happens at the server.
func routingLoop(t *testing.T, n *porttest.Network, f family) {
	t.Helper()
	n.Router.Do(t, func() { porttest.Route(t, f.elsewhereNet, f.server) })
	n.Server.Do(t, func() {
		porttest.Sysctl(t, "net/ipv4/ip_forward", "1")
		porttest.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		for _, of := range []string{"all", "eth0"} {
			porttest.Sysctl(t, "net/ipv4/conf/"+of+"/send_redirects", "0")
		}
	})
}

// TestUDPDiagnosisInNamespace is the UDP section of docs/diagnosis.md.
func TestUDPDiagnosisInNamespace(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		for _, row := range udpRows() {
			if row.only != "" && row.only != f.name {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", f.name, row.name), func(t *testing.T) {
				t.Parallel()
				n := porttest.NewNetwork(t)
				if row.arrange != nil {
					row.arrange(t, n, f)
				}
				row.check(t, f)
			})
		}
	}
}

func (row udpRow) check(t *testing.T, f family) {
	t.Helper()
	target, timeout, atMost := f.server, answered, row.atLeast+quick
	if row.outcome == probe.NoReply {
		timeout = noWait
	}
	if row.target != nil {
		target = row.target(f)
	}
	if row.timeout > 0 {
		timeout = row.timeout
	}
	if row.atMost > 0 {
		atMost = row.atMost
	}
	module := probe.Module{Prober: &UDP{Payload: payload.Payload{Static: []byte("ping")}}, Timeout: timeout}
	result := module.Probe(context.Background(), probe.Request{Address: net.JoinHostPort(target, "7")})

	wantPhase := row.phase
	if wantPhase == probe.PhaseNone && row.outcome != probe.Open {
		wantPhase = probe.PhaseExchange
	}
	if result.Outcome != row.outcome || result.Origin != row.origin || result.Phase != wantPhase {
		t.Errorf("%s (%s) in phase %q, want %s (%s) in %q; error: %v",
			result.Outcome, result.Origin, result.Phase, row.outcome, row.origin, wantPhase, result.Err)
	}
	var offender netip.Addr
	if row.offender != nil {
		offender = netip.MustParseAddr(row.offender(f))
	}
	if result.ICMP.Offender != offender {
		t.Errorf("offender %s, want %s", result.ICMP.Offender, offender)
	}
	if result.Duration < row.atLeast || result.Duration > atMost {
		t.Errorf("it took %s, want %s to %s", result.Duration, row.atLeast, atMost)
	}
	if got, _ := valueOf(result, udpRequests); row.requests > 0 && got != row.requests {
		t.Errorf("%v datagrams sent, want %v", got, row.requests)
	}
	if want := netip.MustParseAddr(target); result.Peer.Addr() != want {
		t.Errorf("peer %s, want %s", result.Peer, want)
	}
}
