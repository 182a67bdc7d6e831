package owner

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// register registers a socket with an io_uring (io_uring_register(2),
// IORING_REGISTER_FILES) and closes it.
func register(fd int) error {
	const setup, registering, files = 425, 427, 2
	parameters := make([]byte, 120)
	ring, _, errno := unix.Syscall(setup, 4, uintptr(unsafe.Pointer(&parameters[0])), 0)
	if errno != 0 {
		return fmt.Errorf("io_uring_setup: %w", errno)
	}
	fds := []int32{int32(fd)}
	if _, _, errno := unix.Syscall6(registering, ring, files, uintptr(unsafe.Pointer(&fds[0])), 1, 0, 0); errno != 0 {
		return fmt.Errorf("io_uring_register: %w", errno)
	}
	return unix.Close(fd)
}

// mapSocket maps a socket (TCP_ZEROCOPY_RECEIVE in tcp(7)) and closes it. With it, a
// packet socket whose ring is mapped (PACKET_RX_RING in packet(7)).
func mapSocket(fd int) error {
	packet, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		return err
	}
	const block, blocks = 4096, 4
	ring := unix.TpacketReq{Block_size: block, Block_nr: blocks, Frame_size: block / 2, Frame_nr: 2 * blocks}
	if err := unix.SetsockoptTpacketReq(packet, unix.SOL_PACKET, unix.PACKET_RX_RING, &ring); err != nil {
		return err
	}
	if _, err := unix.Mmap(packet, 0, block*blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return err
	}
	if _, err := unix.Mmap(fd, 0, block, unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return err
	}
	return errors.Join(unix.Close(packet), unix.Close(fd))
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// sendToSelf sends a socket through a pair of unix sockets, and closes it.
func sendToSelf(fd int) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(fd), nil, 0); err != nil {
		return err
	}
	return unix.Close(fd)
}

// serveAsInit mounts a /proc of its own pid namespace.
func serveAsInit() error {
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return err
	}
	return ready()
}

// pidNamespace makes a pid namespace, in which the test's processes are from then
// on, and returns a host that takes it for the whole system.
func pidNamespace(t *testing.T) *linuxHost {
	t.Helper()
	cmd := exec.Command(self(t))
	cmd.Env = append(os.Environ(), roleVariable+"=init")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	porttest.StartReady(t, cmd) // it takes all others along
	dir := filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid))
	namespace, err := os.Open(filepath.Join(dir, "ns/pid"))
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWPID); err != nil {
		t.Fatal(err)
	}
	host := newLinuxHost(filepath.Join(dir, "root/proc"), "", quiet)
	if host.everyProcess, err = os.Readlink(filepath.Join(dir, "ns/pid")); err != nil {
		t.Fatal(err)
	}
	return host
}

// TestThreadsInNamespace has a process whose main thread has ended, and one with
// a thread that has descriptors of its own.
func TestThreadsInNamespace(t *testing.T) {
	for _, role := range []string{"zombie", "table"} {
		t.Run(role, func(t *testing.T) {
			porttest.Namespace(t)
			pid, _ := startServer(t, self(t), role, 80)
			s := newScene(t, NewProcesses("/proc", "", quiet))
			porttest.Await(t, "the main thread to be where it should", func() bool {
				stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
				p, parseErr := parseStat(stat)
				return err == nil && parseErr == nil && (p.state == 'Z') == (role == "zombie")
			})
			for _, when := range []string{"at first", "a minute later"} {
				byPort, r := s.scrape(t)
				if o := byPort[80][0]; o.PID != pid || o.Executable != self(t) || o.User != "root" || o.Process == "" {
					t.Errorf("%s: %+v", when, o)
				}
				if r.Searches != 1 {
					t.Errorf("%s: %d searches", when, r.Searches)
				}
				s.now = s.now.Add(recheckAfter)
			}
		})
	}
}

