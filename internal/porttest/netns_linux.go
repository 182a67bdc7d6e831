package porttest

import (
	"errors"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The main thread is kept from all tests. It is the one thread that never ends,
// so that a namespace which a test left on it would be the process's from then
// on: /proc/net is that of the main thread. Locked by an init, the main goroutine
// has it for good (runtime.LockOSThread), and no test runs there.
func init() { runtime.LockOSThread() } //nolint:gochecknoinits // later it may be on another thread

// Namespace moves the test into a network namespace of its own, with the
// loopback interface up, or skips it where that is not permitted. The thread
// is locked and ends with the test, so all that is to happen inside must be
// done on the test's goroutine; a process started from it is inside too.
//
// Call it in a subtest or a test that does nothing else.
func Namespace(t testing.TB) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the runtime then ends the thread
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("SKIP-NAMESPACE: unshare(CLONE_NEWNET) needs CAP_SYS_ADMIN")
		}
		t.Fatalf("unshare: %v", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatalf("find lo: %v", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		t.Fatalf("set lo up: %v", err)
	}
}

// AddVeth adds a pair of virtual interfaces, both ends in this namespace, and
// gives the first the addresses (192.0.2.1/24). Nothing answers behind it.
func AddVeth(t testing.TB, name string, addresses ...string) {
	t.Helper()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-peer"}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatalf("add veth %s: %v", name, err)
	}
	for _, end := range []string{name, name + "-peer"} {
		link, err := netlink.LinkByName(end)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.AddrAdd(veth, addr); err != nil {
			t.Fatalf("add %s to %s: %v", address, name, err)
		}
	}
}

// SilentNeighbour makes a host behind an interface that takes what is sent to it
// and never answers.
func SilentNeighbour(t testing.TB, name, address string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatal(err)
	}
	err = netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: net.ParseIP(address), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9},
	})
	if err != nil {
		t.Fatalf("neighbour %s: %v", address, err)
	}
}

// Sysctl writes a setting of this namespace: net/ipv4/ip_local_port_range.
func Sysctl(t testing.TB, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/thread-self/root/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatalf("sysctl %s: %v", name, err)
	}
}
