package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
)

// The routers of the lines of this test, and the node behind them.
const (
	routers = 5
	server  = routers + 1
	silence = 0  // in place of a router: it does not answer
	backOf4 = -4 // the address of router 4 towards router 5
)

// row is a trace and what it must find.
type row struct {
	name     string
	target   netip.AddrPort
	protocol string // tcp if empty
	hops     []int  // routers, in their order; server is the target

	// mayMiss is a router that limits its ICMP errors whatever its settings are: Linux does
	// for those about its routes.
	mayMiss int

	finding Finding
	from    int // the router that rejects; 0 if none does
	says    string
	check   func(*testing.T, *Path)

	wait func() error
	path Path
	err  error
}

// line is a network and the rows that are traced in it, all at the same time.
type line struct {
	*porttest.Line
	v6   bool
	rows []row
	next int // host of the next service
}

// service returns an address of the server for a row of its own.
func (l *line) service() netip.Addr {
	l.next++
	return porttest.LineAddr(porttest.Services, l.next, l.v6)
}

// add adds a row about port 80 of a service of its own.
func (l *line) add(r row) netip.Addr {
	if !r.target.IsValid() {
		r.target = netip.AddrPortFrom(l.service(), 80)
	}
	l.rows = append(l.rows, r)
	return r.target.Addr()
}

// filter loads a rule about a destination into a node; server is one too.
func (l *line) filter(t *testing.T, node int, hook string, to netip.Addr, rule string) {
	t.Helper()
	family := "ip"
	if l.v6 {
		family = "ip6"
	}
	l.Nodes[node].Do(t, func() {
		porttest.NFT(t, fmt.Sprintf("table inet trace_%[1]s_%[2]s {\n\tchain c {\n\t\ttype filter hook %[1]s priority 0\n\t\t%[2]s daddr %[3]s %[4]s\n\t}\n}\n", hook, family, to, rule))
	})
}

// TestTraceInNamespace traces as an unprivileged user, who may not ping either, and
// compares the hops with the routers' addresses.
func TestTraceInNamespace(t *testing.T) {
	t.Parallel()
	var lines []*line
	var names []string
	for _, kind := range []struct {
		name  string
		build func(*testing.T, *line)
	}{
		{"filters", filters},
		{"ends", ends},
		{"UDP", datagrams},
		{"silent routers", silentRouters},
		{"limited routers", limitedRouters},
		{"MTU", reportedMTU},
		{"black hole", blackHole},
	} {
		of := porttest.NewLine(t, routers)
		of.Nodes[server].Do(t, func() { serve(t) })
		for version, v6 := range map[string]bool{" IPv4": false, " IPv6": true} {
			l := &line{Line: of, v6: v6}
			kind.build(t, l)
			lines, names = append(lines, l), append(names, kind.name+version)
		}
	}
	for _, l := range lines {
		l.start(t)
	}
	for i, l := range lines {
		t.Run(names[i], l.finish)
	}
}