// TestThreadsThatCannotBeComparedInNamespace has such a thread where /proc is of
// another pid namespace than the test, so that kcmp(2) is of no use.
func TestThreadsThatCannotBeComparedInNamespace(t *testing.T) {
	porttest.Namespace(t)
	host := pidNamespace(t)
	if host.canCompare() {
		t.Error("threads of another pid namespace can be compared")
	}
	startServer(t, self(t), "table", 80)
	if byPort, _ := newScene(t, host).scrape(t); byPort[80][0].PID == 0 || byPort[80][0].Executable != self(t) {
		t.Errorf("%+v", byPort[80])
	}
}

// TestRingInNamespace has a socket that is registered with an io_uring and no
// descriptor of any process.
func TestRingInNamespace(t *testing.T) {
	porttest.Namespace(t)
	if setting, err := os.ReadFile("/proc/sys/kernel/io_uring_disabled"); err != nil || string(setting) != "0\n" {
		t.Skipf("SKIP-IOURING: kernel.io_uring_disabled is %q, %v", setting, err)
	}
	pid, _ := startServer(t, self(t), "ring", 80)
	s := newScene(t, NewProcesses("/proc", "", quiet))
	for range 2 {
		byPort, r := s.scrape(t)
		if o := byPort[80][0]; o.PID != pid || r.Searches != 1 {
			t.Errorf("%+v after %d searches", o, r.Searches)
		}
		s.now = s.now.Add(recheckAfter)
	}
}

// TestMappingsInNamespace has sockets that no process has a descriptor of, but one a
// mapping: they are its own, and not the kernel's.
func TestMappingsInNamespace(t *testing.T) {
	for _, role := range []string{"mapping", "orphan"} {
		t.Run(role, func(t *testing.T) {
			porttest.Namespace(t)
			host := pidNamespace(t)
			startServer(t, self(t), role, 80)
			s := newScene(t, host)
			for range 3 {
				byPort, r := s.scrape(t)
				if o := byPort[80][0]; o.PID == 0 || o.Executable != self(t) || r.Searches != 1 {
					t.Errorf("%+v after %d searches", o, r.Searches)
				}
				s.now = s.now.Add(recheckAfter)
			}
			packets, err := sockdiag.Packets(t.Context(), 8)
			if err != nil {
				t.Fatal(err)
			}
			r := New(host, quiet).Owners(t.Context(), packets.Listeners)
			if len(r.Owned) != 1 || r.Owned[0].Owner.PID == 0 || r.Owned[0].Owner.Executable != self(t) {
				t.Errorf("the packet socket: %+v", r.Owned)
			}
		})
	}
}

// TestUserManagerInNamespace has a systemd of a user, and one in a container,
// that listens for a service of its own.
func TestUserManagerInNamespace(t *testing.T) {
	for name, want := range map[string]socket.Owner{
		"user@1000.service":         {Unit: "user@1000.service/web.service"},
		"docker-" + id64 + ".scope": {Container: "docker-" + id12},
	} {
		t.Run(name[:6], func(t *testing.T) {
			porttest.Namespace(t)
			manager, service := cgroup(t, name+"/init.scope"), cgroup(t, name+"/web.service")
			pid, _ := startServer(t, self(t), "manager", 80, manager, service)
			startServer(t, self(t), "cgroup", 81, manager, manager)
			s := newScene(t, NewProcesses("/proc", "", quiet))
			for _, when := range []string{"at first", "a minute later"} {
				byPort, _ := s.scrape(t)
				if o := byPort[80][0]; o.PID == pid || o.PID == 0 || want.Unit != "" && o.Unit != want.Unit || o.Container != want.Container {
					t.Errorf("%s: %+v, want %+v and not the manager, %d", when, o, want, pid)
				}
				if o := byPort[81][0]; o.PID == 0 {
					t.Errorf("%s: the manager's own: %+v", when, o)
				}
				s.now = s.now.Add(recheckAfter)
			}
		})
	}
}

