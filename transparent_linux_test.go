package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// connections returns the samples of a scrape of connections but those of the
// scrape itself.
func connections(t *testing.T) map[string]float64 {
	t.Helper()
	got := porttest.NonZero(porttest.Scrape(t, "port_inbound_connections{", "port_outbound_connections{", "port_orphaned_connections{", "port_held_connections{"))
	for series := range got {
		if strings.Contains(series, `port="10065"`) {
			delete(got, series)
		}
	}
	return got
}

// TestTransparentProxyInNamespace has a proxy to which a firewall diverts
// connections to other hosts and ports, as Istio, Squid and HAProxy do it. They
// are its own, and no leftovers of services that this host never had.
func TestTransparentProxyInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	n.Router.Do(t, func() { porttest.Route(t, "203.0.113.0/24", porttest.ServerIP4) })
	var proxy int
	n.Server.Do(t, func() {
		porttest.Divert(t, "443, 8443, 33445", "15001")
		proxy = porttest.Listen(t, "0.0.0.0:15001", 16, porttest.Transparent)
	})
	for _, remote := range []string{"203.0.113.9:443", "203.0.113.9:443", "203.0.113.9:8443", "203.0.113.10:33445"} {
		porttest.Dial(t, remote)
		porttest.Accept(t, proxy)
	}
	closing := porttest.Dial(t, "203.0.113.9:443") // which the proxy does not close
	accepted := porttest.Accept(t, proxy)
	_ = unix.Shutdown(closing, unix.SHUT_WR)
	porttest.Await(t, "the FIN of the client", func() bool {
		read, err := unix.Read(accepted, make([]byte, 1))
		return read == 0 && err == nil
	})

	n.Server.Do(t, func() {
		porttest.StartDaemon(t, "port_exporter")
		want := map[string]float64{
			`port_inbound_connections{address="0.0.0.0",port="15001",protocol="tcp",state="established"}`: 4,
			`port_inbound_connections{address="0.0.0.0",port="15001",protocol="tcp",state="close_wait"}`:  1,
		}
		if diff := cmp.Diff(want, connections(t)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// TestHeldConnectionsInNamespace has connections on ports without a listener: the
// data of an FTP server in both modes and a server for one client are held by a
// process, and what a service left behind is not.
func TestHeldConnectionsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 40999")

	// Active: the server calls the client, from port 20.
	client := porttest.Listen(t, "127.0.0.1:40500", 5)
	porttest.DialFrom(t, "127.0.0.1:20", "127.0.0.1:40500")
	porttest.Accept(t, client)

	// Passive, and a server for one client: the listener goes.
	serve := func(port string) int {
		listener := porttest.Listen(t, "127.0.0.1:"+port, 5)
		porttest.Dial(t, "127.0.0.1:"+port)
		accepted := porttest.Accept(t, listener)
		porttest.Close(t, listener)
		return accepted
	}
	serve("30000")

	// A service that is gone, and a client that does not close.
	porttest.Close(t, serve("8080"))

	porttest.StartDaemon(t, "port_exporter")
	want := map[string]float64{
		`port_inbound_connections{address="127.0.0.1",port="40500",protocol="tcp",state="established"}`: 1,
		`port_held_connections{port="20",protocol="tcp",state="established"}`:                           1,
		`port_held_connections{port="30000",protocol="tcp",state="established"}`:                        1,
		`port_outbound_connections{protocol="tcp",remote_port="30000",state="established"}`:             1,
		`port_outbound_connections{protocol="tcp",remote_port="8080",state="close_wait"}`:               1,
		`port_orphaned_connections{port="8080",protocol="tcp",state="fin_wait2"}`:                       1,
	}
	if diff := cmp.Diff(want, connections(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
