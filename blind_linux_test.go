package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestSourceThatGoesBlindInNamespace has a /proc/net that becomes another network
// namespace's while the exporter runs: no figure of that is exported as one of this
// host's.
func TestSourceThatGoesBlindInNamespace(t *testing.T) {
	procfs := t.TempDir()
	show := func(net string) {
		t.Helper()
		link := filepath.Join(procfs, "net")
		if err := os.Symlink(net, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
	}
	show("/proc/self/net")
	for _, name := range []string{"sys", "self"} {
		if err := os.Symlink("/proc/"+name, filepath.Join(procfs, name)); err != nil {
			t.Fatal(err)
		}
	}
	base, log := startDaemon(t, "--source=procfs", "--path.procfs="+procfs)
	porttest.Namespace(t)
	porttest.Listen(t, "127.0.0.1:81", 5)

	check := func(when string, success int) {
		t.Helper()
		_, body := get(t, base+"/metrics?collect[]=listeners&collect[]=sockets&collect[]=connections")
		for _, collector := range []string{"listeners", "sockets", "connections"} {
			if want := fmt.Sprintf("port_scrape_collector_success{collector=%q} %d\n", collector, success); !strings.Contains(body, want) {
				t.Errorf("%s: lacks %s", when, want)
			}
		}
		if success == 0 && strings.Contains(body, "port_listener_info{") {
			t.Errorf("%s: listeners are exported", when)
		}
	}
	check("at first", 1)
	show(fmt.Sprintf("/proc/self/task/%d/net", unix.Gettid()))
	check("of another namespace", 0)
	if !strings.Contains(log.String(), "port_exporter's own listening socket is missing from the socket table") {
		t.Errorf("the reason is not logged:\n%s", log)
	}
	show("/proc/self/net")
	check("again", 1)
}
