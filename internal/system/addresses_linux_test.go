package system

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
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
