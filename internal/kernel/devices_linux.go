package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Devices returns the names of network devices by their numbers, in the network namespace of
// the calling thread (RTM_GETLINK of rtnetlink(7)). Package net would remember them for zones
// of IPv6 addresses, whatever namespace they are of.
func Devices() (map[uint32]string, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	messages, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETLINK, Flags: netlink.Request | netlink.Dump},
		Data:   make([]byte, unix.SizeofIfInfomsg),
	})
	if err != nil {
		return nil, fmt.Errorf("netlink: dump devices: %w", err)
	}
	names := make(map[uint32]string, len(messages))
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
			continue
		}
		attributes, err := netlink.NewAttributeDecoder(m.Data[unix.SizeofIfInfomsg:])
		if err != nil {
			return nil, fmt.Errorf("netlink: %w", err)
		}
		for attributes.Next() {
			if attributes.Type() == unix.IFLA_IFNAME {
				names[binary.NativeEndian.Uint32(m.Data[4:])] = attributes.String() // ifi_index
			}
		}
	}
	return names, nil
}
