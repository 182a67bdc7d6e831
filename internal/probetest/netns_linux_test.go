package probetest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/porttest"
)

// room is a network namespace of the test, at a path.
type room struct{ name, path string }

// addRoom makes a namespace as ip-netns(8) does, with an address on loopback. It is gone
// when the test ends, or before if gone is called.
func addRoom(t *testing.T, name, address string) (r room, gone func()) {
	t.Helper()
	r = room{fmt.Sprintf("%s_%d", name, os.Getpid()), ""}
	r.path = "/run/netns/" + r.name
	if out, err := exec.Command("ip", "netns", "add", r.name).CombinedOutput(); err != nil { //nolint:gosec // of this test
		t.Skipf("SKIP-NAMESPACE: ip netns add: %v: %s", err, out)
	}
	gone = sync.OnceFunc(func() { _ = exec.Command("ip", "netns", "del", r.name).Run() }) //nolint:gosec // of this test
	t.Cleanup(gone)
	r.do(t, func() error { return raise(address) })
	return r, gone
}

// raise sets loopback up, with one more address.
func raise(address string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address + "/32")
	return errors.Join(err, netlink.LinkSetUp(lo), netlink.AddrAdd(lo, addr))
}

func (r room) do(t *testing.T, f func() error) {
	t.Helper()
	if err := new(netns.Worker).Do(t.Context(), r.path, func(uint64) error { return f() }); err != nil {
		t.Fatal(err)
	}
}

// greet answers each connection to an IPv4 address of the namespace with a line, until
// stop is called: the listener keeps the namespace.
func (r room) greet(t *testing.T, address, line string) (stop func()) {
	t.Helper()
	var fd int
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address))
	r.do(t, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		return errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}), unix.Listen(fd, 16))
	})
	file := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(file)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { _ = l.Close() })
	t.Cleanup(stop)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, line+"\r\n")
			_ = conn.Close()
		}
	}()
	return stop
}

// container is a process in a network namespace and a cgroup as docker makes them.
func container(t *testing.T, id string) (r room, stop func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	porttest.NewCgroup(t, "system.slice/docker-"+strings.Repeat(id, 6)[:64]+".scope").Do(t, func() { stop = porttest.Start(t, cmd) })
	r = room{"docker-" + id, fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)}
	r.do(t, func() error { return raise("10.0.0.3") })
	return r, stop
}

const netnsModules = `
modules:
  blue: {prober: tcp, timeout: 20s, tcp: {query_response: [{expect: "^blue"}]}}
  red: {prober: tcp, timeout: 20s, tcp: {query_response: [{expect: "^red"}]}}
  tcp: {prober: tcp, timeout: 20s}
  http: {prober: http, timeout: 20s, http: {preferred_ip_protocol: ip4}}
  grpc: {prober: grpc, timeout: 20s}
  dns: {prober: dns, timeout: 20s, dns: {query_name: example.org, preferred_ip_protocol: ip4}}
  udp: {prober: udp, timeout: 20s, udp: {payload: dns}}
  stun: {prober: stun, timeout: 20s}
  icmp: {prober: icmp, timeout: 20s}
  websocket: {prober: websocket, timeout: 20s}
`

