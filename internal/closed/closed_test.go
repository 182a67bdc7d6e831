package closed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// host is one whose listeners and time change.
type host struct {
	*Book
	t         *testing.T
	now       time.Time
	listeners []socket.Socket
	reads     int
	err       error
	limits    Limits
}

func newHost(t *testing.T, limits Limits) *host {
	h := &host{t: t, now: time.Unix(1_800_000_000, 0), limits: limits}
	h.Book = New(limits, func(context.Context) (*socket.Table, error) {
		h.reads++
		if h.err != nil {
			return nil, h.err
		}
		return h.table(), nil
	}, func() time.Time { return h.now })
	return h
}

func (h *host) table() *socket.Table {
	ports := func() (socket.EphemeralPorts, error) {
		return socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}, nil
	}
	table, err := socket.Reader{Source: porttest.Sockets(h.listeners), EphemeralPorts: ports}.Listening(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return table
}

func (h *host) listen(addresses ...string) {
	h.listeners = nil
	for _, a := range addresses {
		h.listeners = append(h.listeners, porttest.Socket(socket.TCP, socket.Listen, a, ""))
	}
}

func (h *host) close(local, remote string) { h.closeAs(local, remote, func(*socket.Closed) {}) }

func (h *host) closeAs(local, remote string, change func(*socket.Closed)) {
	c := socket.Closed{Socket: porttest.Socket(socket.TCP, socket.Close, local, remote), TCPInfo: socket.TCPInfo{Established: true}}
	change(&c)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(context.Background(), &c, h.now)
}

// counted returns how many connections each series has.
func (h *host) counted() map[string]uint64 {
	all := map[string]uint64{}
	h.scrape(h.table(), h.limits, nil, func(r *Report) {
		for _, l := range r.Inbound {
			all["in "+netip.AddrPortFrom(l.Address, l.Port).String()] = 0
			if l.Counters != nil {
				all["in "+netip.AddrPortFrom(l.Address, l.Port).String()] = l.Connections
			}
		}
		for _, p := range r.Outbound {
			all[fmt.Sprint("out ", p.Port)] = p.Connections
		}
		all["in other"], all["out other"], all["wiped"] = r.OtherInbound.Connections, r.OtherOutbound.Connections, r.Wiped.Connections
	})
	for name, n := range all {
		if n == 0 && name != "in 0.0.0.0:80" {
			delete(all, name)
		}
	}
	return all
}

func (h *host) want(want map[string]uint64) {
	h.t.Helper()
	if diff := cmp.Diff(want, h.counted()); diff != "" {
		h.t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBook(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 2})
	h.listen("0.0.0.0:80", "127.0.0.1:80")
	h.want(map[string]uint64{"in 0.0.0.0:80": 0})
	h.close("10.0.0.1:80", "192.0.2.1:40000")
	h.close("127.0.0.1:80", "127.0.0.1:40000")
	h.close("127.0.0.1:40000", "127.0.0.1:80")
	h.closeAs("0.0.0.0:80", "192.0.2.1:0", func(c *socket.Closed) { c.Wiped = true })
	h.closeAs("0.0.0.0:40000", "192.0.2.1:0", func(c *socket.Closed) { c.Wiped = true })
	h.close("10.0.0.1:9999", "192.0.2.1:40000") // whose listener no read has shown
	h.want(map[string]uint64{"in 0.0.0.0:80": 2, "in 127.0.0.1:80": 1, "out 80": 1, "wiped": 1, "in other": 1})
}

// TestListenerThatOpens has listeners that no scrape has seen: each port that is
// unknown has them read, at intervals.
func TestListenerThatOpens(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 2})
	h.close("10.0.0.1:40000", "192.0.2.1:443") // the first has them read
	h.listen("0.0.0.0:80", "10.0.0.1:45000")
	h.now = h.now.Add(leastPause)
	h.close("10.0.0.1:45000", "192.0.2.1:50000") // might be a client's
	h.close("10.0.0.1:80", "192.0.2.1:50000")
	h.now = h.now.Add(time.Second)
	h.close("10.0.0.1:40000", "192.0.2.1:443") // a client's
	if h.reads != 2 {
		t.Errorf("%d reads", h.reads)
	}
	for range 5 {
		h.close("10.0.0.1:81", "192.0.2.1:50000")
	}
	if h.reads != 3 {
		t.Errorf("%d reads for five in a row", h.reads)
	}
	h.want(map[string]uint64{"in 0.0.0.0:80": 1, "in 10.0.0.1:45000": 1, "out 443": 2, "in other": 5})
	h.err = errors.New("netlink is tired")
	h.now = h.now.Add(time.Second)
	h.close("10.0.0.1:81", "192.0.2.1:50000")
	h.want(map[string]uint64{"in 0.0.0.0:80": 1, "in 10.0.0.1:45000": 1, "out 443": 2, "in other": 6})
}

// TestListenerThatGoes keeps its counters for an hour, and takes them up if it is back.
func TestListenerThatGoes(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 2})
	h.listen("0.0.0.0:80", "10.0.0.1:81")
	h.want(map[string]uint64{"in 0.0.0.0:80": 0})
	h.close("10.0.0.1:80", "192.0.2.1:50000")
	h.close("10.0.0.1:81", "192.0.2.1:50000")
	h.listen()
	h.counted()
	h.close("10.0.0.1:80", "192.0.2.1:50000") // outlived its listener
	h.now = h.now.Add(59 * time.Minute)
	h.close("10.0.0.2:81", "192.0.2.1:50000") // another address
	h.want(map[string]uint64{"in 0.0.0.0:80": 2, "in 10.0.0.1:81": 1, "in other": 1})
	h.listen("0.0.0.0:80")
	h.want(map[string]uint64{"in 0.0.0.0:80": 2, "in 10.0.0.1:81": 1, "in other": 1})
	h.now = h.now.Add(2 * time.Minute)
	h.close("10.0.0.1:80", "192.0.2.1:50000")
	h.want(map[string]uint64{"in 0.0.0.0:80": 3, "in other": 1})
}

