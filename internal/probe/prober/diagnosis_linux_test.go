package prober

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// short is the timeout of rows that end in silence.
const short = 400 * time.Millisecond

// row is a row of the table in docs/diagnosis.md: a cause, and what the probe
// makes of it. The test is the client of a network with a router.
type row struct {
	name         string
	cause        cause
	to4, to6     string // the target; empty is port 80 of the server
	only4, only6 bool   // the cause is not known to the other version of IP
	prober       TCP
	timeout      time.Duration // 0 is the default of a probe

	outcome         probe.Outcome
	origin          probe.Origin
	phase           probe.Phase // PhaseConnect if none is given and the outcome is not open
	orConnect       bool        // PhaseConnect is as good: which comes first is a race
	offender        offender
	atLeast, atMost time.Duration
	retransmits     float64 // at least; 0 is none at all where the handshake was done
	rtt             bool    // the handshake was done
}

// offender is who sent the ICMP error; empty if nobody.
type offender struct{ ip4, ip6 string }

// A cause makes the network such as the row wants it.
type cause func(t *testing.T, n *porttest.Network, v6 bool)

func nothing(*testing.T, *porttest.Network, bool) {}

// listening has a listener at the server whose program never accepts.
func listening(t *testing.T, n *porttest.Network, _ bool) {
	t.Helper()
	n.Server.Do(t, func() { porttest.Listen(t, "[::]:80", 5) })
}

// filtered has a rule in one of the hosts, and a listener behind it.
func filtered(host func(*porttest.Network) *porttest.Space, hook, rule string) cause {
	return func(t *testing.T, n *porttest.Network, v6 bool) {
		listening(t, n, v6)
		host(n).Do(t, func() { porttest.Filter(t, hook, rule) })
	}
}

func client(n *porttest.Network) *porttest.Space { return n.Client }
func router(n *porttest.Network) *porttest.Space { return n.Router }
func server(n *porttest.Network) *porttest.Space { return n.Server }

// in does something in one of the hosts.
func in(host func(*porttest.Network) *porttest.Space, f func(t *testing.T, v6 bool)) cause {
	return func(t *testing.T, n *porttest.Network, v6 bool) { host(n).Do(t, func() { f(t, v6) }) }
}

// deadEnd has a route of a type at one of the hosts towards the server.
func deadEnd(host func(*porttest.Network) *porttest.Space, kind int) cause {
	return in(host, func(t *testing.T, _ bool) {
		porttest.RouteType(t, porttest.ServerIP4+"/32", kind)
		porttest.RouteType(t, porttest.ServerIP6+"/128", kind)
	})
}

// serving has a program at the server that does something to each connection.
func serving(serve func(net.Conn)) cause {
	return func(t *testing.T, n *porttest.Network, _ bool) {
		n.Server.Do(t, func() { startServer(t, "tcp", "[::]:80", serve) })
	}
}

// impatient has the router take 300 ms to find out that a host is down, not 3 s.
func impatient(t *testing.T) {
	t.Helper()
	porttest.AskNeighboursEvery(t, "eth1", 100*time.Millisecond)
}

// fullQueue has a listener that has room for one connection, which is there.
func fullQueue(t *testing.T, n *porttest.Network, v6 bool) {
	t.Helper()
	n.Server.Do(t, func() { porttest.Listen(t, "[::]:80", 0) })
	porttest.Dial(t, target(v6))
}

// usedUpPorts leaves the client two ephemeral ports, both in use towards the
// server.
func usedUpPorts(t *testing.T, n *porttest.Network, v6 bool) {
	t.Helper()
	listening(t, n, v6)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40001")
	porttest.Dial(t, target(v6))
	porttest.Dial(t, target(v6))
}

// loop has router and server send a network's packets to each other.
func loop(t *testing.T, n *porttest.Network, _ bool) {
	t.Helper()
	n.Router.Do(t, func() {
		porttest.Route(t, "203.0.113.0/24", porttest.ServerIP4)
		porttest.Route(t, "2001:db8:3::/64", porttest.ServerIP6)
	})
	n.Server.Do(t, func() {
		porttest.Sysctl(t, "net/ipv4/ip_forward", "1")
		porttest.Sysctl(t, "net/ipv4/conf/all/send_redirects", "0")
		porttest.Sysctl(t, "net/ipv4/conf/eth0/send_redirects", "0")
		porttest.Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
	})
}

