package trace

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/port-exporter/port_exporter/internal/netaddr"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// MTU is what was found of the largest packet that the path takes.
type MTU struct {
	Bytes  int        // the largest that is known to pass; 0 if none is
	Router netip.Addr // who reported it; the zero value if it was found by sending
	To     netip.Addr // how far it is known: the target, or the last hop that answered
	// Lost is the size of packets that die in silence, a black hole; 0 if none do.
	Lost int
	// Behind is the last hop that the lost ones reach; the zero value if it is unknown.
	Behind Hop
}

// BlackHole reports whether large packets die in silence where small ones pass.
func (m *MTU) BlackHole() bool { return m.Lost > 0 }

// maxReports is how many routers may report an MTU, each a smaller one.
const maxReports = 4

// sizes are MTUs that links and tunnels have, descending: Ethernet with jumbo frames,
// Ethernet, PPPoE, and what IPsec, GRE, VXLAN, WireGuard and 6in4 leave of it.
func sizes() []int {
	return []int{9000, 8000, 4352, 2002, 1500, 1492, 1480, 1476, 1472, 1460, 1454, 1450, 1446, 1440, 1430, 1420, 1412, 1400,
		1390, 1380, 1360, 1350, 1340, 1320, 1300, 1280, 1240, 1200, 1006, 576}
}

// point is a place on the path that answers, and by what.
type point struct {
	method    method
	ttl       int // 0 is the target itself
	addr      netip.Addr
	roundTrip time.Duration
	hop       Hop // where ttl is not 0
}

// ruler measures a path.
type ruler struct {
	*trail
	wire   *wire
	points []point // the nearest first
	size   int     // what is tried
	mtu    *MTU
}

// measure finds the largest packet that passes as far as anything answers.
func (t *trail) measure(ctx context.Context, w *wire) error {
	r := &ruler{trail: t, wire: w, size: w.mtu, mtu: &t.path.MTU}
	if r.points = t.points(); len(r.points) == 0 || w.mtu == 0 || len(t.path.Loop) > 0 {
		return nil
	}
	if a := t.final.answer; a != nil && a.segment > 0 { // TCP sends no larger packets
		const tcpHeader = 20
		r.size = min(r.size, a.segment+tcpHeader+ipHeader(t.Target.Addr()))
	}
	for range maxReports {
		smaller, err := r.try(ctx)
		if err != nil || !smaller {
			return err
		}
	}
	return nil
}

func (t *trail) points() (points []point) {
	for _, h := range t.path.Hops {
		if h.ICMP.Expired() {
			points = append(points, point{method: datagram, ttl: h.Number, addr: h.Addr, roundTrip: h.RoundTrip, hop: h})
		}
	}
	ping, closed := t.others[0], t.others[2]
	rejected := t.answerOf(closed)
	switch {
	case ping.answer != nil && ping.answer.err == nil:
		points = append(points, point{method: echo, addr: t.Target.Addr(), roundTrip: ping.answer.roundTrip})
	case closed.answer != nil && rejected.Origin == probe.OriginTarget:
		points = append(points, point{method: datagram, addr: t.Target.Addr(), roundTrip: rejected.RoundTrip})
	}
	return points
}

// ask returns the question to a point with a packet of a size.
func (r *ruler) ask(p point, size int) *question {
	wait := p.patience()
	q := &question{method: p.method, to: r.otherPort(), ttl: p.ttl, size: size, tries: []time.Duration{0, wait, 2 * wait}, life: wait}
	if p.method == echo {
		q.to = netip.AddrPortFrom(r.Target.Addr(), 0)
	}
	return q
}

// try sends packets of the current size. It reports whether there is a smaller size to
// try, because a router or the kernel said so.
func (r *ruler) try(ctx context.Context) (smaller bool, err error) {
	furthest := r.points[len(r.points)-1]
	small, large := r.ask(furthest, 0), r.ask(furthest, r.size)
	if err := r.run(ctx, small, large); err != nil {
		return false, err
	}
	if decided, smaller := r.judge(furthest, large); decided {
		return smaller, nil
	}
	return r.locate(ctx)
}