// serve has a TCP service that answers, and a UDP service that does not.
func serve(t *testing.T) {
	porttest.Listen(t, "[::]:80", 50)
	conn, err := net.ListenPacket("udp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
}

// start traces all rows, and finish compares what was found.
func (l *line) start(t *testing.T) {
	for i := range l.rows {
		r := &l.rows[i]
		r.wait = l.Nodes[0].AsNobody(func() {
			r.path, r.err = Run(t.Context(), Options{Target: r.target, Protocol: cmp.Or(r.protocol, probe.KindTCP)})
		})
	}
}

func (l *line) finish(t *testing.T) {
	for i := range l.rows {
		r := &l.rows[i]
		t.Run(r.name, func(t *testing.T) {
			if err := cmp.Or(r.wait(), r.err); err != nil {
				t.Fatal(err)
			}
			l.compare(t, r, &r.path)
		})
	}
}

// compare compares a path with its row.
func (l *line) compare(t *testing.T, r *row, p *Path) {
	t.Logf("%+v", p)
	var want, got []netip.Addr
	for _, hop := range r.hops {
		if hop != r.mayMiss || hop == silence || len(p.Hops) == len(r.hops) {
			want = append(want, l.addr(hop, r))
		}
	}
	for i, h := range p.Hops {
		got = append(got, h.Addr)
		if h.Number != i+1 || h.Addr.IsValid() != (h.RoundTrip > 0) {
			t.Errorf("%+v is hop %d", h, i+1)
		}
	}
	if diff := gocmp.Diff(want, got, gocmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("hops (-want +got)\n%s", diff)
	}
	if p.Finding() != r.finding || p.Packets > MaxPackets {
		t.Errorf("%s after %d packets, want %s: %+v, host %+v", p.Finding(), p.Packets, r.finding, p.Answer, p.Host)
	}
	if last, _ := p.LastHop(); r.from > 0 && (p.Answer.ICMP.Offender != l.addr(r.from, r) || last.Addr != p.Answer.ICMP.Offender) {
		t.Errorf("rejected by %s, last hop %s", p.Answer.ICMP.Offender, last)
	}
	if !strings.Contains(p.Sentence(), r.says) {
		t.Errorf("%q lacks %q", p.Sentence(), r.says)
	}
	if r.check != nil {
		r.check(t, p)
	}
}

func (l *line) addr(hop int, r *row) netip.Addr {
	switch hop {
	case silence:
		return netip.Addr{}
	case backOf4:
		return porttest.LineAddr(4, 1, l.v6)
	case server:
		return r.target.Addr()
	default:
		return porttest.LineRouter(hop, l.v6)
	}
}

// upTo returns the routers up to one.
func upTo(last int) []int {
	var hops []int
	for i := range last {
		hops = append(hops, i+1)
	}
	return hops
}

// filters has a rule at each router that drops, and one that rejects.
func filters(t *testing.T, l *line) {
	for k := 1; k <= routers; k++ {
		dropped := l.add(row{name: fmt.Sprintf("dropped at router %d", k), hops: upTo(k), finding: Lost,
			says: fmt.Sprintf("dies behind %s, hop %d of the path", porttest.LineRouter(k, l.v6), k)})
		l.filter(t, k, "forward", dropped, "drop")
		rejected := l.add(row{name: fmt.Sprintf("rejected at router %d", k), hops: upTo(k), finding: Rejected, from: k,
			says: fmt.Sprintf("%s, hop %d of the path, rejects it: administratively prohibited", porttest.LineRouter(k, l.v6), k)})
		l.filter(t, k, "forward", rejected, "reject with icmpx admin-prohibited")
	}
	early := l.add(row{name: "dropped before router 3 looks at the TTL", hops: upTo(2), finding: Lost})
	l.filter(t, 3, "prerouting", early, "drop")
	hole := l.add(row{name: "route blackhole at router 3", hops: upTo(2), finding: Lost})
	l.Nodes[3].Do(t, func() { porttest.RouteType(t, netip.PrefixFrom(hole, hole.BitLen()).String(), unix.RTN_BLACKHOLE) })
	denied := l.add(row{name: "route prohibit at router 3", mayMiss: 3, hops: upTo(3), finding: Rejected, from: 3, says: "prohibited"})
	l.Nodes[3].Do(t, func() { porttest.RouteType(t, netip.PrefixFrom(denied, denied.BitLen()).String(), unix.RTN_PROHIBIT) })
	l.countPackets(t)
}

// countPackets has the client count what it sends to the first service, which is
// dropped at router 1.
func (l *line) countPackets(t *testing.T) {
	to := l.rows[0].target.Addr()
	l.filter(t, 0, "output", to, "counter")
	table := "trace_output_ip"
	if l.v6 {
		table += "6"
	}
	counted := func(t *testing.T) (n int) {
		l.Nodes[0].Do(t, func() {
			porttest.Await(t, "nft to list the counter", func() bool { // what changes meanwhile ends it
				out, err := exec.CommandContext(t.Context(), "nft", "list", "table", "inet", table).Output()
				m := regexp.MustCompile(`counter packets (\d+)`).FindSubmatch(out)
				if err != nil || m == nil {
					return false
				}
				n, err = strconv.Atoi(string(m[1]))
				return err == nil
			})
		})
		return n
	}
	l.rows[0].check = func(t *testing.T, p *Path) {
		// Those that the kernel sends again, where the machine is busy, are not known.
		if n := counted(t); n < p.Packets || n > 2*p.Packets {
			t.Errorf("%d packets are said to be sent, %d were", p.Packets, n)
		}
	}
}

// ends has what becomes of a packet at the end of its path, and at its beginning.
func ends(t *testing.T, l *line) {
	l.add(row{name: "open", hops: append(upTo(routers), server), finding: Reached, says: "is reached, behind " + porttest.LineRouter(routers, l.v6).String()})
	l.add(row{name: "closed", target: netip.AddrPortFrom(l.service(), 81), hops: append(upTo(routers), server), finding: Reached, says: "it refuses"})
	port := l.add(row{name: "port dropped on the server", hops: upTo(routers), finding: SilentPort, says: "the host answers (tcp/33434 is refused), tcp/80 does not"})
	l.filter(t, server, "input", port, "tcp dport 80 drop")
	l.add(row{name: "no such host", target: netip.AddrPortFrom(porttest.LineAddr(routers, 9, l.v6), 80), hops: upTo(routers), finding: Rejected, from: routers, says: "unreachable (ICMP"})

	all := l.service()
	l.add(row{name: "all dropped on the server", target: netip.AddrPortFrom(all, 80), hops: upTo(routers), finding: Lost})
	loop := netip.AddrPortFrom(porttest.LineAddr(porttest.Services+1, 1, l.v6), 80)
	network := netip.PrefixFrom(loop.Addr(), loop.Addr().BitLen()).String()
	l.Nodes[5].Do(t, func() { porttest.Route(t, network, porttest.LineAddr(4, 1, l.v6).String()) })
	r := row{name: "loop", target: loop, hops: append(upTo(routers), 4), finding: Loop,
		says: fmt.Sprintf("runs in a loop: from hop 4 on, %s and %s send it to each other", porttest.LineRouter(4, l.v6), porttest.LineRouter(5, l.v6))}
	if l.v6 { // the address of router 4 is that of the interface where the packet came in
		r.hops = append(upTo(routers), backOf4, 5)
		r.says = fmt.Sprintf("runs in a loop: from hop 5 on, %s and %s send it to each other", porttest.LineRouter(5, true), l.addr(backOf4, nil))
	}
	l.add(r)

	away := l.add(row{name: "local route blackhole", finding: NotSent, says: "no packet leaves this host: connect: invalid argument", check: func(t *testing.T, p *Path) {
		if p.Packets != 0 {
			t.Errorf("%d packets were sent", p.Packets)
		}
	}})
	porttest.RouteType(t, netip.PrefixFrom(away, away.BitLen()).String(), unix.RTN_BLACKHOLE)
	silent := l.add(row{name: "local rule drops", finding: NoHop, says: "nothing answers"})
	l.filter(t, 0, "output", silent, "drop")
	l.Nodes[server].Do(t, func() {
		porttest.NFT(t, fmt.Sprintf("table netdev t {\n\tchain c {\n\t\ttype filter hook ingress device \"left\" priority 0\n\t\t%s daddr %s drop\n\t}\n}\n", map[bool]string{false: "ip", true: "ip6"}[l.v6], all))
	})
}

// datagrams traces by UDP.
func datagrams(t *testing.T, l *line) {
	udp := func(r row) netip.Addr {
		r.protocol = probe.KindUDP
		return l.add(r)
	}
	udp(row{name: "closed", hops: append(upTo(routers), server), finding: Reached, says: "it refuses"})
	dropped := udp(row{name: "dropped at router 2", hops: upTo(2), finding: Lost})
	l.filter(t, 2, "forward", dropped, "drop")
	udp(row{name: "silent service", target: netip.AddrPortFrom(l.service(), 53), hops: upTo(routers), finding: SilentPort, says: "udp/53 does not"})
}

// silentRouters has two that report no TTL that ran out.
func silentRouters(t *testing.T, l *line) {
	for _, k := range []int{2, 4} {
		l.Nodes[k].Do(t, func() {
			porttest.NFT(t, "table inet t {\n\tchain c {\n\t\ttype filter hook output priority 0\n\t\ticmp type time-exceeded drop\n\t\ticmpv6 type time-exceeded drop\n\t}\n}\n")
		})
	}
	l.add(row{name: "open", hops: []int{1, silence, 3, silence, 5, server}, finding: Reached})
	three := l.add(row{name: "dropped behind them", hops: []int{1, silence, 3}, finding: Lost, says: "hop 3 of the path"})
	l.filter(t, 3, "forward", three, "drop")
	four := l.add(row{name: "dropped at one of them", hops: []int{1, silence, 3}, finding: Lost, says: "hop 3 of the path"})
	l.filter(t, 4, "forward", four, "drop")
}

// limitedRouters has those that send the client one ICMP error a second, as Linux does
// once six were sent. They were.
func limitedRouters(t *testing.T, l *line) {
	for _, n := range l.Nodes {
		n.Do(t, func() {
			porttest.Sysctl(t, "net/ipv4/icmp_ratelimit", "1000")
			porttest.Sysctl(t, "net/ipv6/icmp/ratelimit", "1000")
		})
	}
	dropped := l.add(row{name: "dropped at router 4", hops: upTo(4), finding: Lost})
	l.filter(t, 4, "forward", dropped, "drop")
	w, err := newWire(context.Background(), &Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var questions []*question
	for range 16 {
		for ttl := 1; ttl <= 4; ttl++ {
			questions = append(questions, &question{method: datagram, to: netip.AddrPortFrom(dropped, OtherPort), ttl: ttl, tries: []time.Duration{0}, life: 100 * time.Millisecond})
		}
	}
	if err := w.exchange(t.Context(), questions, func(all []*question) []*question { return all }); err != nil {
		t.Fatal(err)
	}
	unanswered := 0
	for _, q := range questions {
		if q.answer == nil {
			unanswered++
		}
	}
	if unanswered == 0 {
		t.Error("the routers are not limited")
	}
}

// reportedMTU has router 3 report the MTU behind it, to a client that may ping.
func reportedMTU(t *testing.T, l *line) {
	l.Narrow(t, 3, 1300)
	porttest.Sysctl(t, "net/ipv4/ping_group_range", "0 2147483647")
	check := func(t *testing.T, p *Path) {
		if want := (MTU{Bytes: 1300, Router: porttest.LineRouter(3, l.v6), To: p.Target.Addr()}); p.MTU != want || !p.MTU.IsWhole(p.Target.Addr()) {
			t.Errorf("%+v, want %+v", p.MTU, want)
		}
	}
	l.add(row{name: "open", hops: append(upTo(routers), server), finding: Reached, check: check})
	port := l.add(row{name: "port dropped on the server", hops: upTo(routers), finding: SilentPort, says: "the host answers (ping in ", check: check})
	l.filter(t, server, "input", port, "tcp dport 80 drop")
}

// blackHole has router 3 not report the MTU behind it.
func blackHole(t *testing.T, l *line) {
	l.Narrow(t, 3, 1300)
	l.Nodes[3].Do(t, func() {
		porttest.NFT(t, "table inet t {\n\tchain c {\n\t\ttype filter hook output priority 0\n\t\ticmp type destination-unreachable drop\n\t\ticmpv6 type packet-too-big drop\n\t}\n}\n")
	})
	check := func(t *testing.T, p *Path) {
		m := p.MTU
		if m.Bytes != 1300 || m.Lost != 1320 || m.Router.IsValid() || m.Behind.Addr != porttest.LineRouter(3, l.v6) || !m.IsWhole(p.Target.Addr()) {
			t.Errorf("%+v", m)
		}
	}
	says := fmt.Sprintf("an MTU black hole: packets of 1320 bytes die in silence behind %s (hop 3), those of 1300 pass", porttest.LineRouter(3, l.v6))
	l.add(row{name: "open", hops: append(upTo(routers), server), finding: BlackHole, says: says, check: check})
	behind := l.add(row{name: "dropped behind it", hops: upTo(routers), finding: Lost, says: says, check: func(t *testing.T, p *Path) {
		if p.MTU.To != porttest.LineRouter(routers, l.v6) {
			t.Errorf("%+v", p.MTU)
		}
	}})
	l.filter(t, routers, "forward", behind, "drop")
}

// TestAnonymousErrors has a kernel that does not name who sent the error about a SYN.
func TestAnonymousErrors(t *testing.T) {
	o := &Options{Target: netip.MustParseAddrPort("192.0.2.1:80")}
	trail := newTrail(o, &Path{Target: o.Target})
	all := trail.grow(trail.questions)
	for _, q := range trail.hops[:2] {
		q.answer = &answer{err: os.NewSyscallError("connect", syscall.EHOSTUNREACH), sent: true}
	}
	trail.grow(all)
	if q := trail.hops[1]; trail.end != 0 || q.method != datagram || q.ttl != 2 || q.to.Port() != OtherPort || !q.isOpen() {
		t.Errorf("the path ends at hop %d, hop 2 is %+v", trail.end, q)
	}
}

// TestTraceIsBoundedInNamespace denies addresses, and ends the time.
func TestTraceIsBoundedInNamespace(t *testing.T) {
	t.Parallel()
	l := porttest.NewLine(t, 1)
	to := netip.AddrPortFrom(porttest.LineAddr(porttest.Services, 1, false), 80)
	l.Nodes[1].Do(t, func() { porttest.Filter(t, "forward", "drop") })
	errNo := errors.New("no")

	p, err := Run(t.Context(), Options{Target: to, Source: netip.MustParseAddr("192.0.2.77")})
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || p.Packets != 0 {
		t.Errorf("from an address that is not here: %v, %d packets", err, p.Packets)
	}
	p, err = Run(t.Context(), Options{Target: to, Allow: func(netip.AddrPort) error { return errNo }})
	if _, denied := probe.AsDenied(err); !denied || p.Packets != 0 {
		t.Errorf("%d packets to a denied target: %v", p.Packets, err)
	}

	var mu sync.Mutex
	counts := map[netip.AddrPort]int{}
	porttest.NFT(t, "table inet t {\n\tchain c {\n\t\ttype filter hook output priority 0\n\t\ttcp dport 80 accept\n\t\tip daddr 10.1.100.1 counter\n\t}\n}\n")
	p, err = Run(t.Context(), Options{Target: to, Allow: func(a netip.AddrPort) error {
		mu.Lock()
		defer mu.Unlock()
		if counts[a]++; a != to {
			return errNo
		}
		return nil
	}})
	out, _ := exec.CommandContext(t.Context(), "nft", "list", "table", "inet", "t").CombinedOutput()
	if err != nil || len(p.Hops) != 1 || !strings.Contains(string(out), "counter packets 0 ") || len(counts) < 3 {
		t.Errorf("%v, %v, asked for %v\n%s\n%+v", p.Hops, err, counts, out, &p)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	p, err = Run(ctx, Options{Target: to})
	if !errors.Is(err, context.DeadlineExceeded) || len(p.Hops) != 1 || time.Since(start) > 3*time.Second {
		t.Errorf("%v after %v: %+v", err, time.Since(start), &p)
	}
}
