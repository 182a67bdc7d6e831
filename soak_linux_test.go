package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/porttest"
)

var soakTime = flag.Duration("soak", 0, "how long TestSoakInNamespace runs; 0 skips it")

// soak is a program under load for a long time.
type soak struct {
	t                *testing.T
	process          *os.Process
	dir              string
	deadline         time.Duration // of a scrape
	made, namespaces atomic.Int64
	reloads          [2]int // those that succeed and those that fail
	rows             []soakRow
}

// soakRow is what was seen in a minute, or in a tenth of the time if that is shorter.
type soakRow struct {
	scrapes, lost                                  int
	took                                           []time.Duration
	rss, descriptors, goroutines, threads, samples int // at its end
}

// TestSoakInNamespace has the program run for the time of -soak with closed, health and
// namespaces on, under thousands of connections a second, with network namespaces that come
// and go, targets good and bad, and reloads good and bad. Each scrape is answered within its
// deadline, nothing grows, and the connections that were closed are all counted.
func TestSoakInNamespace(t *testing.T) {
	if *soakTime == 0 {
		t.Skip("SKIP-SOAK: runs only when asked to, with -soak")
	}
	porttest.Namespace(t)
	s := &soak{t: t, dir: t.TempDir(), deadline: 10 * time.Second}
	server, err := net.Listen("tcp", "127.0.0.1:8080") // on this thread, so of the namespace
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go serveAndClose(server)
	s.configure(true)
	_, s.process = startProcess(t, "", "--web.listen-address="+porttest.ScrapeAddress, "--web.enable-lifecycle", "--config.file="+s.file(),
		"--collector.closed", "--collector.health", "--collector.namespaces")

	ctx, cancel := context.WithTimeout(t.Context(), *soakTime)
	defer cancel()
	var load sync.WaitGroup
	for range 2 {
		load.Go(s.inNamespace(func() { s.connect(ctx, "127.0.0.1:8080") }))
	}
	load.Go(func() { s.comeAndGo(ctx) })
	s.watch(ctx)
	load.Wait()
	s.quiet()
	s.report()
}

// serveAndClose reads what a client sends, answers and closes.
func serveAndClose(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			_, _ = io.CopyN(io.Discard, conn, 1)
			_, _ = conn.Write([]byte("hello\n"))
		}()
	}
}

func (s *soak) file() string { return filepath.Join(s.dir, "c.yml") }

// configure writes a configuration, whose targets are reached, refuse, are silent, have no
// route or no name; or one that is broken.
func (s *soak) configure(good bool) {
	text := `modules: {quick: {prober: tcp, timeout: 1s, trace: true}}
policy: {rules: [{ports: [8080, 10065]}]}
targets:
- {address: "127.0.0.1:8080", module: quick, interval: 1s}
- {address: "127.0.0.1:8080", module: quick}
- {address: "127.0.0.1:9", module: quick}
- {address: "192.0.2.1:80", module: quick}
- {address: "name.invalid:80", module: quick, interval: 2s}
`
	if !good {
		text = text[:len(text)/2]
	}
	if err := os.WriteFile(s.file(), []byte(text), 0o600); err != nil {
		s.t.Error(err)
	}
}

// inNamespace returns what runs a task in the network namespace of the caller's thread.
func (s *soak) inNamespace(task func()) func() {
	space, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		s.t.Fatal(err)
	}
	return func() {
		runtime.LockOSThread() // never unlocked: the runtime then ends the thread
		defer space.Close()
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			s.t.Error(err)
			return
		}
		task()
	}
}

