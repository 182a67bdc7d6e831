package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// used is the series of one destination.
func used(to string) string {
	remote := netip.MustParseAddrPort(to)
	return fmt.Sprintf(`port_ephemeral_destination_ports_used{remote_address=%q,remote_port="%d"}`, remote.Addr().Unmap(), remote.Port())
}

// TestEphemeralPortsRunOutInNamespace takes one port after another until
// connect() fails, and compares the figures with its answer: full towards the one
// destination, free towards the other, reserved ports left alone.
func TestEphemeralPortsRunOutInNamespace(t *testing.T) {
	for _, tt := range []struct{ name, full, free, listen, as string }{
		{"IPv4", "127.0.0.1:5432", "127.0.0.1:5433", "127.0.0.1:5432", "127.0.0.1:5432"},
		{"IPv6", "[::1]:5432", "[::1]:5433", "[::1]:5432", "[::1]:5432"},
		{"IPv4 over IPv6 sockets", "[::ffff:127.0.0.1]:5432", "127.0.0.1:5433", "127.0.0.1:5432", "127.0.0.1:5432"},
	} {
		t.Run(tt.name, func(t *testing.T) { runOut(t, tt.full, tt.free, tt.listen, tt.as) })
	}
}

func runOut(t *testing.T, full, free, listen, as string) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40019")
	porttest.Sysctl(t, "net/ipv4/ip_local_reserved_ports", "40003,40010-40012,50000")
	porttest.Sysctl(t, "net/ipv4/tcp_tw_reuse", "0") // on loopback TIME_WAIT does not hold its port otherwise
	const usable = 16
	listener := porttest.Listen(t, listen, 64)
	porttest.Listen(t, free, 64)
	config := filepath.Join(t.TempDir(), "c.yml")
	text := fmt.Sprintf("destinations:\n  watch:\n    - {address: %q, ports: 5433}\n", netip.MustParseAddrPort(free).Addr())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.StartDaemon(t, "port_exporter", "--config.file="+config)

	check := func(when string, want map[string]float64) {
		t.Helper()
		got := porttest.Scrape(t, "port_")
		for series, n := range want {
			if value, ok := got[series]; !ok || value != n {
				t.Errorf("%s: %s is %v (there: %v), want %v", when, series, value, ok, n)
			}
		}
	}
	const ports = `port_ephemeral_ports{netns=""}`
	check("at first", map[string]float64{ports: usable, used(free): 0})

	clients := map[uint16]int{}
	for i := range usable {
		fd, err := porttest.TryDial(t, full)
		if err != nil {
			t.Fatalf("connect %d: %v", i, err)
		}
		clients[porttest.LocalAddr(t, fd).Port()] = fd
	}
	for _, reserved := range []uint16{40003, 40010, 40011, 40012} {
		if _, taken := clients[reserved]; taken {
			t.Errorf("the kernel gave the reserved port %d", reserved)
		}
	}
	if _, err := porttest.TryDial(t, full); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Fatalf("one more: %v, want EADDRNOTAVAIL", err)
	}
	check("full", map[string]float64{ports: usable, used(as): usable, used(free): 0, `port_ephemeral_ports_used{protocol="tcp"}`: usable})
	porttest.Dial(t, free)
	check("one to the other", map[string]float64{used(as): usable, used(free): 1})

	// What is closed goes on holding its port, in TIME_WAIT.
	for range usable {
		server := porttest.Accept(t, listener)
		porttest.CloseWrite(t, clients[porttest.RemoteAddr(t, server).Port()])
		porttest.CloseWrite(t, server)
	}
	if _, err := porttest.TryDial(t, full); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("when all are in TIME_WAIT: %v, want EADDRNOTAVAIL", err)
	}
	check("in TIME_WAIT", map[string]float64{used(as): usable, used(free): 1,
		`port_inbound_connections{address="` + netip.MustParseAddrPort(listen).Addr().String() + `",port="5432",protocol="tcp",state="established"}`: 0})
}

// TestTimeWaitIsTakenAgainInNamespace leaves every port towards a loopback address
// in TIME_WAIT, where by the kernel's default connect() takes it after a second.
func TestTimeWaitIsTakenAgainInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40009")
	porttest.Sysctl(t, "net/ipv4/tcp_tw_reuse", "2")
	listener := porttest.Listen(t, "127.0.0.1:81", 64)
	porttest.StartDaemon(t, "port_exporter")
	porttest.LeaveTimeWait(t, listener, 10, func(int) netip.AddrPort { return netip.MustParseAddrPort("127.0.0.1:81") })
	time.Sleep(2100 * time.Millisecond) // the kernel counts whole seconds
	inTimeWait := strings.Replace(used("127.0.0.1:81"), "ports_used", "ports_in_time_wait", 1)
	for taken := range 3 {
		got := porttest.Scrape(t, "port_")
		if got[used("127.0.0.1:81")] != 10 || got[inTimeWait] != float64(10-taken) || got[`port_tcp_time_wait_reuse{netns=""}`] != 2 {
			t.Errorf("%d taken again: %v used, %v of them in TIME_WAIT, reuse %v", taken, got[used("127.0.0.1:81")], got[inTimeWait], got[`port_tcp_time_wait_reuse{netns=""}`])
		}
		porttest.Dial(t, "127.0.0.1:81")
	}
}

