package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// The kernel answers one read only of the list, with as much as fits: one that
// is read in pieces is cut short. A plain file cannot show that.
func TestManyReservedPortsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.Sysctl(t, "net/ipv4/ip_local_port_range", "40000 59999")
	var list strings.Builder
	const reserved = 5000
	for i := range reserved {
		fmt.Fprintf(&list, "%d,", 40000+2*i)
	}
	porttest.Sysctl(t, "net/ipv4/ip_local_reserved_ports", strings.TrimSuffix(list.String(), ","))
	ports, err := ephemeralPorts("/proc")
	if err != nil {
		t.Fatal(err)
	}
	if n := ports.Usable().Len(); len(ports.Reserved) != reserved || n != 20_000-reserved {
		t.Errorf("%d reserved and %d usable, want %d and %d", len(ports.Reserved), n, reserved, 20_000-reserved)
	}
}
