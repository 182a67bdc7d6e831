package bench

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// BenchmarkLatency logs the round trip of one byte over loopback, half of them and 99 %
// of them, beside -sockets others: alone, under a dump of all a second, and under one with
// TCP_INFO, for which the kernel takes the lock of each socket.
func BenchmarkLatency(b *testing.B) {
	startMakers(b, *sockets).fill(b, *sockets)
	s := newClosing(b)
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	if err := unix.Connect(client, &unix.SockaddrInet4{Port: closingPort, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		b.Fatal(err)
	}
	server, _, err := unix.Accept(s.listener)
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for one := make([]byte, 1); ; {
			if n, err := unix.Read(server, one); n < 1 || err != nil {
				return
			}
			_, _ = unix.Write(server, one)
		}
	}()
	for b.Loop() {
		for range 3 {
			measureTrips(b, client, "alone", func() error { return nil })
			measureTrips(b, client, "dump", func() error { return discard(socket.Connections, 0) })
			measureTrips(b, client, "dump-info", func() error { return discard(socket.Connections, extInfo) })
		}
	}
}

// measureTrips makes round trips for three seconds, and calls dump at the start of each.
func measureTrips(b *testing.B, client int, name string, dump func() error) {
	b.Helper()
	end := time.Now().Add(3 * time.Second)
	done := make(chan error, 1)
	go func() {
		var err error
		for at := time.Now(); at.Before(end) && err == nil; at = at.Add(time.Second) {
			time.Sleep(time.Until(at))
			err = dump()
		}
		done <- err
	}()
	var trips []time.Duration
	one := make([]byte, 1)
	for time.Now().Before(end) {
		start := time.Now()
		if _, err := unix.Write(client, one); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Read(client, one); err != nil {
			b.Fatal(err)
		}
		trips = append(trips, time.Since(start))
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	slices.Sort(trips)
	b.Logf("%s: median %v, 99 %% %v, 99.9 %% %v, most %v", name, median(trips), trips[len(trips)*99/100], trips[len(trips)*999/1000], trips[len(trips)-1])
}
