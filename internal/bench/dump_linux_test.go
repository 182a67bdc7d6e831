package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/shirou/gopsutil/v3/net"
	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/bpfwalk"
	"github.com/port-exporter/port_exporter/internal/procnet"
	"github.com/port-exporter/port_exporter/internal/sockdiag"
	"github.com/port-exporter/port_exporter/internal/socket"
)

// method is one way to read the whole socket table.
type method struct {
	name string
	read func() error
}

// BenchmarkDump reads a namespace of -sockets real sockets by every method in
// turn, round by round, and reports the median CPU time of each (its own, the
// kernel's on its behalf, and that of the processes it starts), also as a
// multiple of the floor. Rounds are few on purpose: TIME_WAIT lasts a minute.
func BenchmarkDump(b *testing.B) {
	startMakers(b, *sockets).fill(b, *sockets)
	source, err := sockdiag.New(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	twoWalks := &sockdiag.Source{}
	proc, err := procnet.New("/proc")
	if err != nil {
		b.Fatal(err)
	}
	methods := []method{
		{"floor", func() error { return discard(socket.Connections, 0) }},
		{"sock_diag", func() error { return summarize(b.Context(), source) }},
		{"sock_diag-two-walks", func() error { return summarize(b.Context(), twoWalks) }},
		{"procfs", func() error { return summarize(b.Context(), proc) }},
		{"ss", func() error { return exec.Command("ss", "-tan").Run() }},
		{"gopsutil", func() error {
			_, err := net.ConnectionsWithoutUids("tcp")
			return err
		}},
	}
	if engine, err := bpfwalk.Open(b.Context()); err != nil {
		b.Log(err)
	} else {
		defer engine.Close()
		methods = slices.Insert(methods, 1, method{"bpf", func() error { return summarize(b.Context(), engine.Source()) }})
	}
	const rounds = 5
	for b.Loop() {
		cpu := make([][]time.Duration, len(methods))
		for range rounds {
			for i, m := range methods {
				start := cpuTime()
				if err := m.read(); err != nil {
					b.Fatalf("%s: %v", m.name, err)
				}
				cpu[i] = append(cpu[i], cpuTime()-start)
			}
		}
		floor := median(cpu[0])
		for i, m := range methods {
			b.ReportMetric(median(cpu[i]).Seconds()*1000, m.name+"-cpu-ms")
			b.ReportMetric(median(cpu[i]).Seconds()/floor.Seconds(), m.name+"-x-floor")
		}
	}
}

// summarize is what a scrape does with a source.
func summarize(ctx context.Context, source socket.Source) error {
	table, err := socket.ReadListening(source.Sockets(ctx, socket.Listening), socket.Criteria{Ephemeral: socket.EphemeralPorts{PortRange: socket.PortRange{First: 32768, Last: 60999}}})
	if err != nil {
		return err
	}
	_, err = socket.ReadConnections(source.Sockets(ctx, socket.Connections), table, nil)
	return err
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// cpuTime returns the CPU time of this process and of those it has waited for.
func cpuTime() time.Duration {
	var total time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			panic(err)
		}
		total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return total
}

// discard is the floor: it asks for the same states of both families in one
// walk, with some extensions of struct inet_diag_req, and looks at nothing but the end
// of the dump.
func discard(states socket.StateSet, extensions byte) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const tcpDiagGetSock, requestDump, done = 18, 0x301, 3
	request := make([]byte, 76)
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], tcpDiagGetSock)
	binary.NativeEndian.PutUint16(request[6:], requestDump)
	request[16+3] = extensions
	binary.NativeEndian.PutUint32(request[16+52:], uint32(states))
	if _, err := unix.Write(fd, request); err != nil {
		return err
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return err
		}
		if n < 16 {
			return fmt.Errorf("a datagram of %d bytes", n)
		}
		// NLMSG_DONE comes alone, or behind the last rows: 20 bytes at the end.
		if binary.NativeEndian.Uint16(buf[4:]) == done || n >= 20 && binary.NativeEndian.Uint16(buf[n-20+4:n]) == done && binary.NativeEndian.Uint32(buf[n-20:n]) == 20 {
			return nil
		}
	}
}
