package system

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/socket"
)

func TestAddressesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "192.0.2.1/24", "2001:db8::1/64", "192.0.2.9/24")
	got, err := addresses()
	if err != nil {
		t.Fatal(err)
	}
	for addr := range got {
		if addr.IsLinkLocalUnicast() { // made up by the kernel
			if got[addr] == "" {
				t.Errorf("%s has no device", addr)
			}
			delete(got, addr)
		}
	}
	want := map[netip.Addr]string{
		netip.MustParseAddr("127.0.0.1"):   "lo",
		netip.MustParseAddr("::1"):         "lo",
		netip.MustParseAddr("192.0.2.1"):   "eth7",
		netip.MustParseAddr("192.0.2.9"):   "eth7",
		netip.MustParseAddr("2001:db8::1"): "eth7",
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDescriptors(t *testing.T) {
	if n := descriptors(); n < 16 {
		t.Errorf("%d descriptors may be open", n)
	}
}

// FuzzParseAddress takes whatever the kernel might send.
func FuzzParseAddress(f *testing.F) {
	address := []byte{syscall.AF_INET, 24, 0, 0, 7, 0, 0, 0, 8, 0, syscall.IFA_LOCAL, 0, 192, 0, 2, 1}
	f.Add(address)
	f.Add(address[:len(address)-1]) // a byte short
	f.Add(address[:7])
	f.Fuzz(func(t *testing.T, data []byte) {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: syscall.RTM_NEWADDR}, Data: data}
		if addr, index, ok := parseAddress(&m); ok && (!addr.IsValid() || index < 0) {
			t.Errorf("%v, %d", addr, index)
		}
	})
}

func TestParseAddress(t *testing.T) {
	peer := []byte{syscall.AF_INET, 32, 0, 0, 7, 0, 0, 0, 8, 0, syscall.IFA_ADDRESS, 0, 192, 0, 2, 2, 8, 0, syscall.IFA_LOCAL, 0, 192, 0, 2, 1}
	message := func(kind uint16, data []byte) *syscall.NetlinkMessage {
		return &syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: kind}, Data: data}
	}
	if _, _, ok := parseAddress(message(syscall.RTM_NEWLINK, peer)); ok {
		t.Error("a device was taken for an address")
	}
	if _, _, ok := parseAddress(message(syscall.RTM_NEWADDR, peer[:7])); ok {
		t.Error("a message that is too short was taken")
	}
	if addr, index, ok := parseAddress(message(syscall.RTM_NEWADDR, peer)); !ok || addr.String() != "192.0.2.1" || index != 7 {
		t.Errorf("point to point: %v, %d, %t; want our end, 192.0.2.1 on 7", addr, index, ok)
	}
}

func TestAddressKindsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "eth7", "198.51.100.1/24", "2001:db8::1/64")
	want := map[string]socket.AddressKind{
		"198.51.100.1":   socket.AddressHere,
		"198.51.100.255": socket.AddressBroadcast,
		"198.51.100.7":   socket.AddressElsewhere, // a neighbour's, or that of a standby
		"203.0.113.1":    socket.AddressElsewhere, // without a route
		"2001:db8::1":    socket.AddressHere,
		"2001:db8::7":    socket.AddressElsewhere,
		"2001:db8:9::1":  socket.AddressElsewhere,
	}
	var asked []netip.Addr
	for addr := range want {
		asked = append(asked, netip.MustParseAddr(addr))
	}
	kinds := addressKinds(asked)
	for addr, kind := range want {
		if got := kinds[netip.MustParseAddr(addr)]; got != kind {
			t.Errorf("%s: %d, want %d", addr, got, kind)
		}
	}
}

// FuzzParseKind takes whatever the kernel might send.
func FuzzParseKind(f *testing.F) {
	f.Add(routeRequest(netip.MustParseAddr("192.0.2.1")))
	f.Add(make([]byte, 27)) // a byte short
	f.Fuzz(func(t *testing.T, data []byte) {
		if kind := parseKind(data); kind > socket.AddressBroadcast {
			t.Errorf("kind %d", kind)
		}
	})
}
