package netns

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// child makes this program a process with sockets in a namespace of its own, whose
// number decides how many: see serve.
const child = "NETNS_TEST_CHILD"

func TestMain(m *testing.M) {
	if number, err := strconv.Atoi(os.Getenv(child)); err == nil {
		if err := serve(number); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve has listeners, as many connections as its number says, and one in TIME_WAIT,
// until standard input ends. With the number 0 it has nothing but a listener.
func serve(number int) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		return err
	}
	if number > 0 {
		if err := connect(l, number); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func connect(l net.Listener, number int) error {
	for i := range number + 1 {
		client, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			return err
		}
		server, err := l.Accept()
		if err != nil {
			return err
		}
		if i == number { // the client's end stays in TIME_WAIT
			_ = client.Close()
			if _, err := io.Copy(io.Discard, server); err != nil {
				return err
			}
			_ = server.Close()
		}
		defer func() { _, _ = client, server }() // they stay open
	}
	if _, err := net.Listen("tcp6", "[::1]:9090"); err != nil {
		return err
	}
	if _, err := net.ListenPacket("udp", "127.0.0.1:53"); err != nil {
		return err
	}
	_, err := net.Dial("udp4", "127.0.0.1:53")
	return err
}

// startChild returns the pid of a child in a network namespace of its own.
func startChild(t testing.TB, number int) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this program
	cmd.Env = append(os.Environ(), child+"="+strconv.Itoa(number))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	_, stop = porttest.StartReady(t, cmd)
	return cmd.Process.Pid, stop
}

func newEngine(t testing.TB) (*SockDiag, *Worker) {
	t.Helper()
	diag, err := sockdiag.New(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	worker := new(Worker)
	return NewSockDiag("/proc", diag, worker), worker
}

func newReader(t testing.TB) *Reader {
	t.Helper()
	engine, worker := newEngine(t)
	return NewReader(Options{Engine: engine, Worker: worker, Procfs: "/proc", Logger: slog.New(slog.DiscardHandler),
		EphemeralPorts: func() (socket.EphemeralPorts, error) { return socket.EphemeralPorts{}, nil }})
}

func inode(t testing.TB, pid int) uint64 {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", pid), &stat); err != nil {
		t.Fatal(err)
	}
	return stat.Ino
}

// TestSocketsInNamespace compares what is read of namespaces with what ss says in them.
func TestSocketsInNamespace(t *testing.T) {
	ss, err := exec.LookPath("ss")
	if err != nil {
		t.Skip("SKIP-ss")
	}
	engine, _ := newEngine(t)
	children := map[uint64]int{} // pids by inode
	for number := range 3 {
		pid, _ := startChild(t, number)
		children[inode(t, pid)] = pid
	}
	for range 2 { // the second read knows which listeners there are
		found := map[uint64]Sockets{}
		all, err := engine.Read(t.Context(), func() Places { return findPlaces(t.Context(), "/proc") })
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			found[s.Inode] = s
		}
		for inode, pid := range children {
			s := found[inode]
			if s.Depth != Full || s.Cookie == 0 {
				t.Fatalf("namespace of %d: %+v", pid, s)
			}
			want := ssRows(t, ss, pid)
			if len(want) == 0 {
				t.Fatalf("ss shows nothing in the namespace of %d", pid)
			}
			if diff := cmp.Diff(want, rows(t, s.Source)); diff != "" {
				t.Errorf("namespace of %d: -ss +read:\n%s", pid, diff)
			}
		}
	}
}

// rows returns the sockets of a source as ss writes them.
func rows(t testing.TB, source socket.Source) []string {
	t.Helper()
	names := map[socket.State]string{socket.Listen: "LISTEN", socket.Established: "ESTAB", socket.TimeWait: "TIME-WAIT",
		socket.Unconnected: "UNCONN", socket.Connected: "ESTAB"}
	var rows []string
	for _, want := range []socket.StateSet{socket.Listening, socket.Connections} {
		for s, err := range source.Sockets(t.Context(), want) {
			if err != nil {
				t.Fatal(err)
			}
			rows = append(rows, fmt.Sprintf("%v %s %v %d", s.Protocol, names[s.State], s.Local, s.Remote.Port()))
		}
	}
	slices.Sort(rows)
	return rows
}

func ssRows(t testing.TB, ss string, pid int) []string {
	t.Helper()
	out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-n", ss, "-tuanH").CombinedOutput() //nolint:gosec // a child of this test
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var rows []string
	for lines := bufio.NewScanner(strings.NewReader(string(out))); lines.Scan(); {
		f := strings.Fields(lines.Text())
		_, port, _ := strings.Cut(f[5], ":")
		if at := strings.LastIndexByte(f[5], ':'); at >= 0 {
			port = f[5][at+1:]
		}
		rows = append(rows, strings.Join([]string{f[0], f[1], f[4], strings.Replace(port, "*", "0", 1)}, " "))
	}
	slices.Sort(rows)
	return rows
}

