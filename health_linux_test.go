package main

import (
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestHealthInNamespace compares figures of connections with those of ss: over a path with
// a delay, after a loss on it, and to a peer that does not read.
func TestHealthInNamespace(t *testing.T) {
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("SKIP-SS: ss (iproute2) is not installed")
	}
	porttest.Namespace(t)
	far := porttest.NewSpace(t)
	const delay = 20 * time.Millisecond // each way
	near := openTUN(t, "10.9.0.1/24")
	var beyond *os.File
	listeners := map[int]int{}
	far.Do(t, func() {
		beyond = openTUN(t, "10.9.0.2/24")
		for _, port := range []int{80, 81, 82} {
			listeners[port] = porttest.Listen(t, "10.9.0.2:"+strconv.Itoa(port), 16)
		}
	})
	go carry(near, beyond, delay)
	go carry(beyond, near, delay)
	porttest.StartDaemon(t, "port_exporter", "--collector.health")

	talk := func(port, n int) (client int) {
		client = porttest.Dial(t, "10.9.0.2:"+strconv.Itoa(port))
		server := porttest.Accept(t, listeners[port])
		sendBytes(t, client, n)
		receiveBytes(t, server, n)
		sendBytes(t, server, n)
		receiveBytes(t, client, n)
		return client
	}
	talk(80, 1000)
	talk(80, 30_000)
	client := talk(81, 1)
	far.Do(t, func() {
		porttest.NFT(t, "table ip lossy {\n chain c {\n type filter hook input priority 0\n tcp dport 81 drop\n }\n}\n")
	})
	sendBytes(t, client, 1000)
	porttest.Await(t, "retransmissions", func() bool { return ssFigures(t)["81"].retransmitted > 1 })
	far.Do(t, func() { porttest.NFT(t, "delete table ip lossy\n") })
	client = porttest.Dial(t, "10.9.0.2:82")
	porttest.Accept(t, listeners[82])
	if err := unix.SetNonblock(client, true); err != nil {
		t.Fatal(err)
	}
	porttest.Await(t, "a full window", func() bool {
		for n := 1; n > 0; {
			n, _ = unix.Write(client, make([]byte, 64<<10))
		}
		f := ssFigures(t)["82"]
		return f.unsent > 0 && f.limited > 0.2
	})
	compareHealth(t)
}

// compareHealth holds each value between those of ss before and after it.
func compareHealth(t *testing.T) {
	t.Helper()
	var differs string
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		before := ssFigures(t)
		got := porttest.Scrape(t, "port_outbound_open_connections")
		after := ssFigures(t)
		if differs = healthDiffers(got, before, after); differs == "" {
			break
		}
	}
	if differs != "" {
		t.Error(differs)
	}
	got := porttest.Scrape(t, "port_outbound_open_connections")
	for series, least := range map[string]float64{
		`segments_retransmitted{protocol="tcp",remote_port="81"}`:           2,
		`stalled_seconds{protocol="tcp",remote_port="81"}`:                  0.1,
		`round_trip_seconds_sum{protocol="tcp",remote_port="80"}`:           0.08,
		`minimum_round_trip_seconds_sum{protocol="tcp",remote_port="80"}`:   0.08,
		`minimum_round_trip_seconds_count{protocol="tcp",remote_port="80"}`: 2,
		`limited_seconds{by="receiver",protocol="tcp",remote_port="82"}`:    0.2,
	} {
		if value := got["port_outbound_open_connections_"+series]; value < least {
			t.Errorf("%s is %v, want at least %v", series, value, least)
		}
	}
}

// ssFigure is what ss shows of the connections to one port, summed up.
type ssFigure struct {
	connections                                          int
	rtt, minRTT, sent, sentAgain, segments, unsent, busy float64
	retransmitted, limited                               float64
}

// healthDiffers returns what is not between two figures of ss. It rounds times to
// milliseconds, and round trips to microseconds.
func healthDiffers(got map[string]float64, before, after map[string]ssFigure) string {
	for _, port := range []string{"80", "81", "82"} {
		b, a := before[port], after[port]
		for series, bounds := range map[string][3]float64{
			"round_trip_seconds_sum":            {b.rtt, a.rtt, 2e-6},
			"minimum_round_trip_seconds_sum":    {b.minRTT, a.minRTT, 2e-6},
			"round_trip_seconds_count":          {float64(b.connections), float64(a.connections), 0},
			"sent_bytes":                        {b.sent - b.sentAgain, a.sent - a.sentAgain, 0},
			"retransmitted_bytes":               {b.sentAgain, a.sentAgain, 0},
			"data_segments_sent":                {b.segments, a.segments, 0},
			"segments_retransmitted":            {b.retransmitted, a.retransmitted, 0},
			"unsent_bytes":                      {b.unsent, a.unsent, 0},
			"busy_seconds":                      {b.busy, a.busy, 0.002},
			"limited_seconds{by=\"receiver\",}": {b.limited, a.limited, 0.002},
		} {
			name, by, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
			labels := "{" + by + `protocol="tcp",remote_port="` + port + `"}`
			value, there := got["port_outbound_open_connections_"+name+labels]
			if !there || value < min(bounds[0], bounds[1])-bounds[2] || value > max(bounds[0], bounds[1])+bounds[2] {
				return series + " of port " + port + ": " + strconv.FormatFloat(value, 'g', -1, 64) +
					", ss has " + strconv.FormatFloat(bounds[0], 'g', -1, 64) + " and " + strconv.FormatFloat(bounds[1], 'g', -1, 64)
			}
		}
	}
	return ""
}

