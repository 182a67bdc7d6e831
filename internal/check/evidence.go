package check

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/port-exporter/port_exporter/internal/owner"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/route"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Mark says what a piece of evidence comes to.
type Mark uint8

// The marks.
const (
	Unknown Mark = iota
	OK
	Failed
)

// String returns the mark as people and JSON have it.
func (m Mark) String() string {
	switch m {
	case OK:
		return "ok"
	case Failed:
		return "failed"
	default:
		return "unknown"
	}
}

// Evidence is one fact that was looked at.
type Evidence struct {
	Mark  Mark
	Topic string // name, route, listener, …: a closed set
	Text  string
}

// Evidence returns what was looked at, in the order of a connection.
func (r *Report) Evidence() []Evidence {
	var all []Evidence
	all = append(all, r.from()...)
	all = append(all, r.names()...)
	all = append(all, r.way()...)
	all = append(all, r.ownListener()...)
	all = append(all, r.rules()...)
	all = append(all, r.ephemeral()...)
	all = append(all, r.addresses()...)
	all = append(all, r.connections()...)
	all = append(all, r.handshakes()...)
	all = append(all, r.discarded()...)
	all = append(all, r.path()...)
	return r.ofNetns(append(all, r.answer()...))
}

// way is about the route to the address that was tried.
func (r *Report) way() []Evidence {
	if r.Route == nil {
		return nil
	}
	to := r.Result.Peer.Addr()
	mark := OK
	if !r.Route.IsOut() || r.Route.Assumed || r.Route.Type == route.Broadcast || r.Route.Type == route.Multicast {
		mark = Failed
	}
	text := fmt.Sprintf("%s: %s", to, r.Route)
	if r.device != "" && r.Route.Type != route.Local {
		text += ", bound to " + r.device
	}
	if r.Route.Down != "" {
		mark, text = Failed, fmt.Sprintf("%s; %s %s", text, r.Route.Device, r.Route.Down)
	}
	all := []Evidence{{mark, "route", text}}
	if n := r.Route.Neighbour; n != "" && r.Route.Type == route.Unicast {
		mark, state := OK, "is "+n
		switch n {
		case "failed", "incomplete":
			mark = Failed
		case "none":
			mark, state = Unknown, "is not"
		}
		all = append(all, Evidence{mark, "neighbour", fmt.Sprintf("%s on %s %s in the table of neighbours", r.Route.NextHop(to), r.Route.Device, state)})
	}
	return all
}

// ownListener is about the listeners of this host, if the target is here.
func (r *Report) ownListener() []Evidence {
	l := r.Listener
	if l == nil {
		return nil
	}
	var all []Evidence
	switch sent := r.Firewall.sent(r.Result.Peer); {
	case sent != nil && l.Listener == nil:
	case sent != nil:
		all = append(all, Evidence{Unknown, "listener", l.describe(l.Listener) + ", but a rule sends the connection elsewhere"})
	default:
		all = append(all, l.standing())
	}
	switch {
	case l.Listener == nil:
	case l.Pending:
		all = append(all, Evidence{Unknown, "owner", "the process of the listener was not found in time: this host is busy, or one of its processes does not answer"})
	case len(l.Missing) > 0:
		all = append(all, Evidence{Unknown, "owner", "the process of the listener is unknown: " + strings.Join(owner.Hints(l.Missing), "; ")})
	}
	for i := range l.Others {
		all = append(all, Evidence{Unknown, "listener", fmt.Sprintf("another on the port: %s (%s)", place(&l.Others[i]), scopeWords(l.Others[i].Scope))})
	}
	return all
}

// standing says what the listener makes of the address.
func (l *Listener) standing() Evidence {
	switch l.Standing {
	case socket.NotListening:
		return Evidence{Failed, "listener", fmt.Sprintf("nothing listens on %s port %d of this host", l.Protocol, l.To.Port())}
	case socket.Listens:
		return Evidence{OK, "listener", l.describe(l.Listener)}
	case socket.QueueFull:
		return Evidence{Failed, "listener", l.describe(l.Listener) + ", full: the service does not accept"}
	default:
		return Evidence{Failed, "listener", fmt.Sprintf("%s, and not on %s", l.describe(l.Listener), l.To.Addr())}
	}
}

// describe says who listens where, and how full the queue is.
func (l *Listener) describe(on *socket.Listener) string {
	text := fmt.Sprintf("%s listens on %s (%s)", cmp.Or(l.inFull(), "a process that is unknown"), place(on), l.reach(on))
	if l.Protocol == socket.TCP && on.Known.Has(socket.KnowsQueues|socket.KnowsAcceptQueueLimit) {
		text += fmt.Sprintf(", queue %d/%d", on.Worst.Length, on.Worst.Limit)
	}
	if on.Sockets > 1 {
		text += fmt.Sprintf(" in the fullest of %d sockets", on.Sockets)
	}
	return text
}

