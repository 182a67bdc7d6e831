package netns

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// BenchmarkRead reads the listeners, and then the connections too, of 100 namespaces with
// 10 listeners and 4 UDP sockets each.
func BenchmarkRead(b *testing.B) {
	const namespaces, listeners, datagram = 100, 10, 4
	for i := range namespaces {
		name := fmt.Sprintf("port_exporter_bench_%d_%d", os.Getpid(), i)
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil { //nolint:gosec // a constant
			b.Skipf("SKIP-NAMESPACE: ip netns add: %v: %s", err, out)
		}
		b.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() }) //nolint:gosec // a constant
		err := new(Worker).Do(b.Context(), "/run/netns/"+name, func(uint64) error {
			for port := range listeners + datagram {
				if err := bindPort(b, port, port < listeners); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	reader := newReader(b)
	for name, depth := range map[string]Depth{"listeners": Listeners, "full": Full} {
		b.Run(name, func(b *testing.B) {
			before := cpu(b)
			for b.Loop() {
				read(b, reader, depth)
			}
			b.ReportMetric((cpu(b)-before)/float64(b.N), "cpu-ms/op")
		})
	}
}

// cpu returns the CPU time of this process, in milliseconds.
func cpu(b *testing.B) float64 {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e6
}

func bindPort(b *testing.B, port int, listen bool) error {
	b.Helper()
	kind := unix.SOCK_DGRAM
	if listen {
		kind = unix.SOCK_STREAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 1000 + port}); err != nil || !listen {
		return err
	}
	return unix.Listen(fd, 1)
}

func read(b *testing.B, reader *Reader, depth Depth) {
	b.Helper()
	found, err := reader.Read(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	for _, n := range found.Namespaces {
		for _, err := range n.Source.Sockets(b.Context(), socket.Listening) {
			if err != nil {
				b.Fatal(err)
			}
		}
		if depth != Full {
			continue
		}
		for _, err := range n.Source.Sockets(b.Context(), socket.Connections) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