const (
	// away is a network that the router does not know.
	away4, away6 = "203.0.113.1:80", "[2001:db8:3::1]:80"
	// absent is a host that is not there, behind the router.
	absent4, absent6 = "198.51.100.77:80", "[2001:db8:2::77]:80"
	// near is a host that is not there, on the client's own segment.
	near4, near6 = "192.0.2.77:80", "[2001:db8:1::77]:80"

	toServer = "tcp dport 80 "

	// firstSYN drops the first SYN of each source port.
	firstSYN = `table inet loss {
	set seen { type inet_service; flags dynamic; }
	chain c {
		type filter hook forward priority 0
		tcp dport 80 tcp flags & syn == syn tcp sport != @seen add @seen { tcp sport } drop
	}
}
`
	// toAbsent sends what is for the server to a host that is not there.
	toAbsent = `table inet translation {
	chain c {
		type nat hook prerouting priority dstnat
		tcp dport 80 dnat ip to 198.51.100.77
		tcp dport 80 dnat ip6 to 2001:db8:2::77
	}
}
`
)

// hears expects a line.
func hears() TCP {
	return TCP{Conversation: Conversation{Exchange: []Step{{Expect: regexp.MustCompile("^220 ")}}}}
}

// shakesHands makes a TLS handshake.
func shakesHands() TCP { return TCP{Conversation: Conversation{TLS: true}} }

// soon is less than the second that a lost SYN takes.
const soon = 900 * time.Millisecond

// rows is the table "TCP connect" of docs/diagnosis.md, from top to bottom.
func rows() []row {
	return slices.Concat(openRows(), closedRows(), rejectedRows(), prohibitedRows(), unreachableRows(), silentRows(), localRows(), connectedRows())
}

func openRows() []row {
	return []row{
		{name: "listener that accepts", cause: serving(hold), outcome: probe.Open, rtt: true, atMost: soon},
		{name: "listener that does not accept", cause: listening, outcome: probe.Open, rtt: true, atMost: soon},
		{
			name: "first SYN lost", cause: func(t *testing.T, n *porttest.Network, v6 bool) {
				listening(t, n, v6)
				n.Router.Do(t, func() { porttest.NFT(t, firstSYN) })
			},
			outcome: probe.Open, rtt: true, retransmits: 1, atLeast: 900 * time.Millisecond, atMost: 2 * time.Second,
		},
	}
}

func closedRows() []row {
	return []row{
		{name: "port closed", cause: nothing, outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon},
		{
			name: "listener on loopback only", cause: in(server, func(t *testing.T, _ bool) {
				porttest.Listen(t, "127.0.0.1:80", 5)
				porttest.Listen(t, "[::1]:80", 5)
			}),
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
		{
			name: "server rejects with RST", cause: filtered(server, "input", toServer+"reject with tcp reset"),
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
		{
			name: "router rejects with RST", cause: filtered(router, "forward", toServer+"reject with tcp reset"),
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
	}
}

func rejectedRows() []row {
	return []row{
		{
			name: "server rejects", cause: filtered(server, "input", toServer+"reject with icmpx port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginTargetFirewall, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name: "router rejects", cause: filtered(router, "forward", toServer+"reject with icmpx port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name: "client rejects", cause: filtered(client, "output", toServer+"reject with icmpx port-unreachable"),
			outcome: probe.Refused, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6}, atMost: soon,
		},
	}
}

func prohibitedRows() []row {
	return []row{
		{
			name: "server prohibits", cause: filtered(server, "input", toServer+"reject with icmpx admin-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginTargetFirewall, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name: "router prohibits", cause: filtered(router, "forward", toServer+"reject with icmpx admin-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name: "client prohibits", cause: filtered(client, "output", toServer+"reject with icmpx admin-prohibited"),
			outcome: probe.Prohibited, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6}, atMost: soon,
		},
		{
			name: "router's route prohibits", cause: deadEnd(router, unix.RTN_PROHIBIT),
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name: "net prohibited", cause: filtered(router, "forward", toServer+"reject with icmp net-prohibited"), only4: true,
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip4: porttest.RouterClientIP4}, atMost: soon,
		},
		{
			name: "host prohibited", cause: filtered(router, "forward", toServer+"reject with icmp host-prohibited"), only4: true,
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip4: porttest.RouterClientIP4}, atMost: soon,
		},
		{
			name: "source address against the policy", cause: filtered(router, "forward", toServer+"reject with icmpv6 policy-fail"), only6: true,
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip6: porttest.RouterClientIP6}, atMost: soon,
		},
	}
}

