package main

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// commands are the programs that scripts and tests find in their PATH.
func commands() map[string]func() {
	return map[string]func(){
		"port_exporter": main, "without-netlink": porttest.WithoutNetlink, "with-calls": porttest.WithCalls, "knock": knock,
		serverRole: serveOnePort, proxyRole: serveAsProxy, threadRole: serveOnThread,
	}
}

// TestHostInNamespace makes a host of known sockets and holds every series of
// the socket metrics to them.
func TestHostInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24")
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40999")

	// One port on several addresses: each connection belongs to the closest.
	any4 := porttest.Listen(t, "0.0.0.0:80", 64, porttest.ReusePort)
	loopback := porttest.Listen(t, "127.0.0.1:80", 64, porttest.ReusePort)
	nic := porttest.Listen(t, "192.0.2.1:80", 64, porttest.ReusePort)
	six := porttest.Listen(t, "[::]:80", 64, porttest.V6Only(true))
	connect := func(listener int, from, to string) {
		t.Helper()
		porttest.DialFrom(t, from, to)
		porttest.Accept(t, listener)
	}
	connect(any4, "127.0.0.9:40001", "127.0.0.2:80")
	connect(loopback, "127.0.0.9:40002", "127.0.0.1:80")
	connect(loopback, "127.0.0.9:40003", "127.0.0.1:80")
	connect(nic, "127.0.0.9:40004", "192.0.2.1:80")
	connect(six, "[::1]:40005", "[::1]:80")

	// Dual stack, bound to a device, and a group.
	dual := porttest.Listen(t, "[::]:81", 64, porttest.V6Only(false))
	connect(dual, "127.0.0.9:40006", "127.0.0.1:81")
	connect(dual, "[::1]:40007", "[::1]:81")
	porttest.Listen(t, "0.0.0.0:82", 64, porttest.BindToDevice("eth7"))
	for range 3 {
		porttest.Listen(t, "127.0.0.1:83", 10, porttest.ReusePort)
	}

	// A full accept queue, and a client that waits for a place in it.
	porttest.Listen(t, "127.0.0.1:84", 0)
	porttest.DialFrom(t, "127.0.0.9:40008", "127.0.0.1:84")
	porttest.StartDial(t, "127.0.0.1:84")

	// States.
	made := porttest.EveryState(t, "127.0.0.1:85")
	porttest.Listen(t, "127.0.0.1:86", 5, porttest.DeferAccept)
	porttest.DialFrom(t, "127.0.0.9:40009", "127.0.0.1:86")

	// A service that went away with a connection open, and an rsh-like client.
	gone := porttest.Listen(t, "127.0.0.1:8080", 5)
	connect(gone, "127.0.0.9:40010", "127.0.0.1:8080")
	porttest.Close(t, gone)
	connect(any4, "127.0.0.9:1023", "127.0.0.2:80")

	// UDP: a server, a client, a connected one, a multicast group, UDP-Lite.
	porttest.UDP(t, "0.0.0.0:53")
	porttest.UDP(t, "127.0.0.1:40100")
	porttest.Connect(t, porttest.UDP(t, "127.0.0.1:40101"), "127.0.0.1:53")
	porttest.UDP(t, "224.0.0.251:5353")
	porttest.UDPLite(t, "[::1]:54")

	porttest.StartDaemon(t, "port_exporter")
	got := porttest.Scrape(t, "port_")

	listener := func(family, protocol, address string, port int) string {
		return fmt.Sprintf(`%s{address=%q,port="%d",protocol=%q}`, family, address, port, protocol)
	}
	info := func(protocol, address string, port int, scope string, dual, ephemeral bool) string {
		process := porttest.OwnName(t) // with go test port_exporter.test, which is longer than comm can be
		if port == 10065 {
			process = "port_exporter"
		}
		return fmt.Sprintf(`port_listener_info{address=%q,container="",dual_stack="%t",ephemeral="%t",port="%d",process=%q,protocol=%q,scope=%q,unit="",user="root"}`,
			address, dual, ephemeral, port, process, protocol, scope)
	}
	inbound := func(address string, port int, state string) string {
		return fmt.Sprintf(`port_inbound_connections{address=%q,port="%d",protocol="tcp",state=%q}`, address, port, state)
	}
	outbound := func(port, state string) string {
		return fmt.Sprintf(`port_outbound_connections{protocol="tcp",remote_port=%q,state=%q}`, port, state)
	}
	sockets := func(family, protocol, state string) string {
		return fmt.Sprintf(`port_sockets{family=%q,protocol=%q,state=%q}`, family, protocol, state)
	}
	device := func(series string) string {
		return strings.Replace(series, `port="82"`, `interface="eth7",port="82"`, 1)
	}

	// The scrape itself is a connection to the exporter: one inbound, one outbound.
	check := func(families []string, want map[string]float64) {
		t.Helper()
		had := map[string]float64{}
		for series, value := range got {
			if name, _, _ := strings.Cut(series, "{"); slices.Contains(families, name) {
				had[series] = value
			}
		}
		if diff := cmp.Diff(want, porttest.NonZero(had)); diff != "" {
			t.Errorf("%v (-want +got):\n%s", families, diff)
		}
	}

	check([]string{"port_listener_info"}, map[string]float64{
		info("tcp", "0.0.0.0", 80, "any", false, false):             1,
		info("tcp", "127.0.0.1", 80, "loopback", false, false):      1,
		info("tcp", "192.0.2.1", 80, "public", false, false):        1,
		info("tcp", "::", 80, "any", false, false):                  1,
		info("tcp", "::", 81, "any", true, false):                   1,
		device(info("tcp", "0.0.0.0", 82, "any", false, false)):     1,
		info("tcp", "127.0.0.1", 83, "loopback", false, false):      1,
		info("tcp", "127.0.0.1", 84, "loopback", false, false):      1,
		info("tcp", "127.0.0.1", 85, "loopback", false, false):      1,
		info("tcp", "127.0.0.1", 86, "loopback", false, false):      1,
		info("tcp", "127.0.0.1", 10065, "loopback", false, false):   1,
		info("udp", "0.0.0.0", 53, "any", false, false):             1,
		info("udp", "224.0.0.251", 5353, "multicast", false, false): 1,
		info("udplite", "::1", 54, "loopback", false, false):        1,
	})
	if n := got[listener("port_listener_sockets", "tcp", "127.0.0.1", 83)]; n != 3 {
		t.Errorf("the group on port 83 has %v sockets", n)
	}
	if n := got[listener("port_listener_accept_queue_limit", "tcp", "127.0.0.1", 83)]; n != 30 {
		t.Errorf("the group on port 83 has an accept queue limit of %v", n)
	}
	check([]string{"port_listener_accept_queue_length"}, map[string]float64{
		listener("port_listener_accept_queue_length", "tcp", "127.0.0.1", 84): 1,
	})
	if n := got[listener("port_listener_accept_queue_drops_total", "tcp", "127.0.0.1", 84)]; n < 1 {
		t.Errorf("the full accept queue has dropped %v connections", n)
	}

	want := map[string]float64{
		inbound("0.0.0.0", 80, "established"):      2,
		inbound("127.0.0.1", 80, "established"):    2,
		inbound("192.0.2.1", 80, "established"):    1,
		inbound("::", 80, "established"):           1,
		inbound("::", 81, "established"):           2,
		inbound("127.0.0.1", 84, "established"):    1,
		inbound("127.0.0.1", 86, "syn_recv"):       1,
		inbound("127.0.0.1", 10065, "established"): 1,

		outbound("80", "established"):    6, // the rsh-like client too: 80 is the smaller port
		outbound("81", "established"):    2,
		outbound("84", "established"):    1,
		outbound("84", "syn_sent"):       1,
		outbound("86", "established"):    1,
		outbound("8080", "established"):  1,
		outbound("10065", "established"): 1,

		`port_held_connections{port="8080",protocol="tcp",state="established"}`: 1,

		// EveryState, the server's end and the client's.
		inbound("127.0.0.1", 85, "established"): 2,
		inbound("127.0.0.1", 85, "close_wait"):  1,
		inbound("127.0.0.1", 85, "time_wait"):   1,
		inbound("127.0.0.1", 85, "fin_wait2"):   2,
		outbound("85", "established"):           1,
		outbound("85", "fin_wait1"):             1,
		outbound("85", "fin_wait2"):             1,
		outbound("85", "last_ack"):              1,
		outbound("85", "closing"):               1,
	}
	check([]string{"port_inbound_connections", "port_outbound_connections", "port_orphaned_connections", "port_held_connections"}, want)

	// What is attributed, and what is counted, is the same.
	attributed := 0.0
	for _, n := range want {
		attributed += n
	}
	counted := 0.0
	for series, n := range got {
		if strings.HasPrefix(series, "port_sockets{") && strings.Contains(series, `"tcp"`) && !strings.Contains(series, `"listen"`) {
			counted += n
		}
	}
	if attributed != counted {
		t.Errorf("%v sockets are attributed, %v counted", attributed, counted)
	}
	for series, want := range map[string]float64{
		sockets("ipv4", "tcp", "listen"):          11,
		sockets("ipv6", "tcp", "listen"):          2,
		sockets("ipv4", "tcp", "syn_sent"):        1,
		sockets("ipv4", "tcp", "syn_recv"):        1,
		sockets("ipv4", "tcp", "time_wait"):       float64(made["TIME-WAIT"]),
		sockets("ipv4", "tcp", "closing"):         float64(made["CLOSING"]),
		sockets("ipv6", "tcp", "established"):     5, // one end of 40006, both of 40005 and 40007
		sockets("ipv4", "udp", "unconnected"):     3,
		sockets("ipv4", "udp", "connected"):       1,
		sockets("ipv6", "udplite", "unconnected"): 1,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v", series, got[series], want)
		}
	}
}

