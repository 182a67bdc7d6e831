package listenertls

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// service is a listener whose socket has an ID, which a restart changes.
func service(address string, id uint64) socket.Socket {
	return porttest.Socket(socket.TCP, socket.Listen, address, "", func(s *socket.Socket) { s.Cookie = id })
}

func tableOf(t *testing.T, sockets ...socket.Socket) *socket.Table {
	t.Helper()
	table, err := socket.ReadListening(porttest.Sockets(sockets).Sockets(t.Context(), socket.Listening), socket.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

var loopbackOnly = map[netip.Addr]string{loopback4: "lo", loopback6: "lo"}

// asked is a host that notes who was asked, and takes a second for each.
type asked struct {
	mu       sync.Mutex
	all      []string
	inFlight atomic.Int32
	atOnce   atomic.Bool
	result   probe.Result
}

func (a *asked) handshake(to netip.AddrPort, name string) probe.Result {
	if a.inFlight.Add(1) > 1 {
		a.atOnce.Store(true)
	}
	defer a.inFlight.Add(-1)
	a.mu.Lock()
	a.all = append(a.all, strings.TrimSuffix(to.String()+" "+name, " "))
	a.mu.Unlock()
	time.Sleep(time.Second)
	return a.result
}

func (a *asked) since() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.all
	a.all = nil
	return all
}

func settings(name string, ports ...uint16) Settings {
	s := Settings{Interval: time.Hour, ServerName: name}
	for _, p := range ports {
		s.Ports = append(s.Ports, socket.PortRange{First: p, Last: p})
	}
	return s
}

// TestWhenListenersAreAsked has a book read every quarter of a minute, as
// Prometheus scrapes.
func TestWhenListenersAreAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &asked{}
		b := New(host.handshake, time.Now)
		b.Use(settings("", 443, 8443))
		read := func(table *socket.Table) []Found {
			time.Sleep(15 * time.Second)
			b.Read(table, loopbackOnly)
			synctest.Wait()
			time.Sleep(15 * time.Second)
			found, _ := b.Read(table, loopbackOnly)
			synctest.Wait()
			return found
		}
		want := func(what string, want ...string) {
			t.Helper()
			if diff := cmp.Diff(want, host.since()); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
		first := tableOf(t, service("0.0.0.0:443", 1), service("127.0.0.1:22", 2), service("[::1]:8443", 3),
			porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:443", ""))
		if found := read(first); len(found) != 2 || found[0].Port != 443 || found[0].At.IsZero() {
			t.Errorf("found %+v", found)
		}
		want("at first", "127.0.0.1:443", "[::1]:8443")
		read(first)
		want("again")
		restarted := tableOf(t, service("0.0.0.0:443", 9), service("[::1]:8443", 3))
		read(restarted)
		want("restarted", "127.0.0.1:443")
		read(tableOf(t, service("0.0.0.0:443", 10), service("[::1]:8443", 3)))
		want("restarted once more within a minute")
		time.Sleep(time.Hour)
		read(restarted)
		want("after the interval", "127.0.0.1:443", "[::1]:8443")

		if found := read(tableOf(t, service("0.0.0.0:443", 9))); len(found) != 1 || len(b.entries) != 1 {
			t.Errorf("one is gone: found %+v, %d are remembered", found, len(b.entries))
		}
		if found := read(restarted); len(found) != 2 {
			t.Errorf("it is back: found %+v", found)
		}
		want("back", "[::1]:8443")

		b.Use(settings("", 443))
		if found := read(restarted); len(found) != 1 {
			t.Errorf("with a port less: found %+v", found)
		}
		want("with a port less")
		b.Use(settings("www.example.org", 443))
		read(restarted)
		want("by another name", "127.0.0.1:443 www.example.org")
		if host.atOnce.Load() {
			t.Error("two were asked concurrently")
		}
	})
}

// TestReloadEmptiesTheQueue asks no listener any more whose port was taken from the list.
func TestReloadEmptiesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &asked{}
		b := New(host.handshake, time.Now)
		b.Use(settings("", 1, 2, 3))
		b.Read(tableOf(t, service("127.0.0.1:1", 1), service("127.0.0.1:2", 2), service("127.0.0.1:3", 3)), loopbackOnly)
		synctest.Wait() // the first is being asked
		b.Use(settings("", 3))
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"127.0.0.1:1", "127.0.0.1:3"}, host.since()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		if found, _ := b.Read(tableOf(t, service("127.0.0.1:1", 1), service("127.0.0.1:3", 3)), loopbackOnly); len(found) != 1 || found[0].Port != 3 {
			t.Errorf("found %+v", found)
		}
		b.Use(Settings{})
		if len(b.entries) > 0 || len(b.queue) > 0 {
			t.Errorf("without ports: %d are remembered, %d wait", len(b.entries), len(b.queue))
		}
	})
}

