package main

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// closedSamples returns the samples of closed connections that are not 0 but those of
// the scrapes themselves, whose client closes with a reset, times and segments.
func closedSamples(t *testing.T) map[string]float64 {
	t.Helper()
	got := porttest.NonZero(porttest.Scrape(t, "port_inbound_connections_", "port_outbound_connections_", "port_outbound_connects_", "port_destination_connects_", "port_closed_"))
	for series := range got {
		if strings.Contains(series, `port="10065"`) || strings.Contains(series, `closed_total{protocol="tcp",remote_port="unknown"}`) || strings.Contains(series, "_seconds") || strings.Contains(series, "_segments_sent") {
			delete(got, series)
		}
	}
	return got
}

// awaitClosed waits until the samples are as wanted: the kernel reports a socket when
// it frees it, which may be a moment after close().
func awaitClosed(t *testing.T, want map[string]float64) {
	t.Helper()
	var got map[string]float64
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = closedSamples(t); cmp.Equal(want, got) {
			return
		}
	}
	t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
}

// exchange sends some bytes and gets others, and closes, the client first.
func exchange(t *testing.T, listener int, address string, there, back int) {
	t.Helper()
	client := porttest.Dial(t, address)
	server := porttest.Accept(t, listener)
	sendBytes(t, client, there)
	receiveBytes(t, server, there)
	sendBytes(t, server, back)
	receiveBytes(t, client, back)
	// Each end has the other's FIN before it closes. One that closes earlier may lose its
	// figures before the FIN counts in them (FIN_WAIT2), and then a byte too many is taken off.
	for _, end := range [][2]int{{client, server}, {server, client}} {
		if err := unix.Shutdown(end[0], unix.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		if n, err := unix.Read(end[1], make([]byte, 1)); n != 0 || err != nil {
			t.Fatalf("read %d behind the end: %v", n, err)
		}
	}
	porttest.Close(t, client)
	porttest.Close(t, server)
}

func sendBytes(t *testing.T, fd, n int) {
	t.Helper()
	for n > 0 {
		written, err := unix.Write(fd, make([]byte, n))
		if err != nil {
			t.Fatal(err)
		}
		n -= written
	}
}

func receiveBytes(t *testing.T, fd, n int) {
	t.Helper()
	block := make([]byte, 64<<10)
	for n > 0 {
		read, err := unix.Read(fd, block[:min(n, len(block))])
		if err != nil || read == 0 {
			t.Fatalf("read %d: %v", read, err)
		}
		n -= read
	}
}

// awaitFailure waits until a connect() that was started has failed.
func awaitFailure(t *testing.T, fd int) {
	t.Helper()
	porttest.Await(t, "the end of connect()", func() bool {
		errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
		return err == nil && errno != 0
	})
}

// TestClosedInNamespace has connections that no scrape sees open.
func TestClosedInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "eth7", "192.0.2.9")
	listener := porttest.Listen(t, "0.0.0.0:8080", 64)
	exchange(t, listener, "127.0.0.1:8080", 10, 10) // before the start
	porttest.StartDaemon(t, "port_exporter", "--collector.closed")
	if got := closedSamples(t); len(got) > 0 {
		t.Errorf("at the start: %v", got)
	}
	if zero, there := porttest.Scrape(t, "port_inbound_connections_closed_total")[`port_inbound_connections_closed_total{address="0.0.0.0",port="8080",protocol="tcp"}`]; zero != 0 || !there {
		t.Error("the counter of a listener does not begin at 0")
	}

	for range 1000 {
		exchange(t, listener, "127.0.0.1:8080", 100, 50)
	}
	opened := porttest.Listen(t, "[::]:8081", 64) // after the last scrape
	for range 3 {
		exchange(t, opened, "127.0.0.1:8081", 7, 0)
		exchange(t, opened, "[::1]:8081", 7, 0)
	}

	refused := porttest.StartDial(t, "127.0.0.1:81")
	awaitFailure(t, refused)
	porttest.Close(t, refused)
	porttest.Close(t, porttest.StartDial(t, "192.0.2.9:82"))
	blocking, err := porttest.TryDial(t, "127.0.0.1:83") // whose port the kernel forgets
	if err == nil {
		t.Fatal("a connection to a closed port")
	}
	porttest.Close(t, blocking)
	want := map[string]float64{
		`port_inbound_connections_closed_total{address="0.0.0.0",port="8080",protocol="tcp"}`:                      1000,
		`port_inbound_connections_received_bytes_total{address="0.0.0.0",port="8080",protocol="tcp"}`:              100_000,
		`port_inbound_connections_sent_bytes_total{address="0.0.0.0",port="8080",protocol="tcp"}`:                  50_000,
		`port_inbound_connections_closed_total{address="::",port="8081",protocol="tcp"}`:                           6,
		`port_inbound_connections_received_bytes_total{address="::",port="8081",protocol="tcp"}`:                   42,
		`port_outbound_connections_closed_total{protocol="tcp",remote_port="8080"}`:                                1000,
		`port_outbound_connections_received_bytes_total{protocol="tcp",remote_port="8080"}`:                        50_000,
		`port_outbound_connections_sent_bytes_total{protocol="tcp",remote_port="8080"}`:                            100_000,
		`port_outbound_connections_closed_total{protocol="tcp",remote_port="8081"}`:                                6,
		`port_outbound_connections_sent_bytes_total{protocol="tcp",remote_port="8081"}`:                            42,
		`port_outbound_connects_failed_total{outcome="other",remote_port="81"}`:                                    1,
		`port_outbound_connects_failed_total{outcome="unanswered",remote_port="82"}`:                               1,
		`port_outbound_connects_failed_total{outcome="unknown",remote_port="unknown"}`:                             1,
		`port_destination_connects_failed_total{outcome="other",remote_address="127.0.0.1",remote_port="81"}`:      1,
		`port_destination_connects_failed_total{outcome="unanswered",remote_address="192.0.2.9",remote_port="82"}`: 1,
	}
	awaitClosed(t, want)
}

