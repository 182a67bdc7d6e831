package porttest

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Line is a client, routers in a row, and a server behind the last of them:
//
//	client ── router 1 ── router 2 ── … ── server
//
// The test is the client. Link i is that behind node i, the client being node 0; it
// has the networks 10.1.i.0/24 and 2001:db8:i::/64, its nearer end in them the host 1
// and its further end the host 2. ICMP errors are not limited.
type Line struct {
	Nodes []*Space // the client first, the server last
}

// Services is a network of a line of which the server has every host from 1 to
// NumServices.
const (
	Services    = 100
	NumServices = 40
)

// NewLine makes a line with a number of routers, and the test its client, as
// [Namespace] does.
func NewLine(t testing.TB, routers int) *Line {
	t.Helper()
	Namespace(t)
	l := &Line{Nodes: []*Space{thisSpace(t)}}
	for range routers + 1 {
		l.Nodes = append(l.Nodes, NewSpace(t))
	}
	for _, n := range l.Nodes {
		n.Do(t, func() {
			quicken(t)
			Sysctl(t, "net/ipv4/ip_forward", "1")
			Sysctl(t, "net/ipv6/conf/all/forwarding", "1")
			Sysctl(t, "net/ipv4/conf/all/send_redirects", "0")
			Sysctl(t, "net/ipv4/conf/default/send_redirects", "0")
		})
	}
	for i := range routers + 1 {
		near, far := l.Nodes[i], l.Nodes[i+1]
		near.Connect(t, "right", far, "left")
		near.Do(t, func() { Address(t, "right", LineAddr(i, 1, false).String()+"/24", LineAddr(i, 1, true).String()+"/64") })
		far.Do(t, func() { Address(t, "left", LineAddr(i, 2, false).String()+"/24", LineAddr(i, 2, true).String()+"/64") })
	}
	for i, n := range l.Nodes {
		n.Do(t, func() { l.route(t, i, routers+1) })
	}
	return l
}

// route has a node send to its right what it does not know, and answers to the client
// to its left. The last node is the server.
func (l *Line) route(t testing.TB, node, last int) {
	t.Helper()
	if node < last {
		Route(t, "0.0.0.0/0", LineAddr(node, 2, false).String())
		Route(t, "::/0", LineAddr(node, 2, true).String())
	}
	if node > 1 {
		Route(t, "10.1.0.0/24", LineAddr(node-1, 1, false).String())
		Route(t, "2001:db8::/64", LineAddr(node-1, 1, true).String())
	}
	for host := 1; node == last && host <= NumServices; host++ {
		Address(t, "lo", LineAddr(Services, host, false).String()+"/32", LineAddr(Services, host, true).String()+"/128")
	}
}

// Narrow sets the MTU of a link, on both its ends.
func (l *Line) Narrow(t testing.TB, linkNumber, mtu int) {
	t.Helper()
	for node, name := range map[int]string{linkNumber: "right", linkNumber + 1: "left"} {
		l.Nodes[node].Do(t, func() {
			if err := netlink.LinkSetMTU(link(t, name), mtu); err != nil {
				t.Fatalf("set the MTU of %s: %v", name, err)
			}
		})
	}
}

// LineAddr returns the address of a host in a network of a line.
func LineAddr(network, host int, v6 bool) netip.Addr {
	if v6 {
		return netip.MustParseAddr(fmt.Sprintf("2001:db8:%s::%s", strconv.FormatInt(int64(network), 16), strconv.FormatInt(int64(host), 16)))
	}
	return netip.MustParseAddr(fmt.Sprintf("10.1.%d.%d", network, host))
}

// LineRouter returns the address that a router of a line, the first being 1, has towards
// the client. Its ICMP errors come from there.
func LineRouter(router int, v6 bool) netip.Addr { return LineAddr(router-1, 2, v6) }

// AsNobody runs a function in the namespace without root's rights, on a thread of its own
// that ends with it. It returns immediately; wait waits for the function's end.
func (s *Space) AsNobody(f func()) (wait func() error) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		if err := unix.Setns(s.fd, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		const nobody = 65534
		for _, call := range []uintptr{unix.SYS_SETRESGID, unix.SYS_SETRESUID} { // not those of package unix, which are for all threads
			if _, _, errno := unix.RawSyscall(call, nobody, nobody, nobody); errno != 0 {
				done <- errno
				return
			}
		}
		f()
		close(done)
	}()
	return func() error { return <-done }
}
