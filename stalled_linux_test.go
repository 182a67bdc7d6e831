package main

import (
	"maps"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestStalledConnectionsInNamespace has connections that do not get on, in both
// directions: peers that do not read, paths that drop data or SYN-ACKs, SYNs
// without an answer. Healthy connections and refused ones are none of them. Both sources
// see the same, which is what ss says of the timers.
func TestStalledConnectionsInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	const server, client = porttest.ServerIP4, porttest.ClientIP4
	accepting := map[string]int{}
	n.Server.Do(t, func() {
		porttest.Sysctl(t, "net/ipv4/tcp_retries2", "15")
		porttest.Sysctl(t, "net/ipv4/tcp_syn_retries", "10")
		porttest.Sysctl(t, "net/ipv4/tcp_synack_retries", "10")
		for _, port := range []string{"8080", "8081", "8082", "8083"} {
			accepting[port] = porttest.Listen(t, "0.0.0.0:"+port, 16)
		}
	})
	for _, port := range []string{"9000", "9001", "9002"} {
		porttest.Listen(t, "0.0.0.0:"+port, 16)
	}
	accept := func(port string) int {
		porttest.Dial(t, server+":"+port)
		return porttest.Accept(t, accepting[port])
	}
	dial := func(port string) (fd int) {
		n.Server.Do(t, func() { fd = porttest.Dial(t, client+":"+port) })
		return fd
	}

	accept("8080")
	dial("9000")
	for range 2 {
		porttest.Stuff(t, accept("8081"))
	}
	porttest.Stuff(t, dial("9001"))
	lost := []int{accept("8082"), dial("9002"), dial("9002")}
	n.Router.Do(t, func() {
		porttest.Filter(t, "forward", "tcp sport { 8082, 8083 } drop")
		porttest.Filter(t, "forward", "ip saddr "+server+" tcp dport { 9002, 9003 } drop")
	})
	for _, fd := range lost {
		if _, err := unix.Write(fd, []byte("lost")); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		porttest.StartDial(t, server+":8083")
	}
	n.Server.Do(t, func() {
		porttest.StartDial(t, client+":9003")
		if fd, err := porttest.TryDial(t, client+":9004"); err == nil {
			t.Errorf("descriptor %d is connected to a closed port", fd)
		}
	})

	want := map[string]float64{
		`port_inbound_zero_window_connections{address="0.0.0.0",port="8081",protocol="tcp"}`:    2,
		`port_inbound_retransmitting_connections{address="0.0.0.0",port="8082",protocol="tcp"}`: 1,
		`port_inbound_syn_ack_retransmitting{address="0.0.0.0",port="8083",protocol="tcp"}`:     3,
		`port_outbound_zero_window_connections{protocol="tcp",remote_port="9001"}`:              1,
		`port_outbound_retransmitting_connections{protocol="tcp",remote_port="9002"}`:           2,
		`port_syn_sent_retransmitting{remote_port="9003"}`:                                      1,
	}
	n.Server.Do(t, func() {
		for _, source := range []string{"sock_diag", "procfs"} {
			stop := porttest.StartDaemon(t, "port_exporter", "--source="+source)
			var got map[string]float64
			await(t, "the connections to stall, as "+source+" has it", func() bool {
				got = porttest.NonZero(porttest.Scrape(t, "port_inbound_zero_window", "port_inbound_retransmitting", "port_inbound_syn_ack",
					"port_outbound_zero_window", "port_outbound_retransmitting", "port_syn_sent_retransmitting"))
				return maps.Equal(got, want)
			}, func() { t.Logf("-want +got:\n%s", cmp.Diff(want, got)) })
			stop()
		}
		compareTimers(t)
	})
}

// await is porttest.Await that says what was there in the end.
func await(t *testing.T, what string, there func() bool, missing func()) {
	t.Helper()
	done := false
	defer func() {
		if !done {
			missing()
		}
	}()
	porttest.Await(t, what, there)
	done = true
}

// compareTimers holds the timers that ss shows, with all that it can show, to what the
// test made: a timer is (name,time,retransmits).
func compareTimers(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("ss"); err != nil {
		t.Skip("SKIP-SS: ss (iproute2) is not installed")
	}
	out, err := exec.Command("ss", "-tinemaH").Output()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	ends := regexp.MustCompile(`:(80\d\d|90\d\d)\s.*timer:\((on|persist),[^,]*,(\d+)\)`)
	for line := range strings.Lines(string(out)) {
		m := ends.FindStringSubmatch(line)
		if m != nil && (m[2] == "persist" || m[3] != "0") {
			got[m[2]+" "+m[1]]++
		}
	}
	want := map[string]int{"persist 8081": 2, "on 8082": 1, "on 8083": 3, "persist 9001": 1, "on 9002": 2, "on 9003": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ss (-want +got):\n%s\n%s", diff, out)
	}
}