// TestCountersNeverFall has more ports than series, and their load changes.
func TestCountersNeverFall(t *testing.T) {
	h := newHost(t, Limits{Listeners: 1, OutboundPorts: 2, Destinations: 2})
	h.listen("0.0.0.0:80", "0.0.0.0:81")
	before, sum := map[string]uint64{}, uint64(0)
	for round := range 50 {
		for port := range 6 {
			for range 1 + (port*7+round*3)%11 {
				h.close("10.0.0.1:40000", fmt.Sprintf("192.0.2.1:%d", 1000+port))
				sum++
			}
		}
		h.close("10.0.0.1:81", "192.0.2.1:50000")
		h.now = h.now.Add(time.Minute)
		now := h.counted()
		for name, n := range now {
			if n < before[name] {
				t.Fatalf("round %d: %s falls from %d to %d", round, name, before[name], n)
			}
		}
		before = now
	}
	if len(h.outbound.of) > 2 || before["in other"] != 50 || before["out other"] == 0 {
		t.Errorf("%v", before)
	}
	h.close("10.0.0.1:40000", "192.0.2.1:5432") // a new port that outweighs the others
	for range 1000 {
		h.close("10.0.0.1:40000", "192.0.2.1:5432")
	}
	h.counted()
	h.close("10.0.0.1:40000", "192.0.2.1:5432")
	if n := h.counted()["out 5432"]; n != 1 {
		t.Errorf("the busiest port has %d", n)
	}
}

// TestPassingClients has clients of a service that is gone: their ports get no series.
func TestPassingClients(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 5})
	for port := 40000; port < 40100; port++ {
		h.close("10.0.0.1:50000", fmt.Sprintf("192.0.2.1:%d", port))
	}
	h.want(map[string]uint64{"out other": 100})
}

// TestFailures has connects that fail, watched and not.
func TestFailures(t *testing.T) {
	h := newHost(t, Limits{OutboundPorts: 5, Destinations: 1, WatchedDestinations: 2})
	h.close("10.0.0.1:50000", "192.0.2.1:443")
	unanswered := func(c *socket.Closed) { c.Established = false }
	other := func(c *socket.Closed) { c.Established, c.SegmentsReceived = false, 1 }
	single := func(address string) socket.Watched {
		a := netip.MustParseAddrPort(address)
		return socket.Watched{Network: netip.PrefixFrom(a.Addr(), 32), Ports: []socket.PortRange{{First: a.Port(), Last: a.Port()}}}
	}
	watched := []socket.Watched{single("192.0.2.8:80"), single("192.0.2.9:80")}
	h.scrape(h.table(), h.limits, watched, func(*Report) {})
	for range 3 {
		h.closeAs("10.0.0.1:50001", "192.0.2.7:80", unanswered)
	}
	h.closeAs("10.0.0.1:50001", "192.0.2.7:80", other)
	h.closeAs("10.0.0.1:50002", "192.0.2.6:80", other) // beyond the limit
	h.closeAs("10.0.0.1:50002", "192.0.2.9:80", other)
	h.closeAs("0.0.0.0:50002", "192.0.2.9:0", func(c *socket.Closed) { c.Established, c.Wiped = false, true })
	h.scrape(h.table(), h.limits, watched, func(r *Report) {
		if want := (Failures{Unanswered: 3, Other: 3}); len(r.Failed) != 1 || *r.Failed[0].Failures != want || r.WipedFailures != 1 {
			t.Errorf("%+v, %d", r.Failed, r.WipedFailures)
		}
		want := []Destination{
			{netip.MustParseAddrPort("192.0.2.7:80"), Failures{3, 1}},
			{netip.MustParseAddrPort("192.0.2.8:80"), Failures{}},
			{netip.MustParseAddrPort("192.0.2.9:80"), Failures{0, 1}},
		}
		if diff := cmp.Diff(want, r.Destinations, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if r.DestinationsFolded != 1 {
			t.Errorf("%d folded", r.DestinationsFolded)
		}
	})
}

// TestBounded has a scan of many ports and destinations.
func TestBounded(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 5, Destinations: 5})
	for i := range 100_000 {
		remote := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(i))
		h.closeAs("10.0.0.1:50000", remote.String(), func(c *socket.Closed) { c.Established = i%2 == 0 && remote.Port() != 0 })
	}
	if n := len(h.outbound.waiting) + len(h.failed.waiting) + len(h.destinations.waiting); n > 3*maxWaiting {
		t.Errorf("%d keys wait", n)
	}
	h.counted()
	if n := len(h.outbound.of) + len(h.failed.of) + len(h.destinations.of); n > 15 {
		t.Errorf("%d slots", n)
	}
}

func TestAddAllocates(t *testing.T) {
	h := newHost(t, Limits{Listeners: 10, OutboundPorts: 5})
	h.listen("0.0.0.0:80")
	h.counted()
	in := socket.Closed{Socket: porttest.Socket(socket.TCP, socket.Close, "10.0.0.1:80", "192.0.2.1:50000"), TCPInfo: socket.TCPInfo{Established: true, RoundTrip: time.Millisecond}}
	out := in
	out.Local, out.Remote = in.Remote, in.Local
	add := func() {
		h.add(context.Background(), &in, h.now)
		h.add(context.Background(), &out, h.now)
	}
	add()
	if n := testing.AllocsPerRun(100, add); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
