package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// portlessSocket opens a socket that has no port.
func portlessSocket(t *testing.T, family, kind, protocol int) int {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// bigEndian returns an EtherType as packet(7) takes it.
func bigEndian(n uint16) uint16 { return n<<8 | n>>8 }

// openPortless opens two raw sockets, a packet socket with a filter, as a backdoor
// without a port has it, and one without, bound to lo.
func openPortless(t *testing.T) {
	t.Helper()
	portlessSocket(t, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	portlessSocket(t, unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_ICMPV6)
	filtered := portlessSocket(t, unix.AF_PACKET, unix.SOCK_RAW, int(bigEndian(unix.ETH_P_ALL)))
	accept := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}}
	if err := unix.SetsockoptSockFprog(filtered, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &accept[0]}); err != nil {
		t.Fatal(err)
	}
	plain := portlessSocket(t, unix.AF_PACKET, unix.SOCK_DGRAM, int(bigEndian(unix.ETH_P_ARP)))
	if err := unix.Bind(plain, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ARP), Ifindex: 1}); err != nil {
		t.Fatal(err)
	}
}

// TestPortlessInNamespace finds what takes packets without a port: with its owner in
// the table, counted in metrics, and unexpected until a rule names it.
func TestPortlessInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	openPortless(t)
	dir := porttest.OpenDir(t)
	file := filepath.Join(dir, "policy.yml")
	writeOpen(t, file, "policy: {rules: [{name: everything with a port}, {name: pings, protocol: raw, ports: [1, 58], process: '"+porttest.OwnName(t)+"'}]}\n")
	nobody := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}

	for name, tt := range map[string]struct {
		as     *syscall.SysProcAttr
		args   []string
		filter [2]string // of the one with a filter, and the one without
		owner  string
	}{
		"sock_diag":    {nil, nil, [2]string{"true", "false"}, porttest.OwnName(t)},
		"procfs":       {nil, []string{"--source=procfs"}, [2]string{"unknown", "unknown"}, porttest.OwnName(t)},
		"unprivileged": {nobody, nil, [2]string{"unknown", "unknown"}, ""},
	} {
		out, said, status := porttest.EndedAs(t, tt.as, append(append([]string{"port_exporter"}, tt.args...), "listeners", "--output=json")...)
		if status != 0 {
			t.Fatalf("%s: status %d, said %s", name, status, said)
		}
		want := []string{
			"packet   3 raw " + tt.filter[0] + " " + tt.owner,
			"packet  lo 2054 dgram " + tt.filter[1] + " " + tt.owner,
			"raw 0.0.0.0  1   " + tt.owner, "raw ::  58   " + tt.owner,
		}
		if diff := cmp.Diff(want, portlessOf(t, out)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}

	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected")
	if status != 1 || !strings.Contains(said, "2 unexpected") || !strings.Contains(out, "0x0003 filter") || strings.Contains(out, "icmp") {
		t.Errorf("status %d, wrote %s and said %s", status, out, said)
	}
	baseline, _, _ := porttest.EndedAs(t, nil, "port_exporter", "baseline")
	writeOpen(t, filepath.Join(dir, "baseline.yml"), baseline)
	if out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+filepath.Join(dir, "baseline.yml"), "listeners", "--unexpected"); status != 0 || out+said != "" {
		t.Errorf("the baseline does not expect its own host: %s%s\n%s", out, said, baseline)
	}

	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	defer stop()
	got := porttest.Scrape(t, "port_raw_sockets", "port_packet_sockets", "port_policy_unexpected_portless_socket", "port_policy_rule_listeners")
	unexpected := `port_policy_unexpected_portless_socket{address="",container="",filter=%q,%skind="packet",packet_type=%q,process=%q,protocol="",unit="",user="root"}`
	wanted := map[string]float64{
		`port_raw_sockets{family="ipv4",protocol="icmp"}`:                                 1,
		`port_raw_sockets{family="ipv6",protocol="ipv6-icmp"}`:                            1,
		`port_packet_sockets{filter="true",type="raw"}`:                                   1,
		`port_packet_sockets{filter="false",type="dgram"}`:                                1,
		fmt.Sprintf(unexpected, "true", "", "raw", porttest.OwnName(t)):                   1,
		fmt.Sprintf(unexpected, "false", `interface="lo",`, "dgram", porttest.OwnName(t)): 1,
		`port_policy_rule_listeners{rule="pings"}`:                                        2,
	}
	for series, n := range wanted {
		if got[series] != n {
			t.Errorf("%s is %v, want %v; there are %v", series, got[series], n, porttest.NonZero(got))
		}
	}
}

// portlessOf returns what a table has without a port, a line each.
func portlessOf(t *testing.T, table string) (lines []string) {
	t.Helper()
	var saved struct {
		Listeners []struct {
			Protocol, Address, Interface, Type, Filter, Process string
			Port                                                int
		}
	}
	if err := json.Unmarshal([]byte(table), &saved); err != nil {
		t.Fatal(err)
	}
	for _, r := range saved.Listeners {
		if r.Protocol == "raw" || r.Protocol == "packet" {
			lines = append(lines, fmt.Sprintf("%s %s %s %d %s %s %s", r.Protocol, r.Address, r.Interface, r.Port, r.Type, r.Filter, r.Process))
		}
	}
	slices.Sort(lines)
	return lines
}

// TestTooManyPacketSocketsInNamespace has more packet sockets than are read. Nothing is
// said of those that are left: no rule about them is missing or stale, no output says
// that all is well, and the number is exported.
func TestTooManyPacketSocketsInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	const more = 3
	for range 4096 + more {
		portlessSocket(t, unix.AF_PACKET, unix.SOCK_DGRAM, 0)
	}
	file := filepath.Join(porttest.OpenDir(t), "policy.yml")
	writeOpen(t, file, `policy: {rules: [{name: ports}, {name: capture, protocol: packet, process: nobody-has-this, required: true}, {name: any, protocol: packet}]}`+"\n")
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected", "--output=sarif")
	for _, want := range []string{"3 packet sockets were not read: there are too many", "required, but unverified: capture", "some packet sockets were not read"} {
		if !strings.Contains(said, want) {
			t.Errorf("lacks %q: %s", want, said)
		}
	}
	if status != 3 || !strings.Contains(out, `"executionSuccessful": false`) {
		t.Errorf("status %d, wrote %s", status, out)
	}
	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	defer stop()
	got := porttest.Scrape(t, "port_policy_missing_listener", "port_policy_rule_listeners", "port_listener_sockets_unread")
	_, missing := got[`port_policy_missing_listener{rule="capture"}`]
	_, stale := got[`port_policy_rule_listeners{rule="capture"}`]
	if missing || stale || got[`port_listener_sockets_unread{protocol="packet"}`] != more || got[`port_policy_rule_listeners{rule="any"}`] != 1 {
		t.Errorf("%v", got)
	}
}