// TestSourcesAgreeInNamespace reads the same sockets through both sources, and
// through the one that is taken where there is no netlink.
func TestSourcesAgreeInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.EveryState(t, "127.0.0.1:85")
	porttest.EveryState(t, "[::1]:86")
	porttest.Listen(t, "[::]:87", 5, porttest.V6Only(false))
	porttest.Listen(t, "[::]:88", 5, porttest.V6Only(true))
	porttest.Listen(t, "0.0.0.0:88", 5)
	porttest.Dial(t, "127.0.0.1:87")
	porttest.UDP(t, "127.0.0.1:53")

	families := []string{"port_sockets", "port_inbound_connections", "port_outbound_connections", "port_orphaned", "port_listener_info", "port_listener_sockets", "port_listener_accept_queue_length", "port_udp"}
	results := map[string]map[string]float64{}
	for name, command := range map[string][]string{
		"sock_diag":  {"port_exporter", "--source=sock_diag"},
		"bpf":        {"port_exporter", "--source=bpf"},
		"procfs":     {"port_exporter", "--source=procfs"},
		"no netlink": {"without-netlink", "port_exporter"},
	} {
		stop := porttest.StartDaemon(t, command...)
		results[name] = porttest.Scrape(t, families...)
		stop()
	}
	for name, result := range results {
		if diff := cmp.Diff(results["sock_diag"], result); diff != "" {
			t.Errorf("sources differ (-sock_diag +%s):\n%s", name, diff)
		}
	}
}

