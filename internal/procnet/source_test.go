package procnet

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/port-exporter/port_exporter/internal/socket"
)

const (
	tcpHeader = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
	udpHeader = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops"
	tcpListen = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000003 00:00000000 00000000   113        0 4242 1 0000000000000000 100 0 0 10 0"
	tcpBusy   = "   1: 0100007F:1F90 0200007F:9C40 01 00000010:00000020 00:00000000 00000000     0        0 4243 1 0000000000000000 20 4 30 10 -1"
	tcpWait   = "   2: 0100007F:1F90 0200007F:9C41 06 00000000:00000000 03:00000F00 00000000     0        0 0 3 0000000000000000"
	tcp6Busy  = "   0: 0000000000000000FFFF00000100007F:0050 0000000000000000FFFF00000200007F:9C42 08 00000000:00000001 00:00000000 00000000  1000        0 77 1 0000000000000000 20 4 30 10 -1"
	udpBound  = "  70: 00000000:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 99 2 0000000000000000 12"
)

func TestParseLine(t *testing.T) {
	for _, tt := range []struct {
		name     string
		line     string
		protocol socket.Protocol
		family   socket.Family
		want     *socket.Socket // nil: malformed
	}{
		{name: "empty", line: ""},
		{name: "header", line: tcpHeader},
		{name: "cut short", line: tcpListen[:80]},
		{name: "bad address", line: strings.Replace(tcpListen, "0100007F", "0100007G", 1)},
		{name: "short address", line: strings.Replace(tcpListen, "0100007F", "100007F", 1)},
		{name: "IPv4 line in the IPv6 file", line: tcpListen, family: socket.IPv6},
		{name: "IPv6 line in the IPv4 file", line: tcp6Busy},
		{name: "no colon in the queues", line: strings.Replace(tcpListen, "00000000:00000003", "0000000000000003", 1)},
		{name: "state 0", line: strings.Replace(tcpListen, " 0A ", " 00 ", 1)},
		{name: "state beyond a byte", line: strings.Replace(tcpListen, " 0A ", " 10A ", 1)},
		{name: "negative uid", line: strings.Replace(tcpListen, " 113 ", " -11 ", 1)},
		{name: "uid too large", line: strings.Replace(tcpListen, " 113 ", " 4294967296 ", 1)},
		{name: "inode too large", line: strings.Replace(tcpListen, " 4242 ", " 99999999999999999999 ", 1)},
		{name: "listen", line: tcpListen, want: &socket.Socket{State: socket.Listen, AcceptQueue: 3, UID: 113, Inode: 4242,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("0.0.0.0:0")}},
		{name: "established", line: tcpBusy, want: &socket.Socket{State: socket.Established, SendQueue: 16, ReceiveQueue: 32, Inode: 4243,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:40000")}},
		{name: "retransmitting", line: strings.Replace(tcpBusy, "00:00000000 00000000", "01:00000064 00000003", 1), want: &socket.Socket{State: socket.Established, SendQueue: 16, ReceiveQueue: 32, Inode: 4243, Retransmits: 3,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:40000")}},
		{name: "zero window", line: strings.Replace(tcpBusy, "00:00000000 00000000", "04:00000064 00000000", 1), want: &socket.Socket{State: socket.Established, SendQueue: 16, ReceiveQueue: 32, Inode: 4243, ZeroWindow: true,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:40000")}},
		{name: "keepalive", line: strings.Replace(tcpBusy, "00:00000000 00000000", "02:00000064 00000003", 1), want: &socket.Socket{State: socket.Established, SendQueue: 16, ReceiveQueue: 32, Inode: 4243,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:40000")}},
		{name: "time wait is shorter", line: tcpWait, want: &socket.Socket{State: socket.TimeWait,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:8080"), Remote: netip.MustParseAddrPort("127.0.0.2:40001")}},
		{name: "mapped", line: tcp6Busy, family: socket.IPv6, want: &socket.Socket{Family: socket.IPv6, State: socket.CloseWait, ReceiveQueue: 1, UID: 1000, Inode: 77,
			Known: socket.KnowsUID | socket.KnowsQueues, Local: netip.MustParseAddrPort("127.0.0.1:80"), Remote: netip.MustParseAddrPort("127.0.0.2:40002")}},
		{name: "udp", line: udpBound, protocol: socket.UDP, want: &socket.Socket{Protocol: socket.UDP, State: socket.Unconnected, ReceiveQueue: 768, Drops: 12, Inode: 99,
			Known: socket.KnowsUID | socket.KnowsQueues | socket.KnowsDrops, Local: netip.MustParseAddrPort("0.0.0.0:53"), Remote: netip.MustParseAddrPort("0.0.0.0:0")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got socket.Socket
			err := parseLine([]byte(tt.line), tt.protocol, tt.family, &got)
			if tt.want == nil {
				if !errors.Is(err, socket.ErrMalformed) {
					t.Fatalf("%+v, %v; want ErrMalformed", got, err)
				}
				return
			}
			if err != nil || got != *tt.want {
				t.Errorf("%+v, %v\nwant %+v", got, err, *tt.want)
			}
		})
	}
}

// procfs makes a directory with net/<name> files of the given text.
func procfs(t *testing.T, texts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, "net", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, ctx context.Context, dir string, want socket.StateSet) (good []socket.Socket, malformed int, err error) {
	t.Helper()
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	for sock, err := range s.Sockets(ctx, want) {
		switch {
		case errors.Is(err, socket.ErrMalformed):
			malformed++
		case err != nil:
			return good, malformed, err
		default:
			good = append(good, *sock)
		}
	}
	return good, malformed, nil
}

func TestSockets(t *testing.T) {
	dir := procfs(t, map[string]string{
		"tcp":  strings.Join([]string{tcpHeader, tcpListen, "garbage", tcpBusy, strings.Repeat("9", 200<<10), tcpWait}, "\n"), // no last newline
		"tcp6": tcpHeader + "\n" + tcp6Busy + "\n",
		"udp":  udpHeader + "\n" + udpBound + "\n",
	})
	listening, malformed, err := read(t, t.Context(), dir, socket.Listening)
	if err != nil || len(listening) != 2 || malformed != 2 {
		t.Errorf("listening: %v, %d malformed, %v", listening, malformed, err)
	}
	connections, malformed, err := read(t, t.Context(), dir, socket.Connections)
	if err != nil || len(connections) != 3 || malformed != 2 {
		t.Errorf("connections: %v, %d malformed, %v", connections, malformed, err)
	}
}

// TestImpossibleTables has files without the header that Linux writes: they are no
// tables, and not empty ones.
func TestImpossibleTables(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "no header": tcpListen + "\n", "too long": strings.Repeat("9", 200<<10)} {
		for _, file := range []string{"tcp", "udp6"} {
			files := map[string]string{"tcp": tcpHeader + "\n"}
			files[file] = text
			if _, _, err := read(t, t.Context(), procfs(t, files), socket.Listening); !errors.Is(err, errNoHeader) || !strings.Contains(err.Error(), file) {
				t.Errorf("%s %s: %v", name, file, err)
			}
		}
	}
}

func TestSocketsStops(t *testing.T) {
	dir := procfs(t, map[string]string{"tcp": tcpHeader + "\n" + tcpBusy + "\n" + tcpBusy + "\n"})
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := read(t, cancelled, dir, socket.Connections); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled read ended with %v", err)
	}
	s, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for range s.Sockets(t.Context(), socket.Connections) {
		seen++
		break
	}
	if seen != 1 {
		t.Errorf("saw %d sockets after leaving the loop", seen)
	}
	if err := os.Remove(filepath.Join(dir, "net", "tcp")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(dir); err == nil || !strings.Contains(err.Error(), "tcp") {
		t.Errorf("a missing file is not named: %v", err)
	}
}

func TestReadingDoesNotAllocatePerSocket(t *testing.T) {
	read := func(lines int) float64 {
		s := &Source{procfs: procfs(t, map[string]string{"tcp": tcpHeader + "\n" + strings.Repeat(tcpBusy+"\n", lines)})}
		return testing.AllocsPerRun(5, func() {
			for _, err := range s.Sockets(t.Context(), socket.Connections) {
				if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	if few, many := read(10), read(10_000); many > few+5 {
		t.Errorf("%v allocations for 10 sockets, %v for 10,000", few, many)
	}
}

func FuzzParseLine(f *testing.F) {
	for _, line := range []string{tcpHeader, tcpListen, tcpBusy, tcpWait, tcp6Busy, udpBound} {
		f.Add([]byte(line), false, false)
		f.Add([]byte(line), true, true)
	}
	f.Fuzz(func(t *testing.T, line []byte, udp, six bool) {
		protocol, family := socket.TCP, socket.IPv4
		if udp {
			protocol = socket.UDP
		}
		if six {
			family = socket.IPv6
		}
		var s socket.Socket
		if err := parseLine(line, protocol, family, &s); err == nil && (s.State == 0 || !s.Local.IsValid() || !s.Remote.IsValid()) {
			t.Errorf("%q gave %+v", line, s)
		}
	})
}
