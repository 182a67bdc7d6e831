package prober

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/dial"
	"github.com/port-exporter/port_exporter/internal/probe/payload"
)

// behaviour is what a NAT's mapping, or its filter, depends on besides our own
// address and port: RFC 4787 sections 4.1 and 5.
type behaviour uint8

// The behaviours.
const (
	behaviourUnknown    behaviour = iota
	endpointIndependent           // on nothing
	addressDependent              // on the address at the other end
	addressAndPortDependent
	numBehaviours
)

var behaviourNames = [numBehaviours]string{"unknown", "endpoint-independent", "address-dependent", "address-and-port-dependent"}

// String returns the behaviour as it stands in labels.
func (b behaviour) String() string {
	if b < numBehaviours {
		return behaviourNames[b]
	}
	return "unknown"
}

// natWindow is how long the tests of behaviour wait for what may never come:
// five times the RTO, with requests sent at 0, 1 and 3 times.
const natWindow = 2500 * time.Millisecond

// natSchedule returns when a request of the tests is sent.
func natSchedule() []time.Duration { return stunSchedule()[:3] }

// natTests are those of RFC 5780 section 4. Mapping and filtering are tested at
// once, each from a port of its own, so that neither opens the filter for the
// other.
type natTests struct {
	local         netip.Addr
	server, other netip.AddrPort
	allow         func(netip.AddrPort) error
}

// run takes [natWindow] where a filter keeps answers out, else a round trip or
// two. A behaviour that ctx leaves no time for is unknown.
func (n *natTests) run(ctx context.Context) (mapping, filtering behaviour) {
	if !n.plausible() {
		return behaviourUnknown, behaviourUnknown
	}
	// The sockets are made here, so that they are of the caller's network
	// namespace.
	mappingConn, err := dial.ListenUDP(ctx, n.local)
	if err != nil {
		return behaviourUnknown, behaviourUnknown
	}
	defer mappingConn.Close()
	filteringConn, err := dial.ListenUDP(ctx, n.local)
	if err != nil {
		return behaviourUnknown, behaviourUnknown
	}
	defer filteringConn.Close()
	var both probe.Crew
	both.Go(func() { mapping = n.mapping(ctx, mappingConn) })
	both.Go(func() { filtering = n.filtering(ctx, filteringConn) })
	both.Wait()
	return mapping, filtering
}

// plausible reports whether the other address, which is the server's word only,
// is one that such a server can have: another address of the same family and
// reach, and another port of the same kind, so that no server sends us to
// services that are not its own.
func (n *natTests) plausible() bool {
	other, server := n.other.Addr(), n.server.Addr()
	switch {
	case !other.IsValid(), n.other.Port() == 0:
		return false
	case other.Is4() != server.Is4(), netaddr.SameHost(other, server), n.other.Port() == n.server.Port():
		return false
	case isSystemPort(n.other.Port()) != isSystemPort(n.server.Port()):
		return false
	}
	reach := reachOf(other)
	return reach != reachNone && reach == reachOf(server)
}

// isSystemPort reports whether a port is one of the system ports: RFC 6335
// section 6.
func isSystemPort(port uint16) bool { return port < 1024 }

// reach is from where an address is reached.
type reach uint8

const (
	reachNone     reach = iota // by no host, or inside only: special ones, and what may encode another address
	reachLoopback              // this host
	reachPrivate               // a site: RFC 1918, RFC 4193
	reachShared                // a provider's network: RFC 6598
	reachPublic
)

// sharedSpace are the addresses between a provider's NAT and its customers.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

func reachOf(addr netip.Addr) reach {
	addr = netaddr.Plain(addr)
	switch {
	case netaddr.IsSpecial(addr), addr.Is6() && !addr.IsLoopback() && netaddr.EmbeddedIPv4(addr) != nil:
		return reachNone
	case addr.IsLoopback():
		return reachLoopback
	case addr.IsPrivate():
		return reachPrivate
	case sharedSpace.Contains(addr):
		return reachShared
	default:
		return reachPublic
	}
}