var (
	ssRemote = regexp.MustCompile(`10\.9\.0\.2:(\d+)`)
	ssTime   = `([0-9.]+)ms`
	ssFields = map[string]*regexp.Regexp{
		"rtt": regexp.MustCompile(` rtt:([0-9.]+)/`), "minrtt": regexp.MustCompile(` minrtt:([0-9.]+)`),
		"sent": regexp.MustCompile(` bytes_sent:(\d+)`), "again": regexp.MustCompile(` bytes_retrans:(\d+)`),
		"segments": regexp.MustCompile(` data_segs_out:(\d+)`), "retrans": regexp.MustCompile(` retrans:\d+/(\d+)`),
		"notsent": regexp.MustCompile(` notsent:(\d+)`),
		"busy":    regexp.MustCompile(` busy:` + ssTime), "limited": regexp.MustCompile(` rwnd_limited:` + ssTime),
	}
)

// ssFigures returns what ss shows of the connections to each port of 10.9.0.2.
func ssFigures(t *testing.T) map[string]ssFigure {
	t.Helper()
	out, err := exec.Command("ss", "-tinemOH").Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]ssFigure{}
	for line := range strings.Lines(string(out)) {
		port := ssRemote.FindStringSubmatch(line)
		if port == nil {
			continue
		}
		field := func(name string) float64 {
			m := ssFields[name].FindStringSubmatch(line)
			if m == nil {
				return 0
			}
			n, err := strconv.ParseFloat(m[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		f := all[port[1]]
		f.connections++
		f.rtt += field("rtt") / 1000
		f.minRTT += field("minrtt") / 1000
		f.sent += field("sent")
		f.sentAgain += field("again")
		f.segments += field("segments")
		f.retransmitted += field("retrans")
		f.unsent += field("notsent")
		f.busy += field("busy") / 1000
		f.limited += field("limited") / 1000
		all[port[1]] = f
	}
	return all
}

// churner makes connections to a listener of its own, in the namespace of the test.
type churner struct {
	port, listener  int
	begun, received atomic.Int64 // bytes to the server: before they are written, and when they were read
	sent            int          // bytes of the server
	ended, resets   int          // connections
	open            []ends
	reset           []int // sockets of the server
	keep            bool  // connections stay open until the end
	stop            atomic.Bool
	done            chan error
}

// ends are the two sockets of a connection.
type ends struct{ client, server int }

// mostOpen is how many connections of a churner are open.
const mostOpen = 8

func startChurner(t *testing.T, port int, keep bool) *churner {
	c := &churner{port: port, keep: keep, done: make(chan error, 1)}
	c.listener = porttest.Listen(t, "127.0.0.1:"+strconv.Itoa(port), 64)
	namespace, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		runtime.LockOSThread() // and the thread ends with it
		defer unix.Close(namespace)
		if err := unix.Setns(namespace, unix.CLONE_NEWNET); err != nil {
			c.done <- err
			return
		}
		c.done <- c.run()
	}()
	t.Cleanup(func() { c.stop.Store(true) })
	return c
}

// run makes connections and lets them talk and end, every second one by a reset.
func (c *churner) run() error {
	for round := 0; !c.stop.Load(); round++ {
		if len(c.open) < mostOpen && c.ended < 10_000 {
			if err := c.connect(); err != nil {
				return err
			}
		}
		if len(c.open) > 0 {
			if err := c.talk(c.open[round%len(c.open)]); err != nil {
				return err
			}
		}
		if !c.keep && len(c.open) == mostOpen {
			if err := c.end(round%2 == 0); err != nil {
				return err
			}
		}
		time.Sleep(100 * time.Microsecond)
	}
	for len(c.open) > 0 {
		if err := c.end(false); err != nil {
			return err
		}
	}
	for _, server := range c.reset {
		_ = unix.Close(server)
	}
	return nil
}

func (c *churner) connect() error {
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: c.port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	server, _, err := unix.Accept4(c.listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	c.open = append(c.open, ends{client, server})
	return c.talk(ends{client, server})
}

// talk sends some bytes each way.
func (c *churner) talk(e ends) error {
	const there, back = 300, 200
	c.begun.Add(there)
	if err := pass(e.client, e.server, there); err != nil {
		return err
	}
	c.received.Add(there)
	c.sent += back
	return pass(e.server, e.client, back)
}

func pass(from, to, n int) error {
	if _, err := unix.Write(from, make([]byte, n)); err != nil {
		return err
	}
	for got := 0; got < n; {
		read, err := unix.Read(to, make([]byte, n))
		if err != nil {
			return err
		}
		got += read
	}
	return nil
}

// end ends the oldest connection. After a reset the server keeps its socket for a while,
// which is then in no table.
func (c *churner) end(reset bool) error {
	e := c.open[0]
	c.open = append(c.open[:0], c.open[1:]...)
	c.ended++
	if !reset {
		if err := unix.Close(e.client); err != nil {
			return err
		}
		if _, err := unix.Read(e.server, make([]byte, 1)); err != nil { // the FIN
			return err
		}
		return unix.Close(e.server)
	}
	c.resets++
	if err := unix.SetsockoptLinger(e.client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return err
	}
	if err := unix.Close(e.client); err != nil {
		return err
	}
	c.reset = append(c.reset, e.server)
	if len(c.reset) < 10*mostOpen {
		return nil
	}
	oldest := c.reset[0]
	c.reset = append(c.reset[:0], c.reset[1:]...)
	return unix.Close(oldest)
}

// series returns the name of a counter of the churner's listener.
func (c *churner) series(what string) string {
	return "port_inbound_connections_" + what + `{address="127.0.0.1",port="` + strconv.Itoa(c.port) + `",protocol="tcp"}`
}

// TestLiveCountersInNamespace has connections that open, talk, end and are reset while they
// are read. No counter ever falls, none counts what was not sent, those of connections
// that stay open have what was received before the scrape, and at the end all is counted
// once. A byte of each connection without a FIN is missing.
func TestLiveCountersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.StartDaemon(t, "port_exporter", "--collector.health", "--collector.closed")
	porttest.Scrape(t, "port_") // which waits until it has started
	keeper := startChurner(t, 8090, true)
	all := []*churner{startChurner(t, 8080, false), startChurner(t, 8081, false), keeper}
	last := map[string]float64{}
	for end, scrapes := time.Now().Add(10*time.Second), 0; scrapes < 5 || scrapes < 40 && time.Now().Before(end); scrapes++ {
		before := keeper.received.Load()
		got := porttest.Scrape(t, "port_inbound_connections_", "port_outbound_connections_", "port_closed_")
		for series, value := range last {
			if now, there := got[series]; strings.Contains(series, "_total") && (!there || now < value) {
				t.Errorf("%s falls from %v to %v", series, value, now)
			}
		}
		for _, c := range all {
			if value, most := got[c.series("received_bytes_total")], c.begun.Load(); value > float64(most) {
				t.Errorf("port %d received %v bytes, of %d", c.port, value, most)
			}
		}
		if value := got[keeper.series("received_bytes_total")]; value < float64(before-mostOpen) {
			t.Errorf("open connections received %v bytes, and %d before the scrape", value, before)
		}
		last = got
	}
	if last["port_closed_connections_untracked"] != 0 {
		t.Error("connections beyond the limit")
	}
	for _, c := range all {
		c.stop.Store(true)
		if err := <-c.done; err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range all {
		c.awaitTotals(t)
	}
	if lost := porttest.Scrape(t, "port_closed_")["port_closed_connections_lost_total"]; lost != 0 {
		t.Errorf("%v lost", lost)
	}
}

// awaitTotals waits until the counters are those of the churner, and stay there.
func (c *churner) awaitTotals(t *testing.T) {
	t.Helper()
	want := map[string]float64{
		c.series("closed_total"):         float64(c.ended),
		c.series("received_bytes_total"): float64(c.received.Load() - int64(c.resets)),
		c.series("sent_bytes_total"):     float64(c.sent),
	}
	var got map[string]float64
	same := 0
	for deadline := time.Now().Add(30 * time.Second); same < 3 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		got = porttest.Scrape(t, "port_inbound_connections_")
		maps.DeleteFunc(got, func(series string, _ float64) bool { _, wanted := want[series]; return !wanted })
		if same++; !maps.Equal(want, got) {
			same = 0
		}
	}
	if same < 3 {
		t.Errorf("got %v, want %v", got, want)
	}
}