// TestPrivilegesInNamespace runs the program as nobody: without a capability,
// with the two that it asks for, and without where /proc hides the processes of
// others. The counts are the same; the owners are there or not, and what is
// missing is said.
func TestPrivilegesInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Skipf("SKIP-NAMESPACE: unshare(CLONE_NEWNS): %v", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	porttest.EveryState(t, "127.0.0.1:85")
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	families := []string{"port_sockets", "port_inbound_connections", "port_outbound_connections", "port_listener_sockets", "port_privilege", "port_listeners_un", "port_listener_info"}

	all := func(as syscall.SysProcAttr) map[string]float64 {
		t.Helper()
		stop := porttest.StartDaemonAs(t, &as, "port_exporter")
		defer stop()
		return porttest.Scrape(t, families...)
	}
	asRoot := all(syscall.SysProcAttr{})
	withCapabilities := all(syscall.SysProcAttr{Credential: nobody, AmbientCaps: []uintptr{unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH}})
	without := all(syscall.SysProcAttr{Credential: nobody})
	if err := unix.Mount("proc", "/proc", "proc", 0, "hidepid=2"); err != nil {
		t.Fatal(err)
	}
	hidden := all(syscall.SysProcAttr{Credential: nobody})

	server := func(process string) string {
		return fmt.Sprintf(`port_listener_info{address="127.0.0.1",container="",dual_stack="false",ephemeral="false",port="85",process=%q,protocol="tcp",scope="loopback",unit="",user="root"}`, process)
	}
	known, anonymous := server(porttest.OwnName(t)), server("")
	for name, tt := range map[string]struct {
		got      map[string]float64
		info     string
		missing  float64
		nameless float64
	}{
		"root":         {asRoot, known, 0, 0},
		"capabilities": {withCapabilities, known, 0, 0},
		"none":         {without, anonymous, 1, 1},
		"hidepid":      {hidden, anonymous, 1, 1},
	} {
		if tt.got[tt.info] != 1 {
			t.Errorf("%s: lacks %s", name, tt.info)
		}
		for _, privilege := range []string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"} {
			if got := tt.got[fmt.Sprintf("port_privilege_missing{privilege=%q}", privilege)]; got != tt.missing {
				t.Errorf("%s: %s missing is %v, want %v", name, privilege, got, tt.missing)
			}
		}
		if got := tt.got[`port_listeners_unattributed{netns=""}`]; got != tt.nameless {
			t.Errorf("%s: %v listeners are unattributed, want %v", name, got, tt.nameless)
		}
		counts := func(samples map[string]float64) map[string]float64 {
			kept := map[string]float64{}
			for series, n := range samples {
				if !strings.HasPrefix(series, "port_listener_info") && !strings.HasPrefix(series, "port_privilege") && !strings.HasPrefix(series, "port_listeners_un") {
					kept[series] = n
				}
			}
			return kept
		}
		if diff := cmp.Diff(counts(asRoot), counts(tt.got)); diff != "" {
			t.Errorf("%s: counts differ (-root +got):\n%s", name, diff)
		}
	}
}

