package procnet

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/port-exporter/port_exporter/internal/socket"
)

// described has what is known of sockets without a port.
func described(read socket.PortlessRead) (out []string) {
	for _, l := range read.Listeners {
		text := l.Protocol.String() + " " + l.Interface + " " + l.PacketType.String()
		if l.Address.IsValid() {
			text += l.Address.String() + " " + socket.IPProtocolName(l.Port)
		}
		out = append(out, text)
	}
	return out
}

func TestPortless(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, "net", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Raw(dir, 9); err == nil {
		t.Error("a missing file is no error")
	}
	write("raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"+
		"    1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n"+
		"    1: 00000000:0001 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        \n")
	write("packet", "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n"+
		"0000000000000000 3      3    0003   2     1 0      0      4712\n"+
		"0000000000000000 3      2    0806   0     1 0      1000   4713\n"+
		"0000000000000000 3      2    0806   0     1 0      1000\n")
	raw, err := Raw(dir, 9)
	if diff := cmp.Diff([]string{"raw  0.0.0.0 icmp"}, described(raw)); diff != "" || err != nil || raw.Listeners[0].Members[0].Inode != 4711 || raw.Malformed != 1 {
		t.Errorf("raw: %v (-want +got):\n%s", err, diff)
	}
	packets, err := Packets(dir, 9, func(int) string { return "eth0" })
	if diff := cmp.Diff([]string{"packet eth0 raw", "packet  dgram"}, described(packets)); diff != "" || err != nil || packets.Malformed != 1 || packets.Unread != 0 {
		t.Errorf("packets: %v (-want +got):\n%s", err, diff)
	}
	if m := packets.Listeners[1].Members[0]; m != (socket.Member{Inode: 4713, UID: 1000}) || packets.Listeners[1].Filter != socket.FilterUnknown {
		t.Errorf("%+v", packets.Listeners[1])
	}
	if some, err := Packets(dir, 1, func(int) string { return "" }); len(some.Listeners) != 1 || some.Unread != 1 || err != nil {
		t.Errorf("%d packet sockets above the limit, %d unread: %v", len(some.Listeners), some.Unread, err)
	}
}