// TestProbesOfNetnsInNamespace probes from namespaces in which the same address is that of
// different servers, and from a container whose service listens on its loopback only. The
// exporter's own namespace has a service at the same address as that one.
func TestProbesOfNetnsInNamespace(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIP-ip")
	}
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	blue, blueGone := addRoom(t, "blue", "10.0.0.2")
	red, _ := addRoom(t, "red", "10.0.0.2")
	box, boxGone := container(t, "5e7f00c0ffee")
	silence := blue.greet(t, "10.0.0.2:80", "blue")
	red.greet(t, "10.0.0.2:80", "red")
	hush := box.greet(t, "127.0.0.1:8080", "blue")
	porttest.Listen(t, "127.0.0.1:8081", 16) // the container's 8081 is closed
	outcome := func(address, module, in string) string {
		series := fmt.Sprintf(`probe_outcome_code{module=%q,netns=%q,target=%q,target_name=""}`, module, in, address)
		return strings.Replace(series, `netns="",`, "", 1)
	}
	want := map[string]float64{
		outcome("10.0.0.2:80", "blue", blue.name): 0, outcome("10.0.0.2:80", "red", red.name): 0,
		outcome("127.0.0.1:8080", "blue", box.name): 0, outcome("127.0.0.1:8081", "tcp", box.name): 1,
		outcome("10.0.0.2:80", "tcp", "no_such_namespace"): 3,
	}
	file := write(t, `%s
targets:
  - {address: "10.0.0.2:80", module: blue, netns: %s}
  - {address: "10.0.0.2:80", module: red, netns: %s}
  - {address: "127.0.0.1:8080", module: blue, netns: %s}
  - {address: "127.0.0.1:8081", module: tcp, netns: %[4]s}
  - {address: "10.0.0.2:80", module: tcp, netns: no_such_namespace}
%[5]s`, netnsModules, blue.name, red.name, box.name, everyProber(red, outcome, want))
	porttest.StartDaemon(t, "port_exporter", "--collector.disable-defaults", "--collector.probes", "--config.file="+file)
	if diff := cmp.Diff(want, porttest.Scrape(t, "probe_outcome_code")); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if local := porttest.Scrape(t, "probe_local_listener"); len(local) > 0 {
		t.Errorf("listeners of the own namespace for targets of others: %v", local)
	}
	requestsOfNetns(t, red)
	checksOfNetns(t, file, red, box)

	silence()
	hush()
	blueGone()
	boxGone()
	want[outcome("10.0.0.2:80", "blue", blue.name)], want[outcome("127.0.0.1:8080", "blue", box.name)], want[outcome("127.0.0.1:8081", "tcp", box.name)] = 3, 3, 3
	var got map[string]float64
	porttest.Await(t, "namespaces that are gone", func() bool {
		got = porttest.Scrape(t, "probe_outcome_code")
		return cmp.Equal(want, got)
	})
	gone := fmt.Sprintf(`probe_failure_info{module="blue",netns=%q,origin="local",phase="connect",place="here",reason="unreachable",target="10.0.0.2:80",target_name=""}`, blue.name)
	if _, ok := porttest.Scrape(t, "probe_failure_info")[gone]; !ok {
		t.Errorf("%s is missing in %v", gone, porttest.Scrape(t, "probe_failure_info"))
	}
}

// requestsOfNetns asks for probes by HTTP: what a client names is no namespace, unless it is
// that of a configured target.
func requestsOfNetns(t *testing.T, red room) {
	t.Helper()
	for _, tt := range []struct {
		query  url.Values
		status int
		want   string
	}{
		{url.Values{"module": {"red"}, "netns": {red.name}}, 200, "probe_success 1"},
		{url.Values{"module": {"red"}}, 403, ""},
		{url.Values{"module": {"blue"}, "netns": {red.name}}, 403, "only configured targets"},
	} {
		tt.query.Set("target", "10.0.0.2:80")
		status, body := porttest.Get(t, porttest.ScrapeAddress, "/probe?"+tt.query.Encode())
		if status != tt.status || !strings.Contains(body, tt.want) {
			t.Errorf("%v: status %d, want %d and %q: %s", tt.query, status, tt.status, tt.want, body)
		}
	}
}

// checkReport is what a test reads of a report.
type checkReport struct {
	Verdict, Sentence, Next, Netns string
	Evidence                       []struct{ Mark, Topic, Text string }
	Route, Listener                map[string]any
}

func checkOf(t *testing.T, as *syscall.SysProcAttr, args ...string) (r checkReport, status int) {
	t.Helper()
	text, said, status := porttest.EndedAs(t, as, append([]string{"port_exporter", "check", "--output=json"}, args...)...)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%q: %v: %s %s", args, err, text, said)
	}
	return r, status
}

