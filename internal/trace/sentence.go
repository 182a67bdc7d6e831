package trace

import (
	"fmt"
	"strings"
	"time"

	"github.com/port-exporter/port_exporter/internal/probe"
)

// Finding is what a path says of its target.
type Finding uint8

// The findings.
const (
	// Reached: the target's port answers, be it that it refuses.
	Reached Finding = iota
	// Rejected: a router, or this host, reports that it does not forward.
	Rejected
	// Loop: routers send packets in a circle.
	Loop
	// SilentPort: the target's host answers, and its port does not.
	SilentPort
	// Lost: nothing behind a hop answers.
	Lost
	// NoHop: nothing answers at all.
	NoHop
	// NotSent: no packet leaves this host.
	NotSent
	// BlackHole: the target is reached, and large packets die in silence.
	BlackHole
	numFindings
)

var findingNames = [numFindings]string{"reached", "rejected", "routing_loop", "silent_port", "path_drops", "no_hop", "not_sent", "mtu_black_hole"}

// String returns the finding as it stands in the label finding.
func (f Finding) String() string {
	if f < numFindings {
		return findingNames[f]
	}
	return "unknown"
}

// Finding says what the path shows. Where the target does not answer, that is the finding,
// and not what becomes of large packets.
func (p *Path) Finding() Finding {
	_, anyHop := p.LastHop()
	switch {
	case p.Answer.IsTarget() && p.MTU.BlackHole():
		return BlackHole
	case p.Answer.IsTarget():
		return Reached
	case len(p.Loop) > 0 || p.Answer.ICMP.Expired():
		return Loop
	case p.Answer.ICMP.Offender.IsValid():
		return Rejected
	case p.Answer.Origin == probe.OriginLocal:
		return NotSent
	case p.Host.IsTarget():
		return SilentPort
	case anyHop:
		return Lost
	default:
		return NoHop
	}
}

// Sentence says in words where the path ends. It ends without a full stop.
func (p *Path) Sentence() string {
	text := p.ending()
	if p.MTU.BlackHole() {
		text += "; " + p.MTU.hole()
	}
	return text
}

func (p *Path) ending() string {
	switch p.Finding() {
	case Reached, BlackHole:
		return fmt.Sprintf("%s is reached%s: it %s", p.Target, p.behind(), p.Answer.does())
	case Loop:
		return "runs in a loop: " + p.circle() + " until the TTL runs out"
	case Rejected:
		return p.rejection()
	case NotSent:
		return fmt.Sprintf("no packet leaves this host: %v", p.Answer.Err)
	case SilentPort:
		return p.portSilence()
	default:
	}
	if last, anyHop := p.LastHop(); anyHop {
		return fmt.Sprintf("dies behind %s, hop %d of the path: that router or the next one drops it, or the way back is broken", last.Addr, last.Number)
	}
	return "dies on this host or on its way to the first hop, or all routers are silent: nothing answers, the target's host included"
}

// portSilence says that the host answers and its port does not.
func (p *Path) portSilence() string {
	where, service := "", "its accept queue is full"
	if last, ok := p.LastHop(); ok {
		where = fmt.Sprintf(" or behind %s (hop %d)", last.Addr, last.Number)
	}
	if p.Protocol == probe.KindUDP {
		service = "the service does not reply"
	}
	return fmt.Sprintf("the host answers (%s), %s/%d does not: a firewall on it%s drops the packets, or %s", p.Host, p.Protocol, p.Target.Port(), where, service)
}

// behind names the last router before the target.
func (p *Path) behind() string {
	if last, ok := p.LastHop(); ok {
		return fmt.Sprintf(", behind %s (hop %d)", last.Addr, last.Number)
	}
	return ""
}

// circle names the routers of a loop.
func (p *Path) circle() string {
	if len(p.Loop) == 0 {
		return fmt.Sprintf("%s reports it; packets are sent on", p.Answer.ICMP.Offender)
	}
	var names []string
	for _, addr := range p.Loop {
		names = append(names, addr.String())
	}
	first := 0
	for _, h := range p.Hops {
		if h.Addr == p.Loop[0] {
			first = h.Number
			break
		}
	}
	return fmt.Sprintf("from hop %d on, %s send it to each other", first, strings.Join(names, " and "))
}

// rejection says who rejects.
func (p *Path) rejection() string {
	from := p.Answer.ICMP.Offender
	verb := "reports"
	if p.Answer.Outcome == probe.Refused || p.Answer.Outcome == probe.Prohibited {
		verb = "rejects it"
	}
	if p.Answer.Origin == probe.OriginLocal {
		return fmt.Sprintf("this host %s: %s", verb, p.Answer.ICMP)
	}
	if last, _ := p.LastHop(); last.Number > 0 && last.Addr == from {
		return fmt.Sprintf("%s, hop %d of the path, %s: %s", from, last.Number, verb, p.Answer.ICMP)
	}
	return fmt.Sprintf("%s %s: %s", from, verb, p.Answer.ICMP)
}

// hole says where large packets die.
func (m *MTU) hole() string {
	where := "on the way"
	if m.Behind.Addr.IsValid() {
		where = fmt.Sprintf("behind %s (hop %d)", m.Behind.Addr, m.Behind.Number)
	}
	pass := "small ones pass"
	if m.Bytes > 0 {
		pass = fmt.Sprintf("those of %d pass", m.Bytes)
	}
	return fmt.Sprintf("an MTU black hole: packets of %d bytes die in silence %s, %s", m.Lost, where, pass)
}

// String says what is known of the MTU.
func (m *MTU) String() string {
	switch {
	case m.BlackHole():
		return m.hole()
	case m.Bytes == 0:
		return "unknown"
	case m.Router.IsValid():
		return fmt.Sprintf("%d, as %s reports", m.Bytes, m.Router)
	default:
		return fmt.Sprintf("%d", m.Bytes)
	}
}

// does says what who was asked does.
func (a *Answer) does() string {
	switch {
	case a.Outcome == probe.Open:
		return fmt.Sprintf("answers in %s", milliseconds(a.RoundTrip))
	case a.ICMP.Offender.IsValid() && a.Origin == probe.OriginTargetFirewall:
		return fmt.Sprintf("rejects by a firewall of its own (%s)", a.ICMP)
	default:
		return "refuses, so nothing listens there"
	}
}

// String says who answered what.
func (a Answer) String() string {
	switch {
	case a.To == "":
		return "nothing was asked"
	case a.Outcome == probe.Open:
		return fmt.Sprintf("%s in %s", a.To, milliseconds(a.RoundTrip))
	case a.IsTarget():
		return fmt.Sprintf("%s is %s", a.To, a.Outcome)
	default:
		return fmt.Sprintf("%s does not", a.To)
	}
}

// String says who answered at a hop, how fast, and what, where it is no TTL that ran out.
func (h Hop) String() string {
	if !h.Addr.IsValid() {
		return fmt.Sprintf("%d: no answer", h.Number)
	}
	text := fmt.Sprintf("%d: %s, %s", h.Number, h.Addr, milliseconds(h.RoundTrip))
	if h.ICMP.Offender.IsValid() && !h.ICMP.Expired() {
		text += ", " + h.ICMP.String()
	}
	return text
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1000) }
