package system

import (
	"encoding/binary"
	"fmt"
	"iter"
	"net/netip"
	"syscall"

	"github.com/port-exporter/port_exporter/internal/kernel"
)

// addresses asks for all addresses and for all devices, one dump each
// (rtnetlink(7)), in the network namespace of the thread: package net makes a dump for
// each device.
func addresses() (map[netip.Addr]string, error) {
	names, err := kernel.Devices()
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
	own := map[netip.Addr]string{}
	for _, m := range messages {
		if addr, index, ok := parseAddress(&m); ok {
			own[addr] = names[uint32(index)]
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
	const offsetIndex = 4 // of ifa_index in struct ifaddrmsg
	index = int(int32(binary.NativeEndian.Uint32(m.Data[offsetIndex:])))
	for kind, value := range attributes(m.Data[syscall.SizeofIfAddrmsg:]) {
		if kind != syscall.IFA_LOCAL && (kind != syscall.IFA_ADDRESS || ok) {
			continue
		}
		addr, ok = netip.AddrFromSlice(value)
	}
	return addr, index, ok && index > 0
}

// attributes yields the attributes of a message (struct rtattr, rtnetlink(7)),
// each aligned to four bytes. [syscall.ParseNetlinkRouteAttr] panics when the
// last one lacks its padding.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= syscall.SizeofRtAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < syscall.SizeofRtAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:]), b[syscall.SizeofRtAttr:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}
