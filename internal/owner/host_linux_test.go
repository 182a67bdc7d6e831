package owner

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// roleVariable makes this test binary a server: see serve.
const roleVariable = "PORT_EXPORTER_OWNER_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		if err := serve(role, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(porttest.RunWaiting(m))
}

// serve is a server as a test needs it. It listens on 127.0.0.1:<first
// argument>, says "ready", and ends with its standard input.
//
//	listen            nothing else
//	name NAME         calls itself NAME
//	cgroup DIR DIR    makes its socket in the first cgroup, and moves to the second
//	setuid            gives up root for user 65534
//	prefork           has two workers that inherit the socket
//	worker            is one: it has the socket as descriptor 3
//	manager DIR DIR   is in the first cgroup, its worker in the second
//	systemd DIR DIR   is the same by another name, and starts its worker on SIGUSR1
//	zombie            has a main thread that has ended
//	table             has a thread with descriptors of its own, and the socket there
//	ring              has the socket registered with an io_uring, and no descriptor
//	mapping           has the socket mapped, and no descriptor
//	orphan            has it mapped, and a main thread that has ended
//	message           has sent the socket to itself, and not received it
//	init              is the first process of a pid namespace: see pidNamespace
//	elsewhere STEP…   takes steps: see take
//	report STEP…      is no server: see report
func serve(role string, args []string) error {
	switch role {
	case "report":
		return report(args)
	case "init":
		return serveAsInit()
	case "worker":
		if len(args) > 0 {
			if err := enter(args[0]); err != nil {
				return err
			}
		}
		return ready()
	case "zombie", "orphan":
		go func() {
			err := listenThenServe(map[string]string{"zombie": "listen", "orphan": "mapping"}[role], args)
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}()
		time.Sleep(100 * time.Millisecond) // the main thread alone would be gone, and the process with it
		_, _, err := unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
		return err
	case "table":
		served := make(chan error)
		go func() {
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_FILES); err != nil {
				served <- err
			}
			served <- listenThenServe("listen", args)
		}()
		return <-served
	default:
		return listenThenServe(role, args)
	}
}

// ready says so, and waits for the end of standard input.
func ready() error {
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func listenThenServe(role string, args []string) error {
	if role == "cgroup" || role == "manager" || role == "systemd" {
		if err := enter(args[1]); err != nil {
			return err
		}
	}
	port, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 5); err != nil {
		return err
	}
	switch role {
	case "name":
		err = os.WriteFile("/proc/self/comm", []byte(args[1]), 0)
	case "cgroup":
		err = enter(args[2])
	case "elsewhere":
		_, err = take(args[1:])
	case "setuid":
		err = syscall.Setuid(65534)
	case "prefork":
		for range 2 {
			err = errors.Join(err, startWorker(fd))
		}
	case "manager":
		err = startWorker(fd, args[2])
	case "systemd":
		err = startOnSignal(fd, args[2])
	case "ring":
		err = register(fd)
	case "mapping":
		err = mapSocket(fd)
	case "message":
		err = sendToSelf(fd)
	}
	if err != nil {
		return err
	}
	return ready()
}

// startOnSignal has this process call itself systemd, and start a worker later.
func startOnSignal(fd int, dir string) error {
	started := make(chan os.Signal, 1)
	signal.Notify(started, unix.SIGUSR1)
	go func() {
		<-started
		if err := startWorker(fd, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}()
	return os.WriteFile("/proc/self/comm", []byte("systemd"), 0)
}

func startWorker(fd int, args ...string) error {
	worker := exec.Command("/proc/self/exe", args...)
	worker.Env = append(os.Environ(), roleVariable+"=worker")
	worker.ExtraFiles = []*os.File{os.NewFile(uintptr(fd), "socket")}
	worker.Stdin = os.Stdin
	said, err := worker.StdoutPipe()
	if err != nil {
		return err
	}
	if err := worker.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(said).ReadString('\n')
	return err
}

func enter(cgroup string) error {
	return os.WriteFile(filepath.Join(cgroup, "cgroup.procs"), []byte("0"), 0)
}

// startServer starts a server in the test's namespace. It ends with the test,
// or when stop is called.
func startServer(t *testing.T, binary, role string, port int, args ...string) (pid int32, stop func()) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{strconv.Itoa(port)}, args...)...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	_, stop = porttest.StartReady(t, cmd)
	return int32(cmd.Process.Pid), stop
}

