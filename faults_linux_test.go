package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

// startProcess starts the program as a process of its own, by a shell that does something
// first, with the arguments behind it as $@. It must end without an error.
func startProcess(t *testing.T, first string, args ...string) (base string, process *os.Process) {
	t.Helper()
	log := &porttest.Log{}
	cmd := exec.Command("sh", append([]string{"-c", first + ` exec port_exporter "$@"`, "sh"}, args...)...)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("it ended with %v:\n%s", err, log)
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Errorf("one SIGINT did not end it:\n%s", log)
		}
	})
	return "http://" + awaitAddress(t, log), cmd.Process
}

var failedCollector = regexp.MustCompile(`port_scrape_collector_success\{[^}]*\} 0\n`)

// isWhole reports whether a scrape has all collectors.
func isWhole(body string) bool {
	return strings.Contains(body, `port_scrape_collector_success{collector="listeners"} 1`) && !failedCollector.MatchString(body)
}

// scrapeWhole scrapes, and reports what is missing.
func scrapeWhole(t *testing.T, base string) (body string) {
	t.Helper()
	status, body := get(t, base+"/metrics")
	if status != http.StatusOK || !isWhole(body) {
		t.Errorf("status %d, failed %q:\n%s", status, failedCollector.FindAllString(body, -1), body)
	}
	return body
}

// TestThousandScrapesInLittleMemory has a thousand clients scrape at the same time a
// program that may use 48 MB: each gets a whole answer, or is turned away, and the program
// lives.
func TestThousandScrapesInLittleMemory(t *testing.T) {
	group := memoryGroup(t, 48<<20)
	base, _ := startProcess(t, "echo $$ >"+group+"/cgroup.procs;", "--web.listen-address=127.0.0.1:0")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Minute}
	var clients sync.WaitGroup
	var whole, refused, cut atomic.Int64
	for range 1000 {
		clients.Go(func() {
			response, err := client.Get(base + "/metrics")
			if err != nil { // connections are limited, too
				cut.Add(1)
				return
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			switch {
			case err != nil:
				cut.Add(1)
			case response.StatusCode == http.StatusServiceUnavailable:
				refused.Add(1)
			case response.StatusCode == http.StatusOK && isWhole(string(body)):
				whole.Add(1)
			default:
				t.Errorf("status %d\n%s", response.StatusCode, body)
			}
		})
	}
	clients.Wait()
	t.Logf("%d whole, %d refused, %d closed", whole.Load(), refused.Load(), cut.Load())
	if whole.Load() == 0 {
		t.Error("no scrape was whole")
	}
	scrapeWhole(t, base)
}

// TestSignalStorm interrupts the system calls of the program all the time (EINTR): no read
// of the kernel's tables is lost by that.
func TestSignalStorm(t *testing.T) {
	base, process := startProcess(t, "", "--web.listen-address=127.0.0.1:0")
	ctx, cancel := context.WithCancel(t.Context())
	var storm sync.WaitGroup
	var signals atomic.Int64
	storm.Go(func() {
		for ctx.Err() == nil {
			for _, s := range []os.Signal{syscall.SIGURG, syscall.SIGWINCH, syscall.SIGCHLD} {
				_ = process.Signal(s)
				signals.Add(1)
			}
			time.Sleep(100 * time.Microsecond)
		}
	})
	for range 20 {
		scrapeWhole(t, base)
	}
	cancel()
	storm.Wait()
	t.Logf("%d signals", signals.Load())
}

