package blackbox

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// errorWatch listens for ICMP errors about echo requests to one address. The
// socket of the prober gets none, as it is not connected (raw(7), and ping_err in
// net/ipv4/ping.c). It takes a raw socket, so CAP_NET_RAW or root; without it
// there is nothing to watch, and a host that is out of reach looks silent.
type errorWatch struct {
	conn   *icmp.PacketConn // nil where raw sockets are not permitted
	target netip.Addr
	over   sync.WaitGroup
	found  *icmpError // read when over
}

// icmpError is an ICMP error about an echo request.
type icmpError struct {
	kind, code uint8
	offender   netip.Addr
}

func watchErrors(target netip.Addr, deadline time.Time) *errorWatch {
	w := &errorWatch{target: target}
	network, any := "ip4:icmp", "0.0.0.0"
	if target.Is6() {
		network, any = "ip6:ipv6-icmp", "::"
	}
	conn, err := icmp.ListenPacket(network, any)
	if err != nil {
		return w
	}
	w.conn = conn
	filterErrors(conn)
	_ = conn.SetReadDeadline(deadline)
	w.over.Go(w.read)
	return w
}

// filterErrors has the kernel drop all that is no error. Where it cannot, the
// reader passes it over.
func filterErrors(conn *icmp.PacketConn) {
	if c := conn.IPv4PacketConn(); c != nil {
		var f ipv4.ICMPFilter
		f.SetAll(true)
		for _, t := range []ipv4.ICMPType{ipv4.ICMPTypeDestinationUnreachable, ipv4.ICMPTypeTimeExceeded, ipv4.ICMPTypeParameterProblem} {
			f.Accept(t)
		}
		_ = c.SetICMPFilter(&f)
	}
	if c := conn.IPv6PacketConn(); c != nil {
		var f ipv6.ICMPFilter
		f.SetAll(true)
		for _, t := range []ipv6.ICMPType{ipv6.ICMPTypeDestinationUnreachable, ipv6.ICMPTypePacketTooBig, ipv6.ICMPTypeTimeExceeded, ipv6.ICMPTypeParameterProblem} {
			f.Accept(t)
		}
		_ = c.SetICMPFilter(&f)
	}
}

func (w *errorWatch) read() {
	b := make([]byte, 1500)
	for w.found == nil {
		n, from, err := w.conn.ReadFrom(b)
		if err != nil {
			return
		}
		ip, _ := from.(*net.IPAddr)
		if ip == nil {
			continue
		}
		if e, about, ok := parseError(b[:n], w.target.Is6()); ok && about == w.target.WithZone("") {
			e.offender, _ = netip.AddrFromSlice(ip.IP)
			e.offender = e.offender.Unmap()
			w.found = &e
		}
	}
}

// stop ends the watch and returns the error that came, or nil.
func (w *errorWatch) stop() *icmpError {
	if w.conn == nil {
		return nil
	}
	_ = w.conn.Close()
	w.over.Wait()
	return w.found
}

// Lengths of headers, and fields in them: RFC 791, RFC 792, RFC 4443, RFC 8200.
const (
	icmpHeader     = 8
	ipv6Header     = 40
	protocolICMP   = 1
	protocolICMPv6 = 58
	echo           = 8
	echoV6         = 128
)

// parseError reads an ICMP error, and where the echo request was going that it
// quotes.
func parseError(b []byte, v6 bool) (e icmpError, about netip.Addr, ok bool) {
	if len(b) < icmpHeader {
		return e, about, false
	}
	e = icmpError{kind: b[0], code: b[1]}
	if v6 {
		about, ok = echoTargetV6(b[icmpHeader:])
		return e, about, ok && e.kind < echoV6 // RFC 4443 section 2.1
	}
	about, ok = echoTarget(b[icmpHeader:])
	switch ipv4.ICMPType(e.kind) {
	case ipv4.ICMPTypeDestinationUnreachable, ipv4.ICMPTypeTimeExceeded, ipv4.ICMPTypeParameterProblem:
		return e, about, ok
	default:
		return e, about, false
	}
}

// echoTarget returns where a quoted echo request was going.
func echoTarget(ip []byte) (netip.Addr, bool) {
	if len(ip) < ipv4.HeaderLen || ip[0]>>4 != 4 {
		return netip.Addr{}, false
	}
	length := int(ip[0]&0xf) * 4
	if length < ipv4.HeaderLen || len(ip) <= length || ip[9] != protocolICMP || ip[length] != echo {
		return netip.Addr{}, false
	}
	return netip.AddrFrom4([4]byte(ip[16:20])), true
}

func echoTargetV6(ip []byte) (netip.Addr, bool) {
	if len(ip) <= ipv6Header || ip[0]>>4 != 6 || ip[6] != protocolICMPv6 || ip[ipv6Header] != echoV6 {
		return netip.Addr{}, false
	}
	return netip.AddrFrom16([16]byte(ip[24:40])), true
}
