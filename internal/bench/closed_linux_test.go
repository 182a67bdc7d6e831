package bench

import (
	"bufio"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkClosed opens and closes connections over loopback, which frees 10,000
// sockets a second, without and with the collector closed. It reports the CPU time for
// each socket: of the program that closes, of the kernel's threads, and of the daemon;
// and how many messages were lost and counted.
func BenchmarkClosed(b *testing.B) {
	s := newClosing(b)
	for _, with := range []bool{false, true, false, true} {
		flag, collector := "--no-collector.closed", "limits"
		if with {
			flag, collector = "--collector.closed", "closed"
		}
		b.Run(flag[2:], func(b *testing.B) {
			daemon := startDaemon(b, flag)
			for b.Loop() {
				before := samplesOf(b, daemon, collector, "port_inbound_connections_closed_total", "port_closed_connections_lost_total")
				closer, threads, ours, start := cpuTime(), kernelThreads(b), daemon.cpuTime(b), time.Now()
				for i := range closings {
					if err := s.once(i); err != nil {
						b.Fatal(err)
					}
					time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / closingsPerSecond)))
				}
				elapsed := time.Since(start)
				time.Sleep(100 * time.Millisecond) // for the last messages
				report := func(cpu time.Duration, unit string) {
					b.ReportMetric(float64(cpu.Microseconds())/(2*closings), unit+"-us/socket")
				}
				report(cpuTime()-closer, "closer")
				report(kernelThreads(b)-threads, "threads")
				report(daemon.cpuTime(b)-ours, "daemon")
				b.ReportMetric(2*closings/elapsed.Seconds(), "sockets/s")
				after := samplesOf(b, daemon, collector, "port_inbound_connections_closed_total", "port_closed_connections_lost_total")
				b.ReportMetric(after[0]-before[0], "counted")
				b.ReportMetric(after[1]-before[1], "lost")
			}
		})
	}
}

// closings is how many connections are closed. Each frees two sockets.
const (
	closings          = 20_000
	closingsPerSecond = 5_000
)

// closing is a listener whose connections end.
type closing struct{ listener int }

const closingPort = 8999

// newClosing listens until the benchmark ends.
func newClosing(b *testing.B) *closing {
	b.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: closingPort}); err != nil {
		b.Fatal(err)
	}
	if err := unix.Listen(fd, 16); err != nil {
		b.Fatal(err)
	}
	return &closing{fd}
}

// once makes a connection to one of many addresses, so that the ports suffice.
func (s *closing) once(i int) error {
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: closingPort, Addr: [4]byte{127, 0, 1, byte(1 + i%250)}}); err != nil {
		return err
	}
	server, _, err := unix.Accept(s.listener)
	if err != nil {
		return err
	}
	if err := unix.Close(client); err != nil {
		return err
	}
	return unix.Close(server)
}

// kernelThreads returns the CPU time of all threads of the kernel, one of which builds
// the messages.
func kernelThreads(b *testing.B) (total time.Duration) {
	b.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if fields[1] != "2" { // kthreadd, their parent
			continue
		}
		const hertz = 100 // USER_HZ of every architecture that is built for
		for _, at := range []int{11, 12} {
			ticks, err := strconv.Atoi(fields[at])
			if err != nil {
				b.Fatal(err)
			}
			total += time.Duration(ticks) * time.Second / hertz
		}
	}
	return total
}

// samplesOf returns the sums of families in a scrape of one collector: the search of a
// full scrape for owners might outlast it, and would be measured too.
func samplesOf(b *testing.B, s *server, collector string, families ...string) []float64 {
	b.Helper()
	response, err := http.Get("http://" + s.address + "/metrics?collect[]=" + collector)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	sums := make([]float64, len(families))
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		for i, family := range families {
			if strings.HasPrefix(lines.Text(), family+"{") || strings.HasPrefix(lines.Text(), family+" ") {
				_, value, _ := strings.Cut(lines.Text()[len(family):], " ")
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					b.Fatal(err)
				}
				sums[i] += n
			}
		}
	}
	return sums
}
