package runtimestest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/vishvananda/netlink"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// host is the machine of a test. Two exporters run on it, one with each engine, and are
// scraped all the time.
type host struct {
	exporters map[string]exporter // by engine
	devices   int
}

type exporter struct {
	address string
	pid     int
}

// newHost starts the exporters.
func newHost(t *testing.T) *host {
	t.Helper()
	if !*onHost {
		t.Skip("SKIP-RUNTIMES: make e2e-runtimes runs it")
	}
	h := &host{exporters: map[string]exporter{}}
	for i, engine := range []string{"bpf", "sock_diag"} {
		e := startExporter(t, fmt.Sprintf("127.0.0.1:%d", 10065+i), engine)
		h.exporters[engine] = e
		source := h.scrape(t, engine).labels("port_netns_source_info")
		if diff := cmp.Diff([]map[string]string{{"source": engine}}, source); diff != "" {
			t.Fatalf("source (-want +got):\n%s", diff)
		}
		scrapeBeside(t, e.address)
	}
	return h
}

// startExporter starts an exporter, which must end without an error: with one it ends if the
// race detector has found something.
func startExporter(t *testing.T, address, engine string) exporter {
	t.Helper()
	cmd := exec.Command("port_exporter", "--web.listen-address="+address, "--source="+engine,
		"--collector.disable-defaults", "--collector.listeners", "--collector.firewall", "--collector.namespaces")
	var log bytes.Buffer
	cmd.Stderr, cmd.Stdout = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("%s: %v\n%s", engine, err, &log)
		}
	})
	porttest.AwaitListening(t, address)
	return exporter{address, cmd.Process.Pid}
}