func (r *ruler) run(ctx context.Context, questions ...*question) error {
	return r.wire.exchange(ctx, questions, func(all []*question) []*question { return all })
}

// judge says what an answer to a large packet means. Silence decides nothing.
func (r *ruler) judge(at point, large *question) (decided, smaller bool) {
	a := large.answer
	switch {
	case a == nil:
		return false, false
	case a.icmp.TooLarge():
		r.mtu.Router = a.icmp.Offender
		return true, r.shrink(int(a.icmp.MTU))
	case errors.Is(a.err, syscall.EMSGSIZE):
		return true, r.shrink(a.mtu)
	case a.err != nil && !a.sent:
		return true, false // a rule of this host
	default:
		r.mtu.Bytes, r.mtu.To = r.size, at.addr
		return true, false
	}
}

// shrink takes a size that was reported. A router that knows none reports 0, and one that
// reports no smaller one is wrong.
func (r *ruler) shrink(to int) bool {
	if to <= 0 || to >= r.size {
		to = largestBelow(r.size)
	}
	r.size = to
	return to >= r.floor()
}

func largestBelow(size int) int {
	for _, s := range sizes() {
		if s < size {
			return s
		}
	}
	return 0
}

// floor is the MTU that every link has: RFC 791 has 576 for what a host accepts, RFC 8200
// section 5 has 1280 for links.
func (r *ruler) floor() int {
	if r.Target.Addr().Is6() {
		return 1280
	}
	return 576
}

func ipHeader(to netip.Addr) int {
	if to.Is6() {
		return ipv6.HeaderLen
	}
	return ipv4.HeaderLen
}

// locate asks all points with small and with large packets: where the large ones alone
// are not answered, they are lost.
func (r *ruler) locate(ctx context.Context) (smaller bool, err error) {
	small, large := make([]*question, len(r.points)), make([]*question, len(r.points))
	for i, p := range r.points {
		small[i], large[i] = r.ask(p, 0), r.ask(p, r.size)
	}
	if err := r.run(ctx, slices.Concat(small, large)...); err != nil {
		return false, err
	}
	reached := -1 // the furthest point that answers
	var behind Hop
	for i, p := range r.points {
		if small[i].answer == nil {
			continue
		}
		reached = i
		if decided, smaller := r.judge(p, large[i]); decided && (smaller || large[i].answer.icmp.TooLarge()) {
			return smaller, nil
		}
		if large[i].answer != nil {
			behind = p.hop
		}
	}
	if reached < 0 || large[reached].answer != nil {
		return false, nil
	}
	r.mtu.Lost, r.mtu.Behind = r.size, behind
	return false, r.search(ctx, r.points[reached])
}

// search finds the largest size that a point answers, below the one that is lost.
func (r *ruler) search(ctx context.Context, at point) error {
	*r.mtu = MTU{To: at.addr, Lost: r.mtu.Lost, Behind: r.mtu.Behind}
	candidates := slices.DeleteFunc(sizes(), func(s int) bool { return s >= r.mtu.Lost || s < r.floor() })
	for low, high := 0, len(candidates); low < high; { // those before low are lost, that at high passes
		middle := (low + high) / 2
		q := r.ask(at, candidates[middle])
		if err := r.run(ctx, q); err != nil {
			return err
		}
		if q.answer != nil && !q.answer.icmp.TooLarge() {
			r.mtu.Bytes, high = candidates[middle], middle
		} else {
			r.mtu.Lost, low = candidates[middle], middle+1
		}
	}
	return nil
}

// patience is how long an answer is waited for after each of three tries. ICMP errors are
// sent at a limited rate, one a second, which replies to pings are not.
func (p point) patience() time.Duration {
	least := 200 * time.Millisecond
	if p.method == datagram {
		least = 400 * time.Millisecond
	}
	return min(max(4*p.roundTrip, least), usualLife)
}

// IsWhole reports whether the MTU is known for the whole path to a target.
func (m *MTU) IsWhole(target netip.Addr) bool {
	return m.Bytes > 0 && netaddr.SameHost(m.To, target)
}