// reach says from where a listener can be reached: one on every address that does not
// take the address of the target has those of the other version of IP only.
func (l *Listener) reach(on *socket.Listener) string {
	switch {
	case on.Scope != socket.ScopeAny || l.Standing != socket.OtherAddress || on.Interface != "":
		return scopeWords(on.Scope)
	case on.Address.Is4():
		return "every IPv4 address"
	default:
		return "every IPv6 address"
	}
}

func place(l *socket.Listener) string {
	text := netip.AddrPortFrom(l.Address, l.Port).String()
	if l.Interface != "" {
		text += " of " + l.Interface
	}
	return text
}

func scopeWords(s socket.Scope) string {
	switch s {
	case socket.ScopeAny:
		return "every address"
	case socket.ScopeLoopback:
		return "this host only"
	default:
		return s.String()
	}
}

// ephemeral is about the ports of this host towards the target.
func (r *Report) ephemeral() []Evidence {
	if r.Ports == nil {
		return nil
	}
	mark := OK
	if r.Ports.Used >= r.Ports.Of {
		mark = Failed
	}
	text := fmt.Sprintf("%d of %d ephemeral ports (%d–%d) towards %s are in use", r.Ports.Used, r.Ports.Of, r.Ports.First, r.Ports.Last, r.Result.Peer)
	if r.Ports.By != "" {
		text += ", most of them by " + r.Ports.By
	}
	return []Evidence{{mark, "ports", text}}
}

// addresses is about each address of a name that has several.
func (r *Report) addresses() []Evidence {
	var all []Evidence
	for i := range r.Attempts {
		a := &r.Attempts[i]
		text := fmt.Sprintf("%s: %s, %s", a.Address, outcome(&a.Result), took(a.Result.Duration))
		if !a.Probed && a.Result.Outcome == probe.Open {
			text += ", only connected to"
		}
		all = append(all, Evidence{markOf(&a.Result, r.Target.Module.Expect), "address", text})
	}
	return all
}

func markOf(r *probe.Result, expect probe.Outcome) Mark {
	switch {
	case r.Outcome == expect:
		return OK
	case !r.Outcome.Tried():
		return Unknown
	default:
		return Failed
	}
}

// connections is about the TCP connections of the probe.
func (r *Report) connections() []Evidence {
	var all []Evidence
	for i := range r.Connections {
		c := &r.Connections[i]
		if c.Err == nil {
			all = append(all, Evidence{OK, "connect", fmt.Sprintf("tcp %s from %s, %s%s", c.To, c.From, took(c.Duration), quality(c))})
			continue
		}
		mark := Failed
		if r.Success {
			mark = OK
		}
		all = append(all, Evidence{mark, "connect", fmt.Sprintf("tcp %s: %s, %s%s", c.To, reason(c.Err), took(c.Duration), quality(c))})
	}
	return all
}

// discarded is about packets that this host discarded during the probe.
func (r *Report) discarded() []Evidence {
	sent := r.synsInVain()
	var all []Evidence
	if n := r.meanwhile.unsent; sent > 0 && n > 0 {
		all = append(all, Evidence{Failed, "filter", fmt.Sprintf("%d segments that were to be sent again did not leave this host (TCPRetransFail)", n)})
	}
	if n := r.meanwhile.reversed; sent > 0 && n > 0 {
		all = append(all, Evidence{Failed, "filter", fmt.Sprintf("%d packets were discarded by the reverse path filter of this host (IPReversePathFilter)", n)})
	}
	return all
}

// quality is what the kernel knows of a handshake of TCP.
func quality(c *probe.Connection) string {
	var text strings.Builder
	if c.RoundTrip > 0 {
		fmt.Fprintf(&text, ", round trip %s", took(c.RoundTrip))
	}
	if c.MSS > 0 {
		fmt.Fprintf(&text, ", MSS %d", c.MSS)
	}
	if c.Retransmits > 0 {
		fmt.Fprintf(&text, ", SYN sent %d times", c.Retransmits+1)
	}
	return text.String()
}

// reason says why a connection failed.
func reason(err error) string {
	timeout, isTimeout := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	errno, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case isErrno:
		return errno.Error()
	case isTimeout && timeout.Timeout():
		return "no answer"
	default:
		return firstLine(err.Error())
	}
}

// handshakes is about TLS.
func (r *Report) handshakes() []Evidence {
	var all []Evidence
	for i := range r.Handshakes {
		h := &r.Handshakes[i]
		if h.Err == nil {
			all = append(all, Evidence{OK, "tls", fmt.Sprintf("%s, %s%s, for %s, %s", tls.VersionName(h.Version), tls.CipherSuiteName(h.Cipher), protocol(h), h.ServerName, took(h.Duration))})
		} else {
			all = append(all, Evidence{Failed, "tls", fmt.Sprintf("the handshake for %s fails, %s", h.ServerName, took(h.Duration))})
		}
		for i, c := range h.Certificates {
			all = append(all, certificate(i, c))
		}
		if h.AskedForOurs {
			all = append(all, Evidence{Unknown, "certificate", "the server asks for a client certificate, and the module has none"})
		}
	}
	return all
}

