package probetest_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestCheckByOwnerInNamespace names a unit and a container of real cgroups: their
// listeners are checked, and a unit without one is an error with a hint.
func TestCheckByOwnerInNamespace(t *testing.T) {
	const id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	porttest.Namespace(t)
	unit := porttest.NewCgroup(t, "system.slice/demo.service")
	container := porttest.NewCgroup(t, "system.slice/docker-"+id+".scope")
	unit.Do(t, func() { service(t, porttest.Listen(t, "127.0.0.1:7101", 5), "demo", "nobody") })
	container.Do(t, func() { service(t, porttest.Listen(t, "0.0.0.0:7102", 5), "boxed", "nobody") })
	for name, want := range map[string]struct {
		status       int
		output, said string
	}{
		"demo.service":         {0, "127.0.0.1:7101 is open.", ""},
		"docker-0123456789ab":  {0, "127.0.0.1:7102 is open.", ""},
		"absent.service":       {2, "", "absent.service has no TCP listener on this host"},
		"docker-ba9876543210x": {2, "", "has no port, and there is no module"},
	} {
		out, said, status := porttest.EndedAs(t, nil, "port_exporter", "check", name)
		if status != want.status || !strings.Contains(out, want.output) || !strings.Contains(said, want.said) {
			t.Errorf("%s: status %d, said %q\n%s", name, status, said, out)
		}
	}
}

// TestCheckFromInterfaceInNamespace has --from take an address of the interface, and not
// the one that the kernel would choose.
func TestCheckFromInterfaceInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.AddVeth(t, "veth9", "192.0.2.9/24")
	porttest.Listen(t, "192.0.2.9:80", 5)
	for from, want := range map[string]string{"": "from 192.0.2.9:", "lo": "from 127.0.0.1:", "veth9": "from 192.0.2.9:", "127.0.0.5": "from 127.0.0.5:"} {
		out, said, status := porttest.EndedAs(t, nil, "port_exporter", "check", "--from="+from, "192.0.2.9:80")
		if status != 0 || !strings.Contains(out, want) {
			t.Errorf("--from=%s: status %d, said %q\n%s", from, status, said, out)
		}
	}
	out, said, status := porttest.EndedAs(t, nil, "port_exporter", "check", "--from=eth7", "192.0.2.9:80")
	if status != 2 || !strings.Contains(said, "--from=eth7: neither an address nor an interface") || !strings.Contains(said, "veth9") {
		t.Errorf("--from=eth7: status %d, said %q\n%s", status, said, out)
	}
}

// TestCheckBoundToInterfaceInNamespace has --from reach a network by the interface that it
// names, and not by the one of the route: a host with two ways out.
func TestCheckBoundToInterfaceInNamespace(t *testing.T) {
	n := porttest.NewNetwork(t)
	n.Client.Connect(t, "eth1", n.Server, "eth1")
	porttest.Address(t, "eth1", "192.0.2.130/30")
	n.Server.Do(t, func() {
		porttest.Address(t, "eth1", "192.0.2.129/30")
		porttest.Address(t, "lo", "203.0.113.1/32")
		porttest.Listen(t, "203.0.113.1:80", 5)
		porttest.UDP(t, "203.0.113.1:90")
	})
	porttest.Route(t, "203.0.113.0/24", porttest.RouterClientIP4) // which has no route to it
	runIP(t, "route", "add", "203.0.113.0/24", "via", "192.0.2.129", "dev", "eth1", "metric", "900")
	for _, tt := range []struct{ args, says string }{
		{"203.0.113.1:80", "the router 192.0.2.1 has no route to it"},
		{"203.0.113.1:80 --from=eth1", "203.0.113.1:80 is open."},
		{"203.0.113.1:80 --from=eth1", "route        203.0.113.1: via 192.0.2.129 on eth1, from 192.0.2.130, MTU 1500, bound to eth1"},
		{"203.0.113.1:80 --from=eth1 --trace", "203.0.113.1:80 is reached"},
		{"http://203.0.113.1:81 --from=eth1", "http://203.0.113.1:81 refuses"},
		{"203.0.113.1:91 --udp --from=eth1", "203.0.113.1:91 refuses"},
		{"198.51.100.77:80 --from=eth1", "198.51.100.77:80 cannot be reached: this host has no route to it by eth1"},
		{"198.51.100.77:80 --from=eth1", "Try: ip route get 198.51.100.77 oif eth1"},
	} {
		out, said, _ := porttest.EndedAs(t, nil, append([]string{"port_exporter", "check"}, strings.Fields(tt.args)...)...)
		if !strings.Contains(out, tt.says) {
			t.Errorf("%s: no %q, said %q\n%s", tt.args, tt.says, said, out)
		}
	}
	runIP(t, "link", "set", "lo", "down")
	if out, _, _ := porttest.EndedAs(t, nil, "port_exporter", "check", "127.0.0.1:80", "--timeout=1s"); !strings.Contains(out, "the interface lo of this host is down") {
		t.Errorf("lo is down:\n%s", out)
	}
}

