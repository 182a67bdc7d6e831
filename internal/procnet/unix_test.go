package procnet

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

func TestCountUnixListeners(t *testing.T) {
	got, err := countUnixListeners(strings.NewReader(strings.Join([]string{
		"Num       RefCount Protocol Flags    Type St Inode Path",
		"0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/a.sock",
		"0000000000000000: 00000002 00000000 00010000 0001 01 101 /run/with blank",
		"0000000000000000: 00000002 00000000 00010000 0005 01 102 @abstract",
		"0000000000000000: 00000002 00000000 00000000 0002 01 103 /run/datagram",
		"0000000000000000: 00000003 00000000 00000000 0001 03 104",
		"0000000000000000: 00000002 00000000 00010000 0001 01 105 /run/new",
		"line of its name",
		"0000000000000000: 00000002 00000000 0001000x 0001 01 106 /run/b",
		strings.Repeat("x", 100<<10),
	}, "\n")))
	if want := (UnixListeners{Path: 3, Abstract: 1}); got != want || err != nil {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
}

func TestReadUnixListeners(t *testing.T) {
	before, err := ReadUnixListeners("/proc")
	if err != nil {
		t.Skipf("SKIP-PROCFS: %v", err)
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "s"), "@port_exporter_test"} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	after, err := ReadUnixListeners("/proc")
	if err != nil || after.Path != before.Path+1 || after.Abstract != before.Abstract+1 {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
	if _, err := ReadUnixListeners(t.TempDir()); err == nil || !strings.Contains(err.Error(), "net/unix") {
		t.Errorf("a missing file: %v", err)
	}
}