func protocol(h *probe.Handshake) string {
	if h.Protocol == "" {
		return ""
	}
	return ", " + h.Protocol
}

// certificate describes one certificate of a chain.
func certificate(i int, c *x509.Certificate) Evidence {
	now, mark := time.Now(), OK
	end := "expires on " + c.NotAfter.UTC().Format(time.DateOnly) + ", in " + days(c.NotAfter.Sub(now))
	switch {
	case now.After(c.NotAfter):
		mark, end = Failed, "expired on "+c.NotAfter.UTC().Format(time.DateOnly)+", "+days(now.Sub(c.NotAfter))+" ago"
	case now.Before(c.NotBefore):
		mark, end = Failed, "is valid only from "+c.NotBefore.UTC().Format(time.DateOnly)+" on"
	}
	text := fmt.Sprintf("%d: CN %s", i+1, c.Subject.CommonName)
	if names := certificateNames(c); names != "" {
		text += ", for " + names
	}
	if c.Issuer.String() == c.Subject.String() {
		text += ", self-signed"
	} else {
		text += ", issuer CN " + c.Issuer.CommonName
	}
	return Evidence{mark, "certificate", text + ", " + end}
}

// maxNames bounds how many names of a certificate are shown.
const maxNames = 5

func certificateNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > maxNames {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNames], ", "), len(names)-maxNames)
	}
	return strings.Join(names, ", ")
}

// days returns a time as a number of days, or in hours and minutes.
func days(d time.Duration) string {
	switch n := int(d.Hours() / 24); n {
	case 0:
		return d.Round(time.Minute).String()
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", n)
	}
}

// answer is about the probe as a whole.
func (r *Report) answer() []Evidence {
	parts := []string{"outcome " + r.Result.Outcome.String() + r.expectation()}
	if r.Result.Phase != probe.PhaseNone {
		parts = append(parts, "phase "+r.Result.Phase.String(), "origin "+r.Result.Origin.String())
	}
	if r.Result.ICMP.Offender.IsValid() {
		parts = append(parts, "offender "+r.Result.ICMP.Offender.String())
	}
	if r.Result.Peer.IsValid() {
		parts = append(parts, "address "+r.peer())
	}
	parts = append(parts, "module "+moduleName(r.Target.Module), took(r.Result.Duration))
	all := []Evidence{{markOf(&r.Result, r.Target.Module.Expect), "probe", strings.Join(parts, ", ")}}
	hasLine := r.Result.Phase == probe.PhaseConnect && slices.ContainsFunc(r.Connections, func(c probe.Connection) bool { return c.Err != nil })
	if r.Result.Err != nil && !hasLine {
		mark := all[0].Mark
		all = append(all, Evidence{mark, "error", r.Error()})
	}
	return all
}

// moduleName names a module; those that are not configured go by their kind.
func moduleName(m *probe.Module) string { return cmp.Or(m.Name, m.Kind) }

// peer returns the address that was tried, with its port where there are ports.
func (r *Report) peer() string {
	if r.Result.Peer.Port() == 0 {
		return r.Result.Peer.Addr().String()
	}
	return r.Result.Peer.String()
}

// Error returns the error of the probe in one line, without secrets.
func (r *Report) Error() string {
	if r.Result.Err == nil {
		return ""
	}
	return strings.ReplaceAll(probe.Redact(r.Result.Err.Error(), r.Target.Address), "\n", "; ")
}

// expectation says whether an outcome is the one that the module asks for, where that
// is another than open.
func (r *Report) expectation() string {
	switch {
	case r.Target.Module.Expect == probe.Open:
		return ""
	case r.Success:
		return " as expected"
	default:
		return " and not " + r.Target.Module.Expect.String() + " as expected"
	}
}

func outcome(r *probe.Result) string {
	if r.ICMP.Offender.IsValid() {
		return fmt.Sprintf("%s, as %s reports", r.Outcome, r.ICMP.Offender)
	}
	return r.Outcome.String()
}

// took returns a time as people say it: 0.03 ms, 0.4 ms, 12 ms, 3.1 s.
func took(d time.Duration) string {
	switch ms := d.Seconds() * 1000; {
	case ms >= 1000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 10:
		return fmt.Sprintf("%.0f ms", ms)
	case ms < 0.1:
		return fmt.Sprintf("%.2f ms", ms)
	default:
		return fmt.Sprintf("%.1f ms", ms)
	}
}

func join(addrs []netip.Addr) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
