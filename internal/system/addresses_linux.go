package system

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// addresses asks for all addresses and for all devices, one dump each
// (rtnetlink(7)): package net makes a dump for each device.
func addresses() (map[netip.Addr]string, error) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	dump, err := syscall.NetlinkRIB(syscall.RTM_GETADDR, syscall.AF_UNSPEC)
	if err != nil {
		return nil, fmt.Errorf("netlink: dump addresses: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	names := make(map[int]string, len(devices))
	for _, d := range devices {
		names[d.Index] = d.Name
	}
	own := map[netip.Addr]string{}
	for _, m := range messages {
		if addr, index, ok := parseAddress(&m); ok {
			own[addr] = names[index]
		}
	}
	return own, nil
}

// parseAddress reads one RTM_NEWADDR message. The address of a point-to-point
// device is in IFA_LOCAL, and its peer's in IFA_ADDRESS; IPv6 has only the
// latter otherwise (include/uapi/linux/if_addr.h).
func parseAddress(m *syscall.NetlinkMessage) (addr netip.Addr, index int, ok bool) {
	if m.Header.Type != syscall.RTM_NEWADDR || len(m.Data) < syscall.SizeofIfAddrmsg {
		return addr, 0, false
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return addr, 0, false
	}
	for _, a := range attributes {
		if a.Attr.Type != syscall.IFA_LOCAL && (a.Attr.Type != syscall.IFA_ADDRESS || ok) {
			continue
		}
		addr, ok = netip.AddrFromSlice(a.Value)
	}
	const offsetIndex = 4 // of ifa_index in struct ifaddrmsg
	return addr, int(binary.NativeEndian.Uint32(m.Data[offsetIndex:])), ok
}