func unreachableRows() []row {
	return []row{
		{
			name: "router has no route", cause: nothing, to4: away4, to6: away6,
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name: "router's route is unreachable", cause: deadEnd(router, unix.RTN_UNREACHABLE),
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name: "server knows no such protocol", cause: filtered(server, "input", toServer+"reject with icmp prot-unreachable"), only4: true,
			outcome: probe.Unreachable, origin: probe.OriginTargetFirewall, offender: offender{ip4: porttest.ServerIP4}, atMost: soon,
		},
		{
			// Of 64 hops the odd ones are the server's, and the last one is.
			name: "routing loop", cause: loop, to4: away4, to6: away6,
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name: "host down on our own segment", cause: nothing, to4: near4, to6: near6,
			outcome: probe.Unreachable, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6},
			atLeast: 2500 * time.Millisecond, atMost: probe.DefaultTimeout - time.Second,
		},
		{
			name: "host down behind the router", cause: in(router, func(t *testing.T, _ bool) { impatient(t) }), to4: absent4, to6: absent6,
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: time.Second,
		},
		{
			// The router translates its own error back: it bears the target's address.
			name: "DNAT to a host that is down", cause: in(router, func(t *testing.T, _ bool) { impatient(t); porttest.NFT(t, toAbsent) }),
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: time.Second,
		},
	}
}

func silentRows() []row {
	return []row{
		{name: "server drops", cause: filtered(server, "input", toServer+"drop"), timeout: short, outcome: probe.Timeout},
		{name: "router drops", cause: filtered(router, "forward", toServer+"drop"), timeout: short, outcome: probe.Timeout},
		{name: "router drops the answer", cause: filtered(router, "forward", "tcp sport 80 drop"), timeout: short, outcome: probe.Timeout},
		{name: "router's route is a blackhole", cause: deadEnd(router, unix.RTN_BLACKHOLE), timeout: short, outcome: probe.Timeout},
		{name: "SYN sent in vain", cause: filtered(server, "input", toServer+"drop"), timeout: 2500 * time.Millisecond, outcome: probe.Timeout, retransmits: 1},
		{name: "accept queue full", cause: fullQueue, timeout: short, outcome: probe.Timeout},
		{name: "client drops", cause: filtered(client, "output", toServer+"drop"), timeout: short, outcome: probe.Timeout},
		{
			name: "SYN retries used up", cause: func(t *testing.T, n *porttest.Network, v6 bool) {
				porttest.Sysctl(t, "net/ipv4/tcp_syn_retries", "1")
				filtered(server, "input", toServer+"drop")(t, n, v6)
			},
			outcome: probe.Timeout, retransmits: 1, atMost: probe.DefaultTimeout - time.Second,
		},
	}
}

func localRows() []row {
	return []row{
		{name: "client's route is a blackhole", cause: deadEnd(client, unix.RTN_BLACKHOLE), outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon},
		{name: "client's route is unreachable", cause: deadEnd(client, unix.RTN_UNREACHABLE), outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon},
		{
			name: "client has no route", cause: in(client, func(t *testing.T, _ bool) {
				porttest.DeleteRoute(t, "0.0.0.0/0")
				porttest.DeleteRoute(t, "::/0")
			}),
			outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon,
		},
		{name: "client's route prohibits", cause: deadEnd(client, unix.RTN_PROHIBIT), outcome: probe.Prohibited, origin: probe.OriginLocal, atMost: soon},
		{name: "no port left", cause: usedUpPorts, outcome: probe.LocalError, origin: probe.OriginLocal, atMost: soon},
	}
}

func connectedRows() []row {
	return []row{
		{
			name: "RST behind the handshake", cause: serving(reset), prober: hears(),
			outcome: probe.Reset, origin: probe.OriginTarget, phase: probe.PhaseExchange, orConnect: true, rtt: true, atMost: soon,
		},
		{
			name: "FIN instead of an answer", cause: serving(func(c net.Conn) { c.Close() }), prober: hears(),
			outcome: probe.Closed, origin: probe.OriginTarget, phase: probe.PhaseExchange, rtt: true, atMost: soon,
		},
		{name: "silence instead of an answer", cause: serving(hold), prober: hears(), timeout: short, outcome: probe.Timeout, phase: probe.PhaseExchange, rtt: true},
		{
			name: "long packets lost, TLS", prober: shakesHands(), timeout: short,
			cause: func(t *testing.T, n *porttest.Network, v6 bool) {
				serving(hold)(t, n, v6)
				n.Router.Do(t, func() { porttest.Filter(t, "forward", "meta length > 200 drop") })
			},
			outcome: probe.Timeout, phase: probe.PhaseTLS, rtt: true,
		},
		{
			name: "long packets lost, exchange", prober: hears(), timeout: short,
			cause: func(t *testing.T, n *porttest.Network, v6 bool) {
				serving(func(c net.Conn) { _, _ = c.Write([]byte("220 " + strings.Repeat("x", 500) + "\n")); hold(c) })(t, n, v6)
				n.Router.Do(t, func() { porttest.Filter(t, "forward", "meta length > 200 drop") })
			},
			outcome: probe.Timeout, phase: probe.PhaseExchange, rtt: true,
		},
	}
}