// scrapeBeside scrapes an exporter again and again until the test ends.
func scrapeBeside(t *testing.T, address string) {
	ctx, cancel := context.WithCancel(context.Background())
	var scraping sync.WaitGroup
	scraping.Go(func() {
		for ctx.Err() == nil {
			if _, err := scrape(ctx, address); err != nil && ctx.Err() == nil {
				t.Error(err)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	t.Cleanup(func() {
		cancel()
		scraping.Wait()
	})
}

// samples are those of a scrape, by family.
type samples map[string]*dto.MetricFamily

func scrape(ctx context.Context, address string) (samples, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w\n%s", response.Status, err, text)
	}
	return families, nil
}

func (h *host) scrape(t *testing.T, engine string) samples {
	t.Helper()
	s, err := scrape(t.Context(), h.exporters[engine].address)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// labels returns those of the series of a family that are not empty.
func (s samples) labels(family string) (all []map[string]string) {
	for _, m := range s[family].GetMetric() {
		labels := map[string]string{}
		for _, l := range m.GetLabel() {
			if l.GetValue() != "" {
				labels[l.GetName()] = l.GetValue()
			}
		}
		all = append(all, labels)
	}
	return all
}

// space is a network namespace as it is to be exported.
type space struct {
	// Info are the labels of port_netns_info, without netns and without empty ones.
	Info map[string]string
	// Listeners are sorted: see row.
	Listeners []string
	// Published are the ports of the host that lead elsewhere, likewise.
	Published []string
}

// row describes a listener in one line: address, scope, process, user, unit and container.
func row(l map[string]string) string {
	return strings.Join([]string{l["protocol"], net.JoinHostPort(l["address"], l["port"]), l["scope"], l["process"], l["user"], l["unit"], l["container"]}, " ")
}

// published describes a published port in one line.
func published(p map[string]string) string {
	return strings.Join([]string{p["protocol"], net.JoinHostPort(p["address"], p["port"]), "to", net.JoinHostPort(p["to_address"], p["to_port"]), p["via"]}, " ")
}

// spaces returns the namespaces of a scrape by name. Those of others on the machine have
// no process on this host: they are left out, and so are the exporters.
func (s samples) spaces() map[string]space {
	all := map[string]space{}
	for _, labels := range s.labels("port_netns_info") {
		name := labels["netns"]
		delete(labels, "netns")
		all[name] = space{Info: labels}
	}
	add := func(family string, f func(*space, map[string]string)) {
		for _, labels := range s.labels(family) {
			of := all[labels["netns"]]
			f(&of, labels)
			all[labels["netns"]] = of
		}
	}
	add("port_listener_info", func(of *space, l map[string]string) {
		if l["process"] != "port_exporter" {
			of.Listeners = append(of.Listeners, row(l))
		}
	})
	add("port_published_info", func(of *space, p map[string]string) { of.Published = append(of.Published, published(p)) })
	for name, of := range all {
		slices.Sort(of.Listeners)
		slices.Sort(of.Published)
		all[name] = of
	}
	delete(all, "other")
	return all
}

// expect waits until both exporters have exactly these namespaces. The empty name is
// that of the host.
func (h *host) expect(t *testing.T, want map[string]space) {
	t.Helper()
	for _, of := range want {
		slices.Sort(of.Listeners)
		slices.Sort(of.Published)
	}
	for _, engine := range slices.Sorted(maps.Keys(h.exporters)) {
		const patience = 90 * time.Second // an owner is looked at again after a minute: podman leaves its listeners to conmon
		var diff string
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			if diff = cmp.Diff(want, h.scrape(t, engine).spaces()); diff == "" {
				break
			}
		}
		if diff != "" {
			t.Errorf("%s (-want +got):\n%s", engine, diff)
		}
	}
}

// sameAsKernel compares the addresses of listeners with those of ss(8) in the namespace of a
// process, 0 for the host.
func sameAsKernel(t *testing.T, pid int, of space) {
	t.Helper()
	args := []string{"ss", "-Hlntu"}
	if pid != 0 {
		args = append([]string{"nsenter", "-t", strconv.Itoa(pid), "-n"}, args...)
	}
	var want, got []string
	for line := range strings.Lines(run(t, args...)) {
		fields := strings.Fields(line)
		address, port, err := net.SplitHostPort(strings.Replace(fields[4], "*:", "[::]:", 1))
		if err != nil {
			t.Fatal(err)
		}
		if port != "10065" && port != "10066" {
			want = append(want, fields[0]+" "+net.JoinHostPort(address, port))
		}
	}
	for _, l := range of.Listeners {
		got = append(got, strings.Join(strings.Fields(l)[:2], " "))
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the test expects other listeners than ss has in the namespace of %d (-ss +expected):\n%s", pid, diff)
	}
}

// ends ends a container by a function. A device of its namespace, of which its runtime
// knows nothing, is gone a second later, while both exporters are scraped: they keep no
// namespace alive.
func (h *host) ends(t *testing.T, pid int, end func()) {
	t.Helper()
	device := h.addDevice(t, pid)
	end()
	t.Logf("the devices of the namespace of %d were gone %v after its end", pid, gone(t, device))
}

// addDevice adds a device to the namespace of a process, and returns the name of its other
// end.
func (h *host) addDevice(t *testing.T, pid int) (name string) {
	t.Helper()
	h.devices++
	name = fmt.Sprint("px", h.devices)
	err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "in", PeerNamespace: netlink.NsPid(pid)})
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// gone waits for a device to go, a second at most, and returns how long.
func gone(t *testing.T, name string) time.Duration {
	t.Helper()
	began := time.Now()
	porttest.Await(t, name+" to go", func() bool {
		_, err := netlink.LinkByName(name)
		return err != nil
	})
	took := time.Since(began).Round(time.Millisecond)
	if took > time.Second {
		t.Errorf("%s was there for %v", name, took)
	}
	return took
}

// run runs a command that succeeds, and returns its output without blanks around it.
func run(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // clean-ups run them, too
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // of the test
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%q: %v\n%s%s", args, err, &out, &said)
	}
	return strings.TrimSpace(out.String())
}

// number reads what a runtime prints, or a file has.
func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// write writes a file.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // runtimes read it
		t.Fatal(err)
	}
	return path
}
