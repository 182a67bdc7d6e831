package bench

import (
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/health"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// Bits of idiag_ext (include/uapi/linux/inet_diag.h).
const (
	extInfo = 1 << 1
	extCong = 1 << 3
)

// BenchmarkHealth reads TCP_INFO of -sockets real sockets by several methods, and scrapes
// the running program without and with the collector health, in turn, round by round. It
// reports the median CPU time of each, also as a multiple of the floor, and the daemons'
// peak resident memory.
func BenchmarkHealth(b *testing.B) {
	all := startMakers(b, *sockets)
	all.fill(b, *sockets)
	source, err := sockdiag.New(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	methods := []method{
		{"floor", func() error { return discard(socket.Connections, 0) }},
		{"floor-info", func() error { return discard(socket.Connections, extInfo) }},
		{"floor-info-cong", func() error { return discard(socket.Connections, extInfo|extCong) }},
		{"sock_diag-health", func() error { return addUp(b, source) }},
		{"ss-tin", func() error { return exec.Command("ss", "-tin").Run() }},
		{"vishvananda", func() error { return readByNetlink() }},
	}
	daemons := map[string]*server{
		"daemon":        startDaemonAt(b, "127.0.0.1:10065"),
		"daemon-health": startDaemonAt(b, "127.0.0.1:10066", "--collector.health"),
		"daemon-live":   startDaemonAt(b, "127.0.0.1:10067", "--collector.health", "--collector.closed"),
	}
	const rounds = 5
	for b.Loop() {
		cpu := map[string][]time.Duration{}
		for range rounds {
			all.order(b, "time_wait", *sockets/len(all)/5) // those of the last round are going
			for _, m := range methods {
				start := cpuTime()
				if err := m.read(); err != nil {
					b.Fatalf("%s: %v", m.name, err)
				}
				cpu[m.name] = append(cpu[m.name], cpuTime()-start)
			}
			for name, s := range daemons {
				start := s.cpuTime(b)
				s.scrape(b)
				cpu[name] = append(cpu[name], s.cpuTime(b)-start)
			}
		}
		floor := median(cpu["floor"])
		for name, times := range cpu {
			b.ReportMetric(median(times).Seconds()*1000, name+"-cpu-ms")
			b.ReportMetric(median(times).Seconds()/floor.Seconds(), name+"-x-floor")
		}
		for name, s := range daemons {
			b.ReportMetric(s.peakMemory(b)/1e6, name+"-peak-rss-MB")
		}
	}
}

// addUp is what a scrape with health does with a source.
func addUp(b *testing.B, source socket.Source) error {
	table, err := socket.ReadListening(source.Sockets(b.Context(), socket.Listening), socket.Criteria{Ephemeral: socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}})
	if err != nil {
		return err
	}
	series, _ := socket.MostExposed(table.Listeners, 1000)
	fold := health.New(table, series, health.Ports{Room: 200})
	_, err = socket.ObserveConnections(source.Sockets(b.Context(), socket.Connections|socket.WithInfo), table, nil, fold.Observe)
	if fold.Observed < *sockets/2 {
		b.Fatalf("TCP_INFO of %d connections only", fold.Observed)
	}
	return err
}

func readByNetlink() error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if _, err := netlink.SocketDiagTCPInfo(family); err != nil {
			return err
		}
	}
	return nil
}
