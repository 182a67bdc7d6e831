package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// lookup is one resolution of a name by package net, with what its sockets saw of
// the name servers. A [net.DNSError] does not have that: of the answers for A and
// AAAA it keeps the one that came last, and of a failed socket no errno.
type lookup struct {
	resolver *net.Resolver

	mu        sync.Mutex
	answers   map[nameQuestion]nameAnswer
	shortage  error // of this host
	unreached error // why a name server was not reached, the last time
	details   *probe.Details
	noted     []probe.NameAnswer // for the details, in the order of the questions
}

// nameQuestion is what a name server is asked for.
type nameQuestion struct {
	name string
	kind dnsmessage.Type
}

// nameAnswer is what became of a question. The last server that was asked counts.
type nameAnswer uint8

const (
	unanswered     nameAnswer = iota
	answeredError             // SERVFAIL, REFUSED and other errors
	answeredSurely            // the name exists, or does not
)

// newLookup returns a lookup with the settings of a resolver.
func newLookup(of *net.Resolver) *lookup {
	if of == nil {
		of = &net.Resolver{}
	}
	l := &lookup{answers: map[nameQuestion]nameAnswer{}}
	dial := of.Dial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	l.resolver = &net.Resolver{PreferGo: of.PreferGo, StrictErrors: of.StrictErrors, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			l.fail(address, err, true)
			return nil, err
		}
		return l.watch(conn, address), nil
	}}
	return l
}

// addresses resolves a host. The network is ip, ip4 or ip6.
func (l *lookup) addresses(ctx context.Context, network, host string) ([]netip.Addr, error) {
	addrs, err := l.resolver.LookupNetIP(ctx, network, host)
	if err == nil {
		return addrs, nil
	}
	families := 2
	if network != "ip" {
		families = 1
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return nil, l.explain(err, host, families)
}

// explain returns why a resolution failed.
func (l *lookup) explain(err error, host string, families int) error {
	dns, ok := errors.AsType[*net.DNSError](err)
	switch {
	case !ok || errors.Is(err, context.Canceled):
		return err
	case l.shortage != nil:
		return fmt.Errorf("%w: %w", err, l.shortage)
	case !dns.IsNotFound && l.unreached != nil && !l.heard():
		return l.unreached
	case !dns.IsNotFound:
		return shortageOr(err)
	}
	switch l.worst(families) {
	case answeredSurely:
		return err
	case answeredError:
		return &net.DNSError{Err: "a name server answers one of the questions for A and AAAA with an error", Name: host, IsTemporary: true}
	default:
		return &net.DNSError{Err: "a name server does not answer one of the questions for A and AAAA", Name: host, IsTimeout: true, IsTemporary: true}
	}
}

// heard reports whether any name server answered.
func (l *lookup) heard() bool {
	for _, a := range l.answers {
		if a != unanswered {
			return true
		}
	}
	return false
}

// worst returns the least that is known of a name that was asked for, in as many
// families. Without any question it was /etc/hosts that knows no such name, or
// the C library.
func (l *lookup) worst(families int) nameAnswer {
	worst, asked := answeredSurely, map[string]int{}
	for q, a := range l.answers {
		asked[q.name]++
		worst = min(worst, a)
	}
	for _, n := range asked {
		if n < families {
			return unanswered // there was no socket to ask with
		}
	}
	return worst
}

// fail notes the error of a socket.
func (l *lookup) fail(server string, err error, dialled bool) {
	errno, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if probe.IsShortage(errno) {
		l.shortage = errno
		return
	}
	l.unreached = &probe.UnreachedError{Server: server, Err: err, Local: dialled}
}

// nameExchange is the questions and answers on one socket.
type nameExchange struct {
	lookup *lookup
	server string
	id     uint16
	asked  nameQuestion
	noted  int // of the lookup
	sentAt time.Time
}

// watch returns a connection that notes what is asked and answered. Package net
// takes those that are a [net.PacketConn] for UDP.
func (l *lookup) watch(conn net.Conn, server string) net.Conn {
	x := nameExchange{lookup: l, server: server}
	switch conn := conn.(type) {
	case *net.UDPConn:
		return &watchedUDP{conn, x}
	case *net.TCPConn:
		return &watchedTCP{conn, x}
	default:
		return conn
	}
}

type watchedUDP struct {
	*net.UDPConn
	nameExchange
}

func (c *watchedUDP) Write(b []byte) (int, error) { return c.sent(b, c.UDPConn.Write) }
func (c *watchedUDP) Read(b []byte) (int, error)  { return c.received(b, c.UDPConn.Read) }

type watchedTCP struct {
	*net.TCPConn
	nameExchange
}

// lengthBytes precede a message over TCP: RFC 1035 section 4.2.2.
const lengthBytes = 2

func (c *watchedTCP) Write(b []byte) (int, error) {
	return c.sent(b[min(len(b), lengthBytes):], func([]byte) (int, error) { return c.TCPConn.Write(b) })
}
func (c *watchedTCP) Read(b []byte) (int, error) { return c.received(b, c.TCPConn.Read) }

// sent notes the question that is written.
func (x *nameExchange) sent(message []byte, write func([]byte) (int, error)) (int, error) {
	var p dnsmessage.Parser
	if h, err := p.Start(message); err == nil {
		if q, err := p.Question(); err == nil {
			x.id, x.asked = h.ID, nameQuestion{q.Name.String(), q.Type}
			x.lookup.note(x.asked, unanswered)
			x.noted, x.sentAt = x.lookup.noteQuestion(x.server, q), time.Now()
		}
	}
	n, err := write(message)
	if err != nil {
		x.lookup.fail(x.server, err, false)
	}
	return n, err
}

// received notes the answer that is read.
func (x *nameExchange) received(b []byte, read func([]byte) (int, error)) (int, error) {
	n, err := read(b)
	if err != nil {
		x.lookup.fail(x.server, err, false)
		return n, err
	}
	var p dnsmessage.Parser
	h, parseErr := p.Start(b[:n])
	if parseErr != nil || h.ID != x.id || !h.Response {
		return n, nil
	}
	x.lookup.noteAnswer(x.noted, h.RCode, &p, time.Since(x.sentAt))
	switch h.RCode {
	case dnsmessage.RCodeSuccess, dnsmessage.RCodeNameError:
		x.lookup.note(x.asked, answeredSurely)
	default:
		x.lookup.note(x.asked, answeredError)
	}
	return n, nil
}

func (l *lookup) note(q nameQuestion, a nameAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers[q] = a
}