// TestWithoutNetlink runs the program as in a sandbox that has no sock_diag.
func TestWithoutNetlink(t *testing.T) {
	out, err := exec.Command("without-netlink", "port_exporter", "--source=sock_diag").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "source sock_diag: sockdiag: open netlink socket") || !strings.Contains(string(out), "hint: --source=auto") {
		t.Errorf("asked for sock_diag: %v\n%s", err, out)
	}
	out, _ = exec.Command("without-netlink", "port_exporter", "--web.listen-address=192.0.2.1:1").CombinedOutput()
	if !strings.Contains(string(out), "sock_diag is not available, using /proc/net") {
		t.Errorf("left to choose:\n%s", out)
	}
}

// TestPrometheusInNamespace lets a real Prometheus scrape the exporter and
// answer for it.
func TestPrometheusInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.EveryState(t, "127.0.0.1:85")
	porttest.Listen(t, "0.0.0.0:86", 5)
	porttest.StartDaemon(t, "port_exporter")

	text := "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n" +
		"- {job_name: port_exporter, static_configs: [{targets: ['" + porttest.ScrapeAddress + "']}]}\n"
	api := porttest.Prometheus(t, text)

	for query, want := range map[string]string{
		`up{job="port_exporter"}`:                                                                   "1",
		`sum(port_inbound_connections{port="85",state="time_wait"})`:                                "1",
		`sum(port_inbound_connections{port="85"})`:                                                  "6",
		`sum(port_sockets{protocol="tcp",state="closing"})`:                                         "1",
		`count(port_listener_info{scope="any",port!="9090"})`:                                       "1",
		`sum(port_outbound_connections{remote_port="85",state="last_ack"})`:                         "1",
		`port_listener_accept_queue_limit{port="86"}`:                                               "5",
		`sum(port_scrape_collector_success)`:                                                        "8",
		`port_source_info{source="sock_diag"}`:                                                      "1",
		`sum(scrape_samples_scraped{job="port_exporter"} > bool 50)`:                                "1",
		`sum(port_sockets) - sum(port_sockets{protocol="tcp"}) - sum(port_sockets{protocol="udp"})`: "0",
	} {
		porttest.AwaitAnswer(t, api, query, want)
	}
}
