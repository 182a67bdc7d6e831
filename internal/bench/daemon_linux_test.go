package bench

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/net"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// BenchmarkDaemon scrapes the running program, text and all, at ten thousand
// sockets and at -sockets of them, beside the floor, ss, gopsutil and the
// tcpstat collector of a running node_exporter (prometheus-node-exporter in
// PATH; without it that column is missing). It reports the median CPU time of
// each, the daemon's resident memory and the number of series at both sizes.
func BenchmarkDaemon(b *testing.B) {
	const few = 10_000
	all := startMakers(b, *sockets)
	all.fill(b, few)
	ours := startDaemon(b)
	peers := []method{
		{"floor", func() error { return discard(socket.Connections, 0) }},
		{"ss", func() error { return exec.Command("ss", "-tan").Run() }},
		{"gopsutil", func() error {
			_, err := net.ConnectionsWithoutUids("tcp")
			return err
		}},
	}
	servers := []*server{ours}
	if path, err := exec.LookPath("prometheus-node-exporter"); err == nil {
		servers = append(servers, startServer(b, "node_exporter", "127.0.0.1:9100", path,
			"--collector.disable-defaults", "--collector.tcpstat", "--web.listen-address=127.0.0.1:9100"))
	} else {
		b.Log("no prometheus-node-exporter in PATH: its tcpstat is not measured")
	}
	seriesOfFew, _ := ours.scrape(b)
	all.fill(b, *sockets)

	const rounds = 5
	for b.Loop() {
		cpu := map[string][]time.Duration{}
		series, exported := 0, math.Inf(1)
		for range rounds {
			all.order(b, "time_wait", *sockets/len(all)/5) // those of the last round are going
			for _, m := range peers {
				start := cpuTime()
				if err := m.read(); err != nil {
					b.Fatalf("%s: %v", m.name, err)
				}
				cpu[m.name] = append(cpu[m.name], cpuTime()-start)
			}
			for _, s := range servers {
				start := s.cpuTime(b)
				n, sockets := s.scrape(b)
				cpu[s.name] = append(cpu[s.name], s.cpuTime(b)-start)
				if s == ours {
					series, exported = n, min(exported, sockets)
				}
			}
		}
		floor := median(cpu["floor"])
		for name, times := range cpu {
			b.ReportMetric(median(times).Seconds()*1000, name+"-cpu-ms")
			b.ReportMetric(median(times).Seconds()/floor.Seconds(), name+"-x-floor")
		}
		b.ReportMetric(exported, "sockets-at-least")
		b.ReportMetric(float64(seriesOfFew), "series-at-10k")
		b.ReportMetric(float64(series), "series")
		b.ReportMetric(ours.peakMemory(b)/1e6, "peak-rss-MB")
	}
}

// server is a program that serves metrics.
type server struct {
	name, address string
	pid           int
}

// startDaemon builds and starts port_exporter. A destination is exported from one in
// five hundred ports on, so that it is at both sizes.
func startDaemon(b *testing.B, flags ...string) *server {
	b.Helper()
	return startDaemonAt(b, "127.0.0.1:10065", flags...)
}

func startDaemonAt(b *testing.B, address string, flags ...string) *server {
	b.Helper()
	dir := b.TempDir()
	program, config := filepath.Join(dir, "port_exporter"), filepath.Join(dir, "c.yml")
	if out, err := exec.Command("go", "build", "-o", program, "../..").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(config, []byte("destinations: {min_share: 0.002}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	flags = append(flags, "--config.file="+config, "--web.listen-address="+address)
	return startServer(b, "port_exporter", address, program, flags...)
}

// startServer starts a program and waits until it serves.
func startServer(b *testing.B, name, address, program string, args ...string) *server {
	b.Helper()
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGTERM)
		_ = cmd.Wait()
	})
	s := &server{name, address, cmd.Process.Pid}
	for range 100 {
		if response, err := http.Get("http://" + address + "/-/healthy"); err == nil { // the page would search for owners
			_ = response.Body.Close()
			return s
		}
		time.Sleep(50 * time.Millisecond)
	}
	b.Fatalf("%s does not serve", name)
	return nil
}

// scrape returns how many series of sockets the server exports (its own process
// left out), and how many sockets port_sockets has.
func (s *server) scrape(b *testing.B) (series int, sockets float64) {
	b.Helper()
	client := http.Client{Timeout: 2 * time.Minute}
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+s.address+"/metrics", nil)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("X-Prometheus-Scrape-Timeout-Seconds", "120")
	response, err := client.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(io.LimitReader(response.Body, 64<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "port_scrape_collector_success") && !strings.HasSuffix(line, " 1"):
			b.Fatal(line)
		case strings.HasPrefix(line, "port_sockets{"):
			n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				b.Fatal(err)
			}
			sockets += n
		}
		if strings.HasPrefix(line, "port_") {
			series++
		}
	}
	if err := lines.Err(); err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("%s: status %d, %v", s.name, response.StatusCode, err)
	}
	return series, sockets
}

// cpuTime returns the CPU time of the server up to now, in the kernel's ticks of
// 10 ms (proc_pid_stat(5)).
func (s *server) cpuTime(b *testing.B) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	const tick, utime, stime = 10 * time.Millisecond, 11, 12 // behind the name in brackets
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	var total time.Duration
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(n) * tick
	}
	return total
}

// peakMemory returns the most that the server was resident with, in bytes.
func (s *server) peakMemory(b *testing.B) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.ParseFloat(strings.Fields(kB)[0], 64)
			if err != nil {
				b.Fatal(err)
			}
			return n * 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}