// TestNothingIsKeptInNamespace makes and destroys namespaces while they are read: no
// thread stays in them, no descriptor and no mount is left, and the devices of each are
// gone when its process is. CHURN is how many.
func TestNothingIsKeptInNamespace(t *testing.T) {
	porttest.Namespace(t) // the devices of the children are here
	home := inode(t, os.Getpid())
	reader := newReader(t)
	read := func() {
		if _, err := reader.Read(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	}
	read() // the worker has its thread
	descriptors, mounts := entries(t, "/proc/self/fd"), mountsOf(t)

	stop := make(chan struct{})
	var reading sync.WaitGroup
	for range 2 {
		reading.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					read()
				}
			}
		})
	}
	churn, _ := strconv.Atoi(os.Getenv("CHURN"))
	for i := range max(4, churn) {
		churnOne(t, i)
	}
	close(stop)
	reading.Wait()

	self := unix.Gettid() // is in the namespace of the test
	for _, tid := range entries(t, "/proc/self/task") {
		var stat unix.Stat_t
		if unix.Stat("/proc/self/task/"+tid+"/ns/net", &stat) == nil && stat.Ino != home && tid != strconv.Itoa(self) {
			t.Errorf("thread %s is in namespace %d", tid, stat.Ino)
		}
	}
	porttest.Await(t, "descriptors to be closed", func() bool { return len(entries(t, "/proc/self/fd")) <= len(descriptors) })
	if now := mountsOf(t); now > mounts {
		t.Errorf("%d mounts of namespaces before, %d after", mounts, now)
	}
}

// churnOne makes a namespace with a device that has its other end here.
func churnOne(t *testing.T, number int) {
	t.Helper()
	pid, end := startChild(t, number%3)
	name := fmt.Sprintf("ve%d", number)
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // some reads
	end()
	began := time.Now()
	porttest.Await(t, name+" to go", func() bool {
		_, err := netlink.LinkByName(name)
		return err != nil
	})
	t.Logf("%s was gone after %v", name, time.Since(began).Round(time.Millisecond))
}

func entries(t testing.TB, dir string) []string {
	t.Helper()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// mountsOf counts the mounted namespaces of which this process has the only name.
func mountsOf(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(text), " nsfs ")
}

// TestMountedInNamespace finds a namespace without a process, by its mount, and names it
// as ip-netns(8) does.
func TestMountedInNamespace(t *testing.T) {
	ip, err := exec.LookPath("ip")
	if err != nil {
		t.Skip("SKIP-ip")
	}
	name := fmt.Sprintf("port_exporter_test_%d", os.Getpid())
	if out, err := exec.Command(ip, "netns", "add", name).CombinedOutput(); err != nil { //nolint:gosec // a constant
		t.Skipf("SKIP-NAMESPACE: ip netns add: %v: %s", err, out)
	}
	gone := sync.OnceFunc(func() { _ = exec.Command(ip, "netns", "del", name).Run() }) //nolint:gosec // a constant
	t.Cleanup(gone)
	reader := newReader(t)
	named := func() bool {
		found, err := reader.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(found.Namespaces, func(n Namespace) bool { return n.Name == name })
	}
	if named() {
		t.Error("an empty namespace has sockets")
	}
	fd := socketIn(t, filepath.Join("/run/netns", name))
	if !named() {
		t.Error("the namespace is not found")
	}
	_ = unix.Close(fd)
	gone()
	if named() {
		t.Error("the namespace is still there")
	}
}

// socketIn returns a UDP socket in a namespace, in which no process is.
func socketIn(t testing.TB, path string) (fd int) {
	t.Helper()
	err := new(Worker).Do(t.Context(), path, func(uint64) (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: 53})
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestPortsOfClosed are those that the kernel starts with, where a namespace may not be
// entered: with BPF its sockets are read all the same.
func TestPortsOfClosed(t *testing.T) {
	want := socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}
	r := NewReader(Options{Worker: new(Worker), Procfs: "/proc", DefaultPorts: want})
	got, err := r.ports(t.Context(), 1, Places{})
	if diff := cmp.Diff(want, got); diff != "" || err == nil {
		t.Errorf("error %v, -want +got:\n%s", err, diff)
	}
}

// TestRefusedIsNotGone where the last place of a namespace is gone and another refused.
func TestRefusedIsNotGone(t *testing.T) {
	const refused, gone = "/proc/version/ns/net", "/proc/0/ns/net"
	for _, paths := range [][]string{{refused, gone}, {gone, refused}} {
		if err := new(Worker).doAny(t.Context(), 1, paths, nil); !errors.Is(err, unix.ENOTDIR) {
			t.Errorf("%v: %v", paths, err)
		}
	}
	if err := new(Worker).doAny(t.Context(), 1, []string{gone}, nil); !errors.Is(err, ErrGone) {
		t.Errorf("%s: %v", gone, err)
	}
}