// TestTimeWaitFloodInNamespace closes more connections than the kernel keeps in
// TIME_WAIT.
func TestTimeWaitFloodInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/tcp_max_tw_buckets", "50")
	porttest.Sysctl(t, "net/ipv4/tcp_tw_reuse", "0")
	listener := porttest.Listen(t, "127.0.0.1:80", 64)
	porttest.StartDaemon(t, "port_exporter")
	const (
		overflows = `port_tcp_time_wait_overflows_total{netns=""}`
		limit     = `port_tcp_time_wait_limit{netns=""}`
		timeWait  = `port_sockets{family="ipv4",protocol="tcp",state="time_wait"}`
		held      = `port_outbound_connections{protocol="tcp",remote_port="80",state="time_wait"}`
	)
	before := porttest.Scrape(t, "port_")
	if before[limit] != 50 || before[overflows] != 0 || before[timeWait] != 0 {
		t.Errorf("before: limit %v, overflows %v, time_wait %v", before[limit], before[overflows], before[timeWait])
	}
	for series := range before {
		// Limits of the whole host are in the first namespace only: their files
		// are absent here, and so are the series.
		if strings.HasPrefix(series, "port_tcp_orphan_limit") || strings.HasPrefix(series, "port_tcp_memory_limit") {
			t.Errorf("%s is told of a namespace that has no such limit", series)
		}
	}
	if before[`port_scrape_collector_success{collector="limits"}`] != 1 {
		t.Error("absent files made the collector fail")
	}
	address := netip.MustParseAddrPort("127.0.0.1:80")
	porttest.LeaveTimeWait(t, listener, 200, func(int) netip.AddrPort { return address })
	after := porttest.Scrape(t, "port_")
	if after[overflows] < 140 || after[overflows] > 150 || after[timeWait] < 50 || after[timeWait] > 60 || after[held] != after[timeWait] {
		t.Errorf("after: overflows %v, time_wait %v, to port 80 %v; want some 150, 50, 50", after[overflows], after[timeWait], after[held])
	}
	if after[timeWait]+after[overflows] != 200 {
		t.Errorf("%v kept and %v not kept of 200", after[timeWait], after[overflows])
	}
}

// TestHalfClosedCountAsTimeWaitInNamespace has a server close first and its clients
// not at all: what is in FIN_WAIT2 without a process takes the places of TIME_WAIT
// (tcp_close in net/ipv4/tcp.c).
func TestHalfClosedCountAsTimeWaitInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/tcp_max_tw_buckets", "50")
	listener := porttest.Listen(t, "127.0.0.1:80", 64)
	porttest.StartDaemon(t, "port_exporter")
	for range 60 {
		porttest.Dial(t, "127.0.0.1:80")
		server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(server)
	}
	got := porttest.Scrape(t, "port_")
	want := map[string]float64{
		`port_tcp_time_wait_limit{netns=""}`:                           50,
		`port_tcp_time_wait_entries{netns=""}`:                         50,
		`port_tcp_time_wait_overflows_total{netns=""}`:                 10,
		`port_sockets{family="ipv4",protocol="tcp",state="fin_wait2"}`: 50,
		`port_sockets{family="ipv4",protocol="tcp",state="time_wait"}`: 0,
	}
	for series, n := range want {
		if value, ok := got[series]; !ok || value != n {
			t.Errorf("%s is %v (there: %v), want %v", series, value, ok, n)
		}
	}
}

