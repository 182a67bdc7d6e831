package kernel

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tree makes a procfs of some files.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(dir, "77")
	if err := os.MkdirAll(filepath.Join(self, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("77", filepath.Join(dir, "self")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestReadFaults(t *testing.T) {
	for _, tt := range []struct{ name, file, text string }{
		{"no number", "sys/net/core/somaxconn", "many\n"},
		{"empty", "sys/net/core/somaxconn", ""},
		{"two for one", "sys/net/ipv4/tcp_max_orphans", "1 2\n"},
		{"two for three", "sys/net/ipv4/tcp_mem", "1 2\n"},
		{"sockstat cut short", "net/sockstat", "TCP:\n"},
		{"sockstat without a value", "net/sockstat", "TCP: inuse 1 orphan\n"},
		{"netstat cut short", "77/net/netstat", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1\n"},
		{"netstat with a text", "77/net/netstat", "TcpExt: ListenOverflows\nTcpExt: x\n"},
		{"snmp cut short", "77/net/snmp", "Tcp: RetransSegs OutRsts\nTcp: 1\n"},
		{"snmp6 with a text", "77/net/snmp6", "Udp6NoPorts x\n"},
		{"neighbours cut short", "net/stat/arp_cache", "entries table_fulls\n0000000c\n"},
		{"neighbours with a text", "net/stat/ndisc_cache", "entries table_fulls\n0000000c x\n"},
		{"conntrack with a text", "net/stat/nf_conntrack", "entries\nx\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Read(tree(t, map[string]string{tt.file: tt.text, "sys/net/ipv4/tcp_max_syn_backlog": "-1\n"}))
			files := Files(err)
			if len(files) != 1 || filepath.Base(files[0].File) != filepath.Base(tt.file) {
				t.Errorf("%v: want an error about %s", err, tt.file)
			}
			if got == nil || got.MaxSynBacklog == nil || *got.MaxSynBacklog != -1 {
				t.Errorf("%+v: it costs other figures", got)
			}
		})
	}
}

// A directory in the place of a file cannot be read, by root neither.
func TestReadNamesEveryFile(t *testing.T) {
	dir := tree(t, nil)
	unreadable := []string{"sys/net/core/somaxconn", "sys/net/netfilter/nf_conntrack_count", "net/sockstat", "77/net/netstat"}
	for _, name := range unreadable {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Read(dir)
	if err == nil {
		t.Fatal("directories were read")
	}
	for _, name := range unreadable {
		if !strings.Contains(err.Error(), filepath.Base(name)) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
}

func TestReadAbsentFiles(t *testing.T) {
	got, err := Read(tree(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Stats{}, got); diff != "" {
		t.Errorf("of nothing (-want +got):\n%s", diff)
	}
	// gVisor has the names of counters without their values.
	got, err = Read(tree(t, map[string]string{"77/net/netstat": "TcpExt: SyncookiesSent ListenOverflows\n", "sys/net/netfilter/nf_conntrack_max": "0\n"}))
	if err != nil || got.Netstat != (Netstat{}) || got.ConntrackLimit != nil {
		t.Errorf("no values and no limit: %+v, %v", got, err)
	}
	got, err = Read(tree(t, map[string]string{"sys/net/ipv4/tcp_tw_reuse": "1\n", "sys/net/ipv4/tcp_timestamps": "0\n"}))
	if err != nil || *got.TimeWaitReuse != 0 {
		t.Errorf("without timestamps: %+v, %v; want that nothing is taken again", got, err)
	}
	if _, err := Read(filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("a place without procfs was read")
	}
}

func TestRead(t *testing.T) {
	page := float64(os.Getpagesize())
	got, err := Read(tree(t, map[string]string{
		"sys/net/core/somaxconn":               "4096\n",
		"sys/net/ipv4/tcp_max_syn_backlog":     "512\n",
		"sys/net/ipv4/tcp_max_tw_buckets":      "131072\n",
		"sys/net/ipv4/tcp_max_orphans":         "8192\n",
		"sys/net/ipv4/tcp_tw_reuse":            "2\n",
		"sys/net/ipv4/tcp_timestamps":          "1\n",
		"sys/net/ipv4/tcp_mem":                 "100\t200\t300\n",
		"sys/net/netfilter/nf_conntrack_count": "7\n",
		"sys/net/netfilter/nf_conntrack_max":   "262144\n",
		"net/sockstat":                         "sockets: used 13\nTCP: inuse 1 orphan 2 tw 3 alloc 4 mem 5\nUDP: inuse 0 mem 0\n",
		"77/net/netstat": "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPAbortOnMemory TCPTimeWaitOverflow TCPReqQFullDrop TCPSynRetrans " +
			"TCPAbortOnData TCPAbortOnClose TCPAbortOnTimeout TCPAbortOnLinger TCPAbortFailed SyncookiesRecv SyncookiesFailed TCPTimeouts TCPLossProbes " +
			"TCPZeroWindowDrop TCPBacklogDrop TCPRcvQDrop IPReversePathFilter\n" +
			"TcpExt: 1 2 3 4 5 6 7 31 32 33 34 35 36 37 38 39 40 41 42 43\nIpExt: InNoRoutes\nIpExt: 0\n",
		"net/stat/arp_cache":   "entries  allocs table_fulls\n0000000c 00000001 0000000a\n0000000c 00000001 00000010\n",
		"net/stat/ndisc_cache": "entries  allocs table_fulls\n00000000 00000001 00000001\n",
		"net/stat/nf_conntrack": "entries  searched found new invalid ignore delete delete_list insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n" +
			"00000007  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000003 00000002 00000000 00000000  00000000 00000000 00000000 00000000\n" +
			"00000007  00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000000 00000010 00000001 00000000 00000000  00000000 00000000 00000000 00000000\n",
		"77/net/snmp": "Icmp: OutErrors OutRateLimitGlobal OutRateLimitHost\nIcmp: 0 51 2\n" +
			"Tcp: AttemptFails EstabResets RetransSegs OutRsts ActiveOpens PassiveOpens\nTcp: 11 12 13 14 44 45\n" +
			"Udp: NoPorts RcvbufErrors SndbufErrors\nUdp: 15 16 17\n",
		"77/net/snmp6": "Icmp6OutRateLimitHost \t54\nUdp6NoPorts \t18\nUdp6RcvbufErrors \t19\nUdp6SndbufErrors \t20\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		SoMaxConn: new(4096.0), MaxSynBacklog: new(512.0), TimeWaitLimit: new(131072.0), TimeWait: new(3.0), TimeWaitReuse: new(2.0), Conntrack: new(7.0), ConntrackLimit: new(262144.0),
		Netstat: Netstat{
			SynCookiesSent: new(1.0), ListenOverflows: new(2.0), ListenDrops: new(3.0), AbortOnMemory: new(4.0),
			TimeWaitOverflow: new(5.0), SynQueueFullDrops: new(6.0), SynRetransmits: new(7.0),
			AbortOnData: new(31.0), AbortOnClose: new(32.0), AbortOnTimeout: new(33.0), AbortOnLinger: new(34.0), AbortFailed: new(35.0),
			SynCookiesValid: new(36.0), SynCookiesInvalid: new(37.0), Timeouts: new(38.0), LossProbes: new(39.0),
			ZeroWindowDrop: new(40.0), BacklogDrop: new(41.0), ReceiveQueueDrop: new(42.0), ReversePathFilter: new(43.0),
		},
		Snmp: Snmp{AttemptFails: new(11.0), EstabResets: new(12.0), RetransSegs: new(13.0), ResetsSent: new(14.0), ActiveOpens: new(44.0), PassiveOpens: new(45.0)},
		ICMP: ICMP{RateLimited: new(53.0)}, ICMP6: ICMP{RateLimited: new(54.0)}, Tracking: Tracking{Drops: new(3.0), InsertFailures: new(19.0)},
		Neighbours: Neighbours{new(26.0)}, Neighbours6: Neighbours{new(1.0)},
		UDP:     UDP{NoPorts: new(15.0), ReceiveFull: new(16.0), SendFull: new(17.0)},
		UDP6:    UDP{NoPorts: new(18.0), ReceiveFull: new(19.0), SendFull: new(20.0)},
		Orphans: new(2.0), OrphanLimit: new(8192.0),
		Memory: new(5 * page), MemoryPressure: new(200 * page), MemoryLimit: new(300 * page),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestReadThisHost compares with what sysctl and nstat have, which read the same
// kernel in their own way.
func TestReadThisHost(t *testing.T) {
	got, err := Read("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for i, field := range []*float64{got.SoMaxConn, got.TimeWaitLimit, got.Netstat.ListenOverflows, got.Snmp.RetransSegs, got.UDP.NoPorts, got.Memory} {
		if field == nil {
			t.Errorf("figure %d is not there", i)
		}
	}
	if _, err := exec.LookPath("nstat"); err != nil {
		t.Skip("SKIP-NSTAT: nstat (iproute2) is not in PATH")
	}
	out, err := exec.CommandContext(t.Context(), "nstat", "-asz").Output()
	if err != nil {
		t.Fatal(err)
	}
	counters := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) >= 2 {
			counters[fields[0]], _ = strconv.ParseFloat(fields[1], 64)
		}
	}
	later, err := Read("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for name, of := range map[string]func(*Stats) *float64{
		"TcpExtListenOverflows":     func(s *Stats) *float64 { return s.Netstat.ListenOverflows },
		"TcpExtListenDrops":         func(s *Stats) *float64 { return s.Netstat.ListenDrops },
		"TcpExtTCPTimeWaitOverflow": func(s *Stats) *float64 { return s.Netstat.TimeWaitOverflow },
		"TcpExtTCPSynRetrans":       func(s *Stats) *float64 { return s.Netstat.SynRetransmits },
		"TcpExtTCPAbortOnMemory":    func(s *Stats) *float64 { return s.Netstat.AbortOnMemory },
		"TcpExtTCPReqQFullDrop":     func(s *Stats) *float64 { return s.Netstat.SynQueueFullDrops },
		"TcpRetransSegs":            func(s *Stats) *float64 { return s.Snmp.RetransSegs },
		"TcpOutRsts":                func(s *Stats) *float64 { return s.Snmp.ResetsSent },
		"TcpEstabResets":            func(s *Stats) *float64 { return s.Snmp.EstabResets },
		"TcpExtTCPAbortOnTimeout":   func(s *Stats) *float64 { return s.Netstat.AbortOnTimeout },
		"TcpExtTCPBacklogDrop":      func(s *Stats) *float64 { return s.Netstat.BacklogDrop },
		"TcpExtIPReversePathFilter": func(s *Stats) *float64 { return s.Netstat.ReversePathFilter },
		"TcpActiveOpens":            func(s *Stats) *float64 { return s.Snmp.ActiveOpens },
		"TcpPassiveOpens":           func(s *Stats) *float64 { return s.Snmp.PassiveOpens },
		"Icmp6OutRateLimitHost":     func(s *Stats) *float64 { return s.ICMP6.RateLimited },
		"UdpNoPorts":                func(s *Stats) *float64 { return s.UDP.NoPorts },
		"Udp6NoPorts":               func(s *Stats) *float64 { return s.UDP6.NoPorts },
	} {
		if n, ok := counters[name]; !ok || n < *of(got) || n > *of(later) {
			t.Errorf("%s is %v (%v) for nstat, %v before and %v after", name, n, ok, *of(got), *of(later))
		}
	}
}

// Of a kernel with everything, each field is read.
func TestReadFillsEveryField(t *testing.T) {
	if _, err := os.Stat("/proc/sys/net/netfilter/nf_conntrack_max"); err != nil {
		t.Skip("SKIP-CONNTRACK: conntrack is not loaded here")
	}
	got, err := Read("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var look func(v reflect.Value, name string)
	look = func(v reflect.Value, name string) {
		for field, value := range v.Fields() {
			if value.Kind() == reflect.Struct {
				look(value, name+field.Name+".")
			} else if value.IsNil() {
				t.Errorf("%s%s is not there", name, field.Name)
			}
		}
	}
	look(reflect.ValueOf(got).Elem(), "")
}