// owners asks for the owners of every listener of the namespace.
func owners(t *testing.T, f *Finder) (byPort map[uint16][]socket.Owner, r Result) {
	t.Helper()
	source, err := sockdiag.New(t.Context())
	if err != nil {
		t.Skipf("SKIP-SOCKDIAG: %v", err)
	}
	table, err := socket.ReadListening(source.Sockets(t.Context(), socket.Listening), socket.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	r = f.Owners(t.Context(), table.Listeners)
	byPort = map[uint16][]socket.Owner{}
	for _, o := range r.Owned {
		byPort[o.Port] = append(byPort[o.Port], o.Owner)
	}
	return byPort, r
}

func self(t *testing.T) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProcessesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	binary := self(t)
	startServer(t, binary, "listen", 80)
	prefork, _ := startServer(t, binary, "prefork", 81)
	startServer(t, binary, "setuid", 82)
	startServer(t, binary, "name", 83, "a\"b\nc)\xff (")
	long := filepath.Join(t.TempDir(), "a_name_longer_than_comm")
	if err := os.Link(binary, long); err != nil {
		data, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		porttest.WriteProgram(t, long, data)
	}
	startServer(t, long, "listen", 84)
	startServer(t, binary, "listen", 85)
	startServer(t, long, "listen", 85)
	if err := os.Remove(long); err != nil {
		t.Fatal(err)
	}

	f := New(NewProcesses("/proc", "", quiet), quiet)
	byPort, r := owners(t, f)
	name := socket.ProcessName(filepath.Base(binary)[:min(15, len(filepath.Base(binary)))], binary)
	one := func(port uint16) socket.Owner {
		t.Helper()
		if len(byPort[port]) != 1 {
			t.Fatalf("port %d has the owners %+v", port, byPort[port])
		}
		return byPort[port][0]
	}
	if o := one(80); o.Process != name || o.Executable != binary || o.User != "root" || o.Deleted {
		t.Errorf("a server: %+v", o)
	}
	if o := one(81); o.PID != prefork {
		t.Errorf("a pre-fork server: %+v, want the parent, %d", o, prefork)
	}
	if o := one(82); o.User != "nobody" || o.Process != name {
		t.Errorf("a server that gave up root: %+v", o)
	}
	if o := one(83); o.Process != filepath.Base(binary) || o.Comm != "a\"b\nc)\xff (" {
		t.Errorf("a name that it gave itself: %q, %+q", o.Process, o.Comm)
	}
	if o := one(84); !o.Deleted || o.Process != "a_name_longer_than_comm" || o.Executable != long {
		t.Errorf("a deleted executable: %+v", o)
	}
	if len(byPort[85]) != 2 || byPort[85][0].Process == byPort[85][1].Process {
		t.Errorf("a group of two programs: %+v", byPort[85])
	}
	if r.Unattributed != 0 || r.Searches != 1 {
		t.Errorf("%d unattributed after %d searches", r.Unattributed, r.Searches)
	}
	if _, r := owners(t, f); r.Searches != 1 {
		t.Errorf("a second call searched again: %d", r.Searches)
	}
}

// TestRestartInNamespace replaces a server by another process on the same port.
func TestRestartInNamespace(t *testing.T) {
	porttest.Namespace(t)
	f := New(NewProcesses("/proc", "", quiet), quiet)
	_, stop := startServer(t, self(t), "listen", 80)
	before, _ := owners(t, f)
	stop()
	startServer(t, self(t), "listen", 80)
	after, _ := owners(t, f)
	if a, b := before[80][0], after[80][0]; a.Identity() != b.Identity() || a.PID == b.PID {
		t.Errorf("before the restart %+v, after it %+v", a, b)
	}
}