// TestTroubleInNamespace makes the troubles of a client: a dead upstream and a
// service that never closes.
func TestTroubleInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "eth7", "192.0.2.9")
	for range 3 {
		porttest.StartDial(t, "192.0.2.9:5432")
	}
	leaky := porttest.Listen(t, "127.0.0.1:8080", 64)
	const leaked = 12
	for range leaked {
		client := porttest.Dial(t, "127.0.0.1:8080")
		porttest.Accept(t, leaky)
		porttest.CloseWrite(t, client)
	}
	porttest.StartDaemon(t, "port_exporter")
	const (
		retransmitting = `port_syn_sent_retransmitting{remote_port="5432"}`
		retransmits    = `port_tcp_syn_retransmits_total{netns=""}`
	)
	want := map[string]float64{
		`port_outbound_connections{protocol="tcp",remote_port="5432",state="syn_sent"}`:                3,
		`port_inbound_connections{address="127.0.0.1",port="8080",protocol="tcp",state="close_wait"}`:  leaked,
		`port_outbound_connections{protocol="tcp",remote_port="8080",state="fin_wait2"}`:               leaked,
		`port_inbound_connections{address="127.0.0.1",port="8080",protocol="tcp",state="established"}`: 0,
		`port_sockets{family="ipv4",protocol="tcp",state="syn_sent"}`:                                  3,
		`port_ephemeral_destination_undercount_ports{netns=""}`:                                        0,
		`port_destination_syn_sent_retransmitting{remote_address="192.0.2.9",remote_port="5432"}`:      3,
		retransmitting: 3,
	}
	var got map[string]float64
	// The first SYN is sent again after a second. Counters and sockets are read side
	// by side, so one of them may be from before.
	for range 30 {
		if got = porttest.Scrape(t, "port_"); got[retransmitting] == 3 && got[retransmits] >= 3 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for series, n := range want {
		if got[series] != n {
			t.Errorf("%s is %v, want %v", series, got[series], n)
		}
	}
	if n := got[retransmits]; n < 3 {
		t.Errorf("the kernel counts %v SYNs sent again, want 3 or more", n)
	}
}

// TestManyDestinationsInNamespace connects to 80,000 different destinations,
// and many times to three of them: memory and series stay as they are, and the
// three are exported.
func TestManyDestinationsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/tcp_max_tw_buckets", "400000")
	porttest.Sysctl(t, "net/ipv4/tcp_tw_reuse", "0")
	listener := porttest.Listen(t, "0.0.0.0:80", 64)
	porttest.StartDaemon(t, "port_exporter")
	const resident, undercount = "process_resident_memory_bytes", `port_ephemeral_destination_undercount_ports{netns=""}`
	families := []string{"port_", resident}
	spread := func(from, to int) {
		porttest.LeaveTimeWait(t, listener, to-from, func(i int) netip.AddrPort {
			i += from
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, byte(1 + i>>16), byte(i >> 8), byte(i)}), 80)
		})
	}
	heavy := map[string]int{"127.0.0.2:80": 5000, "127.0.0.3:80": 2000, "127.0.0.4:80": 1000}
	for to, n := range heavy {
		address := netip.MustParseAddrPort(to)
		porttest.LeaveTimeWait(t, listener, n, func(int) netip.AddrPort { return address })
	}
	spread(0, 10_000)
	few := porttest.Scrape(t, families...)
	for to, n := range heavy {
		if few[used(to)] != float64(n) {
			t.Errorf("of 10,000 destinations, %s: %v, want %d", to, few[used(to)], n)
		}
	}
	if few[undercount] != 0 {
		t.Errorf("10,000 destinations are undercounted by %v", few[undercount])
	}

	const destinations = 80_000
	spread(10_000, destinations)
	many := porttest.Scrape(t, families...)
	seen := many[`port_sockets{family="ipv4",protocol="tcp",state="time_wait"}`]
	made := float64(destinations)
	for _, n := range heavy { // they were made first, and so end first
		made += float64(n)
	}
	if seen < made {
		t.Skipf("SKIP-SLOW: only %v sockets were left in TIME_WAIT when all were made", seen)
	}
	for to, n := range heavy {
		if got := many[used(to)]; got > float64(n) || got < float64(n)-many[undercount] {
			t.Errorf("of 80,000 destinations, %s: %v, want %d less %v at most", to, got, n, many[undercount])
		}
	}
	if many[undercount] == 0 || many[undercount] > seen/16_385 {
		t.Errorf("undercounted by %v, want 1 to %v", many[undercount], seen/16_385)
	}
	if len(few) != len(many) {
		t.Errorf("%d series for 10,000 destinations, %d for 80,000", len(few), len(many))
	}
	t.Logf("resident memory: %.1f MB at 10,000 destinations, %.1f MB at 80,000", few[resident]/1e6, many[resident]/1e6)
	if grown := many[resident] - few[resident]; grown > 20e6 { // the benchmark bounds the whole of it
		t.Errorf("resident memory grew by %.1f MB from 10,000 to 80,000 destinations", grown/1e6)
	}
}

// TestBoundClientsInNamespace takes ports with bind() before connect(), which holds
// them towards everybody: the figure for the host is full, that of the other
// destination is not.
func TestBoundClientsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40009")
	porttest.Listen(t, "127.0.0.1:81", 64)
	porttest.Listen(t, "127.0.0.1:82", 64)
	for range 10 {
		porttest.DialFrom(t, "127.0.0.1:0", "127.0.0.1:81", porttest.WithoutReuse)
	}
	if _, err := porttest.TryDial(t, "127.0.0.1:82"); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Fatalf("to the other: %v, want EADDRNOTAVAIL", err)
	}
	porttest.StartDaemon(t, "port_exporter")
	// Two more, for the scrape: of an odd number the kernel may leave one out
	// (__inet_hash_connect in net/ipv4/inet_hashtables.c).
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40011")
	got := porttest.Scrape(t, "port_ephemeral")
	if got[used("127.0.0.1:81")] != 10 || got[used("127.0.0.1:82")] != 0 || got[`port_ephemeral_ports_used{protocol="tcp"}`] != 11 || got[`port_ephemeral_ports{netns=""}`] != 12 {
		t.Errorf("got %v", got)
	}
}

