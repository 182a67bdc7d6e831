//go:build amd64 || arm64 || loong64 || mips64le || ppc64le || riscv64

package bpfwalk

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/netns"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

var _ netns.Engine = (*Engine)(nil)

// open returns an engine that has passed its own check, or skips the test.
func open(t testing.TB) *Engine {
	t.Helper()
	if err := possible(); err != nil {
		t.Skipf("SKIP-BPF: %v", err)
	}
	e, err := Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// cookie returns that of the network namespace the test is in.
func cookie(t testing.TB) uint64 {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// all returns the sockets of a source by identity, and fails the test for one that comes
// twice.
func all(t testing.TB, source socket.Source) map[witness]socket.Socket {
	t.Helper()
	found := map[witness]socket.Socket{}
	for _, want := range []socket.StateSet{socket.Listening, socket.Connections} {
		for s, err := range source.Sockets(t.Context(), want) {
			if err != nil {
				t.Fatal(err)
			}
			if !want.Has(s.State) {
				t.Errorf("%v is not in what was asked for", s.State)
			}
			id := witness{s.Protocol, s.Family, s.Local, s.Remote}
			if twice, ok := found[id]; ok {
				t.Errorf("twice: %v, %v and %v", id, twice.State, s.State)
			}
			found[id] = *s
		}
	}
	return found
}

// read returns the sources of a read, by cookie.
func read(t testing.TB, e *Engine) map[uint64]netns.Sockets {
	t.Helper()
	sockets, err := e.Read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[uint64]netns.Sockets{}
	for _, s := range sockets {
		if found[s.Cookie].Cookie != 0 {
			t.Errorf("namespace %d comes twice", s.Cookie)
		}
		found[s.Cookie] = s
	}
	return found
}

// scene makes sockets of every kind and state in the namespace of the test.
func scene(t testing.TB) {
	t.Helper()
	porttest.EveryState(t, "127.0.0.1:80")
	porttest.EveryState(t, "[::1]:80")
	porttest.Listen(t, "127.0.0.1:81", 16, porttest.DeferAccept) // keeps the server's end in SYN_RECV
	porttest.Dial(t, "127.0.0.1:81")
	porttest.Listen(t, "[::]:82", 5, porttest.V6Only(false))
	porttest.Dial(t, "127.0.0.1:82") // IPv4-mapped at the server's end
	porttest.Listen(t, "[::]:83", 5, porttest.V6Only(true))
	porttest.Listen(t, "0.0.0.0:84", 100_000, porttest.Transparent)
	porttest.Listen(t, "127.0.0.1:85", 1) // its queue is full, and drops
	for range 2 {
		porttest.Dial(t, "127.0.0.1:85")
	}
	porttest.StartDial(t, "127.0.0.1:85")
	porttest.AddVeth(t, "up0", "192.0.2.1/24")
	porttest.SilentNeighbour(t, "up0", "192.0.2.9")
	porttest.StartDial(t, "192.0.2.9:443") // SYN_SENT
	porttest.Listen(t, "0.0.0.0:86", 5, porttest.BindToDevice("up0"))
	zeroWindow(t)
	datagrams(t)
}

// zeroWindow makes a connection whose client asks for room from time to time.
func zeroWindow(t testing.TB) {
	t.Helper()
	listener := porttest.Listen(t, "127.0.0.1:87", 5)
	client := porttest.Dial(t, "127.0.0.1:87", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	porttest.Accept(t, listener)
	porttest.Stuff(t, client)
}

func datagrams(t testing.TB) {
	t.Helper()
	porttest.UDP(t, "127.0.0.1:53", func(fd int) error {
		return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096)
	})
	sender := porttest.UDP(t, "127.0.0.1:54")
	porttest.Connect(t, sender, "127.0.0.1:53")
	for range 50 { // more than fits
		_, _ = unix.Write(sender, make([]byte, 1024))
	}
	porttest.UDP(t, "[::]:55", porttest.V6Only(true))
	porttest.Connect(t, porttest.UDP(t, "[::1]:56"), "[::1]:55")
	porttest.UDPLite(t, "127.0.0.1:57")
}

// complete reports what a scene lacks in the eyes of sock_diag: each state, and each
// fact that some socket must have.
func complete(sockets map[witness]socket.Socket) error {
	states := (socket.TCPStates | socket.UDPStates) &^ (1 << socket.Close)
	facts := map[string]func(*socket.Socket) bool{
		"ReceiveQueue":   func(s *socket.Socket) bool { return s.ReceiveQueue > 0 && s.Protocol == socket.TCP },
		"SendQueue":      func(s *socket.Socket) bool { return s.SendQueue > 0 },
		"datagrams":      func(s *socket.Socket) bool { return s.ReceiveQueue > 0 && s.Protocol == socket.UDP },
		"ZeroWindow":     func(s *socket.Socket) bool { return s.ZeroWindow },
		"Retransmits":    func(s *socket.Socket) bool { return s.Retransmits > 0 },
		"AcceptQueue":    func(s *socket.Socket) bool { return s.AcceptQueue > s.AcceptQueueLimit },
		"Drops":          func(s *socket.Socket) bool { return s.Drops > 0 && s.Protocol == socket.TCP },
		"lost datagrams": func(s *socket.Socket) bool { return s.Drops > 0 && s.Protocol == socket.UDP },
		"V6Only":         func(s *socket.Socket) bool { return s.V6Only },
		"Transparent":    func(s *socket.Socket) bool { return s.Transparent },
		"BindNoPort":     func(s *socket.Socket) bool { return s.BindNoPort },
		"Interface":      func(s *socket.Socket) bool { return s.Interface != "" },
		"CgroupID":       func(s *socket.Socket) bool { return s.CgroupID != 0 },
		"mapped":         func(s *socket.Socket) bool { return s.Family == socket.IPv6 && s.Local.Addr().Is4() },
		"UDP-Lite":       func(s *socket.Socket) bool { return s.Protocol == socket.UDPLite },
	}
	for _, s := range sockets {
		states &^= 1 << s.State
		for name, has := range facts {
			if has(&s) {
				delete(facts, name)
			}
		}
	}
	if states != 0 || len(facts) > 0 {
		return fmt.Errorf("the scene lacks states %b and %v", states, slices.Collect(maps.Keys(facts)))
	}
	return nil
}

// same waits until the engine has of the namespace what sock_diag has of it: the kernel
// retransmits in between.
func same(t testing.TB, what string, space *porttest.Space, e *Engine) {
	t.Helper()
	var id uint64
	var device string
	var diag *sockdiag.Source
	space.Do(t, func() {
		id = cookie(t)
		up, err := net.InterfaceByName("up0")
		if err != nil {
			t.Fatal(err)
		}
		device = fmt.Sprintf("if%d", up.Index)
		if diag, err = sockdiag.New(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	var last error
	defer func() {
		if t.Failed() {
			t.Logf("%s: %v", what, last)
		}
	}()
	porttest.Await(t, what+" to be what sock_diag has", func() bool {
		var want, own map[witness]socket.Socket
		space.Do(t, func() { want, own = all(t, diag), all(t, e.Source()) })
		found := read(t, e)[id]
		if found.Depth != netns.Full {
			t.Fatalf("%s: %+v", what, found)
		}
		if last = errors.Join(complete(want), new(witnesses).compare(want, own)); last != nil {
			return false
		}
		for id, s := range want {
			if s.Interface != "" { // names of other namespaces are not read
				s.Interface = device
				want[id] = s
			}
		}
		last = new(witnesses).compare(want, all(t, found.Source))
		return last == nil
	})
}

func TestSameAsSockDiagInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	shared := porttest.NewSpace(t)
	shared.Do(t, func() { scene(t) })
	same(t, "a namespace with the tables of all", shared, e)

	porttest.Sysctl(t, "net/ipv4/tcp_child_ehash_entries", "4096")
	porttest.Sysctl(t, "net/ipv4/udp_child_hash_entries", "256")
	own := porttest.NewSpace(t)
	own.Do(t, func() { scene(t) })
	same(t, "a namespace with tables of its own", own, e)
	same(t, "the first, beside it", shared, e)

	empty := porttest.NewSpace(t)
	var id uint64
	empty.Do(t, func() { id = cookie(t) })
	if s, found := read(t, e)[id]; !found || s.Depth != netns.Empty || s.Source != nil || s.Inode == 0 {
		t.Errorf("an empty namespace: %t, %+v", found, s)
	}
	if s := read(t, e)[cookie(t)]; s.Source == nil {
		t.Errorf("our own namespace: %+v", s)
	}
}

// TestClientsAloneInNamespace has a namespace of clients alone, which is seen with
// the connections.
func TestClientsAloneInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	space := porttest.NewSpace(t)
	var id uint64
	space.Do(t, func() {
		id = cookie(t)
		listener := porttest.Listen(t, "127.0.0.1:80", 1)
		porttest.Dial(t, "127.0.0.1:80")
		porttest.Accept(t, listener)
		porttest.Close(t, listener)
	})
	if s := read(t, e)[id]; s.Depth != netns.Full || len(all(t, s.Source)) != 2 {
		t.Errorf("clients alone: %+v", s)
	}
}

// TestMoreNamespacesThanRoomInNamespace has room on the list for ours alone: whoever may make
// namespaces must not hide the sockets of the host.
func TestMoreNamespacesThanRoomInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	e.namespaces = e.namespaces[:1]
	porttest.Listen(t, "127.0.0.1:80", 1)
	porttest.NewSpace(t)
	if n := len(all(t, e.Source())); n != 1 {
		t.Errorf("%d sockets of our own, want 1", n)
	}
	sockets, err := e.Read(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(sockets) < 2 || sockets[0].Cookie != cookie(t) || sockets[0].Source == nil {
		t.Fatalf("%d namespaces, the first is %+v", len(sockets), sockets[0])
	}
	for _, s := range sockets[1:] {
		if s.Depth != netns.Unread || s.Source != nil || !errors.Is(s.Err, errTooMany) {
			t.Errorf("without room: %+v", s)
		}
	}
}

// beside calls f again and again in the namespace of the test, on another thread, until
// the test ends.
func beside(t testing.TB, f func() error) {
	t.Helper()
	space, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	wait.Go(func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		defer unix.Close(space)
		err := unix.Setns(space, unix.CLONE_NEWNET)
		for err == nil && ctx.Err() == nil {
			err = f()
		}
		if err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		wait.Wait()
	})
}

// pass opens a connection to a listener and resets or closes it.
func pass(listener int, port uint16, reset bool) error {
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(client)
	if reset {
		if err := unix.SetsockoptLinger(client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	server, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return err
	}
	return unix.Close(server)
}

// TestSteadyWhileOthersPassInNamespace has connections opened and closed during walks,
// in a table so small that they share chains with the steady ones.
func TestSteadyWhileOthersPassInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	porttest.Sysctl(t, "net/ipv4/tcp_child_ehash_entries", "16")
	porttest.NewSpace(t).Do(t, func() {
		const steady = 400
		listener := porttest.Listen(t, "127.0.0.1:80", 16)
		for range steady / 2 {
			porttest.Dial(t, "127.0.0.1:80")
			porttest.Accept(t, listener)
		}
		churning := porttest.Listen(t, "127.0.0.1:81", 16)
		passed := 0
		beside(t, func() error {
			passed++
			return pass(churning, 81, true)
		})
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			found := map[uint64]int{}
			for s, err := range e.Source().Sockets(t.Context(), socket.Connections) {
				if err != nil {
					t.Fatal(err)
				}
				if s.Local.Port() == 80 || s.Remote.Port() == 80 {
					found[s.Inode]++
				}
			}
			if len(found) != steady {
				t.Fatalf("%d of %d steady sockets", len(found), steady)
			}
			for inode, n := range found {
				if n != 1 {
					t.Fatalf("socket %d was read %d times", inode, n)
				}
			}
		}
		t.Logf("%d connections passed; buckets were read again %d times", passed, e.Moved())
	})
}

// TestNamespacesComeAndGoInNamespace reads while namespaces with sockets, some of them
// in TIME_WAIT, are made and destroyed.
func TestNamespacesComeAndGoInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	steady := porttest.NewSpace(t)
	var id uint64
	steady.Do(t, func() {
		id = cookie(t)
		listener := porttest.Listen(t, "127.0.0.1:80", 16)
		for range 50 {
			porttest.Dial(t, "127.0.0.1:80")
			porttest.Accept(t, listener)
		}
	})
	beside(t, func() error { return passingNamespace() })
	strangers := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		found := read(t, e)
		if n := len(all(t, found[id].Source)); n != 101 {
			t.Fatalf("%d of 101 steady sockets", n)
		}
		for cookie, s := range found {
			if cookie == id || s.Source == nil {
				continue
			}
			strangers++
			for _, want := range []socket.StateSet{socket.Listening, socket.Connections} {
				for _, err := range s.Source.Sockets(t.Context(), want) {
					if err != nil && !errors.Is(err, socket.ErrMalformed) {
						t.Fatalf("namespace %d: %v", cookie, err)
					}
				}
			}
		}
	}
	if strangers == 0 {
		t.Error("no other namespace was seen")
	}
}

