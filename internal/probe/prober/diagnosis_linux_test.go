package prober

import (
	"net"
	"net/netip"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// row is what a probe makes of a cause of [porttest.Causes].
type row struct {
	name string

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

// speaking returns the prober that does what a client does.
func speaking(s porttest.Speech) *TCP {
	switch s {
	case porttest.Hears:
		return &TCP{Conversation: Conversation{Exchange: []Step{{Expect: regexp.MustCompile("^220 ")}}}}
	case porttest.ShakesHands:
		return &TCP{Conversation: Conversation{TLS: true}}
	default:
		return &TCP{}
	}
}

// soon is less than the second that a lost SYN takes.
const soon = 900 * time.Millisecond

// rows is the table "TCP connect" of docs/diagnosis.md, from top to bottom.
func rows() []row {
	return slices.Concat(openRows(), closedRows(), rejectedRows(), prohibitedRows(), unreachableRows(), silentRows(), localRows(), connectedRows())
}

func openRows() []row {
	return []row{
		{name: "listener that accepts", outcome: probe.Open, rtt: true, atMost: soon},
		{name: "listener that does not accept", outcome: probe.Open, rtt: true, atMost: soon},
		{
			name:    "first SYN lost",
			outcome: probe.Open, rtt: true, retransmits: 1, atLeast: 900 * time.Millisecond, atMost: 2 * time.Second,
		},
	}
}

func closedRows() []row {
	return []row{
		{name: "port closed", outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon},
		{
			name:    "listener on loopback only",
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
		{
			name:    "server rejects with RST",
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
		{
			name:    "router rejects with RST",
			outcome: probe.Refused, origin: probe.OriginTarget, atMost: soon,
		},
	}
}

func rejectedRows() []row {
	return []row{
		{
			name:    "server rejects",
			outcome: probe.Refused, origin: probe.OriginTargetFirewall, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name:    "router rejects",
			outcome: probe.Refused, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name:    "client rejects",
			outcome: probe.Refused, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6}, atMost: soon,
		},
	}
}

func prohibitedRows() []row {
	return []row{
		{
			name:    "server prohibits",
			outcome: probe.Prohibited, origin: probe.OriginTargetFirewall, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name:    "router prohibits",
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name:    "client prohibits",
			outcome: probe.Prohibited, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6}, atMost: soon,
		},
		{
			name:    "router's route prohibits",
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name:    "net prohibited",
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip4: porttest.RouterClientIP4}, atMost: soon,
		},
		{
			name:    "host prohibited",
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip4: porttest.RouterClientIP4}, atMost: soon,
		},
		{
			name:    "source address against the policy",
			outcome: probe.Prohibited, origin: probe.OriginNetwork, offender: offender{ip6: porttest.RouterClientIP6}, atMost: soon,
		},
	}
}

func unreachableRows() []row {
	return []row{
		{
			name:    "router has no route",
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name:    "router's route is unreachable",
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: soon,
		},
		{
			name:    "server knows no such protocol",
			outcome: probe.Unreachable, origin: probe.OriginTargetFirewall, offender: offender{ip4: porttest.ServerIP4}, atMost: soon,
		},
		{
			// Of 64 hops the odd ones are the server's, and the last one is.
			name:    "routing loop",
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: soon,
		},
		{
			name:    "host down on our own segment",
			outcome: probe.Unreachable, origin: probe.OriginLocal, offender: offender{porttest.ClientIP4, porttest.ClientIP6},
			atLeast: 2500 * time.Millisecond, atMost: probe.DefaultTimeout - time.Second,
		},
		{
			name:    "host down behind the router",
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.RouterClientIP4, porttest.RouterClientIP6}, atMost: time.Second,
		},
		{
			// The router translates its own error back: it bears the target's address.
			name:    "DNAT to a host that is down",
			outcome: probe.Unreachable, origin: probe.OriginNetwork, offender: offender{porttest.ServerIP4, porttest.ServerIP6}, atMost: time.Second,
		},
	}
}

func silentRows() []row {
	return []row{
		{name: "server drops", outcome: probe.Timeout},
		{name: "router drops", outcome: probe.Timeout},
		{name: "router drops the answer", outcome: probe.Timeout},
		{name: "router's route is a blackhole", outcome: probe.Timeout},
		{name: "SYN sent in vain", outcome: probe.Timeout, retransmits: 1},
		{name: "accept queue full", outcome: probe.Timeout},
		{name: "client drops", outcome: probe.Timeout},
		{
			name:    "SYN retries used up",
			outcome: probe.Timeout, retransmits: 1, atMost: probe.DefaultTimeout - time.Second,
		},
	}
}

func localRows() []row {
	return []row{
		{name: "client's route is a blackhole", outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon},
		{name: "client's route is unreachable", outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon},
		{
			name:    "client has no route",
			outcome: probe.Unreachable, origin: probe.OriginLocal, atMost: soon,
		},
		{name: "client's route prohibits", outcome: probe.Prohibited, origin: probe.OriginLocal, atMost: soon},
		{name: "no port left", outcome: probe.LocalError, origin: probe.OriginLocal, atMost: soon},
	}
}

func connectedRows() []row {
	return []row{
		{
			name:    "RST behind the handshake",
			outcome: probe.Reset, origin: probe.OriginTarget, phase: probe.PhaseExchange, orConnect: true, rtt: true, atMost: soon,
		},
		{
			name:    "FIN instead of an answer",
			outcome: probe.Closed, origin: probe.OriginTarget, phase: probe.PhaseExchange, rtt: true, atMost: soon,
		},
		{name: "silence instead of an answer", outcome: probe.Timeout, phase: probe.PhaseExchange, rtt: true},
		{
			name:    "long packets lost, TLS",
			outcome: probe.Timeout, phase: probe.PhaseTLS, rtt: true,
		},
		{
			name:    "long packets lost, exchange",
			outcome: probe.Timeout, phase: probe.PhaseExchange, rtt: true,
		},
	}
}

func TestDiagnosisInNamespace(t *testing.T) {
	t.Parallel()
	wanted := map[string]row{}
	for _, r := range rows() {
		wanted[r.name] = r
	}
	causes := porttest.Causes()
	if len(wanted) != len(causes) {
		t.Errorf("%d rows for %d causes", len(wanted), len(causes))
	}
	for _, c := range causes {
		for i, f := range families() {
			if v6 := i == 1; c.Has(v6) {
				t.Run(c.Name+"/"+f.name, func(t *testing.T) {
					t.Parallel()
					r, ok := wanted[c.Name]
					if !ok {
						t.Fatal("no row is about it")
					}
					r.run(t, &c, v6)
				})
			}
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

func (r *row) run(t *testing.T, c *porttest.Cause, v6 bool) {
	n := porttest.NewNetwork(t)
	c.Make(t, n, v6)
	address := c.Target(v6)
	module := probe.Module{Prober: speaking(c.Speak), Timeout: c.Wait}
	got := module.Probe(t.Context(), probe.Request{Address: address})
	r.compare(t, got, v6)
	if got.Peer.String() != address {
		t.Errorf("peer %s, want %s", got.Peer, address)
	}
	if got.Duration < r.atLeast || r.atMost > 0 && got.Duration > r.atMost {
		t.Errorf("took %v, want %v to %v", got.Duration, r.atLeast, r.atMost)
	}
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