// TestWaitingForAServiceInNamespace has a systemd that listens for a service which does
// not run for two hours: /proc is not searched each minute. The service is found as
// soon as it runs.
func TestWaitingForAServiceInNamespace(t *testing.T) {
	t.Parallel()
	porttest.Namespace(t)
	const user = "user@1000.service/"
	manager, service := cgroup(t, user+"init.scope"), cgroup(t, user+"web.service")
	pid, _ := startServer(t, self(t), "systemd", 80, manager, service)
	s := newScene(t, NewProcesses("/proc", "", quiet))
	var searches uint64
	for range 2 * 60 {
		byPort, r := s.scrape(t)
		if o := byPort[80][0]; o.PID != pid {
			t.Fatalf("before the service runs: %+v", o)
		}
		searches = r.Searches
		s.now = s.now.Add(recheckAfter)
	}
	if searches > 8 {
		t.Errorf("%d searches in two hours", searches)
	}
	if err := unix.Kill(int(pid), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	porttest.Await(t, "the service to run", func() bool {
		pids, err := os.ReadFile(filepath.Join(service, "cgroup.procs"))
		return err == nil && len(pids) > 0
	})
	s.now = s.now.Add(recheckAfter)
	byPort, r := s.scrape(t)
	if o := byPort[80][0]; o.PID == pid || o.Unit != user+"web.service" || r.Searches != searches+1 {
		t.Errorf("when it runs: %+v after %d searches", o, r.Searches)
	}
}

// TestKernelListenersInNamespace has a VXLAN device and an MPTCP endpoint, whose
// sockets no process has.
func TestKernelListenersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	host := pidNamespace(t)
	ports := kernelListeners(t)
	startServer(t, self(t), "listen", 80)
	s := newScene(t, host)
	searches := uint64(0)
	for range 2 * 60 {
		byPort, r := s.scrape(t)
		for _, port := range ports {
			if o := byPort[port][0]; o.Process != socket.Kernel || o.User != "root" || o.PID != 0 || o.Pending {
				t.Fatalf("port %d: %+v", port, o)
			}
		}
		for _, o := range r.Owned {
			if o.Owner.Process == socket.Kernel && o.MayBeClient {
				t.Fatalf("port %d may be a client's", o.Port)
			}
		}
		if byPort[80][0].PID == 0 || r.Unattributed != 0 {
			t.Fatalf("%d unattributed, %+v", r.Unattributed, byPort[80])
		}
		searches = r.Searches
		s.now = s.now.Add(recheckAfter)
	}
	if searches > 8 {
		t.Errorf("%d searches in two hours", searches)
	}
}

// kernelListeners makes listening sockets of the kernel and returns their ports.
func kernelListeners(t *testing.T) []uint16 {
	t.Helper()
	vxlan := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 42, Port: 4789, Learning: true}
	if err := netlink.LinkAdd(vxlan); err != nil {
		t.Skipf("SKIP-VXLAN: %v", err)
	}
	if err := netlink.LinkSetUp(vxlan); err != nil {
		t.Fatal(err)
	}
	ports := []uint16{4789}
	out, err := exec.Command("ip", "mptcp", "endpoint", "add", "127.0.0.1", "port", "9999", "signal").CombinedOutput()
	if err == nil {
		return append(ports, 9999)
	}
	t.Logf("no MPTCP endpoint: %v %s", err, out)
	return ports
}

// TestNotTheKernelsInNamespace has what looks like a listener of the kernel, and
// something that says it need not be.
func TestNotTheKernelsInNamespace(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, host *linuxHost){
		"a socket in a message": func(t *testing.T, _ *linuxHost) { startServer(t, self(t), "message", 80) },
		"nothing that answers":  func(_ *testing.T, host *linuxHost) { host.calls = beside.New(beside.Limits{}, nil) },
		"not every process":     func(_ *testing.T, host *linuxHost) { host.everyProcess = initialPIDNamespace },
		"a user's socket": func(t *testing.T, _ *linuxHost) {
			if err := unix.Setfsuid(65534); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			porttest.Namespace(t)
			host := pidNamespace(t)
			prepare(t, host)
			porttest.Listen(t, "127.0.0.1:81", 5) // only this process has it, which the host does not see
			byPort, _ := newScene(t, host).scrape(t)
			for _, port := range []uint16{80, 81} {
				for _, o := range byPort[port] {
					if o.Process != "" {
						t.Errorf("port %d: %+v", port, o)
					}
				}
			}
		})
	}
}
