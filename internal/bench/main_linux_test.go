package bench

import (
	"bufio"
	"errors"
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
		exitOn(makeSockets(flag.Arg(0)))
	case role == roleOuter:
		// As many buckets as a 24 GiB host has.
		exitOn(os.WriteFile("/proc/sys/net/ipv4/tcp_child_ehash_entries", []byte("262144"), 0))
		exitOn(inNewNamespace(roleInner))
	case role == roleInner:
		exitOn(os.WriteFile("/proc/sys/net/ipv4/tcp_max_tw_buckets", []byte("1000000"), 0))
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

// makers are processes that hold sockets in this namespace until the benchmark
// ends.
type makers []maker

type maker struct {
	say  io.Writer
	hear *bufio.Reader
}

// startMakers starts as many processes as it takes to hold n sockets, each with a
// listener of its own: half of them IPv4, half IPv6.
func startMakers(b *testing.B, n int) makers {
	b.Helper()
	var all makers
	for i := range (n + perMaker - 1) / perMaker {
		cmd := exec.Command("/proc/self/exe", strconv.Itoa(i))
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
		all = append(all, maker{stdin, bufio.NewReader(stdout)})
	}
	return all
}

// fill has them hold n sockets of a realistic mix: 70 % established, 10 % half
// closed, 20 % in TIME_WAIT, which come last, for they last a minute.
func (all makers) fill(b *testing.B, n int) {
	b.Helper()
	share := n / len(all)
	all.order(b, "established", share*7/10)
	all.order(b, "half_closed", share/10)
	all.order(b, "time_wait", share/5)
}

// order has each of them hold so many sockets of a kind, and waits until they do.
func (all makers) order(b *testing.B, kind string, n int) {
	b.Helper()
	for i, m := range all {
		if _, err := fmt.Fprintf(m.say, "%s %d\n", kind, n); err != nil {
			b.Fatalf("maker %d: %v", i, err)
		}
	}
	for i, m := range all {
		if _, err := m.hear.ReadString('\n'); err != nil {
			b.Fatalf("maker %d: %v", i, err)
		}
	}
}

// makeSockets is a maker: it executes commands until its standard input ends.
func makeSockets(index string) error {
	i, err := strconv.Atoi(index)
	if err != nil {
		return err
	}
	address := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i), 1}), uint16(8000+i))
	if i%2 == 1 {
		address = netip.AddrPortFrom(netip.IPv6Loopback(), uint16(8000+i))
	}
	s, err := listenOn(address)
	if err != nil {
		return fmt.Errorf("%s: %w", address, err)
	}
	made := map[string]int{}
	for {
		var kind string
		var n int
		if _, err := fmt.Scanln(&kind, &n); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if kind == "time_wait" { // those of the last time may be gone
			made[kind] = 0
		}
		for made[kind] < n {
			sockets, err := s.connect(kind)
			if err != nil {
				return fmt.Errorf("%s: %s: %w", address, kind, err)
			}
			made[kind] += sockets
		}
		fmt.Println("made")
	}
}

// service is a listener that connects to itself.
type service struct {
	listener, domain int
	address          unix.Sockaddr
}

func listenOn(address netip.AddrPort) (*service, error) {
	s := &service{domain: unix.AF_INET6, address: &unix.SockaddrInet6{Port: int(address.Port()), Addr: address.Addr().As16()}}
	if address.Addr().Is4() {
		s.domain, s.address = unix.AF_INET, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}
	}
	var err error
	if s.listener, err = unix.Socket(s.domain, unix.SOCK_STREAM, 0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(s.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, err
	}
	if err := unix.Bind(s.listener, s.address); err != nil {
		return nil, err
	}
	return s, unix.Listen(s.listener, 16)
}

// connect makes one connection and returns how many sockets it leaves.
func (s *service) connect(kind string) (sockets int, err error) {
	client, err := unix.Socket(s.domain, unix.SOCK_STREAM, 0)
	if err != nil {
		return 0, err
	}
	if err := unix.Connect(client, s.address); err != nil {
		return 0, err
	}
	server, _, err := unix.Accept(s.listener)
	if err != nil {
		return 0, err
	}
	switch kind {
	case "time_wait":
		return 1, errors.Join(unix.Close(server), unix.Close(client))
	case "half_closed":
		return 2, unix.Shutdown(server, unix.SHUT_WR)
	default:
		return 2, nil
	}
}