// bulk sends bytes from the client to the server until they have arrived, and closes.
func bulk(t *testing.T, client, server, n int, meanwhile func()) {
	t.Helper()
	if err := unix.SetNonblock(client, true); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(server, true); err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	sent := 0
	porttest.Await(t, "room for no more", func() bool {
		written, _ := unix.Write(client, block[:min(len(block), n-sent)])
		sent += max(written, 0)
		return written <= 0
	})
	meanwhile()
	received := 0
	porttest.Await(t, "all bytes", func() bool {
		if written, _ := unix.Write(client, block[:min(len(block), n-sent)]); written > 0 {
			sent += written
		}
		for {
			read, _ := unix.Read(server, block)
			if read <= 0 {
				return received == n
			}
			received += read
		}
	})
	porttest.Close(t, client)
	porttest.Close(t, server)
}

// awaitSeries waits until a series is there with a value that will do.
func awaitSeries(t *testing.T, series string, will func(float64) bool) {
	t.Helper()
	name, _, _ := strings.Cut(series, "{")
	var all map[string]float64
	defer func() {
		if t.Failed() {
			t.Log(all)
		}
	}()
	porttest.Await(t, series, func() bool {
		all = porttest.Scrape(t, name)
		value, there := all[series]
		return there && will(value)
	})
}

func atLeast(least float64) func(float64) bool { return func(got float64) bool { return got >= least } }

