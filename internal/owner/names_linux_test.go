package owner

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startScript starts a program in an interpreter of this machine. It says "ready"
// when it listens, and ends with its standard input.
func startScript(t *testing.T, interpreter, name, text string) {
	t.Helper()
	path, err := exec.LookPath(interpreter)
	if err != nil {
		t.Skipf("SKIP-%s: %v", interpreter, err)
	}
	script := filepath.Join(t.TempDir(), name)
	porttest.WriteProgram(t, script, []byte("#!"+path+"\n"+text))
	porttest.StartReady(t, exec.Command(script))
}

const listenInPerl = `use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1:80", Listen => 5) or die $!; $| = 1;
`

// TestInterpretersInNamespace asks for the names of programs in interpreters: their
// script, which stays, and not their state or their thread, which change.
func TestInterpretersInNamespace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ what, interpreter, script, text, process, comm string }{
		{"a script", "perl", "mail-filter", listenInPerl + `print "ready\n"; <STDIN>;`, "mail-filter", "mail-filter"},
		{"a script with a number", "perl", "mail-filter2", listenInPerl + `print "ready\n"; <STDIN>;`, "mail-filter2", "mail-filter2"},
		{"a state that is a word and a number", "perl", "mail-filter", listenInPerl + `$0 = "job18"; print "ready\n"; <STDIN>;`, "perl", "job18"},
		{"a state in the name", "perl", "mail-filter", listenInPerl + `$0 = "job 17 of 99"; print "ready\n"; <STDIN>;`, "perl", "job 17 of 99"},
		{"a state without blanks", "perl", "mail-filter", listenInPerl + `$0 = "job-18"; print "ready\n"; <STDIN>;`, "perl", "job-18"},
		{"the name of a thread", "node", "web", `process.title = "node-MainThread"; process.stdin.resume().on("end", () => process.exit());
require("net").createServer().listen(80, "127.0.0.1", () => console.log("ready"));`, "node", "node-MainThread"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			t.Parallel()
			porttest.Namespace(t)
			startScript(t, tt.interpreter, tt.script, tt.text)
			byPort, _ := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
			if o := byPort[80][0]; o.Process != tt.process || o.Comm != tt.comm {
				t.Errorf("process %q, comm %q; want %q, %q", o.Process, o.Comm, tt.process, tt.comm)
			}
		})
	}
}

// TestChangingNameInNamespace has a program whose state is its name: the name of the
// first look stays, for its other sockets and after the look at them, too.
func TestChangingNameInNamespace(t *testing.T) {
	porttest.Namespace(t)
	startScript(t, "perl", "mail-filter", listenInPerl+`$0 = "idle"; $SIG{USR1} = sub { $0 = "busy";
our $o = IO::Socket::INET->new(LocalAddr => "127.0.0.1:81", Listen => 5) or die $!; }; print "ready\n"; <STDIN>;`)
	s := newScene(t, NewProcesses("/proc", "", quiet))
	byPort, _ := s.scrape(t)
	first := byPort[80][0]
	if first.Process != "idle" || first.PID == 0 {
		t.Fatalf("at first: %+v", first)
	}
	if err := unix.Kill(int(first.PID), unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	porttest.Await(t, "the second socket", func() bool {
		byPort, _ = s.scrape(t)
		return len(byPort[81]) > 0
	})
	s.now = s.now.Add(recheckAfter)
	byPort, _ = s.scrape(t)
	for _, port := range []uint16{80, 81} {
		if o := byPort[port][0]; o.Process != "idle" || o.Comm != "busy" {
			t.Errorf("port %d: %+v, want the name idle", port, o)
		}
	}
}

// TestNameOfLinkInNamespace starts a program by the name of a link to it, as Debian
// has redis-server.
func TestNameOfLinkInNamespace(t *testing.T) {
	porttest.Namespace(t)
	for port, name := range map[int]string{80: "linked-server", 81: "a-server-with-a-long-name"} {
		link := filepath.Join(t.TempDir(), name)
		if err := os.Symlink(self(t), link); err != nil {
			t.Fatal(err)
		}
		startServer(t, link, "listen", port)
		byPort, _ := owners(t, New(NewProcesses("/proc", "", quiet), quiet))
		if o := byPort[uint16(port)][0]; o.Process != name || o.Executable != self(t) {
			t.Errorf("%+v, want the name %s", o, name)
		}
	}
}