// cgroup makes a cgroup of the v2 hierarchy below a name of the test's own.
func cgroup(t *testing.T, name string) string {
	t.Helper()
	mount := newCgroups("/proc", nil).mount
	if mount == "" {
		t.Skip("SKIP-CGROUP: no cgroup v2 hierarchy is mounted")
	}
	top := filepath.Join(mount, fmt.Sprintf("port_exporter_test_%d", os.Getpid()))
	dir := filepath.Join(top, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("SKIP-CGROUP: %v", err)
	}
	t.Cleanup(func() { // cgroups of processes that just ended are busy for a moment
		for range 100 {
			if os.Remove(dir) == nil || !exists(dir) {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		for parent := filepath.Dir(dir); strings.HasPrefix(parent, top); parent = filepath.Dir(parent) {
			_ = os.Remove(parent)
		}
	})
	return dir
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestUnitsAndContainersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	activation, service := cgroup(t, "web.socket"), cgroup(t, "web.service")
	docker := cgroup(t, "system.slice/docker-"+id64+".scope")
	startServer(t, self(t), "cgroup", 80, activation, service)
	startServer(t, self(t), "cgroup", 81, service, service)
	startServer(t, self(t), "cgroup", 82, docker, docker)

	byPort, r := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
	for port, want := range map[uint16]socket.Owner{
		80: {Unit: "web.socket"},
		81: {Unit: "web.service"},
		82: {Container: "docker-" + id12},
	} {
		got := byPort[port][0]
		if got.Unit != want.Unit || got.Container != want.Container || got.Process == "" {
			t.Errorf("port %d: %+v, want %+v", port, got, want)
		}
	}
	if r.Unattributed != 0 {
		t.Errorf("%d unattributed", r.Unattributed)
	}
}

// TestCgroupShapesInNamespace makes listeners in cgroups of the shapes that
// runtimes make.
func TestCgroupShapesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	slice := strings.ReplaceAll(podID, "-", "_") + ".slice"
	kubelet := "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod" + slice
	shapes := []string{
		"docker/" + id64 + "/init",
		"system.slice/docker-" + id64 + ".scope/system.slice/a.service",
		"system.slice/docker-" + id64 + ".scope/" + kubelet + "/cri-containerd-" + id64B + ".scope",
		"system.slice/web.service/libpod-payload-" + id64,
		"system.slice/containerd.service/kubepods-burstable-pod" + slice + ":cri-containerd:" + id64,
		"kubepods/burstable/pod" + podID + "/" + id64,
		"kubepods/burstable/pod" + podID + "/kata_" + id64,
		"machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
		`machine.slice/machine-qemu\x2d3\x2dvm1.scope`,
		"lxc.payload.web/system.slice/nginx.service",
		"lxc.payload.web/docker/" + id64,
		"ecs/" + task + "/" + task + "-3456789012",
		"nomad.slice/share.slice/" + podID + ".web.scope",
		"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id64 + ".scope/container",
	}
	for i, shape := range shapes {
		dir := cgroup(t, shape)
		startServer(t, self(t), "cgroup", 8000+i, dir, dir)
	}
	byPort, _ := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
	for i, shape := range shapes {
		want, known := cgroupShapes()["/"+shape]
		got := byPort[uint16(8000+i)][0]
		if !known || got.Unit != want[0] || got.Container != want[1] {
			t.Errorf("%s: unit %q, container %q; want %q (%t)", shape, got.Unit, got.Container, want, known)
		}
	}
}

// TestLaterCgroupInNamespace starts a service right after a scrape has walked
// the cgroups.
func TestLaterCgroupInNamespace(t *testing.T) {
	porttest.Namespace(t)
	f := New(NewProcesses("/proc", "", quiet), quiet)
	for port, name := range map[int]string{80: "first", 81: "second"} {
		startServer(t, self(t), "cgroup", port, cgroup(t, name+".socket"), cgroup(t, name+".service"))
		byPort, _ := owners(t, f)
		if got := byPort[uint16(port)][0].Unit; got != name+".socket" {
			t.Errorf("%s: unit %q", name, got)
		}
	}
}

// TestHandOverInNamespace passes a socket on to a process that keeps it when
// the first one closes it.
func TestHandOverInNamespace(t *testing.T) {
	porttest.Namespace(t)
	now := time.Now()
	f := New(NewProcesses("/proc", "", quiet), quiet)
	f.now = func() time.Time { return now }

	listener := porttest.Listen(t, "127.0.0.1:80", 5)
	before, _ := owners(t, f)
	if got := before[80][0].PID; got != int32(os.Getpid()) {
		t.Fatalf("the owner is %d, want the test", got)
	}
	file := os.NewFile(uintptr(listener), "listener")
	worker := exec.Command("/proc/self/exe")
	worker.Env = append(os.Environ(), roleVariable+"=worker")
	worker.ExtraFiles = []*os.File{file}
	stdin, err := worker.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	defer worker.Wait()
	defer stdin.Close()
	_ = file.Close()

	now = now.Add(recheckAfter)
	after, _ := owners(t, f)
	if got := after[80][0].PID; got != int32(worker.Process.Pid) {
		t.Errorf("after the hand-over the owner is %d, want %d", got, worker.Process.Pid)
	}
}

// TestVanishingProcesses reads /proc while processes come and go.
func TestVanishingProcesses(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("true").Run()
			}
		}
	}()
	host := NewProcesses("/proc", "", quiet)
	for range 20 {
		host.Find(t.Context(), []socket.Member{{Inode: 1<<63 + 1}}, func(_ uint64, f Found) {
			if f.Fate == Held {
				t.Errorf("found %+v", f)
			}
		})
	}
	close(stop)
	<-done
}

func TestProcfsThatIsNotThere(t *testing.T) {
	host := NewProcesses(filepath.Join(t.TempDir(), "proc"), "", quiet)
	host.Find(t.Context(), []socket.Member{{Inode: 1, CgroupID: 5}}, func(_ uint64, f Found) {
		t.Errorf("found %+v", f)
	})
	if seen := host.Look(t.Context(), Process{}, nil); !seen.Gone {
		t.Errorf("a process was found: %+v", seen)
	}
	if unit, container := host.Unit(t.Context(), socket.Member{CgroupID: 5}); unit != "" || container != "" {
		t.Errorf("unit %q, container %q", unit, container)
	}
}

func TestMissingPrivileges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("SKIP-ROOT: only root can tell that nothing is missing")
	}
	if missing := NewProcesses("/proc", "", quiet).Missing(); strings.Contains(strings.Join(missing, " "), "DAC") {
		t.Errorf("root lacks %v", missing)
	}
}