func TestDiagnosisInNamespace(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		for _, v6 := range []bool{false, true} {
			if v6 && r.only4 || !v6 && r.only6 {
				continue
			}
			version := "IPv4"
			if v6 {
				version = "IPv6"
			}
			t.Run(r.name+"/"+version, func(t *testing.T) {
				t.Parallel()
				r.run(t, v6)
			})
		}
	}
}

// TestErrorOfAConnectionInNamespace has a router drop one segment of a connection
// that is there and reject it when it comes again. TCP sends it once more, and a
// probe does not ask to be told. The first one would not do: here its rejection
// comes while the socket is still the sender's, which the kernel keeps from it.
func TestErrorOfAConnectionInNamespace(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			n := porttest.NewNetwork(t)
			address := net.JoinHostPort(f.server, "80")
			n.Server.Do(t, func() { startServer(t, "tcp", address, answers("+PONG\r\n")) })
			n.Router.Do(t, func() {
				const data = "tcp dport 80 tcp flags & psh == psh "
				porttest.Filter(t, "forward", data+"limit rate over 1/hour burst 2 packets accept; "+
					data+"limit rate over 1/hour burst 1 packets reject with icmpx admin-prohibited; "+data+"drop")
			})
			p := &TCP{Conversation: Conversation{Exchange: []Step{{Send: "PING"}, expect("PONG")}}}
			got := probeFor(t, p, 20*time.Second, probe.Request{Address: address})
			if got.Outcome != probe.Open {
				t.Errorf("%s (%s) in %q: %v", got.Outcome, got.Origin, got.Phase, got.Err)
			}
			if got.Duration < 300*time.Millisecond { // TCP_RTO_MIN is 200 ms, and is doubled
				t.Errorf("no segment was sent three times: it took %v", got.Duration)
			}
		})
	}
}

func (r *row) run(t *testing.T, v6 bool) {
	n := porttest.NewNetwork(t)
	r.cause(t, n, v6)
	address := target(v6)
	if v6 && r.to6 != "" {
		address = r.to6
	} else if !v6 && r.to4 != "" {
		address = r.to4
	}
	module := probe.Module{Prober: &r.prober, Timeout: r.timeout}
	got := module.Probe(t.Context(), probe.Request{Address: address})
	r.compare(t, got, v6)
	if got.Peer.String() != address {
		t.Errorf("peer %s, want %s", got.Peer, address)
	}
	if got.Duration < r.atLeast || r.atMost > 0 && got.Duration > r.atMost {
		t.Errorf("took %v, want %v to %v", got.Duration, r.atLeast, r.atMost)
	}
}

// target is port 80 of the server.
func target(v6 bool) string {
	if v6 {
		return net.JoinHostPort(porttest.ServerIP6, "80")
	}
	return net.JoinHostPort(porttest.ServerIP4, "80")
}

func (r *row) compare(t *testing.T, got probe.Result, v6 bool) {
	t.Helper()
	phase := r.phase
	if r.outcome != probe.Open && phase == probe.PhaseNone || r.orConnect && got.Phase == probe.PhaseConnect {
		phase = probe.PhaseConnect
	}
	if got.Outcome != r.outcome || got.Origin != r.origin || got.Phase != phase {
		t.Errorf("got %s (%s) in %q, want %s (%s) in %q: %v", got.Outcome, got.Origin, got.Phase, r.outcome, r.origin, phase, got.Err)
	}
	want := r.offender.ip4
	if v6 {
		want = r.offender.ip6
	}
	if want == "" {
		want = netip.Addr{}.String()
	}
	if got.ICMP.Offender.String() != want {
		t.Errorf("offender %v, want %v", got.ICMP.Offender, want)
	}
	if n, ok := sample(got, "probe_tcp_syn_retransmits"); n < r.retransmits || r.rtt && (!ok || r.retransmits == 0 && n > 0) {
		t.Errorf("%v SYN retransmits, want %v", n, r.retransmits)
	}
	if rtt, ok := sample(got, "probe_tcp_rtt_seconds"); ok != r.rtt || ok && (rtt <= 0 || rtt > 1) {
		t.Errorf("round-trip time %v, there: %v", rtt, ok)
	}
}