// TestManyListeners asks the most exposed ones, in bounded memory.
func TestManyListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &asked{}
		b := New(host.handshake, time.Now)
		b.Use(Settings{Interval: time.Hour, Ports: []socket.PortRange{{First: 1, Last: 65535}}})
		var all []socket.Socket
		for i := range maxListeners + 10 {
			all = append(all, service(fmt.Sprintf("127.0.0.1:%d", i+1), uint64(i+1)))
		}
		all = append(all, service("0.0.0.0:60000", 5000))
		table := tableOf(t, all...)
		b.Read(table, loopbackOnly)
		time.Sleep(time.Hour - time.Second)
		found, leftOut := b.Read(table, loopbackOnly)
		if len(found) != maxListeners || leftOut != 11 || !slices.ContainsFunc(found, func(f Found) bool { return f.Port == 60000 }) {
			t.Errorf("%d were found, %d left out", len(found), leftOut)
		}
	})
}

// TestReach has listeners of which another one takes what this host could send.
func TestReach(t *testing.T) {
	own := map[netip.Addr]string{
		loopback4: "lo", loopback6: "lo",
		netip.MustParseAddr("192.0.2.1"): "eth0", netip.MustParseAddr("192.0.2.7"): "eth1",
		netip.MustParseAddr("2001:db8::1"): "eth0", netip.MustParseAddr("fe80::1"): "eth0",
	}
	on := func(device string) func(*socket.Socket) { return func(s *socket.Socket) { s.Interface = device } }
	v6Only := func(s *socket.Socket) { s.V6Only = true }
	listen := func(address string, change ...func(*socket.Socket)) socket.Socket {
		return porttest.Socket(socket.TCP, socket.Listen, address, "", change...)
	}
	for _, tt := range []struct {
		name   string
		first  socket.Socket
		others []socket.Socket
		want   string
	}{
		{"of another host", listen("192.0.2.9:1"), nil, "invalid AddrPort"},
		{"multicast", listen("224.0.0.1:1"), nil, "invalid AddrPort"},
		{"every address taken by others", listen("0.0.0.0:1"), []socket.Socket{
			listen("127.0.0.1:1"), listen("192.0.2.1:1"), listen("192.0.2.7:1")}, "invalid AddrPort"},
		{"on a device without an address", listen("0.0.0.0:1", on("eth9")), nil, "invalid AddrPort"},
		{"every address", listen("0.0.0.0:1"), nil, "127.0.0.1:1"},
		{"loopback is another one's", listen("0.0.0.0:1"), []socket.Socket{listen("127.0.0.1:1")}, "192.0.2.1:1"},
		{"dual stack", listen("[::]:1"), nil, "127.0.0.1:1"},
		{"dual stack, IPv4 is another one's", listen("[::]:1"), []socket.Socket{listen("0.0.0.0:1")}, "[::1]:1"},
		{"V6ONLY", listen("[::]:1", v6Only), nil, "[::1]:1"},
		{"one address", listen("192.0.2.7:1"), []socket.Socket{listen("192.0.2.1:1"), listen("0.0.0.0:1")}, "192.0.2.7:1"},
		{"one of loopback", listen("127.0.0.5:1"), []socket.Socket{listen("0.0.0.0:1")}, "127.0.0.5:1"},
		{"one of IPv6", listen("[2001:db8::1]:1"), nil, "[2001:db8::1]:1"},
		{"link-local", listen("[fe80::1]:1", on("eth0")), nil, "[fe80::1%eth0]:1"},
		{"bound to a device", listen("0.0.0.0:1", on("eth1")), []socket.Socket{listen("0.0.0.0:1")}, "192.0.2.7:1"},
	} {
		table := tableOf(t, append([]socket.Socket{tt.first}, tt.others...)...)
		at := slices.IndexFunc(table.Listeners, func(l socket.Listener) bool {
			return l.Address == tt.first.Local.Addr() && l.Interface == tt.first.Interface
		})
		if got := reach(&table.Listeners[at], table, own).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestNowhereToAsk is an outcome immediately, and no handshake; as soon as the address is
// here there is one.
func TestNowhereToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := &asked{result: probe.Result{Outcome: probe.Refused}}
		b := New(host.handshake, time.Now)
		b.Use(settings("", 443))
		table := tableOf(t, service("192.0.2.1:443", 1))
		found, _ := b.Read(table, loopbackOnly)
		if len(found) != 1 || found[0].Outcome != probe.LocalError || len(host.since()) > 0 {
			t.Errorf("found %+v", found)
		}
		own := map[netip.Addr]string{netip.MustParseAddr("192.0.2.1"): "eth0"}
		b.Read(table, own)
		time.Sleep(2 * time.Second)
		if found, _ = b.Read(table, own); len(host.since()) != 1 || found[0].Outcome != probe.Refused {
			t.Errorf("found %+v", found)
		}
	})
}
