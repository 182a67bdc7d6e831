package netns

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// use is how many sockets of each kind a namespace has, by /proc/net/sockstat and
// sockstat6. TCP are those that are hashed, listeners included; sockets in SYN_RECV are
// in no figure.
type use struct{ tcp, timeWait, udp, udpLite int }

func (u use) empty() bool { return u == use{} }

// parseUse reads both files (sockstat_seq_show, net/ipv4/proc.c): a line for each
// protocol, with pairs of a word and a number. allocated are the TCP sockets of all
// namespaces, of which the kernel has one figure.
func parseUse(sockstat string) (u use, allocated int) {
	for line := range strings.Lines(sockstat) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		of := map[string]int{}
		for i := 1; i+1 < len(fields); i += 2 {
			of[fields[i]], _ = strconv.Atoi(fields[i+1])
		}
		switch fields[0] {
		case "TCP:", "TCP6:":
			u.tcp += of["inuse"]
			u.timeWait += of["tw"]
			allocated += of["alloc"]
		case "UDP:", "UDP6:":
			u.udp += of["inuse"]
		case "UDPLITE:", "UDPLITE6:":
			u.udpLite += of["inuse"]
		}
	}
	return u, allocated
}

// visit is what a look into a namespace has seen.
type visit struct {
	path          string // at which it was entered
	inode, cookie uint64
	use           use
	allocated     int // TCP sockets of the machine
}

// lacks reports whether a namespace has no sockets of a protocol.
func (u use) lacks(p socket.Protocol) bool {
	switch p {
	case socket.UDP:
		return u.udp == 0
	case socket.UDPLite:
		return u.udpLite == 0
	default:
		return u.tcp+u.timeWait == 0
	}
}

// maxBudget is the CPU time that the dumps of one read may take, as far as they can be
// foreseen. Less if the read has less time: share of it.
const (
	maxBudget   = time.Second
	budgetShare = 4
)

// load is what is on the machine: each dump walks tables that all namespaces share.
type load struct{ listeners, tcp, udp int }

// The prices of dumps by sock_diag, measured on Linux 6.18. Each walks a table of the
// whole machine, so that the price of a namespace grows with the sockets of the others.

func (l load) listening(u use) time.Duration {
	price := 45*time.Microsecond + 33*time.Nanosecond*time.Duration(l.listeners)
	if u.udp > 0 {
		price += 40*time.Microsecond + 100*time.Nanosecond*time.Duration(l.udp)
	}
	if u.udpLite > 0 {
		price += 35 * time.Microsecond
	}
	return price
}

func (l load) connections() time.Duration {
	return 350*time.Microsecond + 130*time.Nanosecond*time.Duration(l.tcp)
}

// memory is what is known of namespaces from earlier reads, by cookie. It is safe for
// concurrent use.
type memory struct {
	mu    sync.Mutex
	reads uint64
	known map[uint64]*past
}

// past is what an earlier read saw of a namespace.
type past struct {
	use       use
	listeners int    // TCP sockets that listen; -1 if they were not read
	chosen    uint64 // the read in which its connections could be read last
	seen      uint64 // the last read in which it was there
}

// plan returns how far each namespace is read with a budget: the listeners of all that
// have sockets first, then the connections, in the order of sort.
func (m *memory) plan(visits []visit, budget time.Duration) map[uint64]Depth {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	var machine load
	timeWait := 0 // not among those that are allocated
	depths := make(map[uint64]Depth, len(visits))
	var order []visit
	for _, v := range visits {
		p := m.of(v.cookie)
		p.seen = m.reads
		machine.tcp = max(machine.tcp, v.allocated)
		timeWait += v.use.timeWait
		machine.udp += v.use.udp
		machine.listeners += max(0, p.listeners)
		if depths[v.cookie] = Empty; !v.use.empty() {
			order = append(order, v)
		}
	}
	machine.tcp += timeWait
	m.sort(order)
	for _, v := range order {
		depths[v.cookie] = afford(&budget, machine.listening(v.use), Listeners, Unread)
	}
	for _, v := range order {
		p, price := m.of(v.cookie), machine.connections()
		if !v.use.mayConnect(p.listeners) {
			price = 0
		}
		if depths[v.cookie] == Listeners {
			depths[v.cookie] = afford(&budget, price, Full, Listeners)
		}
		if depths[v.cookie] == Full {
			p.use, p.chosen = v.use, m.reads
		}
	}
	m.forget()
	return depths
}

// afford returns the depth that a price buys, else the other one.
func afford(budget *time.Duration, price time.Duration, bought, otherwise Depth) Depth {
	if price > *budget {
		return otherwise
	}
	*budget -= price
	return bought
}

// mayConnect reports whether a namespace with so many TCP listeners may have other TCP
// sockets.
func (u use) mayConnect(listeners int) bool {
	return u.timeWait > 0 || u.tcp > 0 && u.tcp != listeners
}

// sort puts first what has changed, then what was chosen longest ago.
func (m *memory) sort(all []visit) {
	slices.SortFunc(all, func(a, b visit) int {
		pastA, pastB := m.of(a.cookie), m.of(b.cookie)
		return cmp.Or(
			cmp.Compare(truth(pastA.use == a.use), truth(pastB.use == b.use)),
			cmp.Compare(pastA.chosen, pastB.chosen),
			cmp.Compare(a.cookie, b.cookie),
		)
	})
}

func truth(holds bool) int {
	if holds {
		return 1
	}
	return 0
}

func (m *memory) of(cookie uint64) *past {
	if m.known == nil {
		m.known = map[uint64]*past{}
	}
	p := m.known[cookie]
	if p == nil {
		p = &past{listeners: -1}
		m.known[cookie] = p
	}
	return p
}

// forget drops namespaces that were not there for some reads: concurrent ones may have
// found them a moment before.
func (m *memory) forget() {
	const keep = 16
	for cookie, p := range m.known {
		if m.reads-p.seen > keep {
			delete(m.known, cookie)
		}
	}
}

// noteListeners keeps how many TCP listeners a namespace has.
func (m *memory) noteListeners(cookie uint64, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.known[cookie]; p != nil {
		p.listeners = n
	}
}
