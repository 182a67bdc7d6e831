package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// scene is a situation on a host, and what is certain of it.
type scene struct {
	name string
	play func(t *testing.T, s *stage)
	// lists are parts of rows that listeners has.
	lists    []string
	wildcard []string // ports of PortWildcardListener
	clients  int      // sockets without a verdict
	limit    int      // of listeners that have series, if there are more
	// then changes the host after the policy was written, and so many listeners are
	// unverified by it.
	then       func(t *testing.T, s *stage)
	unverified int
}

// scenes returns the situations that bug reports of other programs and our own tests
// have.
func scenes() []scene {
	return []scene{
		{name: "nothing", play: func(*testing.T, *stage) {}},
		{name: "services", play: playServices, wildcard: []string{"53", "5432", "5060"}},
		{name: "UDP clients", clients: 3, play: func(t *testing.T, _ *stage) {
			porttest.UDP(t, "0.0.0.0:40000")
			sendTo(t, "127.0.0.1:9")
			sendTo(t, "[::1]:9")
		}},
		{name: "UDP with a peer", play: func(t *testing.T, _ *stage) {
			porttest.Connect(t, porttest.UDP(t, "127.0.0.1:5061"), "127.0.0.1:9")
		}},
		{name: "UDP service on a high port", wildcard: []string{"62000"}, play: func(t *testing.T, _ *stage) {
			porttest.UDP(t, "0.0.0.0:62000")
			porttest.UDPLite(t, "127.0.0.1:62001")
		}},
		{name: "TPROXY", play: playTransparentProxy, wildcard: []string{"15001"}},
		{name: "group with a full queue", play: playFullQueue, lists: []string{" full=1"}},
		{name: "only IPv6, and IPv4 beside it", wildcard: []string{"8443"}, lists: []string{"8443  any false "}, play: func(t *testing.T, _ *stage) {
			porttest.Listen(t, "[::]:8443", 5, porttest.V6Only(true))
			porttest.Listen(t, "0.0.0.0:8443", 5)
		}},
		{name: "bound to a device", lists: []string{"9103 lo any"}, play: func(t *testing.T, _ *stage) {
			porttest.Listen(t, "0.0.0.0:9103", 5, porttest.BindToDevice("lo"))
		}},
		{name: "address that is not here", lists: []string{"198.51.100.7 443  public false", " absent"}, play: func(t *testing.T, _ *stage) {
			porttest.AddVeth(t, "eth0", "192.0.2.1/24")
			porttest.Listen(t, "198.51.100.7:443", 5, porttest.FreeBind)
		}},
		{name: "broadcast", lists: []string{"255.255.255.255 67  link_local", "192.0.2.255 137  link_local"}, play: func(t *testing.T, _ *stage) {
			porttest.AddVeth(t, "eth0", "192.0.2.1/24")
			porttest.UDP(t, "255.255.255.255:67")
			porttest.UDP(t, "192.0.2.255:137")
		}},
		{name: "raw and packet sockets", play: func(t *testing.T, _ *stage) { openPortless(t) }},
		{name: "main thread gone", lists: []string{"7001  loopback false " + threadRole}, play: func(t *testing.T, _ *stage) {
			startThread(t, "gone", 7001)
		}},
		{name: "descriptors of a thread", lists: []string{"7002  loopback false " + threadRole}, play: func(t *testing.T, _ *stage) {
			startThread(t, "own", 7002)
		}},
		{name: "listeners of the kernel", play: playKernel, wildcard: []string{"4789"}, lists: []string{"4789  any false "}},
		{name: "socket activation", play: playSystemd, wildcard: []string{"7100"}, lists: []string{"7100  any true", "px-web.service"}},
		{name: "container", play: playContainer, lists: []string{"7200  loopback false", " docker-0123456789ab"}},
		{name: "user of another namespace", play: playUserNamespace, lists: []string{"7300  loopback false " + serverRole + " 1000"}},
		{name: "hung process", play: playHung, then: hang, unverified: 1},
		{name: "more listeners than series", limit: 8, play: func(t *testing.T, _ *stage) {
			for port := range 20 {
				porttest.Listen(t, fmt.Sprint("127.0.0.1:", 7400+port), 5)
			}
			porttest.UDP(t, "127.0.0.1:8125")
		}},
	}
}

func playServices(t *testing.T, _ *stage) {
	porttest.Listen(t, "[::]:5432", 5)
	porttest.Listen(t, "127.0.0.1:22", 5)
	porttest.Listen(t, "0.0.0.0:80", 5) // on the list of the rules
	porttest.UDP(t, "0.0.0.0:53")
	porttest.UDP(t, "0.0.0.0:5060")
	porttest.UDP(t, "127.0.0.1:8125")
}

// playTransparentProxy has connections to another host, of which a proxy has one and
// its queue another.
func playTransparentProxy(t *testing.T, _ *stage) {
	porttest.Divert(t, "443", "15001")
	proxy := porttest.Listen(t, "0.0.0.0:15001", 16, porttest.Transparent)
	porttest.Address(t, "lo", "203.0.113.9/32")
	for range 2 {
		porttest.Dial(t, "203.0.113.9:443")
	}
	porttest.Accept(t, proxy)
}

