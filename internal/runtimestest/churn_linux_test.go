package runtimestest_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// TestComeAndGo makes and destroys a hundred namespaces while they are scraped. Nothing of
// them is left: none of their devices, and in the exporters no descriptor, no mount and no
// thread in another namespace.
func TestComeAndGo(t *testing.T) {
	h := newHost(t)
	busybox := porttest.Program(t, "SKIP-busybox", "busybox")
	before := h.holds(t)
	const rounds, together = 10, 10
	for range rounds {
		var devices []string
		var stops []func()
		for range together {
			cmd := exec.Command(busybox, "httpd", "-f", "-p", "0.0.0.0:8080") //nolint:gosec // of the test
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
			stops = append(stops, porttest.Start(t, cmd))
			devices = append(devices, h.addDevice(t, cmd.Process.Pid))
		}
		for engine := range h.exporters {
			porttest.Await(t, engine+" to see them all", func() bool {
				read := 0.0
				for _, m := range h.scrape(t, engine)["port_namespaces"].GetMetric() {
					if m.GetLabel()[0].GetValue() == "full" {
						read = m.GetGauge().GetValue()
					}
				}
				return read >= together
			})
		}
		for _, stop := range stops {
			stop()
		}
		for _, device := range devices {
			gone(t, device)
		}
	}
	for engine, was := range before {
		const slack = 3 // connections of scrapes
		http.DefaultClient.CloseIdleConnections()
		porttest.Await(t, engine+" to close what it has opened", func() bool { return h.holds(t)[engine].descriptors <= was.descriptors+slack })
		now := h.holds(t)[engine]
		now.descriptors = was.descriptors
		if diff := cmp.Diff(was, now, cmp.AllowUnexported(held{})); diff != "" {
			t.Errorf("%s holds (-before +after):\n%s", engine, diff)
		}
	}
}

// held is what an exporter holds.
type held struct {
	descriptors int
	// namespaces are those that a descriptor or a thread is in, without its own.
	namespaces map[string]string
	mounts     int // of namespaces
}

func (h *host) holds(t *testing.T) map[string]held {
	t.Helper()
	all := map[string]held{}
	for engine, e := range h.exporters {
		process := fmt.Sprint("/proc/", e.pid)
		own, err := os.Readlink(process + "/ns/net")
		if err != nil {
			t.Fatal(err)
		}
		is := held{namespaces: map[string]string{}}
		for _, pattern := range []string{"/fd/*", "/task/*/ns/net"} {
			links, _ := filepath.Glob(process + pattern) // the pattern is right
			for _, link := range links {
				if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, "net:") && to != own {
					is.namespaces[link] = to
				}
			}
			if pattern == "/fd/*" {
				is.descriptors = len(links)
			}
		}
		mounts, err := os.ReadFile(process + "/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		is.mounts = strings.Count(string(mounts), " nsfs ")
		all[engine] = is
	}
	return all
}