// TestReloadStorm swaps the configuration as Kubernetes does with a ConfigMap, by a link to
// a directory, and sends SIGHUP a hundred times a second while it is scraped: each scrape
// is of one of the two configurations, whole.
func TestReloadStorm(t *testing.T) {
	dir := t.TempDir()
	targets := map[string]int{"v1": 10, "v2": 20}
	for version, n := range targets {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		text := "policy: {rules: [" + strings.Repeat("{ports: [22]},", n) + "]}\ntargets:\n"
		for i := range n {
			text += fmt.Sprintf("- {address: \"127.0.0.1:%d\", interval: 1h}\n", i+1)
		}
		if err := os.WriteFile(filepath.Join(dir, version, "c.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	swap := func(to string) {
		_ = os.Symlink(to, filepath.Join(dir, "..new"))
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Error(err)
		}
	}
	swap("v1")
	file := filepath.Join(dir, "c.yml")
	if err := os.Symlink("..data/c.yml", file); err != nil {
		t.Fatal(err)
	}
	base, process := startProcess(t, "", "--web.listen-address=127.0.0.1:0", "--config.file="+file)
	ctx, cancel := context.WithCancel(t.Context())
	var storm sync.WaitGroup
	storm.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			swap([]string{"v1", "v2"}[i%2])
			_ = process.Signal(syscall.SIGHUP)
			time.Sleep(10 * time.Millisecond)
		}
	})
	figure := regexp.MustCompile(`(?m)^port_config_(?:targets|policy_rules) (\d+)$`)
	for until := time.Now().Add(2 * time.Second); time.Now().Before(until); {
		_, body := get(t, base+"/metrics?collect[]=limits")
		if f := figure.FindAllStringSubmatch(body, -1); len(f) != 2 || f[0][1] != f[1][1] || f[0][1] != "10" && f[0][1] != "20" {
			t.Fatalf("of no configuration, or of both: %q", f)
		}
	}
	cancel()
	storm.Wait()
	for version, n := range targets {
		swap(version)
		porttest.Await(t, version+" to be in force", func() bool { // the last signals may still be under way
			_ = process.Signal(syscall.SIGHUP)
			_, body := get(t, base+"/metrics?collect[]=limits")
			return strings.Contains(body, fmt.Sprintf("port_config_targets %d\n", n))
		})
	}
}

