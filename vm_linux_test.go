package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
)

// TestVsockListenersInNamespace has a vsock listener and a raw socket on a kernel
// with vsock_diag and raw_diag (make vm): each with its owner in the table, counted in
// metrics, and judged by the policy.
func TestVsockListenersInNamespace(t *testing.T) {
	if _, err := sockdiag.Vsock(t.Context(), 1); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("SKIP-VSOCK: no vsock_diag here: %v", err)
	}
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	fd := portlessSocket(t, unix.AF_VSOCK, unix.SOCK_STREAM, 0)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: 1024}), unix.Listen(fd, 1)); err != nil {
		t.Fatal(err)
	}
	raw := portlessSocket(t, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	if err := unix.BindToDevice(raw, "lo"); err != nil {
		t.Fatal(err)
	}
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "listeners", "--output=json")
	var saved struct {
		Listeners []struct {
			Protocol, CID, Interface, Process string
			Port                              uint32
			PID                               int
		}
	}
	if err := json.Unmarshal([]byte(out), &saved); err != nil || status != 0 || said != "" {
		t.Fatalf("status %d, %v, said %s", status, err, said)
	}
	found := 0
	for _, l := range saved.Listeners {
		vsock := l.Protocol == "vsock" && l.CID == "any" && l.Port == 1024
		if (vsock || l.Protocol == "raw" && l.Interface == "lo" && l.Port == 1) && l.Process == porttest.OwnName(t) && l.PID == os.Getpid() {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of two are there: %s", found, out)
	}
	if table, _, _ := porttest.EndedAs(t, nil, "port_exporter", "listeners"); !strings.Contains(table, "cid any") {
		t.Errorf("the table lacks the listener:\n%s", table)
	}
	file := porttest.OpenDir(t) + "/policy.yml"
	writeOpen(t, file, "policy: {rules: [{name: all with a port}, {name: no guests, protocol: vsock, ports: 1024, forbid: true}, {name: pings, protocol: raw, required: true}]}\n")
	if out, said, status := porttest.EndedAs(t, nil, "port_exporter", "--config.file="+file, "listeners", "--unexpected"); status != 1 || said != "port_exporter: 1 forbidden\n" {
		t.Errorf("status %d, said %q\n%s", status, said, out)
	}
	stop := porttest.StartDaemon(t, "port_exporter", "--config.file="+file)
	defer stop()
	got := porttest.Scrape(t, "port_vsock_listeners", "port_raw_sockets", "port_portless_read", "port_policy_rule_listeners")
	for _, series := range []string{
		`port_vsock_listeners{cid="any",port="1024"}`, `port_raw_sockets{family="ipv4",protocol="icmp"}`, `port_portless_read{protocol="vsock"}`,
		`port_policy_rule_listeners{rule="pings"}`,
	} {
		if got[series] != 1 {
			t.Errorf("%s is %v; there are %v", series, got[series], porttest.NonZero(got))
		}
	}
}
