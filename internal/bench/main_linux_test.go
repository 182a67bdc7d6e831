package bench

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sockets is how many sockets the namespace holds.
var sockets = flag.Int("sockets", 100_000, "number of real sockets to make for the benchmarks")

// roleVariable says what a process of this test binary is for: the benchmarks
// need a network namespace for the whole process, not for one thread, because
// the peers read /proc/net.
const roleVariable = "PORT_EXPORTER_BENCH_ROLE"

// The roles, in the order in which each starts the next.
const (
	roleOuter = "outer" // in a namespace whose children get a hash table of their own
	roleInner = "inner" // in such a child: the benchmarks
	roleMaker = "maker" // holds a share of the sockets
)

func TestMain(m *testing.M) {
	flag.Parse()
	role := os.Getenv(roleVariable)
	switch {
	case role == roleMaker:
		exitOn(makeSockets(flag.Arg(0), flag.Arg(1)))
	case role == roleOuter:
		// As many buckets as a 24 GiB host has.
		exitOn(os.WriteFile("/proc/sys/net/ipv4/tcp_child_ehash_entries", []byte("262144"), 0))
		exitOn(inNewNamespace(roleInner))
	case role == roleInner:
		lo, err := netlink.LinkByName("lo")
		exitOn(err)
		exitOn(netlink.LinkSetUp(lo))
		os.Exit(m.Run())
	case flag.Lookup("test.bench").Value.String() != "":
		exitOn(inNewNamespace(roleOuter))
	default:
		os.Exit(m.Run())
	}
	os.Exit(0)
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// inNewNamespace runs this program again, with its arguments, in a network
// namespace of its own.
func inNewNamespace(role string) error {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	return cmd.Run()
}

// perMaker is how many sockets one process holds: below the usual hard limit
// on descriptors.
const perMaker = 16_000

// fill starts processes that hold n sockets of a realistic mix in this
// namespace until the benchmark ends: 70 % established, 20 % TIME_WAIT, the
// rest half closed; half IPv4, half IPv6; a listener for each process.
func fill(b *testing.B, n int) {
	b.Helper()
	for i := 0; n > 0; i++ {
		share := min(n, perMaker)
		n -= share
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(i), strconv.Itoa(share))
		cmd.Env = append(os.Environ(), roleVariable+"="+roleMaker)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			_ = stdin.Close()
			_ = cmd.Wait()
		})
		if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			b.Fatalf("maker %d: %v", i, err)
		}
	}
}

// makeSockets is the maker: it makes the sockets, says so with a line, and
// holds them until its standard input ends.
func makeSockets(index, count string) error {
	i, err := strconv.Atoi(index)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i), 1}), uint16(8000+i))
	if i%2 == 1 {
		address = netip.AddrPortFrom(netip.IPv6Loopback(), uint16(8000+i))
	}
	if err := makeConnections(address, n); err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	fmt.Println("made")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

func makeConnections(address netip.AddrPort, n int) error {
	domain, sockaddr := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()})
	if address.Addr().Is4() {
		domain, sockaddr = unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	}
	listener, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(listener, sockaddr); err != nil {
		return err
	}
	if err := unix.Listen(listener, 16); err != nil {
		return err
	}
	timeWait, halfClosed := n/5, n/10
	for made := 1; made < n; {
		client, err := unix.Socket(domain, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(client, sockaddr); err != nil {
			return err
		}
		server, _, err := unix.Accept(listener)
		if err != nil {
			return err
		}
		switch {
		case timeWait > 0:
			timeWait--
			made++
			_ = unix.Close(server)
			_ = unix.Close(client)
		case halfClosed > 0:
			halfClosed -= 2
			made += 2
			_ = unix.Shutdown(server, unix.SHUT_WR)
		default:
			made += 2
		}
	}
	return nil
}
