package porttest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Network is a client, a router and a server that see each other only through
// the router:
//
//	client eth0 ── eth0 router eth1 ── eth0 server
//
// The test is the client. The rate of the ICMP errors it sends is not limited.
type Network struct {
	Client, Router, Server *Space
}

// The addresses of a [Network], from the prefixes for documentation. Other
// addresses of the server's networks are behind the router too, and of no host.
const (
	ClientIP4       = "192.0.2.2"
	ClientIP6       = "2001:db8:1::2"
	RouterClientIP4 = "192.0.2.1"
	RouterClientIP6 = "2001:db8:1::1"
	RouterServerIP4 = "198.51.100.1"
	RouterServerIP6 = "2001:db8:2::1"
	ServerIP4       = "198.51.100.2"
	ServerIP6       = "2001:db8:2::2"
)

// NewNetwork makes a network, and the test its client, as [Namespace] does. What
// is sent gets through from then on.
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	Namespace(t)
	n := &Network{Client: thisSpace(t), Router: NewSpace(t), Server: NewSpace(t)}
	for _, space := range []*Space{n.Client, n.Router, n.Server} {
		space.Do(t, func() { quicken(t) })
	}
	n.Client.Connect(t, "eth0", n.Router, "eth0")
	n.Router.Connect(t, "eth1", n.Server, "eth0")
	n.askNeighboursEvery(t, 20*time.Millisecond)
	n.Client.Do(t, func() {
		Address(t, "eth0", ClientIP4+"/24", ClientIP6+"/64")
		Route(t, "0.0.0.0/0", RouterClientIP4)
		Route(t, "::/0", RouterClientIP6)
	})
	n.Router.Do(t, func() {
		Sysctl(t, "net/ipv4/ip_forward", "1")
		Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
		Address(t, "eth0", RouterClientIP4+"/24", RouterClientIP6+"/64")
		Address(t, "eth1", RouterServerIP4+"/24", RouterServerIP6+"/64")
	})
	n.Server.Do(t, func() {
		Address(t, "eth0", ServerIP4+"/24", ServerIP6+"/64")
		Route(t, "0.0.0.0/0", RouterServerIP4)
		Route(t, "::/0", RouterServerIP6)
	})
	n.settle(t)
	n.askNeighboursEvery(t, time.Second)
	return n
}

// askNeighboursEvery sets how long all hosts wait for an answer to each of the
// three requests for the address of a neighbour. A second is Linux' default.
func (n *Network) askNeighboursEvery(t testing.TB, wait time.Duration) {
	t.Helper()
	n.Client.Do(t, func() { AskNeighboursEvery(t, "eth0", wait) })
	n.Router.Do(t, func() {
		AskNeighboursEvery(t, "eth0", wait)
		AskNeighboursEvery(t, "eth1", wait)
	})
	n.Server.Do(t, func() { AskNeighboursEvery(t, "eth0", wait) })
}

// AskNeighboursEvery sets how long an interface waits for the answer to each of
// three requests for the address of a neighbour, before the host is down.
func AskNeighboursEvery(t testing.TB, name string, wait time.Duration) {
	t.Helper()
	for _, version := range []string{"ipv4", "ipv6"} {
		Sysctl(t, "net/"+version+"/neigh/"+name+"/retrans_time_ms", strconv.FormatInt(wait.Milliseconds(), 10))
	}
}

// quicken lets addresses be used immediately and ICMP errors be sent always.
func quicken(t testing.TB) {
	t.Helper()
	for _, of := range []string{"all", "default"} {
		Sysctl(t, "net/ipv6/conf/"+of+"/accept_dad", "0")
	}
	Sysctl(t, "net/ipv4/icmp_ratelimit", "0")
	Sysctl(t, "net/ipv6/icmp/ratelimit", "0")
}

// Space is a network namespace beside that of the test.
type Space struct{ fd int }

// NewSpace makes a network namespace with its loopback interface up. The test
// stays where it is, which must be a namespace of its own: see [Namespace].
func NewSpace(t testing.TB) *Space {
	t.Helper()
	home := openSpace(t)
	defer home.close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
	defer home.enter(t)
	setUp(t, "lo")
	return thisSpace(t)
}

// thisSpace returns the namespace that the test is in.
func thisSpace(t testing.TB) *Space {
	t.Helper()
	s := openSpace(t)
	t.Cleanup(s.close)
	return s
}

// openSpace is thisSpace, to be closed before the test ends.
func openSpace(t testing.TB) *Space {
	t.Helper()
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("open network namespace: %v", err)
	}
	return &Space{fd: fd}
}

func (s *Space) close() { _ = unix.Close(s.fd) }

func (s *Space) enter(t testing.TB) {
	t.Helper()
	if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
		t.Fatalf("setns: %v", err)
	}
}

// Do moves the test into the namespace for the time of a function. The sockets
// that it opens and the processes that it starts stay there.
func (s *Space) Do(t testing.TB, f func()) {
	t.Helper()
	home := openSpace(t)
	defer home.close()
	defer home.enter(t)
	s.enter(t)
	f()
}

