package kernel

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzRead reads any text as each of the kernel's files.
func FuzzRead(f *testing.F) {
	names := []string{
		"net/sockstat", "net/sockstat6", "77/net/netstat", "77/net/snmp", "77/net/snmp6", "sys/net/ipv4/tcp_mem", "sys/net/core/somaxconn",
		"sys/net/netfilter/nf_conntrack_count", "sys/net/ipv4/tcp_max_tw_buckets", "net/stat/arp_cache", "net/stat/nf_conntrack",
	}
	for _, text := range []string{
		"", "1\n", "1 2 3\n", "-1", "TCP: inuse 1 orphan 2 tw 3 alloc 4 mem 5\nUDP: inuse\n", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1\n",
		"Tcp: RetransSegs\nTcp: 99999999999999999999\n", "Udp6NoPorts x\nUdp6NoPorts\n", "TCP6: inuse 3\n", "entries table_fulls\n0000000c 0000000a\n",
	} {
		for i := range names {
			f.Add(i, text)
		}
	}
	f.Fuzz(func(t *testing.T, which int, text string) {
		dir := t.TempDir()
		name := names[uint(which)%uint(len(names))]
		for _, folder := range []string{filepath.Dir(name), "77/net"} {
			if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink("77", filepath.Join(dir, "self")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if stats, err := Read(dir); stats == nil && err == nil {
			t.Error("neither figures nor an error")
		}
	})
}