func runIP(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}

// TestCheckHasColourOnATerminal runs check on a terminal, on one of a person who wants no
// colour, and into a pipe.
func TestCheckHasColourOnATerminal(t *testing.T) {
	const style = "\x1b["
	for _, tt := range []struct {
		name     string
		terminal bool
		env      string
		colour   bool
	}{
		{"terminal", true, "TERM=xterm", true}, {"NO_COLOR", true, "NO_COLOR=1", false}, {"dumb", true, "TERM=dumb", false}, {"pipe", false, "TERM=xterm", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), "port_exporter", "check", "127.0.0.1:1")
			cmd.Env = append(os.Environ(), tt.env)
			out := runOn(t, cmd, tt.terminal)
			if !strings.Contains(out, "127.0.0.1:1 refuses") || strings.Contains(out, style) != tt.colour {
				t.Errorf("%q", out)
			}
		})
	}
}

// runOn runs a command that fails, on a terminal or into a pipe, and returns its output.
func runOn(t *testing.T, cmd *exec.Cmd, terminal bool) string {
	t.Helper()
	if !terminal {
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("SKIP-TERMINAL: %v", err)
	}
	defer ours.Close()
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = theirs, theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	_, _ = io.Copy(&out, ours) // EIO when the last descriptor of the other end is closed
	_ = cmd.Wait()
	return out.String()
}

// asksNames is a name that check looks up, with name servers of the host.
type asksNames struct {
	name, servers string // what /etc/resolv.conf has
	target        string
	says          []string // parts of the answer, each of one line
	flawless      bool     // and no evidence has failed
}

// TestCheckOfNameServersInNamespace has check name the server that is silent, be the next
// one asked or not.
func TestCheckOfNameServersInNamespace(t *testing.T) {
	porttest.Namespace(t)
	porttest.MountNamespace(t)
	porttest.Address(t, "lo", "192.0.2.51/32", "192.0.2.52/32")
	porttest.UDP(t, "192.0.2.51:53") // reads nothing
	answerNames(t, "192.0.2.52:53", map[string][]string{
		"web.test.": {"web.test. 60 IN A 192.0.2.52"}, "blocked.test.": {"blocked.test. 60 IN A 0.0.0.0"}, "alias.test.": {"alias.test. 60 IN CNAME gone.test."},
	})
	porttest.Listen(t, "192.0.2.52:80", 5)
	const both = "nameserver 192.0.2.51\nnameserver 192.0.2.52\n"
	for _, tt := range []asksNames{
		{"the next is not asked", both, "web.test:80 --timeout=500ms", []string{
			"the name server 192.0.2.51:53 does not answer for web.test; 192.0.2.52:53, the next of /etc/resolv.conf, was not asked in time",
			"192.0.2.52:53 of /etc/resolv.conf was not asked",
			"Try: dig @192.0.2.51 web.test; mend 192.0.2.51, or remove it from /etc/resolv.conf",
		}, false},
		{"the next answers", "options timeout:1\n" + both, "web.test:80 --timeout=9s", []string{
			"web.test:80 is open.", "192.0.2.51:53 does not answer: each lookup waits for it",
		}, false},
		{"there is none", "search corp.test\n", "web.test:80", []string{
			"/etc/resolv.conf names no name server, and none answers on this host", "Try: add the line nameserver ADDRESS to /etc/resolv.conf",
		}, false},
		{"an alias of nothing", "nameserver 192.0.2.52\n", "alias.test:80", []string{
			"alias.test is an alias of gone.test, which has no address", "Try: correct the CNAME record of alias.test, or add gone.test",
		}, false},
		{"a name that is blocked", "nameserver 192.0.2.52\n", "blocked.test:80", []string{"blocked.test:80 was not tried: its name leads to 0.0.0.0 or ::", "Try: dig blocked.test"}, false},
		{"both are as they should be", "nameserver 192.0.2.52\nnameserver 192.0.2.51\n", "web.test:80", []string{"web.test:80 is open."}, true},
	} {
		tt.compare(t) // on the thread that is in the namespaces
	}
}

func (a *asksNames) compare(t *testing.T) {
	file := write(t, "%s", a.servers)
	if err := unix.Mount(file, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		t.Skipf("SKIP-NAMESPACE: mount: %v", err)
	}
	defer func() { _ = unix.Unmount("/etc/resolv.conf", unix.MNT_DETACH) }()
	out, _, _ := porttest.EndedAs(t, nil, append([]string{"port_exporter", "check"}, strings.Fields(a.target)...)...)
	for _, says := range a.says {
		if !strings.Contains(out, says) {
			t.Errorf("%s: no %q in\n%s", a.name, says, out)
		}
	}
	if a.flawless && strings.Contains(out, "failed ") {
		t.Errorf("%s:\n%s", a.name, out)
	}
}
