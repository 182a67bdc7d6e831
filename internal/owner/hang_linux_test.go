package owner

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

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

func newScene(t *testing.T, host Host) *scene {
	t.Helper()
	source, err := sockdiag.New(t.Context())
	if err != nil {
		t.Skipf("SKIP-SOCKDIAG: %v", err)
	}
	s := &scene{Finder: New(host), source: source, now: time.Now()}
	s.Finder.now = func() time.Time { return s.now }
	return s
}

// scrape returns the owners by port, within a time that a scrape has.
func (s *scene) scrape(t *testing.T) (map[uint16][]socket.Owner, Result) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	table, err := socket.ReadListening(s.source.Sockets(ctx, socket.Listening), socket.Host{})
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
	startServer(t, program, "listen", 80)
	startServer(t, self(t), "listen", 81)
	if err := os.Remove(program); err != nil {
		t.Fatal(err)
	}
	f.silent.Store(true)

	s := newScene(t, NewHost("/proc"))
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
	if err := os.WriteFile(odd, content, 0o755); err != nil {
		t.Fatal(err)
	}
	startServer(t, odd, "listen", 80)
	s := newScene(t, NewHost("/proc"))
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
	for _, what := range []string{"stat", "fd"} {
		t.Run(what, func(t *testing.T) {
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

			s := newScene(t, NewHost(elsewhere))
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

// TestManyHungProcessesInNamespace has more processes that do not answer than are
// waited for. The rest of the listeners may be pending, and no more goroutines
// wait than the bound.
func TestManyHungProcessesInNamespace(t *testing.T) {
	porttest.Namespace(t)
	procfs, elsewhere := privateProc(t, porttest.MountNamespace(t))
	known, _ := startServer(t, self(t), "listen", 80)
	host := newLinuxHost(elsewhere, "")
	host.calls.patience = 10 * time.Second
	s := newScene(t, host)
	if byPort, _ := s.scrape(t); byPort[80][0].PID != known {
		t.Fatalf("at first: %+v", byPort[80])
	}
	var releases []func()
	for i := range 2 * maxStuck {
		pid, _ := startServer(t, self(t), "listen", 100+i)
		releases = append(releases, porttest.HangFile(t, filepath.Join(procfs, strconv.Itoa(int(pid)), "stat")))
	}
	host.calls.patience = 10 * time.Millisecond
	s.now = s.now.Add(recheckAfter)
	byPort, r := s.scrape(t)
	if r.Pending != 2*maxStuck || byPort[80][0].PID != known {
		t.Errorf("%d pending; what was known: %+v", r.Pending, byPort[80])
	}
	host.calls.mu.Lock()
	if n := len(host.calls.running); n != maxStuck {
		t.Errorf("%d calls are waited for, want %d", n, maxStuck)
	}
	host.calls.mu.Unlock()
	for _, release := range releases {
		release()
	}
	host.calls.patience = 10 * time.Second
	porttest.Await(t, "all processes to be known", func() bool {
		s.now = s.now.Add(retryAfter)
		_, r := s.scrape(t)
		return r.Pending == 0 && r.Unattributed == 0
	})
}

// TestHungCgroupsInNamespace has a cgroup hierarchy that does not answer.
func TestHungCgroupsInNamespace(t *testing.T) {
	porttest.Namespace(t)
	root := porttest.MountNamespace(t)
	dir := t.TempDir()
	startServer(t, self(t), "listen", 80)
	porttest.HangDirectory(t, dir)
	host := newLinuxHost("/proc", "")
	host.cgroups.mount = root + dir
	host.cgroups.calls.patience = 10 * time.Millisecond
	s := newScene(t, host)
	if byPort, r := s.scrape(t); byPort[80][0].PID == 0 || r.Pending != 0 {
		t.Errorf("%+v", byPort)
	}
}