// passingNamespace makes a namespace with a few sockets and leaves it.
func passingNamespace() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifreq, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifreq.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifreq); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 16); err != nil {
		return err
	}
	for range 10 {
		if err := pass(fd, 80, false); err != nil {
			return err
		}
	}
	return nil
}

// TestOpenLeavesNothingInNamespace counts what the check at start has left behind.
func TestOpenLeavesNothingInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	left := all(t, e.Source())
	for range 200 { // well below the minute that TIME_WAIT lasts
		if len(left) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
		left = all(t, e.Source())
	}
	t.Errorf("still there: %v", left)
}

func TestContextEndsAWalkInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range e.Source().Sockets(ctx, socket.Connections) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
	if _, err := e.Read(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestManyInOneBucketInNamespace has more sockets in one bucket of a table than a call
// returns.
func TestManyInOneBucketInNamespace(t *testing.T) {
	porttest.Namespace(t)
	e := open(t)
	porttest.Sysctl(t, "net/ipv4/udp_child_hash_entries", "128")
	porttest.NewSpace(t).Do(t, func() {
		const n = 9000
		for range n {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if errors.Is(err, unix.EMFILE) {
				t.Skip("SKIP-DESCRIPTORS: too few")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := porttest.ReusePort(fd); err != nil {
				t.Fatal(err)
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 53, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				t.Fatal(err)
			}
		}
		inodes := map[uint64]bool{}
		for s, err := range e.Source().Sockets(t.Context(), socket.Listening) {
			if err != nil {
				t.Fatal(err)
			}
			inodes[s.Inode] = true
		}
		if len(inodes) != n {
			t.Errorf("%d of %d sockets", len(inodes), n)
		}
	})
}

func TestOpenWithoutPrivilegeInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AsNobody(t, func() {
		e, err := Open(t.Context())
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "requires CAP_BPF and CAP_PERFMON") {
			t.Errorf("%v, %v", e, err)
		}
	})
}
