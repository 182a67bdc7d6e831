package psnet

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/shirou/gopsutil/v3/net"

	"github.com/port-exporter/port_exporter/internal/socket"
)

func stat(family, kind uint32, local, remote net.Addr, status string) net.ConnectionStat {
	return net.ConnectionStat{Family: family, Type: kind, Laddr: local, Raddr: remote, Status: status}
}

func TestConvert(t *testing.T) {
	const v4, v6, tcp, udp = syscall.AF_INET, syscall.AF_INET6, syscall.SOCK_STREAM, syscall.SOCK_DGRAM
	for _, tt := range []struct {
		name   string
		stat   net.ConnectionStat
		err    bool
		proto  socket.Protocol
		family socket.Family
		state  socket.State
		local  string
		remote string
	}{
		{name: "no address", stat: stat(v4, tcp, net.Addr{IP: "localhost", Port: 80}, net.Addr{}, "LISTEN"), err: true},
		{name: "no remote address", stat: stat(v4, tcp, net.Addr{IP: "::1", Port: 80}, net.Addr{IP: "x", Port: 1}, "ESTABLISHED"), err: true},
		{name: "port", stat: stat(v4, tcp, net.Addr{IP: "127.0.0.1", Port: 65536}, net.Addr{}, "LISTEN"), err: true},
		{name: "status", stat: stat(v4, tcp, net.Addr{IP: "127.0.0.1", Port: 80}, net.Addr{}, "NONE"), err: true},
		{name: "lsof wildcard", stat: stat(v6, tcp, net.Addr{IP: "*", Port: 80}, net.Addr{}, "LISTEN"),
			family: socket.IPv6, state: socket.Listen, local: "[::]:80", remote: "[::]:0"},
		{name: "Windows status", stat: stat(v4, tcp, net.Addr{IP: "10.0.0.1", Port: 80}, net.Addr{IP: "10.0.0.2", Port: 9}, "SYN_RECEIVED"),
			state: socket.SynRecv, local: "10.0.0.1:80", remote: "10.0.0.2:9"},
		{name: "netstat status", stat: stat(v4, tcp, net.Addr{IP: "10.0.0.1", Port: 80}, net.Addr{IP: "10.0.0.2", Port: 9}, "FIN_WAIT_2"),
			state: socket.FinWait2, local: "10.0.0.1:80", remote: "10.0.0.2:9"},
		{name: "mapped", stat: stat(v6, tcp, net.Addr{IP: "::ffff:10.0.0.1", Port: 80}, net.Addr{IP: "::ffff:10.0.0.2", Port: 9}, "ESTABLISHED"),
			family: socket.IPv6, state: socket.Established, local: "10.0.0.1:80", remote: "10.0.0.2:9"},
		{name: "zone", stat: stat(v6, udp, net.Addr{IP: "fe80::1%en0", Port: 5353}, net.Addr{}, ""),
			proto: socket.UDP, family: socket.IPv6, state: socket.Unconnected, local: "[fe80::1]:5353", remote: "[::]:0"},
		{name: "connected UDP", stat: stat(v4, udp, net.Addr{IP: "10.0.0.1", Port: 5353}, net.Addr{IP: "10.0.0.2", Port: 53}, "NONE"),
			proto: socket.UDP, state: socket.Connected, local: "10.0.0.1:5353", remote: "10.0.0.2:53"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := convert(tt.stat)
			if tt.err {
				if !errors.Is(err, socket.ErrMalformed) {
					t.Fatalf("error %v, want ErrMalformed", err)
				}
				return
			}
			want := socket.Socket{Protocol: tt.proto, Family: tt.family, State: tt.state,
				Local: netip.MustParseAddrPort(tt.local), Remote: netip.MustParseAddrPort(tt.remote)}
			if err != nil || got != want {
				t.Errorf("%+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestEveryStatusOfEverySystem(t *testing.T) {
	for status, want := range map[string]socket.State{
		"CLOSED": socket.Close, "CLOSE": socket.Close, "LISTEN": socket.Listen, "SYN_SENT": socket.SynSent,
		"SYN_RECEIVED": socket.SynRecv, "SYN_RECV": socket.SynRecv, "ESTABLISHED": socket.Established,
		"FIN_WAIT_1": socket.FinWait1, "FIN_WAIT1": socket.FinWait1, "FIN_WAIT_2": socket.FinWait2, "FIN_WAIT2": socket.FinWait2,
		"CLOSE_WAIT": socket.CloseWait, "CLOSING": socket.Closing, "LAST_ACK": socket.LastAck,
		"TIME_WAIT": socket.TimeWait, "DELETE": socket.TimeWait, "": 0, "IDLE": 0,
	} {
		if got := stateOf(status, socket.Socket{Protocol: socket.TCP}); got != want {
			t.Errorf("%q is %v, want %v", status, got, want)
		}
	}
}

func TestSockets(t *testing.T) {
	listen := stat(syscall.AF_INET, syscall.SOCK_STREAM, net.Addr{IP: "0.0.0.0", Port: 80}, net.Addr{}, "LISTEN")
	busy := stat(syscall.AF_INET, syscall.SOCK_STREAM, net.Addr{IP: "10.0.0.1", Port: 80}, net.Addr{IP: "10.0.0.2", Port: 9}, "ESTABLISHED")
	bad := stat(syscall.AF_INET, syscall.SOCK_STREAM, net.Addr{IP: "?", Port: 80}, net.Addr{}, "LISTEN")
	var asked []string
	s := &Source{connections: func(_ context.Context, kind string) ([]net.ConnectionStat, error) {
		asked = append(asked, kind)
		return []net.ConnectionStat{listen, listen, bad, busy}, nil
	}}
	count := func(want socket.StateSet) (good, malformed int) {
		for _, err := range s.Sockets(t.Context(), want) {
			if err != nil {
				malformed++
			} else {
				good++
			}
		}
		return good, malformed
	}
	if good, malformed := count(socket.Listening); good != 1 || malformed != 1 {
		t.Errorf("listening: %d sockets, %d malformed", good, malformed)
	}
	if good, _ := count(socket.Connections); good != 1 {
		t.Errorf("connections: %d sockets", good)
	}
	if asked[0] != "inet" || asked[1] != "tcp" {
		t.Errorf("asked the library for %v", asked)
	}
}

func TestSocketsError(t *testing.T) {
	boom := errors.New("lsof: not found")
	s := &Source{connections: func(context.Context, string) ([]net.ConnectionStat, error) { return nil, boom }}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late := &Source{connections: func(context.Context, string) ([]net.ConnectionStat, error) { return nil, nil }}
	for _, err := range s.Sockets(t.Context(), socket.Listening) {
		if !errors.Is(err, boom) {
			t.Errorf("error %v", err)
		}
	}
	yielded := false
	for _, err := range late.Sockets(cancelled, socket.Listening) {
		yielded = errors.Is(err, context.Canceled)
	}
	if !yielded {
		t.Error("what came after the deadline passed for the whole table")
	}
}