// TestClosedTroubleInNamespace has connections in trouble that is over when they end:
// a path that drops data, and a peer that does not read.
func TestClosedTroubleInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	listeners := map[string]int{}
	n.Server.Do(t, func() {
		for _, port := range []string{"81", "82"} {
			listeners[port] = porttest.Listen(t, porttest.ServerIP4+":"+port, 16)
		}
	})
	porttest.StartDaemon(t, "port_exporter", "--collector.closed")
	porttest.Scrape(t, "port_")

	const stuffing = 8 << 20 // more than fits into any buffer here
	client := porttest.Dial(t, porttest.ServerIP4+":81")
	server := porttest.Accept(t, listeners["81"])
	n.Router.Do(t, func() {
		porttest.NFT(t, "table ip lossy {\n chain c {\n type filter hook forward priority 0\n tcp dport 81 drop\n }\n}\n")
	})
	bulk(t, client, server, 100<<10, func() {
		time.Sleep(time.Second) // of timeouts
		n.Router.Do(t, func() { porttest.NFT(t, "delete table ip lossy\n") })
	})
	awaitSeries(t, `port_outbound_connections_segments_retransmitted_total{protocol="tcp",remote_port="81"}`, atLeast(1))
	awaitSeries(t, `port_outbound_connections_stalled_seconds_total{protocol="tcp",remote_port="81"}`, atLeast(0.5))
	awaitSeries(t, `port_outbound_connections_sent_bytes_total{protocol="tcp",remote_port="81"}`, func(got float64) bool { return got == 100<<10 })

	bulk(t, porttest.Dial(t, porttest.ServerIP4+":82"), porttest.Accept(t, listeners["82"]), stuffing, func() { time.Sleep(time.Second) })
	awaitSeries(t, `port_outbound_connections_limited_seconds_total{by="receiver",protocol="tcp",remote_port="82"}`, atLeast(0.5))
	awaitSeries(t, `port_outbound_connections_limited_seconds_total{by="send_buffer",protocol="tcp",remote_port="82"}`, atLeast(0))
	awaitSeries(t, `port_outbound_connections_sent_bytes_total{protocol="tcp",remote_port="82"}`, func(got float64) bool { return got == stuffing })
}

// TestClosedRoundTripInNamespace has a path of two interfaces of point to point, between
// which a goroutine carries the packets, late.
func TestClosedRoundTripInNamespace(t *testing.T) {
	porttest.Namespace(t)
	far := porttest.NewSpace(t)
	const delay = 60 * time.Millisecond // each way
	near := openTUN(t, "10.9.0.1/24")
	var beyond *os.File
	var listener int
	far.Do(t, func() {
		beyond = openTUN(t, "10.9.0.2/24")
		listener = porttest.Listen(t, "10.9.0.2:80", 16)
	})
	go carry(near, beyond, delay)
	go carry(beyond, near, delay)
	porttest.StartDaemon(t, "port_exporter", "--collector.closed")
	porttest.Scrape(t, "port_")
	exchange(t, listener, "10.9.0.2:80", 1000, 1000)
	for _, which := range []string{"round_trip", "minimum_round_trip"} {
		series := "port_outbound_connections_" + which + "_seconds"
		awaitSeries(t, series+`_bucket{protocol="tcp",remote_port="80",le="+Inf"}`, atLeast(1))
		awaitSeries(t, series+`_sum{protocol="tcp",remote_port="80"}`, atLeast(2*delay.Seconds()))
		awaitSeries(t, series+`_bucket{protocol="tcp",remote_port="80",le="0.1"}`, func(got float64) bool { return got == 0 })
	}
}

// openTUN makes an interface whose packets are read from and written to the file.
func openTUN(t *testing.T, address string) *os.File {
	t.Helper()
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Skip("SKIP-TUN: " + err.Error())
	}
	var request struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}
	copy(request.name[:], "tun0")
	request.flags = unix.IFF_TUN | unix.IFF_NO_PI
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TUNSETIFF, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Fatal(errno)
	}
	porttest.Address(t, "tun0", address)
	porttest.SetUp(t, "tun0")
	file := os.NewFile(uintptr(fd), "tun0")
	t.Cleanup(func() { _ = file.Close() })
	return file
}

// carry writes each packet of one file to another after a while.
func carry(from, to *os.File, delay time.Duration) {
	for packet := make([]byte, 64<<10); ; {
		n, err := from.Read(packet)
		if err != nil {
			return
		}
		copied := append([]byte(nil), packet[:n]...)
		time.AfterFunc(delay, func() { _, _ = to.Write(copied) })
	}
}

// TestClosedWithoutNetlinkInNamespace shows that the collector fails alone.
func TestClosedWithoutNetlinkInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.StartDaemon(t, "without-netlink", "port_exporter", "--collector.closed")
	success := porttest.Scrape(t, "port_scrape_collector_success")
	for series, value := range success {
		if want := strconv.FormatBool(!strings.Contains(series, `"closed"`)); strconv.FormatBool(value == 1) != want {
			t.Errorf("%s %v", series, value)
		}
	}
	if _, there := success[`port_scrape_collector_success{collector="closed"}`]; !there {
		t.Errorf("no result of the collector: %v", success)
	}
}
