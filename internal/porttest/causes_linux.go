package porttest

import (
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cause is why a client cannot reach a server, or reaches it: a row of the table in
// docs/diagnosis.md. The test is the client of a network with a router.
type Cause struct {
	Name  string
	Speak Speech
	// Wait is how long the client waits, where it ends in silence; 0 is for as long as
	// clients do.
	Wait time.Duration

	make         func(t testing.TB, n *Network, v6 bool)
	to4, to6     string // the target; empty is port 80 of the server
	only4, only6 bool   // the cause is not known to the other version of IP
}

// Speech is what a client does once it is connected.
type Speech uint8

// What clients do.
const (
	Nothing     Speech = iota
	Hears              // expects a line that begins with "220 "
	ShakesHands        // makes a TLS handshake
)

// short is the wait of causes that end in silence.
const short = 400 * time.Millisecond

// afterHandshake is the wait of causes that connect before they end in silence: the
// handshake must be done in it, on a busy machine too.
const afterHandshake = 3 * time.Second

// Has reports whether the cause is known to a version of IP.
func (c *Cause) Has(v6 bool) bool { return (!v6 || !c.only4) && (v6 || !c.only6) }

// Make makes the network such as the cause wants it.
func (c *Cause) Make(t testing.TB, n *Network, v6 bool) {
	t.Helper()
	if c.make != nil {
		c.make(t, n, v6)
	}
}

// Target returns what the client connects to.
func (c *Cause) Target(v6 bool) string {
	switch {
	case v6 && c.to6 != "":
		return c.to6
	case !v6 && c.to4 != "":
		return c.to4
	default:
		return serverTarget(v6)
	}
}

// serverTarget is port 80 of the server.
func serverTarget(v6 bool) string {
	if v6 {
		return net.JoinHostPort(ServerIP6, "80")
	}
	return net.JoinHostPort(ServerIP4, "80")
}

// listening has a listener at the server whose program never accepts.
func listening(t testing.TB, n *Network, _ bool) {
	t.Helper()
	n.Server.Do(t, func() { Listen(t, "[::]:80", 5) })
}

// filtered has a rule in one of the hosts, and a listener behind it.
func filtered(host func(*Network) *Space, hook, rule string) func(testing.TB, *Network, bool) {
	return func(t testing.TB, n *Network, v6 bool) {
		listening(t, n, v6)
		host(n).Do(t, func() { Filter(t, hook, rule) })
	}
}

func client(n *Network) *Space { return n.Client }
func router(n *Network) *Space { return n.Router }
func server(n *Network) *Space { return n.Server }

// in does something in one of the hosts.
func in(host func(*Network) *Space, f func(t testing.TB, v6 bool)) func(testing.TB, *Network, bool) {
	return func(t testing.TB, n *Network, v6 bool) { host(n).Do(t, func() { f(t, v6) }) }
}

// deadEnd has a route of a type at one of the hosts towards the server.
func deadEnd(host func(*Network) *Space, kind int) func(testing.TB, *Network, bool) {
	return in(host, func(t testing.TB, _ bool) {
		RouteType(t, ServerIP4+"/32", kind)
		RouteType(t, ServerIP6+"/128", kind)
	})
}

// serving has a program at the server that does something to each connection.
func serving(serve func(net.Conn)) func(testing.TB, *Network, bool) {
	return func(t testing.TB, n *Network, _ bool) {
		n.Server.Do(t, func() {
			l, err := net.Listen("tcp", "[::]:80")
			if err != nil {
				t.Fatal(err)
			}
			Serve(t, l, serve)
		})
	}
}

// impatient has the router take 300 ms to find out that a host is down, not 3 s.
func impatient(t testing.TB) {
	t.Helper()
	AskNeighboursEvery(t, "eth1", 100*time.Millisecond)
}

// fullQueue has a listener that has room for one connection, which is there.
func fullQueue(t testing.TB, n *Network, v6 bool) {
	t.Helper()
	n.Server.Do(t, func() { Listen(t, "[::]:80", 0) })
	Dial(t, serverTarget(v6))
}

// usedUpPorts leaves the client two ephemeral ports, both in use towards the
// server.
func usedUpPorts(t testing.TB, n *Network, v6 bool) {
	t.Helper()
	listening(t, n, v6)
	Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40001")
	Dial(t, serverTarget(v6))
	Dial(t, serverTarget(v6))
}

// loop has router and server send a network's packets to each other.
func loop(t testing.TB, n *Network, _ bool) {
	t.Helper()
	n.Router.Do(t, func() {
		Route(t, "203.0.113.0/24", ServerIP4)
		Route(t, "2001:db8:3::/64", ServerIP6)
	})
	n.Server.Do(t, func() {
		Sysctl(t, "net/ipv4/ip_forward", "1")
		Sysctl(t, "net/ipv4/conf/all/send_redirects", "0")
		Sysctl(t, "net/ipv4/conf/eth0/send_redirects", "0")
		Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
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

// hold says nothing until the peer ends the connection.
func hold(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// reset ends the connection with an RST.
func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// Causes are those of the table "TCP connect" of docs/diagnosis.md, from top to bottom.
func Causes() []Cause {
	return slices.Concat(openCauses(), closedCauses(), rejectedCauses(), prohibitedCauses(), unreachableCauses(), silentCauses(), localCauses(), connectedCauses())
}

func openCauses() []Cause {
	return []Cause{
		{Name: "listener that accepts", make: serving(hold)},
		{Name: "listener that does not accept", make: listening},
		{
			Name: "first SYN lost", make: func(t testing.TB, n *Network, v6 bool) {
				listening(t, n, v6)
				n.Router.Do(t, func() { NFT(t, firstSYN) })
			},
		},
	}
}

func closedCauses() []Cause {
	return []Cause{
		{Name: "port closed"},
		{
			Name: "listener on loopback only", make: in(server, func(t testing.TB, _ bool) {
				Listen(t, "127.0.0.1:80", 5)
				Listen(t, "[::1]:80", 5)
			}),
		},
		{
			Name: "server rejects with RST", make: filtered(server, "input", toServer+"reject with tcp reset"),
		},
		{
			Name: "router rejects with RST", make: filtered(router, "forward", toServer+"reject with tcp reset"),
		},
	}
}

func rejectedCauses() []Cause {
	return []Cause{
		{
			Name: "server rejects", make: filtered(server, "input", toServer+"reject with icmpx port-unreachable"),
		},
		{
			Name: "router rejects", make: filtered(router, "forward", toServer+"reject with icmpx port-unreachable"),
		},
		{
			Name: "client rejects", make: filtered(client, "output", toServer+"reject with icmpx port-unreachable"),
		},
	}
}

func prohibitedCauses() []Cause {
	return []Cause{
		{
			Name: "server prohibits", make: filtered(server, "input", toServer+"reject with icmpx admin-prohibited"),
		},
		{
			Name: "router prohibits", make: filtered(router, "forward", toServer+"reject with icmpx admin-prohibited"),
		},
		{
			Name: "client prohibits", make: filtered(client, "output", toServer+"reject with icmpx admin-prohibited"),
		},
		{
			Name: "router's route prohibits", make: deadEnd(router, unix.RTN_PROHIBIT),
		},
		{
			Name: "net prohibited", make: filtered(router, "forward", toServer+"reject with icmp net-prohibited"), only4: true,
		},
		{
			Name: "host prohibited", make: filtered(router, "forward", toServer+"reject with icmp host-prohibited"), only4: true,
		},
		{
			Name: "source address against the policy", make: filtered(router, "forward", toServer+"reject with icmpv6 policy-fail"), only6: true,
		},
	}
}

func unreachableCauses() []Cause {
	return []Cause{
		{
			Name: "router has no route", to4: away4, to6: away6,
		},
		{
			Name: "router's route is unreachable", make: deadEnd(router, unix.RTN_UNREACHABLE),
		},
		{
			Name: "server knows no such protocol", make: filtered(server, "input", toServer+"reject with icmp prot-unreachable"), only4: true,
		},
		{
			// Of 64 hops the odd ones are the server's, and the last one is.
			Name: "routing loop", make: loop, to4: away4, to6: away6,
		},
		{
			Name: "host down on our own segment", to4: near4, to6: near6,
		},
		{
			Name: "host down behind the router", make: in(router, func(t testing.TB, _ bool) { impatient(t) }), to4: absent4, to6: absent6,
		},
		{
			// The router translates its own error back: it bears the target's address.
			Name: "DNAT to a host that is down", make: in(router, func(t testing.TB, _ bool) { impatient(t); NFT(t, toAbsent) }),
		},
	}
}

func silentCauses() []Cause {
	return []Cause{
		{Name: "server drops", make: filtered(server, "input", toServer+"drop"), Wait: short},
		{Name: "router drops", make: filtered(router, "forward", toServer+"drop"), Wait: short},
		{Name: "router drops the answer", make: filtered(router, "forward", "tcp sport 80 drop"), Wait: short},
		{Name: "router's route is a blackhole", make: deadEnd(router, unix.RTN_BLACKHOLE), Wait: short},
		{Name: "SYN sent in vain", make: filtered(server, "input", toServer+"drop"), Wait: 2500 * time.Millisecond},
		{Name: "accept queue full", make: fullQueue, Wait: short},
		{Name: "client drops", make: filtered(client, "output", toServer+"drop"), Wait: short},
		{
			Name: "SYN retries used up", make: func(t testing.TB, n *Network, v6 bool) {
				Sysctl(t, "net/ipv4/tcp_syn_retries", "1")
				filtered(server, "input", toServer+"drop")(t, n, v6)
			},
		},
	}
}

func localCauses() []Cause {
	return []Cause{
		{Name: "client's route is a blackhole", make: deadEnd(client, unix.RTN_BLACKHOLE)},
		{Name: "client's route is unreachable", make: deadEnd(client, unix.RTN_UNREACHABLE)},
		{
			Name: "client has no route", make: in(client, func(t testing.TB, _ bool) {
				DeleteRoute(t, "0.0.0.0/0")
				DeleteRoute(t, "::/0")
			}),
		},
		{Name: "client's route prohibits", make: deadEnd(client, unix.RTN_PROHIBIT)},
		{Name: "no port left", make: usedUpPorts},
	}
}

func connectedCauses() []Cause {
	return []Cause{
		{
			Name: "RST behind the handshake", make: serving(reset), Speak: Hears,
		},
		{
			Name: "FIN instead of an answer", make: serving(func(c net.Conn) { c.Close() }), Speak: Hears,
		},
		{Name: "silence instead of an answer", make: serving(hold), Speak: Hears, Wait: afterHandshake},
		{
			Name: "long packets lost, TLS", Speak: ShakesHands, Wait: afterHandshake,
			make: func(t testing.TB, n *Network, v6 bool) {
				serving(hold)(t, n, v6)
				n.Router.Do(t, func() { Filter(t, "forward", "meta length > 200 drop") })
			},
		},
		{
			Name: "long packets lost, exchange", Speak: Hears, Wait: afterHandshake,
			make: func(t testing.TB, n *Network, v6 bool) {
				serving(func(c net.Conn) { _, _ = c.Write([]byte("220 " + strings.Repeat("x", 500) + "\n")); hold(c) })(t, n, v6)
				n.Router.Do(t, func() { Filter(t, "forward", "meta length > 200 drop") })
			},
		},
	}
}
