package system

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// maxLookups bounds the routes that are looked up for one read.
const maxLookups = 256

// addressKinds returns what addresses are to this network namespace: those of its
// interfaces, of which there is one dump, and by their route those that are on none.
// What cannot be read is unknown.
func addressKinds(addresses []netip.Addr) map[netip.Addr]socket.AddressKind {
	kinds := map[netip.Addr]socket.AddressKind{}
	own, err := interfaceAddresses()
	if err != nil {
		return nil
	}
	routes, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil
	}
	defer unix.Close(routes)
	if err := unix.SetsockoptTimeval(routes, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil
	}
	lookups := 0
	for _, addr := range addresses {
		switch {
		case own[addr]:
			kinds[addr] = socket.AddressHere
		case lookups < maxLookups:
			lookups++
			kinds[addr] = lookUpKind(routes, addr)
		}
	}
	return kinds
}

func interfaceAddresses() (map[netip.Addr]bool, error) {
	dump, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, err
	}
	own := map[netip.Addr]bool{}
	for i := range messages {
		if addr, _, ok := parseAddress(&messages[i]); ok {
			own[addr] = true
		}
	}
	return own, nil
}

// lookUpKind asks for the route to one address (RTM_GETROUTE, rtnetlink(7)).
func lookUpKind(routes int, addr netip.Addr) socket.AddressKind {
	if err := unix.Sendto(routes, routeRequest(addr), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return socket.AddressUnknown
	}
	buf := make([]byte, 4<<10)
	n, _, err := unix.Recvfrom(routes, buf, 0)
	if err != nil {
		return socket.AddressUnknown
	}
	return parseKind(buf[:n])
}

// routeRequest is a netlink message with a struct rtmsg and the destination.
func routeRequest(addr netip.Addr) []byte {
	family, raw := byte(unix.AF_INET), addr.AsSlice()
	if addr.Is6() {
		family = unix.AF_INET6
	}
	length := unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + len(raw)
	b := binary.NativeEndian.AppendUint32(nil, uint32(length))
	b = binary.NativeEndian.AppendUint16(b, unix.RTM_GETROUTE)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...)
	b = append(b, family, byte(8*len(raw)))
	b = append(b, make([]byte, unix.SizeofRtMsg-2)...)
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(raw)))
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_DST)
	return append(b, raw...)
}

// parseKind reads the answer: the type of the route, or that there is none.
func parseKind(b []byte) socket.AddressKind {
	const offsetType = 7 // of rtm_type in struct rtmsg
	if len(b) < unix.SizeofNlMsghdr+unix.SizeofRtMsg {
		return socket.AddressUnknown
	}
	switch binary.NativeEndian.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		switch syscall.Errno(-int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:]))) {
		case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL: // no route, or one that leads nowhere
			return socket.AddressElsewhere
		default:
			return socket.AddressUnknown
		}
	case unix.RTM_NEWROUTE:
		switch b[unix.SizeofNlMsghdr+offsetType] {
		case unix.RTN_LOCAL, unix.RTN_ANYCAST:
			return socket.AddressHere
		case unix.RTN_BROADCAST:
			return socket.AddressBroadcast
		case unix.RTN_UNICAST, unix.RTN_BLACKHOLE, unix.RTN_UNREACHABLE, unix.RTN_PROHIBIT:
			return socket.AddressElsewhere
		}
	}
	return socket.AddressUnknown
}
