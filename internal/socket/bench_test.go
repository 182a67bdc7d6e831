package socket

import (
	"fmt"
	"net/netip"
	"testing"
)

// BenchmarkReadConnections folds a million rows in each operation: what a
// scrape costs above the kernel and the parser. It reports allocations for the
// whole million.
func BenchmarkReadConnections(b *testing.B) {
	const rows = 1_000_000
	var listening []Socket
	for i := range 300 {
		listening = append(listening, tcp(Listen, fmt.Sprintf("0.0.0.0:%d", 8000+i), ""))
	}
	table, err := ReadListening(seq(listening...), host)
	if err != nil {
		b.Fatal(err)
	}
	mix := make([]Socket, 4096)
	for i := range mix {
		mix[i] = tcp(Established, "10.0.0.1:8000", "10.0.0.2:40000")
		mix[i].CgroupID = uint64(1000 + i%97)
		peer := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		switch i % 10 {
		case 0, 1: // outbound, to 100 services
			mix[i].Local = netip.AddrPortFrom(mix[i].Local.Addr(), uint16(32768+i))
			mix[i].Remote = netip.AddrPortFrom(peer, uint16(5000+i%100))
		case 2, 3:
			mix[i].State, mix[i].CgroupID = TimeWait, 0
			fallthrough
		default:
			mix[i].Local = netip.AddrPortFrom(mix[i].Local.Addr(), uint16(8000+i%300))
			mix[i].Remote = netip.AddrPortFrom(peer, uint16(32768+i))
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		_, err := ReadConnections(func(yield func(*Socket, error) bool) {
			for i := range rows {
				if !yield(&mix[i%len(mix)], nil) {
					return
				}
			}
		}, table, nil)
		if err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}
