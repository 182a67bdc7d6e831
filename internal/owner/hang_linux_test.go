package owner

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/beside"
	"github.com/port-exporter/port_exporter/internal/porttest"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// scene is a finder in a test's namespace, whose clock the test sets.
type scene struct {
	*Finder
	source socket.Source
	now    time.Time
}

func newScene(t *testing.T, host Processes) *scene {
	t.Helper()
	source, err := sockdiag.New(t.Context())
	if err != nil {
		t.Skipf("SKIP-SOCKDIAG: %v", err)
	}
	s := &scene{Finder: New(host, quiet), source: source, now: time.Now()}
	s.Finder.now = func() time.Time { return s.now }
	return s
}

// scrape returns the owners by port, within a time that a scrape has.
func (s *scene) scrape(t *testing.T) (map[uint16][]socket.Owner, Result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	table, err := socket.ReadListening(s.source.Sockets(ctx, socket.Listening), socket.Criteria{})
	if err != nil {
		t.Fatal(err)
	}
	r := s.Owners(ctx, table.Listeners)
	byPort := map[uint16][]socket.Owner{}
	for _, o := range r.Owned {
		byPort[o.Port] = append(byPort[o.Port], o.Owner)
	}
	return byPort, r
}

// TestDeadFileSystemInNamespace has a listener whose program was removed from a
// file system that answers no more.
func TestDeadFileSystemInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.MountNamespace(t)
	content, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := mountFUSE(t, dir, content)
	program := filepath.Join(dir, "program")
	// By way of a shell: until exec(2) has read the program, Go stops the thread that forks,
	// with what the file system may need that this process serves.
	cmd := exec.Command("sh", "-c", `exec "$0" 80`, program)
	cmd.Env = append(os.Environ(), roleVariable+"=listen")
	porttest.StartReady(t, cmd)
	startServer(t, self(t), "listen", 81)
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	f.silent.Store(true)

	s := newScene(t, NewProcesses("/proc", "", quiet))
	for _, when := range []string{"at first", "a minute later"} {
		byPort, r := s.scrape(t)
		if r.Pending != 0 || r.Unattributed != 0 || r.Busy {
			t.Errorf("%s: %d pending, %d unattributed, busy %t", when, r.Pending, r.Unattributed, r.Busy)
		}
		if o := byPort[80][0]; o.Executable != program || !o.Deleted || o.User != "root" {
			t.Errorf("%s: %+v", when, o)
		}
		if o := byPort[81][0]; o.Executable != self(t) || o.Deleted {
			t.Errorf("%s: another listener: %+v", when, o)
		}
		s.now = s.now.Add(recheckAfter)
	}
	if n := f.lookups.Load(); n != 0 {
		t.Errorf("the file system was asked %d times", n)
	}
}

// TestNameThatEndsInDeletedInNamespace runs a program whose name only looks as if
// it were deleted, and then removes it.
func TestNameThatEndsInDeletedInNamespace(t *testing.T) {
	porttest.Namespace(t)
	odd := filepath.Join(t.TempDir(), "odd (deleted)")
	content, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	porttest.WriteProgram(t, odd, content)
	startServer(t, odd, "listen", 80)
	s := newScene(t, NewProcesses("/proc", "", quiet))
	byPort, _ := s.scrape(t)
	if o := byPort[80][0]; o.Executable != odd || o.Deleted {
		t.Errorf("while it is there: %+v", o)
	}
	if err := os.Remove(odd); err != nil {
		t.Fatal(err)
	}
	s.now = s.now.Add(recheckAfter)
	byPort, _ = s.scrape(t)
	if o := byPort[80][0]; o.Executable != odd || !o.Deleted {
		t.Errorf("after it was removed: %+v", o)
	}
}

// TestHungProcessInNamespace has a process whose files in /proc do not answer,
// first one that is new and then one that is known. Only its own listener is
// concerned, and all is well when it answers again.
func TestHungProcessInNamespace(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"stat", "fd"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			porttest.Namespace(t)
			procfs, elsewhere := privateProc(t, porttest.MountNamespace(t))
			hung, _ := startServer(t, self(t), "listen", 80)
			startServer(t, self(t), "listen", 81)
			cover := func() func() {
				path := filepath.Join(procfs, strconv.Itoa(int(hung)), what)
				if what == "fd" {
					return porttest.HangDirectory(t, path)
				}
				return porttest.HangFile(t, path)
			}
			release := cover()

			s := newScene(t, NewProcesses(elsewhere, "", quiet))
			for range 2 {
				byPort, r := s.scrape(t)
				if o := byPort[80][0]; !o.Pending || o.Process != "" || o.User != "root" {
					t.Errorf("the process that hangs: %+v", o)
				}
				if o := byPort[81][0]; o.Pending || o.Process == "" {
					t.Errorf("another one: %+v", o)
				}
				if r.Pending != 1 || r.Busy {
					t.Errorf("%d pending, busy %t", r.Pending, r.Busy)
				}
				s.now = s.now.Add(retryAfter)
			}
			release()
			porttest.Await(t, "the process to be known", func() bool {
				s.now = s.now.Add(retryAfter)
				byPort, _ := s.scrape(t)
				return byPort[80][0].PID == hung
			})

			release = cover()
			s.now = s.now.Add(recheckAfter)
			startServer(t, self(t), "listen", 82)
			byPort, r := s.scrape(t)
			if r.Pending != 0 || byPort[80][0].PID != hung || byPort[81][0].PID == 0 || byPort[82][0].PID == 0 {
				t.Errorf("%d pending: %+v", r.Pending, byPort)
			}
			release()
		})
	}
}

