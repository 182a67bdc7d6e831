package ownhost

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/probe"
	"github.com/port-exporter/port_exporter/internal/probe/schedule"
	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestAnswer(t *testing.T) {
	addresses := map[netip.Addr]string{
		netip.MustParseAddr("127.0.0.1"): "lo", netip.MustParseAddr("192.0.2.1"): "eth0", netip.MustParseAddr("fe80::1"): "eth0",
	}
	device := func(s *socket.Socket) { s.Interface = "eth0" }
	source := porttest.Sockets{
		porttest.Socket(socket.TCP, socket.Listen, "127.0.0.1:80", ""),
		porttest.Socket(socket.TCP, socket.Listen, "0.0.0.0:81", "", device),
		porttest.Socket(socket.UDP, socket.Unconnected, "0.0.0.0:53", ""),
	}
	read := func() (*socket.Table, error) {
		return socket.ReadListening(source.Sockets(context.Background(), socket.Listening), socket.Criteria{})
	}
	for _, tt := range []struct {
		name, kind, peer string
		known            bool
		want             socket.Standing
	}{
		{"another host", probe.KindTCP, "192.0.2.9:80", false, 0},
		{"no port", probe.KindICMP, "192.0.2.1:0", false, 0},
		{"nothing was tried", probe.KindTCP, "", false, 0},
		{"a unix socket", probe.KindUnix, "192.0.2.1:80", false, 0},
		{"a kind that may use either", probe.KindDNS, "192.0.2.1:53", false, 0},

		{"loopback only", probe.KindTCP, "192.0.2.1:80", true, socket.LoopbackOnly},
		{"mapped", probe.KindHTTP, "[::ffff:192.0.2.1]:80", true, socket.LoopbackOnly},
		{"loopback", probe.KindGRPC, "127.0.0.1:80", true, socket.Listens},
		{"elsewhere on loopback", probe.KindTCP, "127.9.9.9:82", true, socket.NotListening},
		{"the unspecified address", probe.KindTCP, "0.0.0.0:80", true, socket.Listens},
		{"a device", probe.KindTCP, "192.0.2.1:81", true, socket.Listens},
		{"another device", probe.KindTCP, "127.0.0.1:81", true, socket.OtherAddress},
		{"a zone", probe.KindTCP, "[fe80::1%eth0]:82", true, socket.NotListening},
		{"udp", probe.KindUDP, "192.0.2.1:53", true, socket.Listens},
		{"udp of a tcp port", probe.KindSTUN, "192.0.2.1:80", true, socket.NotListening},
	} {
		r := &schedule.Report{Target: &probe.Target{Module: &probe.Module{Kind: tt.kind}}}
		if tt.peer != "" {
			r.Result.Peer = netip.MustParseAddrPort(tt.peer)
		}
		h := New(func() (map[netip.Addr]string, error) { return addresses, nil }, read)
		if got, known := h.Answer(r); known != tt.known || known && got.Standing != tt.want {
			t.Errorf("%s: %v, %t; want %v, %t", tt.name, got.Standing, known, tt.want, tt.known)
		}
	}
}

func TestHostThatCannotBeRead(t *testing.T) {
	broken := errors.New("no netlink")
	r := &schedule.Report{Target: &probe.Target{Module: &probe.Module{Kind: probe.KindTCP}}, Result: probe.Result{Peer: netip.MustParseAddrPort("127.0.0.1:1")}}
	table := func() (*socket.Table, error) { return nil, broken }
	if _, known := New(func() (map[netip.Addr]string, error) { return nil, broken }, table).Answer(r); known {
		t.Error("something is known without addresses")
	}
	if _, known := New(func() (map[netip.Addr]string, error) { return nil, nil }, table).Answer(r); known {
		t.Error("something is known without listeners")
	}
}