// checksOfNetns checks targets from a namespace: its evidence is that of the namespace.
func checksOfNetns(t *testing.T, file string, red, box room) {
	t.Helper()
	if r, status := checkOf(t, nil, "--config.file="+file, "10.0.0.2:80", "--module=red"); status != 0 || r.Netns != red.name {
		t.Errorf("the configured target: status %d, %+v", status, r)
	}
	closed, status := checkOf(t, nil, "--netns="+red.name, "10.0.0.2:81")
	want := fmt.Sprintf("10.0.0.2:81 from network namespace %s refuses: nothing listens on tcp port 81 of that namespace", red.name)
	if status != 1 || closed.Verdict != "not_listening" || closed.Sentence != want || closed.Route["type"] != "local" {
		t.Errorf("status %d, %+v, want %q", status, closed, want)
	}
	here, status := checkOf(t, nil, "--netns="+box.name, "127.0.0.1:8081")
	if status != 1 || here.Verdict != "not_listening" || !strings.Contains(here.Next, "listeners --netns="+box.name) {
		t.Errorf("a port on which our own namespace listens: status %d, %+v", status, here)
	}
	open, status := checkOf(t, nil, "--netns="+box.name, "127.0.0.1:8080")
	if status != 0 || open.Listener["address"] != "127.0.0.1:8080" {
		t.Errorf("loopback of a container: status %d, %+v", status, open)
	}
	missing, status := checkOf(t, nil, "--netns=no_such_namespace", "10.0.0.2:80")
	if status != 1 || missing.Verdict != "no_namespace" || missing.Listener != nil || missing.Route != nil {
		t.Errorf("no such namespace: status %d, %+v", status, missing)
	}
	unprivileged := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	refused, status := checkOf(t, unprivileged, "--netns="+red.name, "10.0.0.2:80")
	if status != 2 || refused.Verdict != "no_privilege" || !strings.Contains(refused.Next, "CAP_SYS_ADMIN") || refused.Route != nil {
		t.Errorf("without privilege: status %d, %+v", status, refused)
	}
	if r, status := checkOf(t, nil, "--netns="+red.name, "--trace", "10.0.0.2:80"); status != 0 || !hasHop(r) {
		t.Errorf("a trace: status %d, %+v", status, r)
	}
}

// hasHop reports whether a report has a hop at the target.
func hasHop(r checkReport) bool {
	for _, e := range r.Evidence {
		if e.Topic == "hop" && strings.Contains(e.Text, "10.0.0.2") {
			return true
		}
	}
	return false
}

// everyProber are targets that each prober asks: a closed port of an address that only the
// namespace has. Without the namespace there is no route to it. It notes their outcomes.
func everyProber(red room, outcome func(address, module, in string) string, want map[string]float64) string {
	var targets strings.Builder
	for _, module := range []string{"tcp", "http", "grpc", "dns", "udp", "stun", "icmp", "websocket"} {
		address, inside := "10.0.0.2:81", 1.0
		switch module {
		case "icmp":
			address, inside = "10.0.0.2", 0
		case "websocket":
			address = "ws://10.0.0.2:81/"
		}
		fmt.Fprintf(&targets, "  - {address: %q, module: %s}\n  - {address: %[1]q, module: %[2]s, netns: %s}\n", address, module, red.name)
		want[outcome(address, module, "")], want[outcome(address, module, red.name)] = 3, inside
	}
	return targets.String()
}

// TestNothingIsPinnedByProbesInNamespace removes a namespace right after it was probed from:
// the other end of its veth(4) goes with it, while the exporter runs.
func TestNothingIsPinnedByProbesInNamespace(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("SKIP-ip")
	}
	porttest.Namespace(t)
	here, gone := addRoom(t, "pinned", "10.0.0.4")
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "pin0"}, PeerName: "pin1"}
	file, err := os.Open(here.path)
	if err != nil {
		t.Fatal(err)
	}
	veth.PeerNamespace = netlink.NsFd(file.Fd())
	err = netlink.LinkAdd(veth)
	_ = file.Close()
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, `targets: [{address: "10.0.0.4:80", netns: %[1]s}, {address: "10.0.0.4", module: icmp, netns: %[1]s}]`, here.name)
	porttest.StartDaemon(t, "port_exporter", "--collector.disable-defaults", "--collector.probes", "--config.file="+config)
	if got := porttest.NonZero(porttest.Scrape(t, "probe_outcome_code")); len(got) != 1 { // refused; the ping is answered
		t.Fatalf("outcomes %v", got)
	}
	gone()
	porttest.Await(t, "the end of the veth", func() bool {
		_, err := netlink.LinkByName("pin0")
		return err != nil
	})
}