// TestManyHungProcessesInNamespace has more processes of one user that do not answer
// than are waited for. The rest of the user's listeners may be pending.
func TestManyHungProcessesInNamespace(t *testing.T) {
	t.Parallel()
	porttest.Namespace(t)
	procfs, elsewhere := privateProc(t, porttest.MountNamespace(t))
	known, _ := startServer(t, self(t), "listen", 80)
	host := newLinuxHost(elsewhere, "", quiet)
	s := newScene(t, host)
	if byPort, _ := s.scrape(t); byPort[80][0].PID != known {
		t.Fatalf("at first: %+v", byPort[80])
	}
	var releases []func()
	for i := range 2 * maxStuck {
		pid, _ := startServer(t, self(t), "listen", 100+i)
		releases = append(releases, porttest.HangFile(t, filepath.Join(procfs, strconv.Itoa(int(pid)), "stat")))
	}
	host.calls = beside.New(beside.Limits{All: maxAllStuck, Each: maxStuck, Patience: 10 * time.Millisecond}, nil)
	s.now = s.now.Add(recheckAfter)
	byPort, r := s.scrape(t)
	if r.Pending != 2*maxStuck || byPort[80][0].PID != known {
		t.Errorf("%d pending; what was known: %+v", r.Pending, byPort[80])
	}
	for _, release := range releases {
		release()
	}
	host.calls = beside.New(beside.Limits{All: maxAllStuck, Each: maxStuck, Patience: processPatience}, nil)
	porttest.Await(t, "all processes to be known", func() bool {
		s.now = s.now.Add(retryAfter)
		_, r := s.scrape(t)
		return r.Pending == 0 && r.Unattributed == 0
	})
}

// linked returns a link by which a program of another name is started, as redis-server
// is one to redis-check-rdb.
func linked(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	content, err := os.ReadFile(self(t))
	if err != nil {
		t.Fatal(err)
	}
	program, link := filepath.Join(dir, "redis-check-rdb"), filepath.Join(dir, "redis-server")
	porttest.WriteProgram(t, program, content)
	if err := os.Symlink(program, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// TestHungArgumentsInNamespace has processes whose memory does not answer, where their
// arguments lie. What they are called rests on that: it stays what it was, and of a
// new one it is not known until the memory answers.
func TestHungArgumentsInNamespace(t *testing.T) {
	t.Parallel()
	porttest.Namespace(t)
	procfs, elsewhere := privateProc(t, porttest.MountNamespace(t))
	link := linked(t)
	hang := func(pid int32) (release func()) {
		return porttest.HangFile(t, filepath.Join(procfs, strconv.Itoa(int(pid)), "cmdline"))
	}
	known, _ := startServer(t, link, "listen", 80)
	host := newLinuxHost(elsewhere, "", quiet)
	s := newScene(t, host)
	check := func(when string, port uint16, pid int32, pending bool) {
		t.Helper()
		byPort, _ := s.scrape(t)
		if o := byPort[port][0]; o.PID != pid || o.Process != "redis-server" || o.Pending != pending {
			t.Errorf("%s: %+v", when, o)
		}
	}
	check("at first", 80, known, false)

	releaseKnown := hang(known)
	fresh, _ := startServer(t, link, "name", 81, "a state: 7")
	release := hang(fresh)
	s.now = s.now.Add(recheckAfter)
	check("what is known", 80, known, false)
	byPort, _ := s.scrape(t)
	if o := byPort[81][0]; o.PID != fresh || o.Process != "redis-check-rdb" || !o.Pending {
		t.Errorf("a new process that calls itself otherwise: %+v", o)
	}
	kept, _ := startServer(t, link, "listen", 82)
	releaseKept := hang(kept)
	check("a new process", 82, kept, true)
	s.now = s.now.Add(retryAfter)
	check("and again", 82, kept, true)

	for _, release := range []func(){releaseKnown, release, releaseKept} {
		release()
	}
	porttest.Await(t, "its name", func() bool {
		s.now = s.now.Add(retryAfter)
		byPort, r := s.scrape(t)
		return r.Pending == 0 && byPort[82][0].Process == "redis-server"
	})
	check("when it answers", 80, known, false)
}

// TestHungUserInNamespace has a user with more processes that do not answer than are
// waited for. The names of other users' processes do not suffer.
func TestHungUserInNamespace(t *testing.T) {
	t.Parallel()
	porttest.Namespace(t)
	procfs, elsewhere := privateProc(t, porttest.MountNamespace(t))
	link := linked(t)
	for i := range maxStuck + 2 {
		pid, _ := startServer(t, link, "setuid", 100+i)
		porttest.HangFile(t, filepath.Join(procfs, strconv.Itoa(int(pid)), "cmdline"))
	}
	other, _ := startServer(t, link, "listen", 80)
	s := newScene(t, NewProcesses(elsewhere, "", quiet))
	// Whoever is merely slow, on a machine that is busy, answers one of the next times.
	porttest.Await(t, "only those that hang to be pending", func() bool {
		byPort, r := s.scrape(t)
		s.now = s.now.Add(retryAfter)
		o := byPort[80][0]
		return o.PID == other && o.Process == "redis-server" && !o.Pending && r.Pending == maxStuck+2
	})
}

// TestHungCgroupsInNamespace has a cgroup hierarchy that does not answer.
func TestHungCgroupsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	root := porttest.MountNamespace(t)
	dir := t.TempDir()
	startServer(t, self(t), "listen", 80)
	porttest.HangDirectory(t, dir)
	host := newLinuxHost("/proc", "", quiet)
	host.cgroups.mount = root + dir
	host.cgroups.calls = beside.New(beside.Limits{All: 1, Patience: 10 * time.Millisecond}, nil)
	s := newScene(t, host)
	if byPort, r := s.scrape(t); byPort[80][0].PID == 0 || r.Pending != 0 {
		t.Errorf("%+v", byPort)
	}
}