// mapping compares how the server's addresses see one port of ours.
func (n *natTests) mapping(ctx context.Context, conn *net.UDPConn) behaviour {
	otherAddress := netip.AddrPortFrom(n.other.Addr(), n.server.Port())
	if allowedAddr(n.allow, otherAddress) != nil || allowedAddr(n.allow, n.other) != nil {
		return behaviourUnknown
	}
	b := newBindings(conn, []question{{to: n.server}, {to: otherAddress}, {to: n.other}})
	b.ask(ctx, func() bool {
		first, second, third := b.mapped(0), b.mapped(1), b.mapped(2)
		return first.IsValid() && second.IsValid() && (first == second || third.IsValid())
	})
	first, second, third := b.mapped(0), b.mapped(1), b.mapped(2)
	switch {
	case first.IsValid() && sameEndpoint(first, dial.LocalAddr(conn)): // no NAT
		return endpointIndependent
	case !first.IsValid() || !second.IsValid():
		return behaviourUnknown
	case first == second:
		return endpointIndependent
	case !third.IsValid():
		return behaviourUnknown
	case second == third:
		return addressDependent
	}
	return addressAndPortDependent
}

// filtering asks the server to answer from where we have sent nothing to.
func (n *natTests) filtering(ctx context.Context, conn *net.UDPConn) behaviour {
	otherPort := netip.AddrPortFrom(n.server.Addr(), n.other.Port())
	b := newBindings(conn, []question{
		{to: n.server}, // whether it answers this port of ours at all
		{to: n.server, change: payload.STUNChangeAddress | payload.STUNChangePort},
		{to: n.server, change: payload.STUNChangePort},
	})
	silent := b.ask(ctx, func() bool { return b.mapped(1).IsValid() })
	switch {
	case sameEndpoint(b.from[1], n.other):
		return endpointIndependent
	case b.answered(1) || !b.mapped(0).IsValid() || !silent:
		return behaviourUnknown // among others, a server that does not change
	case sameEndpoint(b.from[2], otherPort):
		return addressDependent
	case b.answered(2):
		return behaviourUnknown
	}
	return addressAndPortDependent
}

// question is a binding request to one of the server's addresses.
type question struct {
	to     netip.AddrPort
	change payload.STUNChange
}

// bindings are concurrent questions from one port, and their answers.
type bindings struct {
	conn         *net.UDPConn
	questions    []question
	transactions []payload.STUNTransaction
	responses    []payload.STUNResponse
	from         []netip.AddrPort // who answered; the zero value if none did
}

func newBindings(conn *net.UDPConn, questions []question) *bindings {
	b := &bindings{
		conn: conn, questions: questions,
		responses: make([]payload.STUNResponse, len(questions)), from: make([]netip.AddrPort, len(questions)),
	}
	for range questions {
		b.transactions = append(b.transactions, newTransaction())
	}
	return b
}

func (b *bindings) answered(i int) bool { return b.from[i].IsValid() }

// mapped returns what an answer says of us, the zero value if there is none.
func (b *bindings) mapped(i int) netip.AddrPort { return b.responses[i].Mapped }

// ask sends and gathers until there is enough, or [natWindow] is over: then it
// returns true, and what has not been answered will not be.
func (b *bindings) ask(ctx context.Context, enough func() bool) (over bool) {
	defer dial.Interruptible(ctx, b.conn)()
	start, schedule := time.Now(), append(natSchedule(), natWindow)
	for _, until := range schedule[1:] { // each but the last is when to send again
		b.send()
		if b.gather(ctx, start.Add(until), enough) {
			return false
		}
	}
	return ctx.Err() == nil && time.Since(start) >= natWindow
}

// send sends what has not been answered. An error is that of an earlier
// datagram, or will show as silence.
func (b *bindings) send() {
	for i, q := range b.questions {
		if !b.answered(i) {
			_, _ = b.conn.WriteToUDPAddrPort(payload.STUNRequest(b.transactions[i], q.change), q.to)
		}
	}
}

// gather takes answers until a time, and reports whether there is enough.
func (b *bindings) gather(ctx context.Context, until time.Time, enough func() bool) bool {
	if dial.ReadUntil(ctx, b.conn, until) != nil {
		return false
	}
	buffer := make([]byte, dial.MaxReply)
	for range dial.MaxReplies {
		length, from, err := b.conn.ReadFromUDPAddrPort(buffer)
		if dial.IsTimeout(err) {
			return false
		}
		if err == nil && b.take(buffer[:length], from) && enough() {
			return true
		}
	}
	return false
}

// take reports whether a datagram answers a question that had no answer yet.
func (b *bindings) take(datagram []byte, from netip.AddrPort) bool {
	response, err := payload.ParseSTUN(datagram)
	if err != nil {
		return false
	}
	for i, id := range b.transactions {
		if id == response.Transaction && !b.answered(i) {
			b.responses[i], b.from[i] = response, netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
			return true
		}
	}
	return false
}

// allowedAddr asks whether datagrams may be sent to an address.
func allowedAddr(allow func(netip.AddrPort) error, to netip.AddrPort) error {
	if allow == nil {
		return nil
	}
	return allow(to)
}