// TestDestinationsOfTheConfigurationInNamespace holds the keys of the
// configuration to what they do, and reloads them.
func TestDestinationsOfTheConfigurationInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40999")
	porttest.Listen(t, "0.0.0.0:80", 1000)
	connect := func(to string, n int) {
		for range n {
			porttest.Dial(t, to)
		}
	}
	connect("127.0.0.2:80", 300)
	connect("127.0.0.3:80", 5)
	connect("127.0.1.1:80", 4)
	connect("127.0.1.2:80", 3)
	connect("127.0.1.3:80", 2)
	config := filepath.Join(t.TempDir(), "c.yml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	told := func() map[string]float64 {
		got := porttest.Scrape(t, "port_ephemeral_destination_ports_used", "port_folded_items")
		for series := range got {
			if strings.HasPrefix(series, "port_folded") && !strings.Contains(series, "ephemeral_destination") {
				delete(got, series)
			}
		}
		return got
	}
	const folded = `port_folded_items{metric="port_ephemeral_destination_ports_used"}`
	write("destinations: {min_share: 0.25, watch: [{address: 127.0.1.0/24}]}\nlimits: {watched_destinations: 2}\n")
	porttest.StartDaemon(t, "port_exporter", "--config.file="+config, "--web.enable-lifecycle")
	want := map[string]float64{used("127.0.0.2:80"): 300, used("127.0.1.1:80"): 4, used("127.0.1.2:80"): 3, folded: 1}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	write("destinations: {min_share: 0.002, watch: [{address: 127.0.9.9, ports: 80}]}\nlimits: {destinations: 3}\n")
	if status, body := porttest.Post(t, porttest.ScrapeAddress, "/-/reload"); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	want = map[string]float64{used("127.0.0.2:80"): 300, used("127.0.0.3:80"): 5, used("127.0.1.1:80"): 4, used("127.0.9.9:80"): 0, folded: 2}
	if diff := cmp.Diff(want, told()); diff != "" {
		t.Errorf("after a reload (-want +got):\n%s", diff)
	}
}

// TestWatchedHostNameInNamespace watches a name that /etc/hosts knows, and one
// that nobody does.
func TestWatchedHostNameInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:5432", 64)
	porttest.Dial(t, "127.0.0.1:5432")
	config := filepath.Join(t.TempDir(), "c.yml")
	text := "destinations:\n  watch:\n    - {address: localhost, ports: 5432}\n    - {address: nowhere.invalid}\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	porttest.StartDaemon(t, "port_exporter", "--config.file="+config, "--web.enable-lifecycle")
	const (
		found    = `port_ephemeral_destination_lookup_success{hostname="localhost"}`
		notFound = `port_ephemeral_destination_lookup_success{hostname="nowhere.invalid"}`
	)
	var got map[string]float64
	for range 100 { // a name server may have to be waited for
		got = porttest.Scrape(t, "port_ephemeral")
		if _, asked := got[notFound]; asked {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if value, asked := got[notFound]; !asked || value != 0 || got[found] != 1 || got[used("127.0.0.1:5432")] != 1 {
		t.Errorf("got %v", got)
	}

	// A reload asks for no name anew: what is known stays known.
	if status, body := porttest.Post(t, porttest.ScrapeAddress, "/-/reload"); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	if got := porttest.Scrape(t, "port_ephemeral"); got[found] != 1 || got[used("127.0.0.1:5432")] != 1 {
		t.Errorf("after a reload: %v", got)
	}
}

// TestNegativeSysctlInNamespace has a sysctl that the kernel takes a negative
// number for: it is a figure like any other.
func TestNegativeSysctlInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/tcp_max_syn_backlog", "-1")
	porttest.StartDaemon(t, "port_exporter")
	got := porttest.Scrape(t, "port_tcp_max_syn_backlog", "port_somaxconn", "port_unreadable_files", `port_scrape_collector_success{collector="limits"}`)
	somaxconn := got[`port_somaxconn{netns=""}`]
	want := map[string]float64{`port_tcp_max_syn_backlog{netns=""}`: -1, `port_somaxconn{netns=""}`: somaxconn, `port_scrape_collector_success{collector="limits"}`: 1}
	if diff := cmp.Diff(want, got); diff != "" || somaxconn == 0 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