// playFullQueue has two sockets on one port, of which one accepts all and the other
// nothing.
func playFullQueue(t *testing.T, _ *stage) {
	accepting := porttest.Listen(t, "127.0.0.1:7000", 1, porttest.ReusePort)
	idle := porttest.Listen(t, "127.0.0.1:7000", 1, porttest.ReusePort)
	if err := unix.SetNonblock(accepting, true); err != nil {
		t.Fatal(err)
	}
	porttest.Await(t, "a full queue", func() bool {
		porttest.StartDial(t, "127.0.0.1:7000")
		if fd, _, err := unix.Accept4(accepting, unix.SOCK_CLOEXEC); err == nil {
			_ = unix.Close(fd)
		}
		info, err := unix.GetsockoptTCPInfo(idle, unix.IPPROTO_TCP, unix.TCP_INFO) // of a listener: its queue and its limit
		return err == nil && info.Unacked > info.Sacked
	})
}

func playKernel(t *testing.T, _ *stage) {
	vxlan := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 42, Port: 4789, Learning: true}
	if err := netlink.LinkAdd(vxlan); err != nil {
		t.Skipf("SKIP-VXLAN: %v", err)
	}
	if err := netlink.LinkSetUp(vxlan); err != nil {
		t.Fatal(err)
	}
	wireguard := &netlink.Wireguard{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}}
	if err := netlink.LinkAdd(wireguard); err != nil {
		t.Logf("no WireGuard: %v", err)
	} else if err := netlink.LinkSetUp(wireguard); err != nil {
		t.Fatal(err)
	}
}

// playSystemd has a systemd that holds one socket for a service that does not run, and
// another one for one that does.
func playSystemd(t *testing.T, s *stage) {
	porttest.Systemd(t, map[string]string{
		"test.target":     "[Unit]\nDefaultDependencies=no\nWants=px-web.service px-held.socket\n",
		"px-web.socket":   "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=7100\n",
		"px-web.service":  "[Unit]\nDefaultDependencies=no\nRequires=px-web.socket\nAfter=px-web.socket\n[Service]\nDynamicUser=yes\nExecStart=/bin/sleep infinity\n",
		"px-held.socket":  "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=127.0.0.1:7101\n",
		"px-held.service": "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/sleep infinity\n",
	})
	porttest.Await(t, "the service and the socket", func() bool {
		s.useProcfs("/proc") // else the systemd is looked at again after a minute
		rows, err := s.listens(t, parsed(t, ""), 0)
		return err == nil && len(rows) == 2 && slices.ContainsFunc(rows, func(r listed) bool { return r.Process == "sleep" })
	})
}

// playContainer has a process in the cgroup of a container.
func playContainer(t *testing.T, _ *stage) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	top := filepath.Join(porttest.CgroupRoot(t), fmt.Sprintf("port_exporter_scene_%d", os.Getpid()))
	dir := filepath.Join(top, "docker-"+id+".scope")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("SKIP-CGROUP: %v", err)
	}
	t.Cleanup(func() {
		porttest.Await(t, "the cgroup to be empty", func() bool { return os.Remove(dir) == nil })
		_ = os.Remove(top)
	})
	pid := startListener(t, "127.0.0.1:7200")
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
		t.Fatal(err)
	}
}

func playUserNamespace(t *testing.T, _ *stage) {
	mapped := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1000, Size: 1}}
	startListenerAs(t, &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER, UidMappings: mapped, GidMappings: mapped, Credential: &syscall.Credential{Uid: 0, Gid: 0},
	}, "127.0.0.1:7300")
}

// playHung has a process that answers, read through a /proc of its own.
func playHung(t *testing.T, s *stage) {
	root := porttest.MountNamespace(t)
	procfs := t.TempDir()
	if err := unix.Mount("proc", procfs, "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(procfs, unix.MNT_DETACH) })
	s.procfs, s.hung = procfs, startListener(t, "127.0.0.1:7500")
	startListener(t, "127.0.0.1:7501")
	s.useProcfs(root + procfs)
	s.outside = root + procfs
}

// hang has that process answer no more.
func hang(t *testing.T, s *stage) {
	porttest.HangFile(t, filepath.Join(s.procfs, strconv.Itoa(s.hung), "stat"))
	s.useProcfs(s.outside)
}

// threadRole makes the test a server whose socket is not the main thread's.
const threadRole = "threaded-server"

// serveOnThread listens on the port that is its second argument: on a thread with
// descriptors of its own, or after its main thread is gone, as the first says.
func serveOnThread() {
	own := os.Args[1] == "own"
	go func() {
		runtime.LockOSThread()
		if own {
			exitOn(unix.Unshare(unix.CLONE_FILES))
		}
		port, err := strconv.Atoi(os.Args[2])
		exitOn(err)
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		exitOn(err)
		exitOn(unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
		exitOn(unix.Listen(fd, 5))
		if !own {
			time.Sleep(200 * time.Millisecond) // for the end of the main thread
		}
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	if own {
		select {}
	}
	time.Sleep(100 * time.Millisecond) // alone it would take the process along
	_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func startThread(t *testing.T, kind string, port int) {
	t.Helper()
	porttest.StartReady(t, exec.Command(threadRole, kind, strconv.Itoa(port)))
}
