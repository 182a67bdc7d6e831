package main

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestHiddenFiltersInNamespace has a packet socket with a filter, which only
// CAP_NET_ADMIN of the first user namespace shows: without it that is what is missing,
// in the metrics and as a hint.
func TestHiddenFiltersInNamespace(t *testing.T) {
	porttest.OpenProgram(t)
	porttest.Namespace(t)
	openPortless(t)
	porttest.Listen(t, "127.0.0.1:85", 5)
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	mapped := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 65534, Size: 1}}
	const netAdmin, ptrace = `port_privilege_missing{privilege="CAP_NET_ADMIN"}`, `port_privilege_missing{privilege="CAP_SYS_PTRACE"}`
	for name, tt := range map[string]struct {
		as      syscall.SysProcAttr
		missing float64
		ptrace  float64
	}{
		"root":       {syscall.SysProcAttr{}, 0, 0},
		"capability": {syscall.SysProcAttr{Credential: nobody, AmbientCaps: []uintptr{unix.CAP_NET_ADMIN}}, 0, 1},
		"none":       {syscall.SysProcAttr{Credential: nobody}, 1, 1},
		"root of a user namespace": {syscall.SysProcAttr{
			Credential: &syscall.Credential{Uid: 0, Gid: 0}, Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mapped, GidMappings: mapped,
		}, 1, 1},
	} {
		stop := porttest.StartDaemonAs(t, &tt.as, "port_exporter")
		got := porttest.Scrape(t, "port_privilege_missing", "port_packet_sockets")
		stop()
		if there, ok := got[netAdmin]; !ok || there != tt.missing || got[ptrace] != tt.ptrace {
			t.Errorf("%s: %v", name, got)
		}
		if n := got[`port_packet_sockets{filter="unknown",type="raw"}`]; n != tt.missing {
			t.Errorf("%s: %v filters are unknown", name, n)
		}
		_, said, _ := porttest.EndedAs(t, &tt.as, "port_exporter", "listeners")
		if hidden := strings.Contains(said, "the filters of packet sockets are unknown"); hidden != (tt.missing == 1) {
			t.Errorf("%s: said %s", name, said)
		}
		if hint := strings.Contains(said, "CAP_NET_ADMIN"); hint != (name == "none") {
			t.Errorf("%s: hint %s", name, said)
		}
		if hint := strings.Contains(said, "user namespace"); hint != (name == "root of a user namespace") {
			t.Errorf("%s: hint %s", name, said)
		}
	}
}