// Connect ties two namespaces together with a pair of virtual interfaces.
func (s *Space) Connect(t testing.TB, name string, peer *Space, peerName string) {
	t.Helper()
	s.Do(t, func() {
		const unnamed = "peer-unnamed"
		veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: unnamed}
		if err := netlink.LinkAdd(veth); err != nil {
			t.Fatalf("add %s: %v", name, err)
		}
		if err := netlink.LinkSetNsFd(link(t, unnamed), peer.fd); err != nil {
			t.Fatalf("move the peer of %s: %v", name, err)
		}
		setUp(t, name)
		peer.Do(t, func() {
			if err := netlink.LinkSetName(link(t, unnamed), peerName); err != nil {
				t.Fatalf("rename to %s: %v", peerName, err)
			}
			setUp(t, peerName)
		})
	})
}

// Address gives an interface addresses (192.0.2.1/24).
func Address(t testing.TB, name string, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(address, ":") {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(link(t, name), addr); err != nil {
			t.Fatalf("add %s to %s: %v", address, name, err)
		}
	}
}

// Route adds a route to a network by way of a gateway.
func Route(t testing.TB, network, gateway string) {
	t.Helper()
	addRoute(t, network, &netlink.Route{Gw: net.ParseIP(gateway)})
}

// RouteType adds a route that leads nowhere: unix.RTN_BLACKHOLE,
// RTN_UNREACHABLE or RTN_PROHIBIT.
func RouteType(t testing.TB, network string, kind int) {
	t.Helper()
	addRoute(t, network, &netlink.Route{Type: kind})
}

// DeleteRoute removes the route to a network.
func DeleteRoute(t testing.TB, network string) {
	t.Helper()
	_, dst, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteDel(&netlink.Route{Dst: dst}); err != nil {
		t.Fatalf("delete route %s: %v", network, err)
	}
}

func addRoute(t testing.TB, network string, route *netlink.Route) {
	t.Helper()
	_, dst, err := net.ParseCIDR(network)
	if err != nil {
		t.Fatal(err)
	}
	route.Dst = dst
	if err := netlink.RouteAdd(route); err != nil {
		t.Fatalf("add route %s: %v", network, err)
	}
}

func link(t testing.TB, name string) netlink.Link {
	t.Helper()
	l, err := netlink.LinkByName(name)
	if err != nil {
		t.Fatalf("find %s: %v", name, err)
	}
	return l
}

// SetUp sets an interface up.
func SetUp(t testing.TB, name string) {
	t.Helper()
	setUp(t, name)
}

func setUp(t testing.TB, name string) {
	t.Helper()
	if err := netlink.LinkSetUp(link(t, name)); err != nil {
		t.Fatalf("set %s up: %v", name, err)
	}
}

// NFT loads nftables rules into the namespace that the test is in. Without nft
// the test is skipped.
func NFT(t testing.TB, rules string) {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		if path = "/usr/sbin/nft"; !exists(path) {
			t.Skip("SKIP-NFT: nft is not in PATH")
		}
	}
	cmd := exec.CommandContext(t.Context(), path, "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s\n%s", err, out, rules)
	}
}

// Filter loads one nftables rule into a hook (input, forward, output) of the
// filters of both IP versions.
func Filter(t testing.TB, hook, rule string) {
	t.Helper()
	NFT(t, fmt.Sprintf("table inet test_%[1]s {\n\tchain c {\n\t\ttype filter hook %[1]s priority 0\n\t\t%[2]s\n\t}\n}\n", hook, rule))
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Divert gives TCP connections to the ports, whatever their address, to the local
// port, whose listener must be [Transparent] (TPROXY).
func Divert(t testing.TB, ports, to string) {
	t.Helper()
	NFT(t, fmt.Sprintf(`table ip test_divert {
	chain c {
		type filter hook prerouting priority mangle
		tcp dport { %s } tproxy to :%s meta mark set 1 accept
	}
}
`, ports, to))
	const table = 100
	rule := netlink.NewRule()
	rule.Mark, rule.Table = 1, table
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatalf("add rule: %v", err)
	}
	addRoute(t, "0.0.0.0/0", &netlink.Route{
		Type: unix.RTN_LOCAL, Table: table, LinkIndex: link(t, "lo").Attrs().Index, Scope: netlink.SCOPE_HOST,
	})
}

// Wire ties the namespace of the test to another with a pair of interfaces of the same
// name.
func Wire(t testing.TB, name string, peer *Space) {
	t.Helper()
	thisSpace(t).Connect(t, name, peer, name)
}

// IPTables runs iptables-nft, or ip6tables-nft, in the namespace that the test is in:
// the words of one command a line. Without it the test is skipped.
func IPTables(t testing.TB, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		path, err := exec.LookPath(words[0])
		if err != nil {
			if path = "/usr/sbin/" + words[0]; !exists(path) {
				t.Skip("SKIP-IPTABLES: " + words[0] + " is not in PATH")
			}
		}
		if out, err := exec.CommandContext(t.Context(), path, words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
}