// connect makes one connection after the other, and reads until the server closes.
func (s *soak) connect(ctx context.Context, to string) {
	for ctx.Err() == nil {
		conn, err := net.Dial("tcp", to)
		if err != nil {
			s.t.Errorf("connection %d: %v", s.made.Load(), err)
			return
		}
		s.made.Add(1)
		_, _ = conn.Write([]byte{0})
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
}

// comeAndGo has network namespaces with a listener, five at a time.
func (s *soak) comeAndGo(ctx context.Context) {
	for ctx.Err() == nil {
		go func() {
			runtime.LockOSThread() // ends with its thread
			if unix.Unshare(unix.CLONE_NEWNET) != nil {
				return
			}
			l, err := net.Listen("tcp", "0.0.0.0:7000")
			if err != nil {
				return
			}
			defer l.Close()
			s.namespaces.Add(1)
			time.Sleep(2500 * time.Millisecond)
		}()
		time.Sleep(500 * time.Millisecond)
	}
}

// watch scrapes each second, reloads each five, and writes down what it sees.
func (s *soak) watch(ctx context.Context) {
	every := min(time.Minute, *soakTime/10)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	row, end := soakRow{}, time.Now().Add(every)
	for n := 1; ; n++ {
		began := time.Now()
		status, body, err := porttest.TryGet(porttest.ScrapeAddress, "/metrics")
		row.scrapes++
		row.took = append(row.took, time.Since(began))
		if err != nil || status != http.StatusOK || time.Since(began) > s.deadline || failedCollector.MatchString(body) {
			row.lost++
			s.t.Errorf("scrape %d: status %d after %v, %v, failed %q", n, status, time.Since(began), err, failedCollector.FindAllString(body, -1))
		}
		if time.Now().After(end) {
			s.measure(&row, body)
			s.rows = append(s.rows, row)
			row, end = soakRow{}, end.Add(every)
		}
		if n%5 == 0 {
			s.reload(n%10 == 0)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *soak) reload(good bool) {
	s.configure(good)
	status, body := porttest.Post(s.t, porttest.ScrapeAddress, "/-/reload")
	if good != (status == http.StatusOK) {
		s.t.Errorf("reload of a configuration that is good (%v): %d %s", good, status, body)
	}
	if good {
		s.reloads[0]++
	} else {
		s.reloads[1]++
	}
}

// measure reads what the program takes.
func (s *soak) measure(row *soakRow, body string) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	figure := func(pattern, text string) int {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			s.t.Errorf("no %s", pattern)
			return 0
		}
		n, _ := strconv.Atoi(m[1])
		return n
	}
	row.rss = figure(`VmRSS:\s+(\d+) kB`, string(status))
	row.threads = figure(`Threads:\s+(\d+)`, string(status))
	row.goroutines = figure(`(?m)^go_goroutines (\d+)$`, body)
	row.samples = strings.Count(body, "\n") - strings.Count(body, "\n#")
	if open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Pid)); err == nil {
		row.descriptors = len(open)
	}
}

// quiet compares what was counted with what was done, when nothing is under way.
func (s *soak) quiet() {
	closed := regexp.MustCompile(`(?m)^port_inbound_connections_closed_total\{[^}]*port="8080"[^}]*\} (\S+)$`)
	var counted float64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Second) {
		_, body := porttest.Get(s.t, porttest.ScrapeAddress, "/metrics")
		counted = 0
		for _, m := range closed.FindAllStringSubmatch(body, -1) {
			n, _ := strconv.ParseFloat(m[1], 64)
			counted += n
		}
		if lost := regexp.MustCompile(`(?m)^port_closed_connections_lost_total \S+$`).FindString(body); lost != "port_closed_connections_lost_total 0" {
			s.t.Logf("messages of the kernel were lost: %s", lost)
			return
		}
		if counted >= float64(s.made.Load()) {
			break
		}
	}
	// The probes connect to the listener too: at most twice a second.
	if extra := counted - float64(s.made.Load()); extra < 0 || extra > 4*soakTime.Seconds()+60 {
		s.t.Errorf("%.0f connections are counted as closed, and %d were made besides the probes", counted, s.made.Load())
	}
	s.t.Logf("%.0f connections are counted as closed, %d were made besides the probes", counted, s.made.Load())
}

// report prints a table, and fails where the last quarter of the time is above the second.
func (s *soak) report() {
	var table strings.Builder
	fmt.Fprintf(&table, "%v: %d connections, %d namespaces, %d reloads and %d refused ones\n\n", *soakTime, s.made.Load(), s.namespaces.Load(), s.reloads[0], s.reloads[1])
	table.WriteString("| part | scrapes | lost | p50 | p99 | RSS in MB | descriptors | goroutines | threads | samples |\n|" + strings.Repeat(" --- |", 10) + "\n")
	for i := range s.rows {
		r := &s.rows[i]
		slices.Sort(r.took)
		at := func(share float64) float64 { return r.took[int(share*float64(len(r.took)-1))].Seconds() }
		fmt.Fprintf(&table, "| %d | %d | %d | %.3f | %.3f | %.1f | %d | %d | %d | %d |\n", i+1, r.scrapes, r.lost, at(0.5), at(0.99),
			float64(r.rss)/1024, r.descriptors, r.goroutines, r.threads, r.samples)
	}
	s.t.Log("\n" + table.String())
	if len(s.rows) < 8 {
		return
	}
	n := len(s.rows)
	early, late := s.rows[n/4:n/2], s.rows[n-n/4:]
	for name, of := range map[string]struct {
		figure func(*soakRow) int
		room   int
	}{
		"kB of resident memory": {func(r *soakRow) int { return r.rss }, 16 << 10},
		"descriptors":           {func(r *soakRow) int { return r.descriptors }, 15},
		"goroutines":            {func(r *soakRow) int { return r.goroutines }, 20},
		"threads":               {func(r *soakRow) int { return r.threads }, 6},
	} {
		before, after := least(early, of.figure), least(late, of.figure)
		if after > before+of.room {
			s.t.Errorf("%s grow from %d to %d", name, before, after)
		}
	}
}

// least returns the least of a figure: what is there for a moment does not count.
func least(rows []soakRow, figure func(*soakRow) int) int {
	all := make([]int, len(rows))
	for i := range rows {
		all[i] = figure(&rows[i])
	}
	return slices.Min(all)
}