// TestStoppedProcess stops the program while a scrape is under way, as a virtual machine
// that is suspended: the scrape is answered afterwards, whole, and no target failed because
// of it.
func TestStoppedProcess(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "c.yml")
	module := "modules: {short: {prober: tcp, timeout: 500ms}}\n"
	if err := os.WriteFile(file, []byte(module+"targets: [{address: \""+l.Addr().String()+"\", module: short}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base, process := startProcess(t, "", "--web.listen-address=127.0.0.1:0", "--config.file="+file)
	for i := range 3 {
		asked := make(chan string, 1)
		go func() {
			_, body, _ := tryGet(base + "/metrics")
			asked <- body
		}()
		time.Sleep(time.Duration(i) * 3 * time.Millisecond) // at another moment of the scrape
		if err := process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(800 * time.Millisecond)
		if err := process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		body := <-asked
		if failedCollector.MatchString(body) || !strings.Contains(body, `port_scrape_collector_success{collector="probes"} 1`) {
			t.Errorf("not whole:\n%s", body)
		}
		if strings.Contains(body, "probe_success{") && !regexp.MustCompile(`probe_success\{[^}]*\} 1\n`).MatchString(body) {
			t.Errorf("a target fails: %s", regexp.MustCompile(`(?m)^probe_(success|outcome|failure).*`).FindAllString(body, -1))
		}
	}
	if body := scrapeWhole(t, base); !regexp.MustCompile(`probe_success\{[^}]*\} 1\n`).MatchString(body) {
		t.Errorf("after it:\n%s", body)
	}
}

// TestAddressGoesAwayInNamespace removes an address that the program listens on, and adds
// it again.
func TestAddressGoesAwayInNamespace(t *testing.T) {
	porttest.Namespace(t)
	const gone = "192.0.2.9"
	porttest.Address(t, "lo", gone+"/32")
	startProcess(t, "", "--web.listen-address="+porttest.ScrapeAddress, "--web.listen-address="+gone+":10065")
	absent := fmt.Sprintf(`port_listener_address_absent{address=%q,interface="",netns="",port="10065",protocol="tcp"} `, gone)
	scrape := func(address string, want string) {
		t.Helper()
		if status, body := porttest.Get(t, address, "/metrics"); status != http.StatusOK || strings.Contains(body, absent+"1") != (want == "absent") {
			t.Errorf("%s: status %d, want it %s:\n%s", address, status, want, body)
		}
	}
	scrape(gone+":10065", "there")
	if out, err := exec.Command("ip", "address", "del", gone+"/32", "dev", "lo").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	scrape(porttest.ScrapeAddress, "absent")
	porttest.Address(t, "lo", gone+"/32")
	scrape(gone+":10065", "there")
}

// TestMalformedProc has kernel files that are not as any kernel writes them: what is in
// them is absent, with the file's name, and the rest is there.
func TestMalformedProc(t *testing.T) {
	procfs := t.TempDir()
	for _, name := range []string{"sys", "1", "stat"} {
		if err := os.Symlink("/proc/"+name, filepath.Join(procfs, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"net", "self"} {
		if err := os.Mkdir(filepath.Join(procfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range map[string]string{"/proc/self/net/": "net", "/proc/self/": "self"} {
		entries, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			target := from + e.Name()
			if target == "/proc/self/net" {
				target = "../net"
			}
			if err := os.Symlink(target, filepath.Join(procfs, to, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	base, _ := startDaemon(t, "--path.procfs="+procfs)
	files := []string{"net/sockstat", "net/netstat", "net/snmp"}
	for name, text := range map[string]string{
		"binary":     "\x00\x01\xff\xfe",
		"one column": "TcpExt:\nTcpExt:\nTcp:\nTcp:\nTCP:\n",
		"no number":  "TcpExt: ListenOverflows\nTcpExt: x\nTcp: ActiveOpens\nTcp: x\nTCP: inuse x orphan x tw x\n",
		"too large":  "TcpExt: ListenOverflows\nTcpExt: " + strings.Repeat("9", 1<<16) + "\nTCP: inuse " + strings.Repeat("9", 1<<16) + "\n",
	} {
		for _, file := range files {
			path := filepath.Join(procfs, file)
			_ = os.Remove(path)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		status, body := get(t, base+"/metrics")
		for _, want := range []string{`{collector="listeners"} 1`, `{collector="connections"} 1`} {
			if !strings.Contains(body, "port_scrape_collector_success"+want) {
				t.Errorf("%s: status %d, lacks %s", name, status, want)
			}
		}
		if value := regexp.MustCompile(`(?m)^port_tcp_(listen_overflows_total|active_opens_total|orphans)[{ ].*`).FindAllString(body, -1); len(value) > 0 {
			t.Errorf("%s: has figures %s", name, value)
		}
	}
	for _, file := range files {
		path := filepath.Join(procfs, file)
		_ = os.Remove(path)
		if err := os.Symlink("/proc/self/"+file, path); err != nil {
			t.Fatal(err)
		}
	}
	if body := scrapeWhole(t, base); !strings.Contains(body, "\nport_tcp_listen_overflows_total{") {
		t.Errorf("not there again:\n%s", body)
	}
}

// TestMonotonicClockFarAhead starts the program on a machine that has run for ten years,
// by the clock of its boot (a time namespace).
func TestMonotonicClockFarAhead(t *testing.T) {
	if err := exec.Command("unshare", "--time", "--monotonic=1", "--boottime=1", "true").Run(); err != nil {
		t.Skip("SKIP-NAMESPACE: no time namespace can be made")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file := filepath.Join(t.TempDir(), "c.yml")
	if err := os.WriteFile(file, []byte("targets: [{address: \""+l.Addr().String()+"\", interval: 1s}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base, _ := startProcess(t, `[ -n "$AGAIN" ] || AGAIN=1 exec unshare --time --monotonic=315360000 --boottime=315360000 sh -c 'exec port_exporter "$@"' sh "$@";`,
		"--web.listen-address=127.0.0.1:0", "--config.file="+file)
	porttest.Await(t, "a probe", func() bool {
		_, body := get(t, base+"/metrics")
		return regexp.MustCompile(`probe_success\{[^}]*\} 1\n`).MatchString(body)
	})
	scrapeWhole(t, base)
}

// tryGet is get where an error is no failure of the test.
func tryGet(url string) (int, string, error) {
	response, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}
