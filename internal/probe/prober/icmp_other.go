//go:build !linux

package prober

import (
	"context"
	"net"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// pingSocket is a socket for pings. ICMP errors do not reach it.
type pingSocket struct {
	conn     *icmp.PacketConn
	to       net.Addr
	kernelID bool // never: the id of the request is ours
}

// openPing returns a socket with the settings of a module, the source address apart. Only macOS has
// unprivileged ones. The header of IPv4 cannot be set here, so that dont_fragment
// has no effect.
func openPing(_ context.Context, from netip.Addr, _ string, to netip.Addr, p *ICMP) (*pingSocket, error) {
	network, source := "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		network, source = "ip6:ipv6-icmp", "::"
	}
	if from.IsValid() {
		source = from.String()
	}
	s := &pingSocket{to: &net.IPAddr{IP: to.AsSlice(), Zone: to.Zone()}}
	var err error
	if runtime.GOOS == "darwin" {
		unprivileged := "udp4"
		if to.Is6() {
			unprivileged = "udp6"
		}
		if s.conn, err = icmp.ListenPacket(unprivileged, source); err == nil {
			s.to = &net.UDPAddr{IP: to.AsSlice(), Zone: to.Zone()}
		}
	}
	if s.conn == nil {
		if s.conn, err = icmp.ListenPacket(network, source); err != nil {
			return nil, &openError{err}
		}
	}
	s.prepare(p.TTL)
	return s, nil
}

// prepare sets what the system can set: a reply is one without its hop limit too.
func (s *pingSocket) prepare(ttl int) {
	if c := s.conn.IPv4PacketConn(); c != nil {
		_ = c.SetControlMessage(ipv4.FlagTTL, true)
		if ttl > 0 {
			_ = c.SetTTL(ttl)
		}
	}
	if c := s.conn.IPv6PacketConn(); c != nil {
		_ = c.SetControlMessage(ipv6.FlagHopLimit, true)
		if ttl > 0 {
			_ = c.SetHopLimit(ttl)
		}
	}
}

func (s *pingSocket) Close() error                      { return s.conn.Close() }
func (s *pingSocket) SetReadDeadline(t time.Time) error { return s.conn.SetReadDeadline(t) }

func (s *pingSocket) send(message []byte) error {
	_, err := s.conn.WriteTo(message, s.to)
	return err
}

// receive returns how much of b a message of the target fills, and its hop limit,
// which is -1 if it is not known.
func (s *pingSocket) receive(b []byte) (n, hopLimit int, err error) {
	for {
		var from net.Addr
		hopLimit = -1
		if c := s.conn.IPv4PacketConn(); c != nil {
			var m *ipv4.ControlMessage
			if n, m, from, err = c.ReadFrom(b); m != nil {
				hopLimit = m.TTL
			}
		} else {
			var m *ipv6.ControlMessage
			if n, m, from, err = s.conn.IPv6PacketConn().ReadFrom(b); m != nil {
				hopLimit = m.HopLimit
			}
		}
		if err != nil || from.String() == s.to.String() {
			return n, hopLimit, err
		}
	}
}
